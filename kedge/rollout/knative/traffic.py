"""What to write next, from what is declared and what KServe says. Pure.

KServe gives ``canaryTrafficPercent`` to the latest revision *that is ready* and the rest to the last one that had all
traffic. Three rules follow, and every write here keeps them:

- a new spec is written together with 0 and raised only once it is the latest ready revision: until then "the latest"
  is the revision before it, which may be the one that was refused;
- the field goes only when the latest ready revision may have all traffic, so a refused one is first replaced by the
  champion's spec at 0, which makes a new revision of it;
- no percentage is set on a service whose latest revision already has all traffic: KServe would take it for a rollback
  and give the rest to an older revision. The other bundle is written as a new spec instead.

So a champion that does not answer is left without a percent: its candidate gets all, and its own spec is written anew,
as the revision that comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kedge.rollout.knative.objects import Declared, Placed, slot_of, storage_of, written_of
from kedge.rollout.kserve.api import Object
from kedge.rollout.kserve.pods import bundle_of
from kedge.rollout.model import Slot, other

MAX_PERCENT = 99
"""Largest share of a candidate whose champion answers. At 100 that one loses its tag and, minutes later, its pods: a
rollback would wait for a cold start."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A Knative revision, as far as a release asks."""

    name: str
    slot: Slot | None = None
    bundle: str | None = None
    written: str | None = None
    """Which writing of the spec it was made from."""
    ready: str = "Unknown"
    """Its condition: True, False or Unknown."""
    reason: str = ""
    """Why it is not ready, in its own words."""

    def holds(self, slot: Slot, placed: Placed | None) -> bool:
        """Whether it is a slot's."""
        return placed is not None and (self.slot, self.bundle) == (slot, placed.bundle)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An InferenceService as it stands."""

    service: Object
    created: Revision | None = None
    """Made from the latest spec."""
    ready: Revision | None = None
    """The latest that is ready: gets the percentage, or all."""
    rolledout: Revision | None = None
    """The last that had all traffic: gets the rest."""
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Percent by revision, as routed."""

    @property
    def percent(self) -> int | None:
        """The percentage asked for."""
        found: int | None = self.service["spec"]["predictor"].get("canaryTrafficPercent")
        return found

    @property
    def slot(self) -> Slot | None:
        """The slot of the latest spec."""
        return slot_of(self.service)

    @property
    def placed(self) -> Placed:
        """The bundle of the latest spec."""
        return Placed(bundle=bundle_of(self.service) or "", storage=storage_of(self.service))

    def settled(self, slot: Slot, placed: Placed | None) -> bool:
        """Whether the latest spec is this slot's and its revision, of no earlier spec, is the latest and ready."""
        made = self.created
        return (
            made is not None
            and made == self.ready
            and made.holds(slot, placed)
            and made.written == written_of(self.service)
        )

    def revision(self, slot: Slot, placed: Placed) -> Revision | None:
        """The newest revision of a slot's bundle that has, or may get, traffic."""
        found = (each for each in (self.created, self.ready, self.rolledout) if each and each.holds(slot, placed))
        return next(found, None)


@dataclass(frozen=True, kw_only=True)
class Write:
    """The latest spec to write and its share."""

    slot: Slot
    placed: Placed
    percent: int | None


def next_write(declared: Declared, seen: Seen | None) -> Write | None:
    """The next safe write towards what is declared; None: all is written, or a revision must become ready first."""
    if not declared.slots:
        return None
    latest = _latest(declared, seen)
    placed = declared.slots[latest]
    if seen is None:
        return Write(slot=latest, placed=placed, percent=None)
    if (seen.slot, seen.placed.bundle) != (latest, placed.bundle):
        if seen.slot and seen.percent:  # the share of what is replaced goes first
            return Write(slot=seen.slot, placed=seen.placed, percent=0)
        if seen.percent == 0 and _leaks(seen):
            return None
        return Write(slot=latest, placed=placed, percent=None if seen.rolledout is None else 0)
    percent = _percent(declared, seen, latest)
    return None if percent == seen.percent else Write(slot=latest, placed=seen.placed, percent=percent)


def _latest(declared: Declared, seen: Seen | None) -> Slot:
    """The slot whose bundle must be the latest spec: the other one than that which gets the rest."""
    if len(declared.slots) == 1:
        return next(iter(declared.slots))
    heavy: Slot = max(declared.slots, key=lambda slot: (declared.route.weights.get(slot, 0), slot))
    if seen is None or seen.rolledout is None:
        return heavy
    rest = [slot for slot, placed in declared.slots.items() if seen.rolledout.holds(slot, placed)]
    return other(rest[0]) if rest else heavy  # neither of ours gets the rest: first bring the heavier one back


def _percent(declared: Declared, seen: Seen, latest: Slot) -> int | None:
    """The share of the latest spec, which is written already."""
    if seen.rolledout is None:
        return None  # the first one of all
    if not seen.settled(latest, declared.slots[latest]):
        return 0 if seen.created != seen.rolledout else seen.percent
    if not seen.rolledout.holds(other(latest), declared.slots.get(other(latest))):
        return None
    weight, rollout = declared.route.weights.get(latest, 0), declared.route.rollout
    failed_over = rollout is not None and rollout.state == "failover"
    return None if weight == 100 and failed_over else min(MAX_PERCENT, weight)


def _leaks(seen: Seen) -> bool:
    """Whether the latest ready revision still gets requests though its share is 0."""
    return seen.ready is not None and seen.ready != seen.rolledout and seen.traffic.get(seen.ready.name, 0) > 0
