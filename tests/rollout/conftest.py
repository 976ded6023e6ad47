"""A platform that behaves, without processes: slots come up, weights move traffic, bundles answer as they are told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.errors import Conflict, ReleaseError
from kedge.records import append
from kedge.rollout.evidence import Observed, Outcomes
from kedge.rollout.model import Mark, Readings, Route, SlotStatus, Traffic, other
from kedge.rollout.release import Release
from tests.records.made import record

OLD, NEW = "a" * 40, "b" * 40
START = datetime(2026, 3, 2, tzinfo=UTC)
EDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Killed(BaseException):
    """The process ends here, as by kill -9."""


@dataclass
class Behaviour:
    """How a bundle behaves once it serves."""

    failing: float = 0.0
    latency_ms: float = 2.0
    wrong: float = 0.1
    golden: float = 0.0
    """Added to the score of each golden row."""
    never_ready: bool = False
    not_started: bool = False
    """Nothing of it is ever begun: no controller, no node, no image."""
    crashes: bool = False
    dies_after_s: float | None = None


class Golden:
    """As much of a bundle as a release reads."""

    def __init__(self, bundle: str) -> None:
        self.id = bundle
        self.golden = pa.table({"x": [1.0, 2.0], "_score": [0.25, 0.75]})
        self.size = 2_000_000

    def golden_rows(self) -> list[dict]:
        return self.golden.select(["x"]).to_pylist()


@dataclass
class Platform:
    """A driver in memory. Time passes only when someone sleeps; requests come in at a steady rate."""

    rate: float = 20.0
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    now: datetime = START
    current_route: Route = field(default_factory=Route)
    slots: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    counters: dict[str, Traffic] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kill_at: int | None = None
    calls: int = 0
    dead_share_moves: bool = False
    """As gateways do: a backend without endpoints gets nothing, and its share goes to the other."""
    model = "fraud"
    mirrors: bool = True
    keeps: bool = True
    unready: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By slot: when it does not answer, in seconds since the beginning."""
    crashed: set[str] = field(default_factory=set)
    """Slots whose server, when it is gone, ended by itself."""

    def behaviour(self, bundle: str) -> Behaviour:
        return self.behaviours.get(bundle, Behaviour())

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._effect()
        self._traffic(seconds)
        self.now += timedelta(seconds=seconds)

    def deploy(self, slot, bundle, uri):
        self._effect()
        assert uri.endswith(bundle)
        if self.slots.get(slot, ("",))[0] != bundle:
            self.slots[slot] = (bundle, self.now)

    def slot(self, slot):
        if slot not in self.slots:
            return SlotStatus()
        bundle, since = self.slots[slot]
        does, age = self.behaviour(bundle), (self.now - since).total_seconds()
        if does.crashes:
            return SlotStatus(bundle=bundle, failed=True, reason="the model cannot be read")
        if does.not_started:
            return SlotStatus(bundle=bundle, not_started=True, reason="KServe has not made its Deployment yet")
        if does.never_ready or age < 3:
            return SlotStatus(bundle=bundle, reason="still loading")
        if does.dies_after_s is not None and age > does.dies_after_s:
            return SlotStatus(bundle=bundle, ends=1, reason="ended with code 137")
        gone = (self.now - START).total_seconds()
        ended = sum(begins <= gone for begins, _ in self.unready.get(slot, ())) if slot in self.crashed else 0
        if any(begins <= gone < ends for begins, ends in self.unready.get(slot, ())):
            if ended:
                return SlotStatus(bundle=bundle, ends=ended, reason="ended with code 137")
            return SlotStatus(bundle=bundle, not_started=True, reason="pod evicted")
        return SlotStatus(bundle=bundle, ready=True, ends=ended, address=f"http://{slot}")

    def remove(self, slot):
        self._effect()
        if self.current_route.weights.get(slot) or (
            self.current_route.mirror and self.current_route.mirror.slot == slot
        ):
            raise ReleaseError(f"slot {slot} still gets traffic")
        self.slots.pop(slot, None)
        self.removed.append(slot)

    def route(self):
        return self.current_route

    def set_route(self, route):
        self._effect()
        if route.revision != self.current_route.revision:
            raise Conflict("changed by someone else")
        for slot, weight in route.weights.items():
            assert not weight or self.slot(slot).bundle, f"traffic to the empty slot {slot}"
        self.current_route = replace(route, revision=route.revision + 1)
        self.routes.append(self.current_route)
        return self.current_route

    @property
    def http(self):
        return httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request):
        """A slot's own server."""
        if not self.slot(request.url.host).ready:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/metrics":
            return httpx.Response(200, text="process_resident_memory_bytes 1.5e+08\n")
        return httpx.Response(200, json={"predictions": [0.25]})

    def predict(self, slot, rows):
        self._effect()
        bundle = self.slots[slot][0]
        return [score + self.behaviour(bundle).golden for score in (0.25, 0.75)]

    def mark(self):
        return Mark(time=self.now, readings=self._readings())

    def readings(self, mark):
        now = self._readings()
        none = Traffic()
        return Readings(
            live={slot: now.live[slot].since(mark.readings.live.get(slot, none)) for slot in now.live},
            mirrored={slot: now.mirrored[slot].since(mark.readings.mirrored.get(slot, none)) for slot in now.live},
        )

    def flush(self):
        pass

    def observe(self, rollout, spans):
        """Every request is labelled at once."""
        return [
            Observed(
                span=span,
                candidate=self._outcomes(span.candidate if span.state != "shadow" else Traffic(), rollout.bundle),
                champion=self._outcomes(span.champion, rollout.champion or ""),
            )
            for span in spans
        ]

    def _outcomes(self, traffic, bundle):
        wrong = round(traffic.requests * self.behaviour(bundle).wrong)
        return Outcomes(rows=traffic.requests, loss=float(wrong), squares=float(wrong), wrong=wrong)

    def _readings(self):
        none = Traffic(latency=dict.fromkeys(EDGES, 0))
        return Readings(
            live={slot: self.counters.get(slot, none) for slot in ("blue", "green")},
            mirrored={slot: self.counters.get(f"{slot}-mirrored", none) for slot in ("blue", "green")},
        )

    def _traffic(self, seconds):
        for slot, weight in self.current_route.weights.items():
            up = self.slot(slot).ready
            moved = self.dead_share_moves and not up
            self._count(other(slot) if moved else slot, slot, self.rate * seconds * weight / 100)
        if self.current_route.mirror:
            slot = self.current_route.mirror.slot
            self._count(f"{slot}-mirrored", slot, self.rate * seconds * self.current_route.mirror.percent / 100)

    def _count(self, counter, slot, requests):
        slot = counter.removesuffix("-mirrored")
        status, before = self.slot(slot), self.counters.get(counter, Traffic(latency=dict.fromkeys(EDGES, 0)))
        does = self.behaviour(status.bundle or "")
        count = round(requests)
        edge = next(edge for edge in EDGES if edge >= does.latency_ms)
        self.counters[counter] = Traffic(
            requests=before.requests + count,
            errors=before.errors + (round(count * does.failing) if status.ready else count),
            latency={**before.latency, edge: before.latency.get(edge, 0) + count},
        )

    def _effect(self):
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed


@pytest.fixture
def policy():
    return policies.parse(
        {
            "model": {"name": "fraud", "target": "fraud", "features": {"x": {"type": "number"}}},
            "data": {"source": {"format": "csv", "location": "/x.csv"}, "time_column": "t"},
            "release": {
                "steps": [
                    {"percent": 10, "min_seconds": 60, "min_requests": 50},
                    {"percent": 50, "min_seconds": 60, "min_requests": 100},
                ],
                "bake_seconds": 120,
                "interval_seconds": 5,
                "max_step_seconds": 600,
                "ready_seconds": 60,
                "guard": {"keep_seconds": 0},
            },
        }
    )


@pytest.fixture
def platform():
    """Nothing is served yet."""
    return Platform()


@pytest.fixture
def served(platform, store):
    """A champion has all traffic in slot blue."""
    platform.slots["blue"] = (OLD, START - timedelta(days=1))
    platform.current_route = Route(weights={"blue": 100}, revision=1)
    append(
        store,
        record("promoted", f"{OLD}-1", START - timedelta(days=1), reason="the first one"),
    )
    return platform


@pytest.fixture
def release(policy, store):
    """Makes the release of a bundle on a platform, as a new process would."""

    def made(platform, bundle=NEW, *, policy=policy):
        published = []
        made = Release(
            driver=platform,
            policy=policy,
            store=store,
            publish=lambda state: published.append((state.champion_bundle, state.previous)),
            observe=platform.observe,
            bundle=Golden(bundle) if bundle else None,
            run="release-1",
            clock=platform.clock,
            sleep=platform.sleep,
        )
        made.published = published
        return made

    return made


@pytest.fixture
def change(policy):
    """The policy with other release settings."""
    return lambda **fields: policy.model_copy(update={"release": policy.release.model_copy(update=fields)})
