"""Kubernetes: KServe and its mode, the Gateway API and its gateways, what one may do, images that cannot be pulled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from components.errors import KedgeError
from pipelines.doctor.finding import Finding, bad, good, run, skipped, warning
from pipelines.doctor.runs import skew

NEEDED = (
    ("serving.kserve.io", "inferenceservices", ("get", "list", "create", "patch", "delete")),
    ("gateway.networking.k8s.io", "httproutes", ("get", "list", "create", "patch", "delete")),
    ("apps", "deployments", ("get", "list")),
    ("", "pods", ("get", "list")),
    ("", "services", ("get", "list")),
    ("", "events", ("get", "list")),
)
"""What a release does: group, resource, verbs."""
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


OLDEST = (1, 29)
"""Kubernetes since which all that the chart uses is stable."""


class UnreachableError(KedgeError):
    """The API server does not answer, or refuses to know the caller."""


class Cluster(Protocol):
    """What the doctor asks Kubernetes."""

    namespace: str
    address: str

    def version(self) -> tuple[str, str | None]:
        """Kubernetes' version and the server's time; raises UnreachableError."""

    def kinds(self, group: str) -> set[str]:
        """``version/kind`` of a group that the API serves; empty if it has none of it."""

    def everywhere(self, group: str, version: str, plural: str) -> list[Mapping[str, Any]]:
        """All objects of a custom kind that belongs to no namespace, or of any namespace."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap; None if it is not there or may not be read."""

    def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether the caller may do this in the namespace."""

    def pods(self) -> list[Mapping[str, Any]]:
        """The namespace's pods, as the API gives them."""


def examined(cluster: Cluster) -> list[Finding]:
    """All of this page; where the API server does not answer, one finding instead of one for each question."""
    try:
        version, date = cluster.version()
    except UnreachableError as exc:
        fix = "kubectl cluster-info; is it this cluster (kubectl config current-context), did the login expire?"
        return [bad("kubernetes", f"{cluster.address}: {_first_line(exc)}", fix)]
    return [_served(cluster, version), *skew("kubernetes", date), *run(checks(cluster))]


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
    found = cluster.config_map("kserve", "inferenceservice-config")
    if found is None:
        return skipped("kserve mode", "ConfigMap kserve/inferenceservice-config is not there or may not be read")
    deploy, ingress = (json.loads(found.get(key) or "{}") for key in ("deploy", "ingress"))
    mode = str(deploy.get("defaultDeploymentMode", "unknown"))
    if mode in ("Standard", "RawDeployment") and not ingress.get("enableGatewayApi"):
        fix = "kubectl -n kserve edit configmap inferenceservice-config: ingress.enableGatewayApi: true"
        return warning("kserve mode", f"{mode}, without the Gateway API", fix)
    return good("kserve mode", mode)


def gateway(cluster: Cluster) -> list[Finding]:
    """The Gateway API is there, and a gateway to attach routes to."""
    if "v1/HTTPRoute" not in cluster.kinds("gateway.networking.k8s.io"):
        fix = "install the Gateway API and a gateway: https://gateway-api.sigs.k8s.io/guides/"
        return [bad("gateway api", "the cluster has no v1/HTTPRoute", fix)]
    gateways = cluster.everywhere("gateway.networking.k8s.io", "v1", "gateways")
    if not gateways:
        fix = "make one, then helm upgrade ... --set route.gateway.name=NAME --set route.gateway.namespace=NAMESPACE"
        return [warning("gateway", "the cluster has no Gateway", fix)]
    return [_programmed(each) for each in gateways]


def _programmed(found: Mapping[str, Any]) -> Finding:
    place = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", ())}
    programmed = conditions.get("Programmed", {})
    if programmed.get("status") != "True":
        fix = f"kubectl -n {found['metadata']['namespace']} describe gateway {found['metadata']['name']}"
        return warning(
            "gateway", f"{place} is not programmed: {programmed.get('message', 'no word of its controller')}", fix
        )
    return good("gateway", f"{place}, class {found['spec']['gatewayClassName']}")


def permissions(cluster: Cluster) -> list[Finding]:
    """What a release does is allowed to whoever asks."""
    found = []
    for group, resource, verbs in NEEDED:
        denied = [verb for verb in verbs if not cluster.may(verb, group, resource)]
        name = f"{resource}.{group}".rstrip(".")
        if denied:
            fix = (
                f"kubectl -n {cluster.namespace} create rolebinding kedge-release-me --role kedge-release --user YOU,"
                " or name the account in release.subjects"
            )
            found.append(bad(f"may: {name}", f"not {', '.join(denied)} in {cluster.namespace}", fix))
        else:
            found.append(good(f"may: {name}", ", ".join(verbs)))
    return found


def images(cluster: Cluster) -> list[Finding]:
    """No pod of the namespace waits for an image."""
    waiting = [
        (pod["metadata"]["name"], status.get("image", "?"), status["state"]["waiting"])
        for pod in cluster.pods()
        for status in pod.get("status", {}).get("containerStatuses") or ()
        if ((status.get("state") or {}).get("waiting") or {}).get("reason") in NOT_PULLED
    ]
    if not waiting:
        return [good("images", f"no pod of {cluster.namespace} waits for one")]
    return [
        bad("images", f"{name}: {image}: {why['reason']}: {(why.get('message') or '')[:200]}", _pull_fix(image))
        for name, image, why in waiting
    ]


def _pull_fix(image: str) -> str:
    if "/" not in image or image.split("/")[0] in ("kedge", "localhost"):
        return "make images PUSH=1 REGISTRY=..., then images.*.repository in the values"
    return "does the image exist, and does images.pullSecrets name a Secret with its registry's password?"


def checks(cluster: Cluster) -> list[Callable[[], list[Finding]]]:
    """All of this page, ready to run."""
    return [_named(each, cluster) for each in (kserve, gateway, permissions, images)]


def _named(check: Callable[[Cluster], list[Finding]], cluster: Cluster) -> Callable[[], list[Finding]]:
    def run() -> list[Finding]:
        return check(cluster)

    run.__name__ = check.__name__
    return run
