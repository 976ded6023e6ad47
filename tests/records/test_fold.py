"""What holds of the fold whatever happened: any order of arrival, any cut, one answer to each question."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.policy import Budget
from kedge.records import Checked, ModelState, Promoted, Record, RolledBack, Window, of_kind, read
from kedge.records.kinds import TYPES
from kedge.store import open_store
from tests.records.made import CHAMPION, check, record

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
BUNDLES = ("a" * 40, "b" * 40, "c" * 40)
BEFORE = Path(__file__).parents[1] / "fixtures" / "before_renames" / "store"
KINDS = (
    "check", "run-started", "run-finished", "evaluated", "registered", "approved", "accepted", "release-started",
    "adopted", "scored", "promoted", "rolled-back", "quarantined",
)  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> Record:
    """Any record of a small world, in which hours, bundles, runs and attempts meet often."""
    kind = draw(st.sampled_from(KINDS))
    hour, bundle = draw(st.integers(0, 9)), draw(st.sampled_from(BUNDLES))
    time, number = START + hour * HOUR, draw(st.integers(1, 3))
    written = draw(st.none() | st.integers(0, 3).map(lambda late: time + late * HOUR))
    decision, tenure_id = f"2026030{number}t000000-0a1b2c3d", draw(st.sampled_from(("promoted/a", "promoted/b")))
    run = draw(st.sampled_from((f"retrain-m-{decision}", "retrain-m-by-hand", f"release-m-{bundle[:12]}")))
    key = run if number == 1 else f"{run}.{number}"
    match kind:
        case "check":
            action = draw(st.sampled_from(("none", "warn", "retrain", "quarantine")))
            champion = {**CHAMPION, "tenure_id": tenure_id}
            level = draw(st.none() | st.floats(0, 1))
            return check(
                time, action, champion=champion, decision_key=decision, written=written,
                regret={} if level is None else {"level": level}, approval_wanted=draw(st.booleans()),
            )  # fmt: skip
        case "run-started":
            pipeline = "release" if run.startswith("release") else "retrain"
            about = {"bundle": bundle} if pipeline == "release" else {"decision_key": decision}
            return record(kind, key, time, written=written, run=run, pipeline=pipeline, **about)
        case "run-finished":
            state = draw(st.sampled_from(("succeeded", "rejected", "inconclusive", "failed")))
            ended = {"step": draw(st.sampled_from((None, "ingest", "train"))), "submitted": draw(st.booleans())}
            exit_code = draw(st.sampled_from((None, 1, 2)))
            return record(
                kind, key, time, written=written, run=run, state=state, bundle=bundle, exit_code=exit_code, **ended
            )
        case "evaluated":
            return record(kind, f"{bundle}-{run}", time, written=written, passed=draw(st.booleans()))
        case "approved":
            return record(kind, f"{bundle}-{number}", time, written=written)
        case "accepted":
            window = {"start": time - HOUR, "end": time}
            return record(kind, f"{hour}", time, written=written, reason="new", breaches=[], windows=[window])
        case "quarantined":
            return record(kind, f"{hour}", time, window={"start": time - HOUR, "end": time})
        case "adopted":
            return record(kind, "1", time, written=written)
        case "scored":
            return record(kind, f"{hour}", time, written=written, bundle=bundle)
        case "rolled-back":
            not_started = draw(st.booleans())
            return record(kind, f"{bundle}-{number}", time, written=written, not_started=not_started)
        case _:
            return record(kind, bundle if kind == "registered" else f"{bundle}-{number}", time, written=written)


histories = st.lists(events(), max_size=30, unique_by=lambda item: (item.kind, item.key))
hours = st.integers(-1, 10).map(lambda hour: START + hour * HOUR)


@settings(deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_the_order_in_which_records_arrive_changes_nothing(history: list[Record], order: random.Random) -> None:
    shuffled = list(history)
    order.shuffle(shuffled)
    assert ModelState.of(shuffled) == ModelState.of(history)


@settings(deadline=None)
@given(histories, hours)
def test_a_cut_says_what_the_records_until_then_say_alone(history: list[Record], until: datetime) -> None:
    assert ModelState.of(history, until=until) == ModelState.of(item for item in history if item.time <= until)


@settings(deadline=None)
@given(histories)
def test_a_record_that_is_read_twice_counts_once(history: list[Record]) -> None:
    assert ModelState.of([*history, *history]) == ModelState.of(history)


@settings(deadline=None)
@given(histories)
def test_champion_lineage_and_challenger_agree(history: list[Record]) -> None:
    state = ModelState.of(history)
    promoted = {item.data.bundle for item in of_kind(history, Promoted)}
    assert set(state.lineage) <= promoted
    assert (state.champion is None) == (not promoted and state.adopted is None)
    assert state.champion_bundle in (None, state.champion and state.champion.bundle)
    assert state.challenger not in state.lineage
    assert all(earlier != later for earlier, later in zip(state.lineage, state.lineage[1:], strict=False))
    if state.challenger is not None:
        assert state.rolled_back(state.challenger) is None


@settings(deadline=None)
@given(histories)
def test_every_attempt_and_release_is_in_the_state_once(history: list[Record]) -> None:
    state = ModelState.of(history)
    attempts = [attempt for run in state.runs for attempt in run.attempts]
    told = [item for attempt in attempts for item in (attempt.started, attempt.finished) if item is not None]
    assert sorted(item.order for item in told) == sorted(item.order for item in history if item.kind.startswith("run-"))
    ended = [item for release in state.releases for item in (release.promoted, release.rolled_back) if item is not None]
    recorded = [*of_kind(history, Promoted), *of_kind(history, RolledBack)]
    assert sorted(item.order for item in ended) == sorted(item.order for item in recorded)


@settings(deadline=None)
@given(histories, hours)
def test_retrainings_come_in_time_order_and_no_more_are_spent_than_there_were(
    history: list[Record], now: datetime
) -> None:
    state = ModelState.of(history, until=now)
    times = [each.time for each in state.retrainings]
    assert times == sorted(times)
    assert len({each.key for each in state.retrainings}) == len(times)
    assert 0 <= state.spent(Budget(), now) <= len(times)
    assert all(each.ended is None or each.ended >= each.time for each in state.retrainings if each.bundle is None)


@settings(deadline=None)
@given(histories)
def test_what_is_due_was_decided_by_the_newest_check_that_retrains(history: list[Record]) -> None:
    state = ModelState.of(history)
    decided = [item for item in state.checks if item.data.action == "retrain"]
    for due in (state.unfinished(), state.unfinished(by_hand=True), state.retraining_to_approve):
        assert due is None or due == decided[-1]
    assert state.retraining_to_approve is None or state.unfinished() is None
    assert (state.awaits_release() is None) or state.unfinished() is not None


@settings(deadline=None)
@given(histories)
def test_quarantined_times_are_those_marked_and_not_accepted(history: list[Record]) -> None:
    state = ModelState.of(history)
    marked = {(item.time - HOUR, item.time) for item in history if item.kind == "quarantined"}
    marked |= {(item.time - HOUR, item.time) for item in of_kind(history, Checked) if item.data.action == "quarantine"}
    marked -= {(item.time - HOUR, item.time) for item in history if item.kind == "accepted"}
    seconds = sum((window.end - window.start).total_seconds() for window in state.quarantined)
    assert seconds == 3600 * len(marked)
    assert all(
        first.end < second.start for first, second in zip(state.quarantined, state.quarantined[1:], strict=False)
    )


def test_every_kind_is_among_those_tried() -> None:
    assert set(KINDS) == set(TYPES)


def test_records_of_an_older_version_fold_in_any_order_and_at_any_cut() -> None:
    history = read(open_store(BEFORE), "fraud")
    shuffled = random.Random(7).sample(history, len(history))
    assert ModelState.of(shuffled) == ModelState.of(history)
    for item in history:
        cut = ModelState.of(history, until=item.time)
        assert cut == ModelState.of(each for each in history if each.time <= item.time)
    start = datetime(2026, 3, 2, tzinfo=UTC)
    assert ModelState.of(history).quarantined == (Window(start=start, end=start + timedelta(days=1)),)
