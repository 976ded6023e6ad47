"""The release driver for KServe (Standard mode) behind the Gateway API: two InferenceServices and an HTTPRoute a model.

Slots are InferenceServices of their own, so that KServe's canary, which Standard mode ignores or routes with losses, is
never needed. The HTTPRoute is the product's own, under its own name and host: KServe rewrites routes of its names and
wins on its hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from components import clock
from components.deploy import smoke
from components.deploy.gateway import objects, status
from components.deploy.kserve import api, counters, pods, servers
from components.deploy.kserve.address import Address
from components.deploy.model import Mark, Readings, Route, Slot, SlotStatus, Traffic, other
from components.errors import Conflict, ReleaseError

APPLIED_SECONDS = 5.0
"""Longest wait for the Gateway's controller to have taken a route that was written."""


class GatewayDriver:
    """See :class:`components.deploy.driver.Driver`.

    Args:
        address: The namespace, and what first objects need.
        model: The model's name, which is also its HTTPRoute's.
        cluster: The API of that namespace.
        http: Asks slots and collectors themselves.
        sleep: Real seconds.
        monotonic: Real seconds since any moment.
    """

    mirrors = True

    def __init__(
        self,
        address: Address,
        model: str,
        cluster: api.Api,
        *,
        http: httpx.Client,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._model = model
        self._api = cluster
        self._http = http
        self._sleep = sleep
        self._monotonic = monotonic

    @property
    def model(self) -> str:
        return self._model

    def deploy(self, slot: Slot, bundle: str, uri: str) -> None:
        found = self._service(slot)
        if found is not None and pods.bundle_of(found) == bundle:
            return  # there, or ending: whoever waits asks again
        like = self._service(other(slot)) or found
        body = objects.inference_service(self._address, self._model, slot, bundle, uri, like)
        self._api.apply(api.SLOTS, body)

    def slot(self, slot: Slot) -> SlotStatus:
        service = self._service(slot)
        if service is None:
            return SlotStatus()
        deployment = self._api.get(api.DEPLOYMENTS, objects.predictor(service["metadata"]["name"]))
        bundle = pods.bundle_of(service)
        up = bundle is not None and status.rolled_out(bundle, deployment)
        return status.slot_status(service, deployment, self._pods(slot), () if up else self._events(service))

    def remove(self, slot: Slot) -> None:
        found = self._api.get(api.ROUTES, self._model)
        if found is not None and slot in objects.backends(objects.read_route(self._model, found)):
            raise ReleaseError(f"slot {self._model}-{slot} still gets traffic; take weight and mirror away first")
        self._api.delete(api.SLOTS, objects.slot_name(self._model, slot))

    def route(self) -> Route:
        found = self._api.get(api.ROUTES, self._model)
        return Route() if found is None else objects.read_route(self._model, found)

    def set_route(self, route: Route) -> Route:
        for slot in sorted(objects.backends(route)):
            self._must_have_service(slot)
        body = objects.http_route(self._model, route)
        if route.revision:
            body["metadata"] |= self._swapped(route.revision)
            written = self._api.apply(api.ROUTES, body)
        else:
            written = self._api.create(api.ROUTES, objects.attached(body, self._address, self._model))
        return objects.read_route(self._model, self._settled(written))

    def predict(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        service = objects.slot_name(self._model, slot)
        base = f"http://{objects.predictor(service)}.{self._address.namespace}.svc:{objects.PORT}"
        return smoke.predict(self._http, service, base, self._model, rows)

    def mark(self) -> Mark:
        told = {key: traffic for each in self._servers().values() for key, traffic in each.items()}
        return Mark(time=clock.now(), servers=told)

    def readings(self, mark: Mark) -> Readings:
        counted = counters.since(mark, self._servers())
        mirror = self.route().mirror
        live, mirrored = dict(counted), dict.fromkeys(objects.NAMES, Traffic())
        if mirror is not None:  # a slot with a mirror has no weight: what reaches it are copies
            live[mirror.slot], mirrored[mirror.slot] = Traffic(), counted[mirror.slot]
        return Readings(live=live, mirrored=mirrored)

    def flush(self) -> None:
        servers.flush(self._http, self._api)

    def _service(self, slot: Slot) -> api.Object | None:
        return self._api.get(api.SLOTS, objects.slot_name(self._model, slot))

    def _pods(self, slot: Slot) -> list[api.Object]:
        name = objects.slot_name(self._model, slot)
        return self._api.list(api.PODS, labelSelector=f"serving.kserve.io/inferenceservice={name}")

    def _events(self, service: api.Object) -> list[api.Object]:
        """Warnings about a slot's Deployment, replica sets and pods, whose names begin alike, since it was made."""
        name, made = objects.predictor(service["metadata"]["name"]), service["metadata"]["creationTimestamp"]
        found = self._api.list(api.EVENTS, fieldSelector="type=Warning")
        ours = [event for event in found if f"{event['involvedObject'].get('name')}-".startswith(f"{name}-")]
        return [event for event in ours if pods.seen_at(event) >= made]

    def _must_have_service(self, slot: Slot) -> None:
        """A backend without its Service is answered 500, and a mirror without one fails all of the traffic."""
        name = objects.predictor(objects.slot_name(self._model, slot))
        if self._api.get(api.SERVICES, name) is None:
            raise ReleaseError(f"service {self._address.namespace}/{name} is not there, so no traffic is sent to it")

    def _swapped(self, revision: int) -> dict[str, str]:
        """What makes an apply a compare-and-swap; without the uid it would make a route that is gone anew."""
        found = self._api.get(api.ROUTES, self._model)
        if found is None:
            raise Conflict(f"httproute {self._address.namespace}/{self._model} was deleted meanwhile")
        return {"uid": found["metadata"]["uid"], "resourceVersion": str(revision)}

    def _settled(self, written: api.Object) -> api.Object:
        """The route that was written, as it stands once the Gateway's controller said that it took it.

        The controller's word changes the revision; without this wait the next write would meet a conflict.
        """
        ends = self._monotonic() + APPLIED_SECONDS
        while not _taken(written) and self._monotonic() < ends:
            self._sleep(0.1)
            found = self._api.get(api.ROUTES, self._model)
            if found is None or _asked(found) != _asked(written):
                break  # another writer came; the next write of this one will meet the conflict
            written = found
        return written

    def _servers(self) -> dict[Slot, dict[str, Traffic]]:
        found: dict[Slot, dict[str, Traffic]] = {}
        for slot in objects.NAMES:
            service = self._service(slot)
            bundle = pods.bundle_of(service) if service is not None else None
            found[slot] = servers.counted(self._http, self._pods(slot), bundle) if bundle else {}
        return found


def _taken(route: api.Object) -> bool:
    said = [item for parent in (route.get("status") or {}).get("parents") or () for item in parent["conditions"]]
    wanted = route["metadata"]["generation"]
    return any(item["type"] == "Accepted" and item.get("observedGeneration", 0) >= wanted for item in said)


def _asked(route: api.Object) -> tuple[Any, Any]:
    """What a writer of the route changes, and its controller does not."""
    return route["metadata"]["generation"], (route["metadata"].get("annotations") or {}).get(objects.ROLLOUT)
