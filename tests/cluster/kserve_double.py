"""KServe's controller in Standard mode, as far as releases see it, and a way to its pods through the API server.

For each InferenceService of a namespace it keeps the Deployment and the Service ``<name>-predictor``, owned by it,
whose pods are stand-in servers with the service's labels and annotations. It writes Ready whatever becomes of the
pods, as KServe does for seconds to minutes.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from kedge.errors import ReleaseError
from kedge.rollout.kserve.api import DEPLOYMENTS, PODS, SERVICES, SLOTS, Api
from kedge.rollout.kserve.pods import BUNDLE
from tests.cluster.kubernetes import IMAGES, TAG

SERVER = (Path(__file__).parent / "stand_in_server.py").read_text()
READY = {"conditions": [{"type": kind, "status": "True"} for kind in ("PredictorReady", "Ready")]}


class KServeDouble:
    """Acts on a namespace until stopped."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            try:
                for service in self._api.list(SLOTS):
                    self._reconcile(service)
            except ReleaseError:
                continue  # it is being deleted, or the server is busy: the next round asks again

    def _reconcile(self, service) -> None:
        meta = service["metadata"]
        if meta.get("deletionTimestamp"):
            return
        name, bundle = meta["name"], meta["annotations"][BUNDLE]
        labels = {
            **meta["labels"],
            "app.kubernetes.io/component": "slot",  # of the ServingRuntime, whose labels KServe adds
            "app": f"isvc.{name}-predictor",
            "serving.kserve.io/inferenceservice": name,
        }
        for kind, body in ((DEPLOYMENTS, _deployment(labels, bundle)), (SERVICES, _service(labels["app"]))):
            owner = {key: service[key] for key in ("apiVersion", "kind")} | {key: meta[key] for key in ("name", "uid")}
            body["metadata"] = {"name": f"{name}-predictor", "ownerReferences": [owner]}
            self._api._call("PATCH", kind, f"{name}-predictor", query={"fieldManager": "kserve"}, body=body)
        if not service.get("status"):
            told = {"apiVersion": service["apiVersion"], "kind": service["kind"], "metadata": {"name": name}}
            query = {"fieldManager": "kserve"}
            self._api._call("PATCH", SLOTS, f"{name}/status", query=query, body={**told, "status": READY})


def _deployment(labels, bundle):
    told = {"BUNDLE": bundle, "SLOT": labels["kedge.dev/slot"]}
    container = {
        "name": "kserve-container",
        "image": f"{IMAGES['collect']}:{TAG}",
        "command": ["python", "-u", "-c", SERVER],
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1,
                           "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {
        "metadata": {"labels": labels, "annotations": {BUNDLE: bundle}},
        "spec": {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 10},
    }
    selector = {"app": labels["app"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": pod},
    }


def _service(app: str):
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": app}, "ports": ports}}


class ThroughApi(httpx.BaseTransport):
    """Reaches pods and Services of a namespace from outside the cluster, by the API server's proxy."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = f"/api/v1/namespaces/{self._api.namespace}/{self._target(request.url)}/proxy{request.url.path}"
        headers = {key: value for key, value in request.headers.items() if key.startswith("x-")}
        body = request.read()
        try:
            answer = self._api._connection.call_api(
                path, request.method, header_params=headers, auth_settings=["BearerToken"], _preload_content=False,
                body=json.loads(body) if body else None, _return_http_data_only=True, _request_timeout=20,
            )  # fmt: skip
        except ApiException as exc:
            return httpx.Response(exc.status or 502, text=str(exc.body))
        except HTTPError as exc:
            raise httpx.ConnectError(str(exc), request=request) from exc
        return httpx.Response(200, content=answer.data)

    def _target(self, url: httpx.URL) -> str:
        if url.host.endswith(".svc"):
            return f"services/{url.host.split('.')[0]}:{url.port or 80}"
        found = [pod for pod in self._api.list(PODS) if (pod.get("status") or {}).get("podIP") == url.host]
        if not found:
            raise httpx.ConnectError(f"no pod has the address {url.host}", request=None)
        return f"pods/{found[0]['metadata']['name']}:{url.port}"
