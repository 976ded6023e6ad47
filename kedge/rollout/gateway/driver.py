"""The release driver for KServe (Standard mode) behind the Gateway API: two InferenceServices and an HTTPRoute a model.

Slots are InferenceServices of their own, so that KServe's canary, which Standard mode ignores or routes with losses, is
never needed. The HTTPRoute is the product's own, under its own name and host: KServe rewrites routes of its names and
wins on its hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kedge.choice import Score
from kedge.errors import Conflict, ReleaseError
from kedge.rollout import smoke
from kedge.rollout.gateway import objects, status
from kedge.rollout.kserve import api, counters, pods, servers
from kedge.rollout.kserve.driver import KServeDriver
from kedge.rollout.model import Mark, Readings, Route, Slot, SlotStatus, Traffic, other

APPLIED_SECONDS = 5.0
"""Longest wait for the Gateway's controller to have taken a route that was written."""


@dataclass(eq=False)
class GatewayDriver(KServeDriver):
    """See :class:`kedge.rollout.driver.Driver`, and for what it is given :class:`KServeDriver`."""

    mirrors: ClassVar[bool] = True
    keeps: ClassVar[bool] = True

    def deploy(self, slot: Slot, bundle: str, uri: str) -> None:
        found = self._service(slot)
        if found is not None and pods.bundle_of(found) == bundle:
            return  # there, or ending: whoever waits asks again
        like = self._service(other(slot)) or found
        predictor = self._predictor() or (like["spec"]["predictor"] if like else None)
        body = objects.inference_service(self.address, self.model, slot, bundle, uri, predictor)
        self.cluster.apply(api.SLOTS, body)

    def slot(self, slot: Slot) -> SlotStatus:
        service = self._service(slot)
        if service is None:
            return SlotStatus()
        deployment = self.cluster.get(api.DEPLOYMENTS, objects.predictor(service["metadata"]["name"]))
        bundle = pods.bundle_of(service)
        up = bundle is not None and status.rolled_out(bundle, deployment)
        return status.slot_status(service, deployment, self._pods(slot), () if up else self._events(service))

    def remove(self, slot: Slot) -> None:
        found = self.cluster.get(api.ROUTES, self.model)
        if found is not None and slot in objects.backends(objects.read_route(self.model, found)):
            raise ReleaseError(f"slot {self.model}-{slot} still gets traffic; take weight and mirror away first")
        self.cluster.delete(api.SLOTS, objects.slot_name(self.model, slot))

    def route(self) -> Route:
        found = self.cluster.get(api.ROUTES, self.model)
        return Route() if found is None else objects.read_route(self.model, found)

    def set_route(self, route: Route) -> Route:
        for slot in sorted(objects.backends(route)):
            self._must_have_service(slot)
        body = objects.http_route(self.model, route)
        if route.revision:
            body["metadata"] |= self._swapped(route.revision)
            written = self.cluster.apply(api.ROUTES, body)
        else:
            written = self.cluster.create(api.ROUTES, objects.attached(body, self.address, self.model))
        return objects.read_route(self.model, self._settled(written))

    def predict(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
        service = objects.slot_name(self.model, slot)
        base = f"http://{objects.predictor(service)}.{self.address.namespace}.svc:{objects.PORT}"
        return smoke.predict(self.http, service, base, self.model, rows)

    def readings(self, mark: Mark) -> Readings:
        counted = counters.since(mark, self._servers())
        mirror = self.route().mirror
        live, mirrored = dict(counted), dict.fromkeys(objects.NAMES, Traffic())
        if mirror is not None:  # a slot with a mirror has no weight: what reaches it are copies
            live[mirror.slot], mirrored[mirror.slot] = Traffic(), counted[mirror.slot]
        return Readings(live=live, mirrored=mirrored)

    def _service(self, slot: Slot) -> api.Object | None:
        return self.cluster.get(api.SLOTS, objects.slot_name(self.model, slot))

    def _pods(self, slot: Slot) -> list[api.Object]:
        name = objects.slot_name(self.model, slot)
        return self.cluster.list(api.PODS, labelSelector=f"serving.kserve.io/inferenceservice={name}")

    def _events(self, service: api.Object) -> list[api.Object]:
        """Warnings about a slot's Deployment, replica sets and pods, whose names begin alike, since it was made."""
        name, made = objects.predictor(service["metadata"]["name"]), service["metadata"]["creationTimestamp"]
        found = self.cluster.list(api.EVENTS, fieldSelector="type=Warning")
        ours = [event for event in found if f"{event['involvedObject'].get('name')}-".startswith(f"{name}-")]
        return [event for event in ours if pods.seen_at(event) >= made]

    def _must_have_service(self, slot: Slot) -> None:
        """A backend without its Service is answered 500, and a mirror without one fails all of the traffic."""
        name = objects.predictor(objects.slot_name(self.model, slot))
        if self.cluster.get(api.SERVICES, name) is None:
            raise ReleaseError(f"service {self.address.namespace}/{name} is not there, so no traffic is sent to it")

    def _swapped(self, revision: int) -> dict[str, str]:
        """What makes an apply a compare-and-swap; without the uid it would make a route that is gone anew."""
        found = self.cluster.get(api.ROUTES, self.model)
        if found is None:
            raise Conflict(f"httproute {self.address.namespace}/{self.model} was deleted meanwhile")
        return {"uid": found["metadata"]["uid"], "resourceVersion": str(revision)}

    def _settled(self, written: api.Object) -> api.Object:
        """The route that was written, as it stands once the Gateway's controller said that it took it.

        The controller's word changes the revision; without this wait the next write would meet a conflict.
        """
        ends = self.monotonic() + APPLIED_SECONDS
        while not _taken(written) and self.monotonic() < ends:
            self.sleep(0.1)
            found = self.cluster.get(api.ROUTES, self.model)
            if found is None or _asked(found) != _asked(written):
                break  # another writer came; the next write of this one will meet the conflict
            written = found
        return written

    def _servers(self) -> dict[Slot, dict[str, Traffic]]:
        found: dict[Slot, dict[str, Traffic]] = {}
        for slot in objects.NAMES:
            service = self._service(slot)
            bundle = pods.bundle_of(service) if service is not None else None
            found[slot] = servers.counted(self.http, self._pods(slot), bundle) if bundle else {}
        return found


def _taken(route: api.Object) -> bool:
    said = [item for parent in (route.get("status") or {}).get("parents") or () for item in parent["conditions"]]
    wanted = route["metadata"]["generation"]
    return any(item["type"] == "Accepted" and item.get("observedGeneration", 0) >= wanted for item in said)


def _asked(route: api.Object) -> tuple[Any, Any]:
    """What a writer of the route changes, and its controller does not."""
    return route["metadata"]["generation"], (route["metadata"].get("annotations") or {}).get(objects.ROLLOUT)
