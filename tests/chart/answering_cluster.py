"""As much of an API server as helm asks while it renders with ``lookup``: discovery, and lists of what is there."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from tests import web
from tests.chart.render import CHART, Object, helm

GROUPS = {
    "v1": ["Pod", "Service", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "Secret", "Namespace"],
    "apps/v1": ["StatefulSet", "Deployment"],
    "batch/v1": ["CronJob", "Job"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding"],
    "serving.kserve.io/v1alpha1": ["ServingRuntime"],
    "serving.kserve.io/v1beta1": ["InferenceService"],
    "gateway.networking.k8s.io/v1": ["HTTPRoute"],
    "monitoring.coreos.com/v1": ["ServiceMonitor", "PodMonitor", "PrometheusRule"],
}
ODD = {"NetworkPolicy": "networkpolicies"}


def plural(kind: str) -> str:
    return ODD.get(kind, f"{kind.lower()}s")


def answer(path: str, there: list[Object]) -> dict[str, Any] | None:
    """What the server says; None: 404."""
    parts = path.partition("?")[0].strip("/").split("/")
    if parts == ["version"]:
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        groups: dict[str, list[str]] = {}
        for version in GROUPS:
            if "/" in version:
                groups.setdefault(version.split("/")[0], []).append(version)
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": name,
                    "versions": [{"groupVersion": each, "version": each.split("/")[1]} for each in versions],
                    "preferredVersion": {"groupVersion": versions[0], "version": versions[0].split("/")[1]},
                }
                for name, versions in groups.items()
            ],
        }
    version = "/".join(parts[1:2] if parts[0] == "api" else parts[1:3])
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if version not in GROUPS:
        return None
    if not rest:
        verbs = ["get", "list", "create", "patch", "delete"]
        resources = [
            {"name": plural(kind), "kind": kind, "namespaced": kind != "Namespace", "verbs": verbs}
            for kind in GROUPS[version]
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    kind = next((each for each in GROUPS[version] if plural(each) == rest[2]), "") if len(rest) > 2 else ""
    items = [each for each in there if (each["apiVersion"], each["kind"]) == (version, kind)]
    if len(rest) == 3:
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}
    return next((each for each in items if each["metadata"]["name"] == rest[3]), None)


def cluster(there: list[Object]) -> AbstractContextManager[str]:
    """Address of a cluster in which some objects are there."""
    missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

    def answered(request: web.Request) -> web.Response:
        found = answer(request.path, there)
        return web.said(missing, 404) if found is None else web.said(found)

    return web.answering(answered)


def render_in(folder: Path, values: Object, there: list[Object]) -> list[Object]:
    """What helm makes of values where a cluster answers: the objects of an install or an upgrade."""
    with cluster(there) as address:
        file = web.kubeconfig(folder / "kubeconfig", address)
        words = ["install", "kedge", CHART, "--namespace", "ml", "--dry-run=server", "--disable-openapi-validation"]
        done = helm(*words, "--output", "json", "--kubeconfig", file, values=values)
    return [each for each in yaml.load_all(json.loads(done.stdout)["manifest"], Loader=yaml.CSafeLoader) if each]
