"""What runs in a slot, from its Deployment, pods and events. Pure: objects in, status out.

The InferenceService alone does not tell: it stays Ready while a new version of it fails, its observedGeneration is the
Deployment's, and it gives no reason for a bad image or a pod that fits nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kedge.rollout.gateway.objects import PORT, predictor
from kedge.rollout.kserve import pods as words
from kedge.rollout.kserve.api import Object
from kedge.rollout.kserve.pods import BUNDLE, bundle_of, ready, running
from kedge.rollout.model import SlotStatus


def slot_status(
    service: Object, deployment: Object | None, pods: Sequence[Object], events: Iterable[Object]
) -> SlotStatus:
    """The status of a slot whose InferenceService is there."""
    bundle = bundle_of(service)
    name = service["metadata"]["name"]
    if service["metadata"].get("deletionTimestamp"):
        return SlotStatus(reason=f"inferenceservice {name} is still being removed")
    if bundle is None:
        return SlotStatus(reason=f"inferenceservice {name} has no annotation {BUNDLE}: kedge did not deploy it")
    namespace, ours = service["metadata"]["namespace"], running(pods, bundle)
    partly, ends = any(ready(pod) for pod in ours), sum(words.ends(pod) for pod in ours)
    begun = any(words.begun(pod) for pod in pods if bundle_of(pod) == bundle)
    if not rolled_out(bundle, deployment):
        refused = words.refused(service) if deployment is None else ""
        failed = bool(refused) or any(words.hopeless(pod) for pod in ours)
        reason = words.first((refused, *map(words.trouble, ours), *words.warnings(events)))
        reason = reason or _progress(bundle, deployment)
        return SlotStatus(bundle=bundle, partly=partly, ends=ends, failed=failed, not_started=not begun, reason=reason)
    if not partly:
        reason = words.first((*map(words.trouble, ours), "no pod of it takes requests"))
        return SlotStatus(bundle=bundle, ends=ends, not_started=not begun, reason=reason)
    return SlotStatus(bundle=bundle, ready=True, ends=ends, address=f"http://{predictor(name)}.{namespace}.svc:{PORT}")


def rolled_out(bundle: str, deployment: Object | None) -> bool:
    """Whether the Deployment's controller has brought this bundle up, and nothing older is left."""
    if deployment is None or bundle_of(deployment["spec"]["template"]) != bundle:
        return False
    said, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return (
        said.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and wanted > 0
        and said.get("updatedReplicas", 0) == said.get("replicas", 0) == wanted
        and any(each["type"] == "Available" and each["status"] == "True" for each in said.get("conditions") or ())
    )


def _progress(bundle: str, deployment: Object | None) -> str:
    if deployment is None:
        return "KServe has not made its Deployment yet"
    if bundle_of(deployment["spec"]["template"]) != bundle:
        return "KServe has not given the bundle to its Deployment yet"
    for each in (deployment.get("status") or {}).get("conditions") or ():
        if (each["type"], each["status"]) in (("ReplicaFailure", "True"), ("Progressing", "False")):
            return f"deployment {deployment['metadata']['name']}: {each.get('reason')}: {each.get('message', '')[:500]}"
    return "its pods are coming up"
