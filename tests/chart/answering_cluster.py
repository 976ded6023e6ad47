"""As much of an API server as helm asks while it renders with ``lookup``: discovery, and lists of what is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

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


@contextmanager
def cluster(there: list[Object]) -> Iterator[str]:
    """Address of a cluster in which some objects are there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path, there)
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            raw = json.dumps(status if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def render_in(folder: Path, values: Object, there: list[Object]) -> list[Object]:
    """What helm makes of values where a cluster answers: the objects of an install or an upgrade."""
    with cluster(there) as address:
        file = folder / "kubeconfig"
        context = {"name": "here", "context": {"cluster": "here", "user": "here"}}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [context],
            "clusters": [{"name": "here", "cluster": {"server": address}}], "users": [{"name": "here", "user": {}}],
        }  # fmt: skip
        file.write_text(yaml.safe_dump(config))
        words = ["install", "kedge", CHART, "--namespace", "ml", "--dry-run=server", "--disable-openapi-validation"]
        done = helm(*words, "--output", "json", "--kubeconfig", file, values=values)
    return [each for each in yaml.load_all(json.loads(done.stdout)["manifest"], Loader=yaml.CSafeLoader) if each]
