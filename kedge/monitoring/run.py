"""One check from beginning to end: measure, decide, write the report, then the record that makes it count."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from kedge import records
from kedge.monitoring import report
from kedge.monitoring.check import Check, check
from kedge.monitoring.decide import Decision, decide, drifted, error_evidence_id, shifted_and_risen
from kedge.monitoring.history import Stalled, due_release, key_of, load_history, unfinished
from kedge.monitoring.window import Window
from kedge.policy import Policy
from kedge.records import Record
from kedge.store import Store
from kedge.tables import labels
from kedge.tables.labels import Pulled


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A check that counts."""

    record: Record
    written: bool
    """False: another process, or an earlier call, had checked this window; its record stands."""
    due: Record | None
    """The check whose retraining is to be submitted, or driven on: this one, or an earlier one that is not done."""


def run(policy: Policy, store: Store, *, now: datetime) -> Outcome:
    """Check the window that ends at ``now``, once: a window that has a record is not looked at again.

    Where the policy declares a table of outcomes, the labels the log lacks are read from it first.

    Args:
        policy: Of the model.
        store: Holds the log, the bundles and the records.
        now: Event time, cut to the whole minute.

    Raises:
        NothingServed: nothing was ever promoted.
        BundleError, DataError, StoreError: the champion, the log or the table of outcomes cannot be read.
    """
    by_hand = policy.release.approval == "manual"
    window = Window.before(now, policy.monitor.window_seconds)
    history = load_history(store, policy.name, policy.monitor.budget.consecutive_checks, window.end)
    known = records.find(store, policy.name, "check", key_of(window.end))
    if known is not None:
        return Outcome(record=known, written=False, due=unfinished(history, by_hand=by_hand))
    pulled = labels.pull(store, policy) if policy.data.labels is not None else None
    seen = check(policy, store, history, window)
    decision = decide(policy, history, seen, window.end)
    place = f"reports/{policy.name}/check-{key_of(window.end)}.html"
    made = to_record(policy, seen, decision, report=place, pulled=pulled)
    store.put(place, report.html(policy, made, history).encode())
    if decision.action == "quarantine":
        records.quarantine(store, policy.name, window.start, window.end)
    written = records.append(store, made)
    kept = records.find(store, policy.name, "check", made.key)
    assert kept is not None
    if not written:  # another process was faster: the page must tell what its record says
        store.put(place, report.html(policy, kept, history).encode())
    after = records.in_order([*history, kept])
    return Outcome(record=kept, written=written, due=unfinished(after, by_hand=by_hand))


def release_again(policy: Policy, store: Store, *, now: datetime) -> Stalled | None:
    """The release that failed by no fault of its bundle's and is to be tried again now, also a model's first one.

    Raises:
        StoreError: a record cannot be read.
    """
    return due_release(load_history(store, policy.name, policy.monitor.budget.consecutive_checks, now), policy, now)


def to_record(
    policy: Policy, seen: Check, decision: Decision, *, report: str = "", pulled: Pulled | None = None
) -> Record:
    """The check record: what was seen, what was decided, and the signs that later decisions look back at."""
    shift = shifted_and_risen(policy, seen)
    data = {
        "action": decision.action,
        "reasons": decision.reasons,
        "verdict": verdict(policy, seen),
        "decision_key": decision.key,
        "window": {"start": seen.start, "end": seen.end},
        "rows": seen.rows,
        "champion": asdict(seen.champion),
        "signals": {
            "error": {
                "breached": seen.performance.worse,
                "labels": seen.performance.rows,
                "evidence_id": error_evidence_id(seen),
            },
            "shift": {"breached": shift, "labels": 0, "evidence_id": seen.end.isoformat()},
        },
        "corrupt": seen.corrupt,
        "cohort": asdict(seen.cohort),
        "nan_scores": seen.nan_scores,
        "warnings": seen.warnings,
        "performance": asdict(seen.performance),
        "estimate": asdict(seen.estimate) if seen.estimate else None,
        "inputs": asdict(seen.inputs),
        "scores": asdict(seen.scores),
        "trained_until": seen.trained_until,
        "new_labels": seen.new_labels,
        "label_source": asdict(pulled) if pulled else None,
        "policy": policy.hash,
        "report": report,
    }
    return Record(model=seen.model, kind="check", key=key_of(seen.end), time=seen.end, data=plain(data))


def plain(value: Any) -> Any:
    """As it will be read back: times as text, tuples as lists, what is not finite as null."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def verdict(policy: Policy, seen: Check) -> str:
    """The check in a few words, the worst first."""
    if seen.corrupt:
        return "corrupt feed"
    if seen.performance.worse:
        return "loss rose"
    if drifted(policy, seen):
        return "inputs drifted"
    if seen.estimate is not None and seen.estimate.risen:
        return "estimate rose"
    if seen.cohort.verdict == "labels incomplete":
        return seen.cohort.verdict
    return "quiet" if seen.inputs.verdict == "compared" else seen.inputs.verdict
