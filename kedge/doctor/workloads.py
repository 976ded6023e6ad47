"""What must be up for kedge to work: KServe's controller, Kubeflow's, the collector, the services that checks ask.

A kind that is there says only that something was installed once. Whether a pod of it runs is asked here, and what the
caller may not look at is told as such: not seen is not well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kedge.doctor.accounts import environment, may_review
from kedge.doctor.api import Account, Cluster, DeniedError
from kedge.doctor.finding import Finding, bad, good, skipped, warning

KSERVE = "kserve-controller-manager"
KSERVE_HOMES = ("kserve", "kubeflow")
"""Namespaces that KServe's and Kubeflow's own manifests install it in."""
KUBEFLOW_HOME = "kubeflow"
KUBEFLOW = {
    "ml-pipeline": "no run is submitted and no form answers without it",
    "workflow-controller": "runs are taken and never start without it",
    "ml-pipeline-persistenceagent": "no run is ever told as ended without it",
}
"""What runs need, by the name of its Deployment. The rest of Kubeflow is not asked."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A Service of the cluster, as a web address names it."""

    namespace: str
    service: str


def kserve(cluster: Cluster) -> list[Finding]:
    """Its controller runs: without it nothing becomes of a slot, and its webhook fails every write of one."""
    what = "kserve controller"
    if "v1beta1/InferenceService" not in cluster.kinds("serving.kserve.io"):
        return []  # told as such
    try:
        found = _by_name(cluster, KSERVE, KSERVE_HOMES)
    except DeniedError as exc:
        return [_not_seen(what, exc, "--all-namespaces")]
    if not found:
        return [
            bad(
                what,
                f"the cluster has KServe's kinds and no Deployment {KSERVE}: no slot comes up",
                "install KServe's controller: https://kserve.github.io/website/docs/admin-guide/overview",
            )
        ]
    return [_up(what, each, "no slot comes up or changes without it") for each in found]


def kubeflow(cluster: Cluster) -> list[Finding]:
    """Its API server, the controller that starts the pods of runs, and the agent that tells how they ended."""
    what = "kubeflow controllers"
    found: list[Finding] = []
    for space in _homes(cluster):
        try:
            there = {each["metadata"]["name"]: each for each in cluster.within(space, "apps", "v1", "deployments")}
        except DeniedError as exc:
            found.append(_not_seen(what, exc, f"--namespace {space}"))
            continue
        if "ml-pipeline" not in there:
            ask = "kubectl get deployments --all-namespaces | grep ml-pipeline"
            found.append(skipped(what, f"{space} has no Deployment ml-pipeline", f"is it elsewhere? {ask}"))
        found += [_up(what, there[name], why) for name, why in KUBEFLOW.items() if name in there]
    return found


def collector(cluster: Cluster) -> list[Finding]:
    """The collector of each installation has a pod that is ready, and may ask whose a token is if it has to."""
    labels = "app.kubernetes.io/part-of=kedge,app.kubernetes.io/component=collector"
    ours = cluster.within(cluster.namespace, "apps", "v1", "statefulsets", labels=labels)
    lack = "predictions and labels are not taken without it"
    asking = [_account(each) for each in ours if _asks_for_tokens(each)]
    return [
        *(_up("collector", each, lack, kind="statefulset") for each in ours),
        *(may_review(cluster, account) for account in asking),
    ]


def _asks_for_tokens(collector: Mapping[str, Any]) -> bool:
    """Whether it lets accounts in by the tokens of their pods."""
    containers = collector["spec"]["template"]["spec"]["containers"]
    return any(word.partition("=")[0] == "--sender" for each in containers for word in each.get("args") or ())


def _account(workload: Mapping[str, Any]) -> Account:
    name = workload["spec"]["template"]["spec"].get("serviceAccountName", "default")
    return Account(namespace=workload["metadata"]["namespace"], name=name)


def services(cluster: Cluster) -> list[Finding]:
    """MLflow and Kubeflow Pipelines where the checks ask for them: a Service with a pod that is ready."""
    found: list[Finding] = []
    for variable, what in (("MLFLOW_TRACKING_URI", "mlflow service"), ("KEDGE_KFP_HOST", "kubeflow service")):
        found += [_answers(cluster, what, variable, url) for url in _told(cluster, variable)]
    return found


def routes(cluster: Cluster) -> list[Finding]:
    """The models' routes were taken by their Gateway, and lead somewhere."""
    return [_taken(each) for each in _routes(cluster)]


def gateways_of_routes(cluster: Cluster) -> set[tuple[str, str]]:
    """Namespace and name of each Gateway that a model's route asks for; empty too where the caller may not look."""
    try:
        found = _routes(cluster)
    except DeniedError:
        return set()
    return {
        (str(parent.get("namespace") or cluster.namespace), str(parent["name"]))
        for each in found
        for parent in each["spec"].get("parentRefs") or ()
    }


def service_of(url: str, namespace: str) -> Address | None:
    """The Service an address names as a pod of the namespace reads it; None: it leads out of the cluster.

    >>> service_of("http://mlflow.tracking.svc.cluster.local:5000", "ml")
    Address(namespace='tracking', service='mlflow')
    >>> service_of("http://mlflow:5000", "ml").namespace, service_of("https://mlflow.example.com", "ml")
    ('ml', None)
    """
    host = urlsplit(url).hostname or ""
    parts = host.split(".")
    if not host or host.replace(".", "").isdigit() or ":" in host or (len(parts) > 2 and parts[2] != "svc"):
        return None
    return Address(namespace=parts[1] if len(parts) > 1 else namespace, service=parts[0])


def _up(what: str, found: Mapping[str, Any], lack: str, *, kind: str = "deployment") -> Finding:
    """Whether a Deployment or StatefulSet has the pods it asks for."""
    space, name = found["metadata"]["namespace"], found["metadata"]["name"]
    wanted, status = found["spec"].get("replicas", 1), found.get("status") or {}
    ready = status.get("readyReplicas") or 0
    if wanted == 0:
        seen, fix = f"{space}/{name} is scaled to 0; {lack}", f"scale {kind} {name} --replicas 1"
        return bad(what, seen, f"kubectl -n {space} {fix}")
    seen = f"{space}/{name}: {ready} of {wanted} pods ready"
    if ready >= wanted:
        return good(what, seen)
    fix = f"kubectl -n {space} describe {kind} {name}; kubectl -n {space} logs {kind}/{name}"
    if ready:
        return warning(what, f"{seen}{_why(status)}", fix)
    return bad(what, f"{seen}{_why(status)}; {lack}", fix)


def _why(status: Mapping[str, Any]) -> str:
    """What the controller of Deployments says against it, such as a quota; that pods are not ready is known."""
    for each in status.get("conditions") or ():
        if (each["type"], each["status"]) in (("ReplicaFailure", "True"), ("Progressing", "False")):
            return f": {each.get('reason', each['type'])}: {str(each.get('message', ''))[:300]}".rstrip(": ")
    return ""


def _by_name(cluster: Cluster, name: str, homes: Sequence[str]) -> list[Mapping[str, Any]]:
    """Deployments of a name: anywhere, or in their usual namespaces where the caller may not ask for all.

    Raises:
        DeniedError: not in these either, or it is in none that the caller may look at.
    """
    try:
        return cluster.everywhere("apps", "v1", "deployments", name=name)
    except DeniedError as exc:
        everywhere = exc
    deployments = [each for space in homes for each in _deployments(cluster, space)]
    found = [each for each in deployments if each["metadata"]["name"] == name]
    if not found:
        raise everywhere
    return found


def _deployments(cluster: Cluster, space: str) -> list[Mapping[str, Any]]:
    """Those of a namespace that the caller may see."""
    try:
        return cluster.within(space, "apps", "v1", "deployments")
    except DeniedError:
        return []


def _not_seen(what: str, exc: DeniedError, where: str) -> Finding:
    fix = f"an administrator asks: kubectl get deployments {where}"
    return skipped(what, f"not looked whether they run: {exc}", fix)


def _told(cluster: Cluster, variable: str) -> list[str]:
    """The addresses that the namespace's checks are given by this variable."""
    return sorted({url for job in cluster.cron_jobs() if (url := environment(job).get(variable))})


def _homes(cluster: Cluster) -> list[str]:
    """Namespaces of the Kubeflow Pipelines that checks submit to; the usual one where no check says so."""
    try:
        hosts = _told(cluster, "KEDGE_KFP_HOST")
    except DeniedError:
        hosts = []
    named = {address.namespace for url in hosts if (address := service_of(url, cluster.namespace))}
    return sorted(named) or ([] if hosts else [KUBEFLOW_HOME])


def _answers(cluster: Cluster, what: str, variable: str, url: str) -> Finding:
    address = service_of(url, cluster.namespace)
    if address is None:
        fix = f"export {variable}={url}; then ask again"
        return skipped(what, f"{url} leads out of the cluster: what is behind it is not seen in here", fix)
    space, name = address.namespace, address.service
    of_service = f"kubernetes.io/service-name={name}"
    look = f"kubectl -n {space} get pods; kubectl -n {space} describe service {name}"
    try:
        slices = cluster.within(space, "discovery.k8s.io", "v1", "endpointslices", labels=of_service)
    except DeniedError as exc:
        return skipped(what, f"not looked whether {url} has a pod: {exc}", f"an administrator types: {look}")
    if not slices:
        return warning(what, f"{url}: no Service {name} in {space}, or its name leads out of the cluster", look)
    endpoints = [each for one in slices for each in one.get("endpoints") or ()]
    ready = sum((each.get("conditions") or {}).get("ready") is not False for each in endpoints)
    if not ready:
        return bad(what, f"{url}: Service {space}/{name} has no pod that is ready", look)
    return good(what, f"{url}: {ready} ready")


def _routes(cluster: Cluster) -> list[Mapping[str, Any]]:
    if "v1/HTTPRoute" not in cluster.kinds("gateway.networking.k8s.io"):
        return []
    labels = "app.kubernetes.io/part-of=kedge"
    return cluster.within(cluster.namespace, "gateway.networking.k8s.io", "v1", "httproutes", labels=labels)


def _taken(route: Mapping[str, Any]) -> Finding:
    """What the Gateways' controllers say of a route as it stands; silence about its newest state is a fault too."""
    space, name = route["metadata"]["namespace"], route["metadata"]["name"]
    what, fix = f"route {name}", f"kubectl -n {space} describe httproute {name}"
    parents = (route.get("status") or {}).get("parents") or ()
    said = [condition for parent in parents for condition in parent.get("conditions") or ()]
    against = [
        f"{each['type']} is false: {each.get('reason')}: {each.get('message', '')}".rstrip(": ")
        for each in said
        if each["type"] in ("Accepted", "ResolvedRefs") and each["status"] == "False"
    ]
    if against:
        return bad(what, "; ".join(against)[:500], fix)
    generation = route["metadata"].get("generation", 0)
    if not any(each["type"] == "Accepted" and each.get("observedGeneration", 0) >= generation for each in said):
        seen = f"no controller of a Gateway has taken its generation {generation}: traffic goes as before, or nowhere"
        return bad(what, seen, f"is the Gateway's controller up, is its name in parentRefs right? {fix}")
    return good(what, "taken by its Gateway")
