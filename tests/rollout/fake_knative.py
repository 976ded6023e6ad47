"""KServe in Knative mode that behaves: revisions, the time they need, who "the latest" is, what gets traffic.

From what KServe 0.20 and Knative Serving 0.48 do on a real cluster: the percentage goes to the latest revision that is
*ready*, the rest to the last one that had all traffic; a percentage on a service whose latest revision has everything
already is taken for a rollback; annotations of the service are part of the revisions' template; a revision without
traffic and tag loses its pods; status names revisions, and its conditions are noise.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.rollout.fake_kubernetes import BUNDLE, FakeCluster, pod

SCALING = {"minReplicas", "maxReplicas", "canaryTrafficPercent"}
"""What of a predictor is no part of a revision's template."""


@dataclass
class Revision:
    number: int
    bundle: str
    labels: dict
    annotations: dict
    made: float
    template: dict
    ready: bool = False
    wanted_at: float = 0.0
    """When it last had traffic or a tag, or came up."""


@dataclass
class FakeKnative(FakeCluster):
    """One namespace, ``models``, with one InferenceService in Knative mode."""

    time: object = None
    """Has ``passed``: seconds."""
    ready_after: float = 20.0
    idle_after: float = 60.0
    routed_after: float = 0.0
    """Until a share that is asked for is routed and told: 1 to 17 s as the node is busy."""
    revisions: list[Revision] = field(default_factory=list)
    rolledout: int = 0
    previous: int = 0
    bore: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """(seconds, percent by bundle) whenever the traffic changed."""
    refuses_until: float = 0.0
    """Until when Knative's dry run of a new revision's pod meets a quota: KServe writes nothing and posts an event."""
    asked: list[tuple] = field(default_factory=list)
    asked_at: float = 0.0
    routed: list[tuple] = field(default_factory=list)
    """Targets as asked for by KServe, and as Knative routes them."""
    ready_word: tuple[str, str] = ("True", "")
    """Status and reason of the service's own Ready condition, which nobody should believe."""

    def ask(self, verb, plural, name, query, body, content):
        with self.lock:
            self.tick()
            answer = super().ask(verb, plural, name, query, body, content)
            if verb != "GET":
                self.tick()
            return answer

    def _serve(self, service):
        """Nothing happens at once: controllers act in ``tick``."""

    def _delete(self, plural, name):
        if plural == "inferenceservices":
            self.revisions.clear()
            self.asked, self.routed = [], []
            self.rolledout = self.previous = 0
            for key in [key for key in self.objects if key[0] in ("pods", "revisions")]:
                del self.objects[key]
        return super()._delete(plural, name)

    # -- the controllers

    @property
    def service(self):
        return next((each for (kind, _), each in self.objects.items() if kind == "inferenceservices"), None)

    @property
    def created(self):
        return self.revisions[-1].number if self.revisions else 0

    @property
    def latest_ready(self):
        return max((each.number for each in self.revisions if each.ready), default=0)

    def tick(self):
        """What the controllers have done by now."""
        with self.lock:
            if self.service is None:
                return
            if not self._revise():
                return
            for each in self.revisions:
                behaviour = self.behaviours.get(each.bundle, "ready")
                if not each.ready and behaviour == "ready" and self.time.passed - each.made >= self.ready_after:
                    each.ready, each.wanted_at = True, self.time.passed
            for _ in range(3):  # status moves traffic and traffic moves status
                self._route()
                self._propagate()
            self._scale()
            self._tell()

    def _revise(self):
        service = self.service
        spec = service["spec"]["predictor"]
        template = copy.deepcopy({key: value for key, value in spec.items() if key not in SCALING})
        template["metadata"] = copy.deepcopy([service["metadata"]["annotations"], service["metadata"]["labels"]])
        if self.revisions and self.revisions[-1].template == template:
            return True
        if self.time.passed < self.refuses_until:
            self._refuse(service)
            return False
        labels, annotations = dict(service["metadata"]["labels"]), dict(service["metadata"]["annotations"])
        made = Revision(self.created + 1, annotations[BUNDLE], labels, annotations, self.time.passed, template)
        self.revisions.append(made)
        return True

    def _refuse(self, service):
        name = service["metadata"]["name"]
        self.objects["events", name] = {
            "metadata": {"name": name}, "involvedObject": {"kind": "InferenceService", "name": name},
            "type": "Warning", "reason": "InternalError", "lastTimestamp": "2026-03-02T00:00:01Z",
            "message": "fails to reconcile predictor: dry run failed with exceeded quota: tight",
        }  # fmt: skip

    def targets(self):
        """(revision, percent, tag, follows the latest) as KServe asks Knative for them."""
        percent = self.service["spec"]["predictor"].get("canaryTrafficPercent")
        if percent is None or not self.rolledout:
            return [(self.latest_ready, 100, "latest", True)]
        rest = [(self.rolledout, 100 - percent, "prev", False)] if percent < 100 else []
        return [(self.latest_ready, percent, "latest", True), *rest]

    def _route(self):
        targets = self.targets()
        if targets != self.asked:
            self.asked, self.asked_at = targets, self.time.passed
        if self.time.passed - self.asked_at >= self.routed_after:
            self.routed = targets

    def shares(self):
        """Percent by revision."""
        found = {}
        for number, percent, _, _ in self.routed:
            found[number] = found.get(number, 0) + percent
        return found

    def _propagate(self):
        shares = self.shares()
        for number, percent, _, follows in self.routed:
            if not follows or not number:
                continue
            if number != self.rolledout and percent == 100:
                self.previous, self.rolledout = self.rolledout, number
            elif number == self.rolledout == self.created and percent < 100 and shares[number] == 100 and self.previous:
                self.rolledout = self.previous

    def _scale(self):
        wanted = {number for number, _, _, _ in self.routed}
        for each in self.revisions:
            if each.number in wanted:
                each.wanted_at = self.time.passed
            behaviour = self.behaviours.get(each.bundle, "ready")
            up = not each.ready or self.time.passed - each.wanted_at < self.idle_after
            self._pods(each, behaviour if each.ready or behaviour != "ready" else "starts", up)

    def _pods(self, revision, behaviour, up):
        key = ("pods", f"{self.name(revision.number)}-1")
        if not up:
            self.objects.pop(key, None)
            return
        made = pod("x", revision.bundle, behaviour)
        made["metadata"] |= {
            "name": key[1], "uid": f"uid-{revision.number}",
            "labels": {
                "serving.knative.dev/revision": self.name(revision.number),
                "serving.knative.dev/service": f"{self.service['metadata']['name']}-predictor",
            },
        }  # fmt: skip
        made["spec"]["containers"].append({"name": "queue-proxy", "ports": [{"containerPort": 8012}]})
        made["status"]["podIP"] = f"10.0.1.{revision.number}"
        self.objects[key] = made

    def name(self, number):
        return f"{self.service['metadata']['name']}-predictor-{number:05d}" if number else ""

    def bundle_of(self, number):
        return self.revisions[number - 1].bundle if number else ""

    def _tell(self):
        routed = {self.bundle_of(number): percent for number, percent in self.shares().items() if percent}
        if not self.bore or self.bore[-1][1] != routed:
            self.bore.append((self.time.passed, routed))
        for each in self.revisions:
            self.objects["revisions", self.name(each.number)] = self._revision(each)
        state, reason = self.ready_word
        said = {
            "observedGeneration": 18,
            "conditions": [{"type": "Ready", "status": state, "reason": reason}],
            "components": {"predictor": {
                "latestCreatedRevision": self.name(self.created),
                "latestReadyRevision": self.name(self.latest_ready),
                "latestRolledoutRevision": self.name(self.rolledout),
                "previousRolledoutRevision": self.name(self.previous),
                "traffic": [
                    {"revisionName": self.name(number), "percent": percent, "tag": tag, "latestRevision": follows}
                    for number, percent, tag, follows in self.routed if number
                ],
            }},
        }  # fmt: skip
        if self.service.get("status") != said:
            self.service["status"] = said
            self.version += 1
            self.service["metadata"]["resourceVersion"] = str(self.version)

    def _revision(self, revision):
        conditions = {
            "starts": [{"type": "Ready", "status": "Unknown", "reason": "Deploying"}],
            "no image": [
                {"type": "ContainerHealthy", "status": "Unknown"},
                {"type": "ResourcesAvailable", "status": "Unknown", "reason": "ImagePullBackOff",
                 "message": "kedge/serve:9 not found"},
                {"type": "Ready", "status": "Unknown"},
            ],
            "refused by knative": [
                {"type": "Active", "status": "False", "reason": "NoTraffic", "message": "The target is not receiving"},
                {"type": "Ready", "status": "False", "reason": "ContainerMissing", "message": "no such image"},
            ],
        }  # fmt: skip
        behaviour = self.behaviours.get(revision.bundle, "ready")
        said = [{"type": "Ready", "status": "True"}] if revision.ready else conditions.get(behaviour)
        return {
            "metadata": {
                "name": self.name(revision.number), "labels": revision.labels, "annotations": revision.annotations
            },
            "status": {"conditions": said or conditions["starts"]},
        }  # fmt: skip

    # -- requests

    def traffic(self, requests, failing=0.0, bundle=""):
        """Clients' requests, split as routed; a share of one bundle's fails. A revision without pods comes up first."""
        with self.lock:
            self.tick()
            for number, percent in self.shares().items():
                if not percent or not number:
                    continue
                mine = round(requests * percent / 100)
                failed = round(mine * failing) if self.bundle_of(number) == bundle else 0
                self.answered(number, mine - failed)
                self.answered(number, failed, status="500")

    def answered(self, number, requests, status="200", seconds=0.004):
        self.counts.setdefault(f"{self.name(number)}-1", Counter())[status, seconds] += requests

    def slots(self, request):
        """The data plane: model servers at their pods' addresses."""
        if request.url.path.endswith(":predict"):
            for (kind, _), each in self.objects.items():
                if kind == "pods" and each["status"]["podIP"] == request.url.host and request.url.port == 8080:
                    assert request.headers["x-kedge-smoke"] == "true"
                    return self._predicted(request, each["metadata"]["annotations"][BUNDLE])
            raise httpx.ConnectError("no route to host")
        return super().slots(request)
