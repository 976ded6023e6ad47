"""The release driver of the local platform: it declares slots and route as files, and reads Envoy's counters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from kedge import clock
from kedge.choice import Score
from kedge.errors import ReleaseError, SlotNotReady
from kedge.rollout import smoke
from kedge.rollout.local import envoy
from kedge.rollout.local.folder import Folder, PlatformSeen
from kedge.rollout.model import Mark, Readings, Route, Slot, SlotStatus, Traffic

APPLIED_SECONDS = 5.0
"""Longest wait for Envoy to have applied a route that was written."""
FLUSH_SECONDS = 60.0
NOT_RUNNING = "the local platform is not running; start it with `kedge up`"


class LocalDriver:
    """See :class:`kedge.rollout.driver.Driver`."""

    mirrors = True
    keeps = True

    def __init__(self, platform: Path, model: str) -> None:
        self._folder = Folder(platform)
        self._model = model

    @property
    def model(self) -> str:
        return self._model

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    def deploy(self, slot: Slot, bundle: str, uri: str) -> None:
        self._platform()
        self._folder.want(self._model, slot, bundle, uri)

    def slot(self, slot: Slot) -> SlotStatus:
        wanted = self._folder.wanted(self._model, slot)
        if wanted is None:
            return SlotStatus()
        if not self._folder.running():
            return SlotStatus(bundle=wanted.bundle, reason=NOT_RUNNING)
        seen = self._folder.seen(self._model, slot)
        if seen is None or seen.generation != wanted.generation:
            return SlotStatus(bundle=wanted.bundle, not_started=True, reason="the platform has not started it yet")
        return SlotStatus(
            bundle=seen.bundle,
            ready=seen.ready,
            ends=seen.ends,
            failed=seen.failed,
            reason=seen.reason,
            address=seen.address,
        )

    def remove(self, slot: Slot) -> None:
        route = self._folder.route(self._model)
        if route.weights.get(slot, 0) > 0 or (route.mirror is not None and route.mirror.slot == slot):
            raise ReleaseError(f"slot {self._model}-{slot} still gets traffic; take weight and mirror away first")
        self._folder.want_empty(self._model, slot)

    def route(self) -> Route:
        return self._folder.route(self._model)

    def set_route(self, route: Route) -> Route:
        written = self._folder.swap_route(self._model, route)
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline and not self._applied(written.revision):
            time.sleep(0.02)
        return written

    def predict(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
        address = self.slot(slot).address
        if address is None:
            raise SlotNotReady(f"slot {self._model}-{slot} does not run, so it cannot be asked")
        return smoke.predict(self.http, f"{self._model}-{slot}", address, self._model, rows)

    def mark(self) -> Mark:
        platform = self._platform()
        return Mark(time=clock.now(), epoch=platform.epoch, readings=self._counters(platform))

    def readings(self, mark: Mark) -> Readings:
        platform = self._platform()
        now = self._counters(platform)
        if platform.epoch != mark.epoch:  # Envoy was started anew and counts from zero
            return now
        return Readings(
            live={slot: now.live[slot].since(mark.readings.live.get(slot, Traffic())) for slot in now.live},
            mirrored={slot: now.mirrored[slot].since(mark.readings.mirrored.get(slot, Traffic())) for slot in now.live},
        )

    def flush(self) -> None:
        with suppress(httpx.HTTPError, ReleaseError):
            httpx.post(f"{self._platform().collector}/v1/flush", timeout=FLUSH_SECONDS, trust_env=False)

    def _applied(self, revision: int) -> bool:
        """Whether Envoy routes by this revision; nobody does if no platform runs."""
        platform = self._folder.platform()
        return platform is None or platform.routes.get(self._model, 0) >= revision

    def _platform(self) -> PlatformSeen:
        platform = self._folder.platform()
        if platform is None:
            raise ReleaseError(f"{self._folder.root}: {NOT_RUNNING}")
        return platform

    def _counters(self, platform: PlatformSeen) -> Readings:
        query = {"filter": envoy.stats_filter(self._model), "histogram_buckets": "cumulative", "format": "json"}
        try:
            answer = httpx.get(f"{platform.admin}/stats", params=query, timeout=5, trust_env=False)
            answer.raise_for_status()
            return envoy.readings(answer.json(), self._model)
        except (httpx.HTTPError, ValueError, KeyError) as exc:
            raise ReleaseError(f"the gateway's counters at {platform.admin} cannot be read: {exc}") from exc
