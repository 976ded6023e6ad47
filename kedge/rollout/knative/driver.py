"""The release driver for KServe in Knative mode: two revisions of one InferenceService.

What is wanted is declared in a ConfigMap, written by compare-and-swap; every verb that works on a release then has the
InferenceService follow it, one safe write after another (``traffic.next_write``). A process that was killed between
the two leaves a declaration that the next one follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

from kedge.choice import Score
from kedge.errors import Conflict, ReleaseError, SlotNotReady, UsageError
from kedge.rollout import smoke
from kedge.rollout.knative import objects, status
from kedge.rollout.knative.objects import Declared, Placed
from kedge.rollout.knative.traffic import Seen, Write, next_write
from kedge.rollout.kserve import api, counters, pods, servers
from kedge.rollout.kserve.address import storage
from kedge.rollout.kserve.driver import KServeDriver
from kedge.rollout.model import Mark, Readings, Route, Slot, SlotStatus, Traffic

NAMES: tuple[Slot, ...] = get_args(Slot)
APPLIED_SECONDS = 10.0
"""Longest wait for a percentage that was written to be routed."""
RESTORED_SECONDS = 900.0
"""Longest wait for what stays to have all traffic when the other slot is emptied."""
NOISE_SECONDS = 10.0
"""How long a revision must say that it failed before it is believed."""
MAX_WRITES = 20


@dataclass(eq=False)
class KnativeDriver(KServeDriver):
    """See :class:`kedge.rollout.driver.Driver`, and for what it is given :class:`KServeDriver`."""

    mirrors: ClassVar[bool] = False
    keeps: ClassVar[bool] = False

    _failing: dict[str, float] = field(default_factory=dict, init=False)
    """Since when a revision has said that it failed."""

    def deploy(self, slot: Slot, bundle: str, uri: str) -> None:
        found, declared = self._declared()
        placed = Placed(bundle=bundle, storage=storage(self.address, self.model, bundle, uri))
        if declared.slots.get(slot) != placed:
            self._swap(found, replace(declared, slots={**declared.slots, slot: placed}))
        self._follow()

    def slot(self, slot: Slot) -> SlotStatus:
        placed, current = self._declared()[1].slots.get(slot), self._seen()
        if placed is None:
            return SlotStatus()
        if current is None:
            return SlotStatus(bundle=placed.bundle, reason=f"inferenceservice {self.model} is not there")
        revision = current.revision(slot, placed)
        events = () if revision else self._events(current.service)
        told = status.slot_status(slot, placed, current, self._pods(revision.name) if revision else (), events)
        since = self._failing_since(revision.name, revision.ready) if revision else None
        if not told.ready and since is not None and self.monotonic() - since >= NOISE_SECONDS:
            return replace(told, failed=True)
        return told

    def remove(self, slot: Slot) -> None:
        found, declared = self._declared()
        if declared.route.weights.get(slot, 0) > 0:
            raise ReleaseError(f"slot {self.model}-{slot} still gets traffic; take its weight away first")
        if slot in declared.slots:
            self._follow()  # its share goes before it does
            declared = objects.without(declared, slot)
            self._swap(found, declared)
        if declared.slots:
            self._wait_alone()
        else:
            self.cluster.delete(api.SLOTS, self.model)

    def route(self) -> Route:
        return self._declared()[1].route

    def set_route(self, route: Route) -> Route:
        found, declared = self._declared()
        if route.revision != declared.route.revision:
            raise Conflict(f"the route of {self.model} was changed by another meanwhile")
        if route.mirror is not None and route.mirror.percent > 0:
            raise UsageError(f"{self.model}: Knative cannot mirror requests; set release.shadow_percent to 0")
        self._must_be_up(declared, route)
        written = replace(route, mirror=None, revision=route.revision + 1)
        self._swap(found, replace(declared, route=written))
        self._follow()
        return written

    def predict(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
        name, told = f"{self.model}-{slot}", self.slot(slot)
        if told.address is None:
            raise SlotNotReady(f"slot {name} cannot be asked: {told.reason or 'it is empty'}")
        return smoke.predict(self.http, name, told.address, self.model, rows)

    def readings(self, mark: Mark) -> Readings:
        self._follow()  # whoever wrote the route last may have been killed before the service was
        live = counters.since(mark, self._servers())
        return Readings(live=live, mirrored=dict.fromkeys(NAMES, Traffic()))

    def _declared(self) -> tuple[api.Object | None, Declared]:
        """The declaration and the object it was read from; without one, what the service stands for."""
        found = self.cluster.get(api.MAPS, objects.map_name(self.model))
        if found is None:
            return None, objects.adopted(self.model, self._service())
        return found, objects.read_declared(self.model, found)

    def _swap(self, found: api.Object | None, declared: Declared) -> None:
        """Replace the declaration that was found. Conflict: another was first."""
        body = objects.config_map(self.model, declared)
        if found is None:
            self.cluster.create(api.MAPS, body)
        else:
            body["metadata"] |= {key: found["metadata"][key] for key in ("uid", "resourceVersion")}
            self.cluster.apply(api.MAPS, body)

    def _follow(self) -> None:
        """Write what is declared to the service, as far as its revisions are ready for it.

        The declaration is read again after every write: of two processes, one that slept over the other's declaration
        ends by writing that one.
        """
        for _ in range(MAX_WRITES):
            declared, current = self._declared()[1], self._seen()
            write = next_write(declared, current)
            if write is None:
                return
            with suppress(Conflict):  # KServe and others write the service too: look again
                self._write(write, current)
                self._wait_routed(write)
        raise ReleaseError(f"inferenceservice {self.model}: {MAX_WRITES} writes did not last; who else writes it?")

    def _write(self, write: Write, current: Seen | None) -> None:
        like = current.service if current else None
        asked = objects.inference_service(
            self.address, self.model, write.slot, write.placed, write.percent, like, self._predictor()
        )
        if current is None:
            self.cluster.create(api.SLOTS, asked)
            return
        written = self._apply(asked, current.service)
        if write.percent is None and "canaryTrafficPercent" in written["spec"]["predictor"]:
            # Another owns the field too, so leaving it out does not remove it: take it first. 100 is promoted as well.
            full = {"predictor": {**asked["spec"]["predictor"], "canaryTrafficPercent": 100}}
            self._apply(asked, self._apply({**asked, "spec": full}, written))

    def _apply(self, asked: api.Object, over: api.Object) -> api.Object:
        """Apply over one version of the service and no other; never make a deleted one anew."""
        version = {key: over["metadata"][key] for key in ("uid", "resourceVersion")}
        return self.cluster.apply(api.SLOTS, {**asked, "metadata": {**asked["metadata"], **version}})

    def _wait_routed(self, write: Write) -> None:
        """Give KServe and Knative the time to route a share; what takes longer is seen by the next look."""
        ends = self.monotonic() + APPLIED_SECONDS
        while self.monotonic() < ends:
            current = self._seen()
            if current is None or current.percent != write.percent or not current.settled(write.slot, write.placed):
                return  # another wrote, or a revision must come up first
            wanted = 100 if write.percent is None else write.percent
            if current.created is None or current.traffic.get(current.created.name) == wanted:
                return
            self.sleep(0.2)

    def _wait_alone(self) -> None:
        """Until what is still declared has all traffic, without a percentage."""
        began = self.monotonic()
        while True:
            self._follow()
            current, slots = self._seen(), self._declared()[1].slots
            if current is None or (current.percent is None and _alone(current, slots)):
                return
            if self.monotonic() - began > RESTORED_SECONDS:
                told = "; ".join(f"{slot}: {self.slot(slot).reason}" for slot in slots)
                raise ReleaseError(
                    f"inferenceservice {self.model}: what stays is not ready as the latest revision after "
                    f"{RESTORED_SECONDS:,.0f} s ({told}); traffic stays where it is; submit the release again to go on"
                )
            self.sleep(1.0)

    def _must_be_up(self, declared: Declared, route: Route) -> None:
        """A share that is raised goes to an empty slot or, until a revision is the latest ready one, to another."""
        current = self._seen()
        for slot, weight in route.weights.items():
            if weight <= declared.route.weights.get(slot, 0):
                continue
            placed = declared.slots.get(slot)
            if placed is None:
                raise ReleaseError(f"slot {self.model}-{slot} is empty, so no traffic is sent to it")
            latest = current is not None and (current.slot, current.placed.bundle) == (slot, placed.bundle)
            if current is not None and latest and not current.settled(slot, placed):
                name = current.ready.name if current.ready else "none"
                raise ReleaseError(
                    f"slot {self.model}-{slot}: the latest ready revision is {name}, not that of bundle "
                    f"{placed.bundle[:12]}, so its share is not raised"
                )

    def _service(self) -> api.Object | None:
        return self.cluster.get(api.SLOTS, self.model)

    def _seen(self) -> Seen | None:
        service = self._service()
        return None if service is None else status.seen(service, lambda name: self.cluster.get(api.REVISIONS, name))

    def _pods(self, revision: str) -> list[api.Object]:
        return self.cluster.list(api.PODS, labelSelector=f"serving.knative.dev/revision={revision}")

    def _events(self, service: api.Object) -> list[api.Object]:
        """Warnings about the service since kedge wrote it: what Knative's own dry run refuses stands nowhere else."""
        since = objects.written_at(service)
        found = self.cluster.list(api.EVENTS, fieldSelector="type=Warning")
        ours = [each for each in found if each["involvedObject"].get("name") == self.model]
        return [each for each in ours if pods.seen_at(each) >= since]

    def _servers(self) -> dict[Slot, dict[str, Traffic]]:
        ours = f"serving.knative.dev/service={objects.predictor(self.model)}"
        found, slots = self.cluster.list(api.PODS, labelSelector=ours), self._declared()[1].slots
        return {slot: servers.counted(self.http, found, slots[slot].bundle) if slot in slots else {} for slot in NAMES}

    def _failing_since(self, name: str, ready: str) -> float | None:
        if ready != "False":
            self._failing.pop(name, None)
            return None
        return self._failing.setdefault(name, self.monotonic())


def _alone(current: Seen, slots: Mapping[Slot, Placed]) -> bool:
    """Whether the latest revision is of the one slot that is left, ready, and had all traffic."""
    return current.created == current.rolledout and any(current.settled(slot, placed) for slot, placed in slots.items())
