"""What runs in a slot, from its Deployment, pods and events. Pure: objects in, status out.

The InferenceService alone does not tell: it stays Ready while a new version of it fails, its observedGeneration is the
Deployment's, and it gives no reason for a bad image or a pod that fits nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.deploy.gateway.api import Object
from components.deploy.gateway.objects import BUNDLE, PORT, predictor
from components.deploy.model import SlotStatus

MOST_STARTS = 3
"""Ends of a server before it was ready after which waiting is over."""
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})


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
    if not rolled_out(bundle, deployment):
        refused = _refused(service) if deployment is None else ""
        ours = running(pods, bundle)
        failed = bool(refused) or any(_hopeless(pod) for pod in ours)
        reason = refused or _first(map(_trouble, ours)) or _first(_warnings(events)) or _progress(bundle, deployment)
        return SlotStatus(bundle=bundle, failed=failed, reason=reason)
    if not any(ready(pod) for pod in running(pods, bundle)):
        return SlotStatus(bundle=bundle, reason="no pod of it takes requests")
    namespace = service["metadata"]["namespace"]
    return SlotStatus(bundle=bundle, ready=True, address=f"http://{predictor(name)}.{namespace}.svc:{PORT}")


def bundle_of(item: Object) -> str | None:
    """The bundle an object is marked with."""
    found: str | None = (item["metadata"].get("annotations") or {}).get(BUNDLE)
    return found


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


def running(pods: Iterable[Object], bundle: str) -> list[Object]:
    """The pods of a bundle that are not ending."""
    return [pod for pod in pods if bundle_of(pod) == bundle and not pod["metadata"].get("deletionTimestamp")]


def ready(pod: Object) -> bool:
    """Whether a pod is an endpoint of its Service."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def seen_at(event: Object) -> str:
    """When an event happened last, in RFC 3339."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _refused(service: Object) -> str:
    """Why KServe makes no Deployment at all: an unknown format or runtime."""
    said = (service.get("status") or {}).get("modelStatus") or {}
    if said.get("transitionStatus") != "InvalidSpec":
        return ""
    info = said.get("lastFailureInfo") or {}
    return f"KServe refuses it: {info.get('reason', 'InvalidSpec')}: {info.get('message', '')}".rstrip(": ")


def _containers(pod: Object) -> list[Object]:
    said = pod.get("status") or {}
    return [*(said.get("initContainerStatuses") or ()), *(said.get("containerStatuses") or ())]


def _hopeless(pod: Object) -> bool:
    return any(
        each.get("restartCount", 0) >= MOST_STARTS
        or ((each.get("state") or {}).get("waiting") or {}).get("reason") in HOPELESS
        for each in _containers(pod)
    )


def _trouble(pod: Object) -> str:
    """What keeps a pod from serving, in the words of its containers and conditions."""
    name = pod["metadata"]["name"]
    for each in _containers(pod):
        ended = (each.get("state") or {}).get("terminated") or (each.get("lastState") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            words = ended.get("message") or ended.get("reason") or ""
            times = each.get("restartCount", 0) + ("terminated" in (each.get("state") or {}))
            return (
                f"pod {name}: {each['name']} ended {times} times, exit code {ended['exitCode']}: {words.strip()[-500:]}"
            )
        waits = (each.get("state") or {}).get("waiting") or {}
        if waits.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"pod {name}: {each['name']}: {waits['reason']}: {waits.get('message', '')[:500]}".rstrip(": ")
    for each in (pod.get("status") or {}).get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"pod {name}: {each.get('reason', 'Unschedulable')}: {each.get('message', '')[:500]}"
    return ""


def _warnings(events: Iterable[Object]) -> list[str]:
    """Warnings, latest first."""
    found = [each for each in events if each.get("type") == "Warning"]
    found.sort(key=seen_at, reverse=True)
    return [
        f"{each['involvedObject'].get('name')}: {each.get('reason')}: {each.get('message', '')[:500]}" for each in found
    ]


def _progress(bundle: str, deployment: Object | None) -> str:
    if deployment is None:
        return "KServe has not made its Deployment yet"
    if bundle_of(deployment["spec"]["template"]) != bundle:
        return "KServe has not given the bundle to its Deployment yet"
    for each in (deployment.get("status") or {}).get("conditions") or ():
        if (each["type"], each["status"]) in (("ReplicaFailure", "True"), ("Progressing", "False")):
            return f"deployment {deployment['metadata']['name']}: {each.get('reason')}: {each.get('message', '')[:500]}"
    return "its pods are coming up"


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")
