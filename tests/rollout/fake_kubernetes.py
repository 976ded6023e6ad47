"""An API server that behaves: resource versions, generations, conflicts, server-side apply; with a KServe and a
Gateway controller that act on what is written, and slots that answer and count."""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.web import answering, said

BUNDLE = "kedge.dev/bundle"


def leaves(value, path=()):
    """Paths of everything that is no mapping; lists are atomic."""
    if isinstance(value, dict) and value:
        return {leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))}
    return {path}


def merge(into, given):
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def drop(value, path):
    for key in path[:-1]:
        value = value.get(key, {})
    value.pop(path[-1], None)


def value_at(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def contested(before, body, owners):
    """(path, manager) of the fields that others own and whose value would change."""
    return [
        (path, who)
        for who, paths in sorted(owners.items())
        for path in sorted(leaves(body) & paths)
        if value_at(before, path) != value_at(body, path)
    ]


@dataclass
class Refusal(Exception):
    code: int
    message: str
    rivals: list = field(default_factory=list)

    def status(self):
        """As the API server words it: an owner by update is named with its API version."""
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{who.removesuffix("/Update")}"'
                + (" using v1 at 2026-03-02T00:00:00Z" if who.endswith("/Update") else ""),
                "field": "." + ".".join(path),
            }
            for path, who in self.rivals
        ]
        return {"kind": "Status", "message": self.message, "details": {"causes": causes}}


@dataclass
class FakeCluster:
    """One namespace, ``models``."""

    behaviours: dict[str, str] = field(default_factory=dict)
    """What becomes of a bundle's pods: "ready" unless told otherwise."""
    objects: dict[tuple[str, str], dict] = field(default_factory=dict)
    owned: dict[tuple[str, str], dict[str, set]] = field(default_factory=dict)
    counts: dict[str, Counter] = field(default_factory=dict)
    """Requests by (status, latency in s), by pod."""
    answers: dict[str, list[float]] = field(default_factory=dict)
    """Scores by bundle, whatever is asked."""
    score: Callable[[str, list[dict]], list[float]] = lambda _bundle, rows: [0.25, 0.75][: len(rows)]
    """Scores of rows by the bundles that ``answers`` does not name."""
    memory: str = "150000000.0"
    unwell: list[int] = field(default_factory=list)
    """Status codes of the next answers, whatever is asked."""
    forbidden: set[str] = field(default_factory=set)
    history: list[tuple[str, str, str]] = field(default_factory=list)
    """(verb, kind, name) of every write."""
    version: int = 100
    accepts: bool = True
    """Whether the Gateway's controller takes routes."""
    deaf: bool = False
    """Whether the slots' servers answer /metrics with 503."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    # -- the API

    def ask(self, verb, plural, name, query, body, content):
        with self.lock:
            if self.unwell:
                raise Refusal(self.unwell.pop(0), "try again")
            if plural in self.forbidden:
                raise Refusal(403, f"{plural} is forbidden")
            if verb == "GET" and not name:
                return {"items": [each for each in self._all(plural) if selected(each, query)]}
            if verb == "GET":
                return self._get(plural, name)
            if plural == "serviceaccounts/token":
                return {"status": {"token": f"{name}@{body['spec']['audiences'][0]}"}}
            self.history.append((verb, plural, name or body["metadata"]["name"]))
            if verb == "DELETE":
                self._get(plural, name)
                return self._delete(plural, name)
            if verb == "POST":
                return self._create(plural, body, query["fieldManager"] + "/Update")
            assert content == "application/apply-patch+yaml"
            return self._apply(plural, name, body, query["fieldManager"], force=query.get("force") == "true")

    def put(self, plural, body):
        """Another's write: past managers and conflicts."""
        with self.lock:
            key = (plural, body["metadata"]["name"])
            before = self.objects.get(key)
            self._store(key, body, before)
            return self.objects[key]

    def _all(self, plural):
        return [copy.deepcopy(each) for (kind, _), each in sorted(self.objects.items()) if kind == plural]

    def _get(self, plural, name):
        if (plural, name) not in self.objects:
            raise Refusal(404, f'{plural} "{name}" not found')
        return copy.deepcopy(self.objects[plural, name])

    def _create(self, plural, body, manager):
        key = (plural, body["metadata"]["name"])
        if key in self.objects:
            raise Refusal(409, f"{key[1]} already exists")
        self.owned[key] = {manager: leaves(body)}
        self._store(key, body, None)
        return copy.deepcopy(self.objects[key])

    def _apply(self, plural, name, body, manager, force):
        key = (plural, name)
        before = self.objects.get(key)
        wanted = {part: body["metadata"].pop(part, None) for part in ("uid", "resourceVersion")}
        if before is None and wanted["uid"]:
            raise Refusal(409, "uid mismatch: the provided object specified a uid, and no existing object was found")
        if before and any(value not in (None, before["metadata"][part]) for part, value in wanted.items()):
            raise Refusal(409, "the object has been modified; please apply your changes to the latest version")
        owners = self.owned.setdefault(key, {})
        rivals = contested(before, body, {who: paths for who, paths in owners.items() if who != manager})
        if rivals and not force:
            raise Refusal(409, f"Apply failed with {len(rivals)} conflicts", rivals)
        for paths in owners.values():
            paths -= {path for path, _ in rivals}
        now = copy.deepcopy(before) or {"metadata": {}}
        others = {leaf for who, paths in owners.items() if who != manager for leaf in paths}
        for leaf in owners.get(manager, set()) - leaves(body) - others:
            drop(now, leaf)
        merge(now, body)
        owners[manager] = leaves(body)
        self._store(key, now, before)
        return copy.deepcopy(self.objects[key])

    def _delete(self, plural, name):
        del self.objects[plural, name]
        self.owned.pop((plural, name), None)
        if plural == "inferenceservices":
            for key in [key for key in self.objects if key[1].startswith(f"{name}-predictor")]:
                del self.objects[key]
        return {"kind": "Status"}

    def _store(self, key, body, before):
        now = copy.deepcopy(body)
        meta = now["metadata"]
        meta.setdefault("namespace", "models")
        meta.setdefault("uid", f"uid-{self.version}")
        meta.setdefault("creationTimestamp", "2026-03-02T00:00:00Z")
        if before is not None and now == before:
            return
        changed = before is None or now.get("spec") != before.get("spec")
        meta["generation"] = (before["metadata"]["generation"] if before else 0) + changed
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = now
        if key[0] == "inferenceservices":
            self._serve(now)
        if key[0] == "httproutes" and changed and self.accepts:
            said = {"type": "Accepted", "status": "True", "observedGeneration": meta["generation"]}
            self.version += 1
            current = self.objects[key]
            current["status"] = {"parents": [{"conditions": [said]}]}
            # The answer to the writer is the object before its controller saw it.
            self.objects[key] = copy.deepcopy(current)
            self.objects[key]["metadata"]["resourceVersion"] = str(self.version)

    # -- KServe

    def _serve(self, service):
        name, bundle = service["metadata"]["name"], service["metadata"]["annotations"][BUNDLE]
        behaviour = self.behaviours.get(bundle, "ready")
        predictor = f"{name}-predictor"
        service["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}  # whatever becomes of the pods
        if behaviour == "refused":
            info = {"reason": "NoSupportingRuntime", "message": "No runtime found to support this model"}
            service["status"] = {"modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": info}}
            return
        up = behaviour == "ready"
        said = {"observedGeneration": 99, "replicas": 1, "updatedReplicas": 1}
        said["conditions"] = [{"type": "Available", "status": str(up)}]
        template = {"metadata": {"annotations": dict(service["metadata"]["annotations"])}}
        self.put("services", {"metadata": {"name": predictor}, "spec": {"ports": [{"port": 80}]}})
        self.put(
            "deployments",
            {"metadata": {"name": predictor}, "spec": {"replicas": 1, "template": template}, "status": said},
        )
        self.put("pods", pod(name, bundle, behaviour))

    # -- slots, past the API

    def bundle(self, slot):
        return self.objects["inferenceservices", slot]["metadata"]["annotations"][BUNDLE]

    def count(self, slot, requests, status="200", seconds=0.004):
        """Requests that a slot's pod answered."""
        self.counts.setdefault(f"{slot}-predictor-1", Counter())[status, seconds] += requests

    def slots(self, request):
        """The data plane, as an httpx transport."""
        host = request.url.host
        if host.endswith(".models.svc"):
            slot = host.split("-predictor")[0]
            if ("services", f"{slot}-predictor") not in self.objects:
                raise httpx.ConnectError("no such host")
            assert request.headers["x-kedge-smoke"] == "true"
            if request.url.path == "/metrics":
                return httpx.Response(200, text=self._metrics(f"{slot}-predictor-1", self.bundle(slot)))
            return self._predicted(request, self.bundle(slot))
        for (kind, name), each in self.objects.items():
            if kind == "pods" and each["status"]["podIP"] == host:
                if self.deaf:
                    return httpx.Response(503)
                return httpx.Response(200, text=self._metrics(name, each["metadata"]["annotations"].get(BUNDLE)))
        raise httpx.ConnectError("no route to host")

    def _predicted(self, request, bundle):
        rows = json.loads(request.content)["instances"]
        return httpx.Response(200, json={"predictions": self.answers.get(bundle) or self.score(bundle, rows)})

    def _metrics(self, name, bundle):
        counted = self.counts.get(name, Counter())
        lines = [f"process_resident_memory_bytes {self.memory}", "# TYPE kedge_requests_total counter"]
        labels = f'model_name="fraud",model_version="{bundle}",slot="x"'
        for status in sorted({status for status, _ in counted}):
            count = sum(n for (code, _), n in counted.items() if code == status)
            lines.append(f'kedge_requests_total{{{labels},protocol="v1",status="{status}"}} {count}.0')
        for edge in (0.005, 0.01, float("inf")):
            count = sum(n for (_, seconds), n in counted.items() if seconds <= edge)
            word = "+Inf" if edge == float("inf") else str(edge)
            for stage in ("score", "total"):
                lines.append(f'kedge_request_seconds_bucket{{le="{word}",{labels},stage="{stage}"}} {count}.0')
        return "\n".join(lines)


def pod(slot, bundle, behaviour):
    name = f"{slot}-predictor-1"
    container = {"name": "kserve-container", "restartCount": 0, "state": {"running": {}}}
    conditions = [{"type": "Ready", "status": str(behaviour == "ready")}]
    if behaviour == "crashes":
        ended = {"exitCode": 1, "reason": "Error", "message": "INFO: reading\n\nbundle altered: model.ubj\n"}
        waits = {"reason": "CrashLoopBackOff", "message": "back-off 40s"}
        container |= {"restartCount": 3, "state": {"waiting": waits}, "lastState": {"terminated": ended}}
    if behaviour == "no image":
        container["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": "kedge/serve:9 not found"}}
    if behaviour == "no room":
        container = None
        message = "0/1 nodes are available: 1 Insufficient cpu."
        conditions.append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message})
    return {
        "metadata": {
            "name": name, "annotations": {BUNDLE: bundle}, "labels": {"serving.kserve.io/inferenceservice": slot}
        },
        "spec": {"containers": [{"name": "kserve-container", "ports": [{"containerPort": 8080}]}]},
        "status": {
            "podIP": f"10.0.0.{1 + slot.endswith('green')}",
            "conditions": conditions,
            "containerStatuses": [container] if container else [],
        },
    }  # fmt: skip


def selected(each, query):
    for pair in filter(None, query.get("labelSelector", "").split(",")):
        key, value = pair.split("=")
        if (each["metadata"].get("labels") or {}).get(key) != value:
            return False
    return True


def over_http(cluster):
    """The cluster behind an address."""

    def answer(request):
        parts = request.path.strip("/").split("/")
        at = parts.index("namespaces") + 2
        body = json.loads(request.data) if request.data else None
        name = parts[at + 1] if len(parts) > at + 1 else ""
        plural, kind = "/".join((parts[at], *parts[at + 2 :])), request.headers.get("content-type")
        try:
            return said(cluster.ask(request.method, plural, name, request.args.to_dict(), body, kind))
        except Refusal as exc:
            return said(exc.status(), exc.code)

    return answering(answer)
