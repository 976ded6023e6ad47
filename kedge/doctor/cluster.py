"""Kubernetes: KServe and its mode, the Gateway API and its gateways, what must run, who may do what, missing images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kedge.doctor import workloads
from kedge.doctor.accounts import COMPONENT, permissions
from kedge.doctor.api import Cluster, DeniedError, UnreachableError
from kedge.doctor.finding import Finding, bad, good, run, skipped, warning
from kedge.doctor.runs import skew

NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


OLDEST = (1, 29)
"""Kubernetes since which all that the chart uses is stable."""


def examined(cluster: Cluster, steps: str | None = None) -> list[Finding]:
    """All of this page; where the API server does not answer, one finding instead of one for each question."""
    try:
        version, date = cluster.version()
    except UnreachableError as exc:
        fix = "kubectl cluster-info; is it this cluster (kubectl config current-context), did the login expire?"
        return [bad("kubernetes", f"{cluster.address}: {_first_line(exc)}", fix)]
    return [_served(cluster, version), *skew("kubernetes", date), *run(checks(cluster, steps))]


def _served(cluster: Cluster, version: str) -> Finding:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        return bad(
            "kubernetes", f"{version} at {cluster.address}", "upgrade it to 1.29 or newer: the chart refuses older ones"
        )
    return good("kubernetes", f"{version} at {cluster.address}, namespace {cluster.namespace}")


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or ["no word"])[0][:300]


def kserve(cluster: Cluster) -> list[Finding]:
    """Its kinds are there, in the versions kedge writes."""
    kinds = cluster.kinds("serving.kserve.io")
    missing = sorted({"v1beta1/InferenceService", "v1alpha1/ServingRuntime"} - kinds)
    if missing:
        fix = "install KServe 0.20 or newer: https://kserve.github.io/website/docs/admin-guide/overview"
        return [bad("kserve", f"the cluster has no {', '.join(missing)}", fix)]
    return [good("kserve", "InferenceService v1beta1, ServingRuntime v1alpha1"), _mode(cluster)]


def _mode(cluster: Cluster) -> Finding:
    name = "inferenceservice-config"
    read = ((space, cluster.config_map(space, name)) for space in workloads.KSERVE_HOMES)
    space, found = next(((space, data) for space, data in read if data is not None), ("", None))
    if found is None:
        fix = f"an administrator asks: kubectl -n kserve get configmap {name} -o yaml"
        return skipped("kserve mode", f"ConfigMap kserve/{name} is not there or may not be read", fix)
    deploy, ingress = (json.loads(found.get(key) or "{}") for key in ("deploy", "ingress"))
    mode = str(deploy.get("defaultDeploymentMode", "unknown"))
    if mode in ("Standard", "RawDeployment") and not ingress.get("enableGatewayApi"):
        fix = f"kubectl -n {space} edit configmap {name}: ingress.enableGatewayApi: true"
        return warning("kserve mode", f"{mode}, without the Gateway API", fix)
    return good("kserve mode", mode)


def gateway(cluster: Cluster) -> list[Finding]:
    """The Gateway API is there, and a gateway to attach routes to."""
    if "v1/HTTPRoute" not in cluster.kinds("gateway.networking.k8s.io"):
        fix = "install the Gateway API and a gateway: https://gateway-api.sigs.k8s.io/guides/"
        return [bad("gateway api", "the cluster has no v1/HTTPRoute", fix)]
    try:
        gateways = cluster.everywhere("gateway.networking.k8s.io", "v1", "gateways")
    except DeniedError as exc:
        return [skipped("gateway", f"not looked at: {exc}", "an administrator asks: kubectl get gateways -A")]
    if not gateways:
        fix = "make one, then helm upgrade ... --set route.gateway.name=NAME --set route.gateway.namespace=NAMESPACE"
        return [warning("gateway", "the cluster has no Gateway", fix)]
    used = workloads.gateways_of_routes(cluster)
    return [_programmed(each, used) for each in gateways]


def _programmed(found: Mapping[str, Any], used: Collection[tuple[str, str]]) -> Finding:
    """A Gateway by what its controller says of it as it stands; one that a model's route asks for must be well."""
    space, name = str(found["metadata"]["namespace"]), str(found["metadata"]["name"])
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", ())}
    programmed, generation = conditions.get("Programmed", {}), found["metadata"].get("generation", 0)
    if programmed.get("status") != "True":
        seen = f"{space}/{name} is not programmed: {programmed.get('message', 'no word of its controller')}"
    elif programmed.get("observedGeneration", generation) < generation:
        seen = f"{space}/{name}: its controller has not taken generation {generation}; is it up?"
    else:
        return good("gateway", f"{space}/{name}, class {found['spec']['gatewayClassName']}")
    fix = f"kubectl -n {space} describe gateway {name}"
    if (space, name) in used:
        return bad("gateway", f"{seen}; routes of models ask for it", fix)
    return warning("gateway", seen, fix)


def operator(cluster: Cluster) -> list[Finding]:
    """The kinds of the Prometheus operator, for whoever wants alerts."""
    missing = sorted({"v1/PrometheusRule", "v1/ServiceMonitor"} - cluster.kinds("monitoring.coreos.com"))
    if missing:
        fix = "for alerts, install it: https://prometheus-operator.dev/docs/getting-started/installation/"
        return [skipped("prometheus operator", f"the cluster has no {', '.join(missing)}", fix)]
    return [good("prometheus operator", "PrometheusRule, ServiceMonitor v1")]


def images(cluster: Cluster) -> list[Finding]:
    """No pod of the namespace waits for an image, and every image of a check was pulled once."""
    pods = cluster.pods()
    waiting = [
        _waits(pod, status)
        for pod in pods
        for status in _statuses(pod)
        if ((status.get("state") or {}).get("waiting") or {}).get("reason") in NOT_PULLED
    ]
    never = {} if waiting else _never_run(cluster, pods)
    skips = [skipped("images", f"{image}: no pod has run it yet", _try(cluster, job)) for image, job in never.items()]
    return waiting or skips or [good("images", f"no pod of {cluster.namespace} waits for one")]


def _waits(pod: Mapping[str, Any], status: Mapping[str, Any]) -> Finding:
    image, why = status.get("image", "?"), status["state"]["waiting"]
    said = f"{pod['metadata']['name']}: {image}: {why['reason']}: {(why.get('message') or '')[:200]}"
    return bad("images", said, _pull_fix(image))


def _never_run(cluster: Cluster, pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Images that no pod has pulled -> a CronJob that runs one."""
    pulled = {image for pod in pods for image in _pulled(pod)}
    return {
        container["image"]: job["metadata"]["name"]
        for job in cluster.cron_jobs()
        if (job["metadata"].get("labels") or {}).get(COMPONENT) not in ("train", "guard")  # not to be just tried
        for container in job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        if container["image"] not in pulled
    }


def _try(cluster: Cluster, job: str) -> str:
    return f"kubectl -n {cluster.namespace} create job {job}-now --from cronjob/{job}; then ask again"


def _statuses(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from pod.get("status", {}).get(kind) or ()


def _pulled(pod: Mapping[str, Any]) -> Iterator[str]:
    """Images as the pod asks for them: its status has them under a longer name."""
    there = {status["name"] for status in _statuses(pod) if status.get("imageID")}
    for kind in ("initContainers", "containers"):
        yield from (each["image"] for each in pod.get("spec", {}).get(kind) or () if each["name"] in there)


def _pull_fix(image: str) -> str:
    if "/" not in image or image.split("/")[0] in ("kedge", "localhost"):
        return "make images PUSH=1 REGISTRY=..., then images.*.repository in the values"
    return "does the image exist, and does images.pullSecrets name a Secret with its registry's password?"


def checks(cluster: Cluster, steps: str | None = None) -> dict[str, Callable[[], list[Finding]]]:
    """All of this page, ready to run."""
    asked: dict[str, Callable[[Cluster], list[Finding]]] = {
        "kserve": kserve,
        "kserve controller": workloads.kserve,
        "gateway": gateway,
        "routes": workloads.routes,
        "kubeflow controllers": workloads.kubeflow,
        "services": workloads.services,
        "collector": workloads.collector,
        "prometheus operator": operator,
        "permissions": partial(permissions, steps=steps),
        "images": images,
    }
    return {name: partial(_allowed, name, check, cluster) for name, check in asked.items()}


def _allowed(name: str, check: Callable[[Cluster], list[Finding]], cluster: Cluster) -> list[Finding]:
    """What a check finds, or that the caller may not look."""
    try:
        return check(cluster)
    except DeniedError as exc:
        fix = f"kubectl create rolebinding see -n {cluster.namespace} --clusterrole view --user YOU"
        return [skipped(name, str(exc), fix)]
