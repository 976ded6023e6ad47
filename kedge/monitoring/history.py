"""What the records say: who is champion, what was retrained when, what is not done. Pure, but for ``load_history``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kedge import records as ledger
from kedge.policy import Budget, Policy
from kedge.records import Record
from kedge.store import Store

BUNDLE = re.compile(r"[0-9a-f]{40}")
DECIDED = re.compile(r"(\d{8})t(\d{6})-[0-9a-f]{8}")
CHECKS = 100
"""Checks looked back at, if they tell whether the alarm is on; more are read until they do."""
MAX_CHECKS = 1000
"""Checks looked back at whatever they tell: an alarm that none of them ended or confirmed is taken for over."""
MAX_ATTEMPTS = 3
"""How often a run that failed is submitted for one decision; then the next decision must come. A release is tried on
after that, more rarely: see :meth:`Stalled.next_try`."""
BEFORE_TRAINING = ("ingest", "validate")
"""Steps of a retraining that come before ``train``: a run that failed in one of them trained nothing."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The bundle that serves, and the record that made it so."""

    bundle: str
    since: datetime
    tenure_id: str
    """``promoted/<key>`` or ``rolled-back/<key>``: a bundle that comes back after a rollback begins a new tenure."""


def load_history(store: Store, model: str, needed: int, end: datetime) -> list[Record]:
    """What has to be known of a model's past to decide on a window that ends then, in order: all but old checks.

    Checks come by the hour and stay for ever, so only the newest are read: at least ``CHECKS``, and as far back as it
    takes to tell whether the alarm is on. With them the check whose retraining ran last, however old.

    Args:
        needed: Good checks in a row that end an alarm.
        end: Event time.

    Raises:
        StoreError: a record cannot be read.
    """
    others = ledger.read(store, model, [kind for kind in ledger.KINDS if kind != "check"])
    checks = ledger.newest(store, model, "check", CHECKS)
    past = checks
    if checks and checks[-1].time >= end:  # a check of the past, made by hand
        past = ledger.newest(store, model, "check", CHECKS, before=key_of(end))
    while past and len(past) < MAX_CHECKS and not _settled(past, needed):
        older = ledger.newest(store, model, "check", CHECKS, before=past[0].key)
        if not older:
            break
        past = [*older, *past]
    known = {item.key: item for item in (*past, *checks, *_asked(store, model, others))}
    return ledger.in_order([*others, *known.values()])


def key_of(end: datetime) -> str:
    """The key of a check's record: its window's end."""
    return f"{end.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _settled(checks: Sequence[Record], needed: int) -> bool:
    """Whether older checks cannot change what these say of the alarm: they begin under another champion, enough good
    ones in a row ended whatever was, or not one of them was bad."""
    if checks[0].data["champion"]["tenure_id"] != checks[-1].data["champion"]["tenure_id"]:
        return True
    return all(_ended(checks, signal, needed) for signal in ("error", "shift"))


def _ended(checks: Sequence[Record], signal: str, needed: int) -> bool:
    looks = [item.data["signals"][signal] for item in checks if item.data["action"] != "quarantine"]
    known = [look for look in looks if look["breached"] is not None]
    good, seen = 0, known[0]["evidence_id"] if known else None  # the first may repeat one that is not here
    for look in known[1:]:
        if look["evidence_id"] != seen:
            seen, good = look["evidence_id"], 0 if look["breached"] else good + 1
            if good >= needed:
                return True
    return not any(look["breached"] for look in known)


def _asked(store: Store, model: str, others: Sequence[Record]) -> list[Record]:
    """The check that asked for the newest retraining."""
    keys = [str(item.data.get("decision_key")) for item in others if item.kind == "run-started"]
    decided = next(filter(None, map(DECIDED.fullmatch, reversed(keys))), None)
    found = ledger.find(store, model, "check", f"{decided[1]}T{decided[2]}Z") if decided else None
    return [found] if found is not None else []


def champion(records: Iterable[Record]) -> Champion | None:
    """Who serves after these records, in their order; None before the first promotion.

    A promotion makes its bundle the champion. Rolling back the champion brings the one before it back; rolling back a
    candidate that never was champion changes nothing. A model that was adopted is the champion until a promotion.
    """
    lineage: list[str] = []
    found: Champion | None = None
    for item in records:
        bundle = bundle_of(item)
        if item.kind == "adopted" and not lineage:
            found = Champion(bundle="adopted", since=item.time, tenure_id=f"adopted/{item.key}")
            continue
        if item.kind == "promoted" and bundle is not None and (not lineage or lineage[-1] != bundle):
            lineage.append(bundle)
        elif item.kind == "rolled-back" and len(lineage) > 1 and lineage[-1] == bundle:
            lineage.pop()
        else:
            continue
        found = Champion(bundle=lineage[-1], since=item.time, tenure_id=f"{item.kind}/{item.key}")
    return found


def bundle_of(item: Record) -> str | None:
    """The bundle a record is about: its data say it, or its key holds it."""
    said = item.data.get("bundle")
    if isinstance(said, str) and BUNDLE.fullmatch(said):
        return said
    match = BUNDLE.search(item.key)
    return match.group() if match else None


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A retraining that was decided on by a check, or started by hand."""

    key: str
    time: datetime
    refused: bool = False
    """Decided on by a check, and never submitted: each try was refused, as by a Kubeflow that is away."""


def retrainings(records: Sequence[Record], until: datetime) -> list[Retraining]:
    """Every retraining up to and including ``until``, in time order; a decision and the run it started are one.

    A run by hand that was never submitted, or failed before its step ``train``, is none: it trained nothing, and a
    person says when it is tried again. What a check decided on is one whatever became of it, because a check decides
    anew as soon as nothing holds it back: without a cooldown after it, every check would try what fails every time.
    """
    known = [item for item in records if item.time <= until]
    ended = {item.key: item.data for item in known if item.kind == "run-finished"}
    first: dict[str, datetime] = {}
    tries: dict[str, list[bool]] = {}
    for item in known:
        key = _retraining(item)
        if key is None:
            continue
        end = ended.get(item.key, {}) if item.kind == "run-started" else {}
        if not DECIDED.fullmatch(key) and _trained_nothing(end):
            continue
        first[key] = min(item.time, first.get(key, item.time))
        if item.kind == "run-started":
            tries.setdefault(key, []).append(_refused(end))
    found = [Retraining(key=key, time=time, refused=all(tries.get(key, [False]))) for key, time in first.items()]
    return sorted(found, key=lambda one: (one.time, one.key))


def spent(past: Sequence[Retraining], budget: Budget, now: datetime) -> int:
    """How many of these retrainings count towards the budget's period that ends now: those that could begin."""
    since = now - timedelta(seconds=budget.period_seconds)
    return sum(one.time > since and not one.refused for one in past)


def _trained_nothing(end: Mapping[str, Any]) -> bool:
    """Whether what ``run-finished`` says of a try shows that its training never began; in doubt it did."""
    return end.get("state") == "failed" and (_refused(end) or end.get("step") in BEFORE_TRAINING)


def _refused(end: Mapping[str, Any]) -> bool:
    return end.get("submitted") is False


def _retraining(item: Record) -> str | None:
    if item.kind == "check" and item.data.get("action") == "retrain":
        return str(item.data["decision_key"])
    if item.kind == "run-started" and item.data.get("pipeline", "retrain") == "retrain":
        return str(item.data.get("decision_key") or item.data.get("run") or item.key)
    return None


def unfinished(records: Sequence[Record], *, by_hand: bool = False) -> Record | None:
    """The newest check that decided to retrain, if what it asked for is not done: to be submitted (again) as it is.

    Not submitted yet, because the process died or nobody answered, unless a later check saw nothing bad, a corrupt feed
    or another champion; under way, perhaps with nobody left to drive it; failed by something that trying again may
    mend, up to ``MAX_ATTEMPTS`` times; passed its gates, and no release was begun.

    Args:
        records: All of the model, in order.
        by_hand: Releases wait for an approval, and begin with it.
    """
    checks = [item for item in records if item.kind == "check"]
    asked, trained = _newest_training(records, checks)
    if asked is None:
        return None
    if trained is None:
        return asked if not _overtaken(asked, checks) else None
    if trained.state != "succeeded":
        return asked if trained.again else None
    return asked if _release_is_due(records, trained, by_hand) else None


def awaits_release(records: Sequence[Record], *, by_hand: bool = False) -> str | None:
    """The bundle of the newest retraining, if it passed its gates and its release is to be begun, or tried again.

    Arguments as for :func:`unfinished`.
    """
    _, trained = _newest_training(records, [item for item in records if item.kind == "check"])
    if trained is None or trained.state != "succeeded" or not _release_is_due(records, trained, by_hand):
        return None
    return trained.bundle


@dataclass(frozen=True, kw_only=True)
class Stalled:
    """A release that failed by something that trying again may mend, such as a cluster without KServe."""

    bundle: str
    run: str
    tries: tuple[datetime, ...]
    """When each began."""
    reason: str
    """Why the last one failed."""

    def next_try(self, budget: Budget) -> datetime:
        """From when on a check tries it again.

        At once up to ``MAX_ATTEMPTS`` tries, as a fault often passes; then a cooldown after the last one, and never
        more of them within the budget's period than it allows retrainings. Each costs a run, and tells people.
        """
        soonest = self.tries[-1]
        if len(self.tries) >= MAX_ATTEMPTS:
            soonest += timedelta(seconds=budget.cooldown_seconds)
        if len(self.tries) < budget.max_retrains:
            return soonest
        return max(soonest, self.tries[-budget.max_retrains] + timedelta(seconds=budget.period_seconds))


def stalled(records: Sequence[Record]) -> Stalled | None:
    """The release that was begun last, by a check or by hand, if it failed and nobody judged its bundle.

    Not one whose bundle was rolled back after it was tried, by a test or by a person; nor one that a newer challenger
    has overtaken.
    """
    begun = [item for item in records if item.kind == "run-started" and item.data.get("pipeline") == "release"]
    if not begun:
        return None
    bundle, run = begun[-1].data.get("bundle"), begun[-1].data.get("run", begun[-1].key)
    tries = [item for item in begun if item.data.get("run", item.key) == run]
    last = next((item for item in records if item.kind == "run-finished" and item.key == tries[-1].key), None)
    if bundle is None or last is None or last.data["state"] != "failed" or last.data.get("exit_code", 1) == 2:
        return None
    later = [item for item in records if item.time >= tries[0].time]
    judged = any(item.kind == "rolled-back" and _tried(item) and bundle_of(item) == bundle for item in later)
    overtaken = any(item.kind == "registered" and bundle_of(item) != bundle for item in later)
    if judged or overtaken:
        return None
    reason = str(last.data.get("reason", "it gave no reason"))
    return Stalled(bundle=bundle, run=str(run), tries=tuple(item.time for item in tries), reason=reason)


def due_release(records: Sequence[Record], policy: Policy, now: datetime) -> Stalled | None:
    """The stalled release that is to be tried again now."""
    found = stalled(records)
    if found is None or found.next_try(policy.monitor.budget) > now:
        return None
    approved = any(item.kind == "approved" and bundle_of(item) == found.bundle for item in records)
    return found if approved or policy.release.approval == "auto" else None


def _tried(item: Record) -> bool:
    """Whether a release that was rolled back had begun a process with its bundle."""
    return not item.data.get("not_started", False)


def _newest_training(records: Sequence[Record], checks: Sequence[Record]) -> tuple[Record | None, _Attempt | None]:
    """The newest check that decided to retrain, and how the run it asked for stands."""
    asked = next((item for item in reversed(checks) if item.data["action"] == "retrain"), None)
    if asked is None:
        return None, None
    return asked, _last_attempt(records, lambda data: data.get("decision_key") == asked.data["decision_key"])


def _release_is_due(records: Sequence[Record], trained: _Attempt, by_hand: bool) -> bool:
    released = _last_attempt(records, lambda data: _releases(data, trained.bundle))
    return not by_hand if released is None else released.again


def _releases(data: Mapping[str, Any], bundle: str | None) -> bool:
    return data.get("pipeline") == "release" and data.get("bundle") == bundle


@dataclass(frozen=True)
class _Attempt:
    """The newest attempt of a run."""

    number: int
    state: str
    """``running``, or what ``run-finished`` says."""
    bundle: str | None
    mendable: bool

    @property
    def again(self) -> bool:
        """Whether to submit it again: if it lives, that waits for it or does nothing."""
        return self.state == "running" or (self.state == "failed" and self.mendable and self.number < MAX_ATTEMPTS)


def _last_attempt(records: Sequence[Record], wanted: Callable[[Mapping[str, Any]], bool]) -> _Attempt | None:
    started = [item for item in records if item.kind == "run-started" and wanted(item.data)]
    if not started:
        return None
    ended = {item.key: item.data for item in records if item.kind == "run-finished"}.get(started[-1].key)
    if ended is None:
        return _Attempt(len(started), "running", None, True)
    return _Attempt(len(started), ended["state"], ended.get("bundle"), ended.get("exit_code", 1) != 2)


def _overtaken(asked: Record, checks: Sequence[Record]) -> bool:
    later = checks[checks.index(asked) + 1 :]
    tenure_id = asked.data["champion"]["tenure_id"]
    return any(item.data["action"] != "warn" or item.data["champion"]["tenure_id"] != tenure_id for item in later)
