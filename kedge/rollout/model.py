"""What a release is made of: slots, the route between them, the state of a rollout, what was counted meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from kedge.errors import ReleaseError

Slot = Literal["blue", "green"]
State = Literal[
    "deploy",
    "smoke",
    "shadow",
    "canary",
    "bake",
    "batch",
    "waiting",
    "failover",
    "promoted",
    "rolled-back",
    "not-judged",
]
"""What each means stands in the table of :mod:`kedge.rollout.states`."""


def other(slot: Slot) -> Slot:
    """The slot that is not this one."""
    return "green" if slot == "blue" else "blue"


@dataclass(frozen=True, kw_only=True)
class SlotStatus:
    """What runs in a slot now, not what was asked for."""

    bundle: str | None = None
    """Id of the bundle the slot was asked for last and whose server this is; None: the slot is empty."""
    ready: bool = False
    """It answers, with that bundle, and everything that was asked for is up."""
    partly: bool = False
    """Not everything that was asked for is up, but at least one server answers with that bundle."""
    ends: int = 0
    """How often its servers ended by themselves so far, as by a fault of their own; one that was taken away did not."""
    failed: bool = False
    """It will not come up by waiting; ``reason`` says why."""
    not_started: bool = False
    """No process was ever begun with the bundle: what does not come up is the platform, not the bundle."""
    reason: str = ""
    """What its pods or process said."""
    address: str | None = None
    """Where the slot itself answers, past the gateway."""

    def serves(self, bundle: str | None) -> bool:
        """Whether requests sent to the slot are answered by this bundle.

        >>> SlotStatus(bundle="a", partly=True, reason="1 of 2 pods are ready").serves("a")
        True
        """
        return (self.ready or self.partly) and self.bundle == bundle


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one slot answered in one span of time, counted by the gateway."""

    requests: int = 0
    """Requests that ended, well or not."""
    errors: int = 0
    """Of these, answers 5xx, time-outs and requests no server took."""
    latency: Mapping[float, int] = field(default_factory=dict)
    """Requests by latency: upper edge of the bucket in ms -> requests in it, each counted once, empty buckets too."""

    def since(self, earlier: Traffic) -> Traffic:
        """What was counted after ``earlier``, an older reading of the same counters.

        >>> Traffic(requests=9, errors=1, latency={1.0: 8}).since(Traffic(requests=4, latency={1.0: 3}))
        Traffic(requests=5, errors=1, latency={1.0: 5})
        """
        latency = {edge: count - earlier.latency.get(edge, 0) for edge, count in self.latency.items()}
        return Traffic(
            requests=self.requests - earlier.requests,
            errors=self.errors - earlier.errors,
            latency=latency,
        )


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Both slots' traffic: answers that clients got, and answers to mirrored requests."""

    live: Mapping[Slot, Traffic] = field(default_factory=dict)
    mirrored: Mapping[Slot, Traffic] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment from which a driver can count later. Drivers whose source counts by time leave the rest empty."""

    time: datetime
    epoch: str = ""
    """Identity of the counters: another one means that they began anew at zero."""
    readings: Readings = Readings()
    servers: Mapping[str, Traffic] = field(default_factory=dict)
    """Where servers count themselves: the counters of each, by its identity."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a rollout with constant weights, in which both slots saw the same minutes."""

    state: State
    percent: int
    """Share of the traffic the candidate got, or that was mirrored to it."""
    began: datetime
    ended: datetime | None = None
    candidate: Traffic = Traffic()
    champion: Traffic = Traffic()
    cut: str = ""
    """Why it was cut short, so that what was counted in it judges nobody; empty: it was not."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Where a release stands. It lies on the route, so that whoever reads the route can go on with it."""

    bundle: str
    uri: str
    slot: Slot
    champion: str | None
    """Bundle in the other slot that this one is compared with; None: the model's first release."""
    attempt: int
    run: str
    started: datetime
    state: State = "deploy"
    step: int = 0
    """Index of the canary step."""
    since: datetime
    """When the state (and step) began."""
    weights: Mapping[Slot, int] | None = None
    """As the release wrote them with the state: others on the route are another hand's. None: not known."""
    suspended: str = ""
    """Who suspended it, and why; empty: nobody."""
    left: State | None = None
    """While it waits or has failed over: the state that it goes back to."""
    departures: int = 0
    """How often its server was gone while it had traffic or copies."""
    ends: int = 0
    """How often its server had ended by itself when it was ready first."""
    crashes: int = 0
    """How often it did since, answered by another server or not."""
    mark: Mark | None = None
    """From where the current span counts."""
    spans: tuple[Span, ...] = ()
    """The spans that ended."""
    reason: str = ""
    """Why it ended as it did."""
    actor: str = ""
    """Who rolled it back, when a person did."""
    not_started: Annotated[bool, Field(validation_alias=AliasChoices("not_started", "untried"))] = False
    """Rolled back before any process was begun with the bundle: the platform was at fault, nothing was judged."""
    drill: bool = False
    """Only an exercise: it leaves no record, and is never promoted."""

    @property
    def ended(self) -> bool:
        """Its traffic is decided; records and cleaning up may be left."""
        return self.state in ("promoted", "rolled-back", "not-judged")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Copies of requests sent to a slot whose answers nobody gets."""

    slot: Slot
    percent: int


@dataclass(frozen=True, kw_only=True)
class Route:
    """Who gets a model's traffic. Written by compare-and-swap on ``revision``; revision 0: never written."""

    weights: Mapping[Slot, Annotated[int, Field(ge=0, le=100)]] = field(default_factory=dict)
    """Percent by slot; a slot that is not named gets nothing, and an empty mapping means no model is served."""
    mirror: Mirror | None = None
    rollout: Rollout | None = None
    revision: int = 0

    @property
    def champion(self) -> Slot | None:
        """The slot that has all traffic, or had it before the rollout.

        >>> Route(weights={"blue": 100}).champion
        'blue'
        """
        if self.rollout is not None and not self.rollout.ended:
            return other(self.rollout.slot) if self.rollout.champion else None
        served = [slot for slot, weight in self.weights.items() if weight > 0]
        if len(served) > 1:
            raise ReleaseError(
                f"the route gives traffic to both slots ({dict(self.weights)}) but no rollout stands on it; "
                "`kedge rollback` gives all of it to the champion"
            )
        return served[0] if served else None


_ROUTE = TypeAdapter(Route)


def encode_route(route: Route) -> bytes:
    """The route as JSON."""
    return _ROUTE.dump_json(route, indent=2)


def decode_route(raw: bytes, place: str) -> Route:
    """The route from JSON.

    Raises:
        ReleaseError: it is not a route kedge wrote; ``place`` begins the message.
    """
    try:
        return _ROUTE.validate_json(raw)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ReleaseError(f"{place}: not a route kedge wrote: {where}: {first['msg']}") from exc
