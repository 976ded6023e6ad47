"""The fold of a model's records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kedge.policy import Budget
from kedge.records import ModelState
from tests.records.made import check, record

START = datetime(2026, 3, 2, tzinfo=UTC)
A, B, C = "a" * 40, "b" * 40, "c" * 40


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


def event(at: float, kind: str, bundle: str, key: str | None = None, **data):
    return record(kind, key or f"{bundle}-1", hour(at), bundle=bundle, **data)


def champion(records):
    return ModelState.of(records).champion


def stalled(records):
    return ModelState.of(records).stalled


def test_nobody_serves_before_the_first_promotion():
    assert champion([]) is None
    assert champion([event(0, "registered", A), event(1, "rolled-back", A)]) is None


def test_the_bundle_promoted_last_serves_since_then():
    found = champion([event(0, "promoted", A), event(5, "promoted", B)])
    assert (found.bundle, found.since) == (B, START + timedelta(hours=5))


def test_a_candidate_rolled_back_from_its_canary_changes_nothing():
    found = champion([event(0, "promoted", A), event(5, "rolled-back", B)])
    assert (found.bundle, found.since) == (A, START)


def test_rolling_back_the_champion_brings_the_one_before_back_into_a_new_tenure():
    before = champion([event(0, "promoted", A)])
    after = champion([event(0, "promoted", A), event(5, "promoted", B), event(6, "rolled-back", B)])
    assert after.bundle == A
    assert after.since == START + timedelta(hours=6)
    assert after.tenure_id != before.tenure_id


def test_a_bundle_promoted_twice_in_a_row_keeps_its_tenure():
    assert champion([event(0, "promoted", A), event(3, "promoted", A, key="again")]).since == START


def lineage(*ends):
    return ModelState.of(ends).lineage


FIRST, SECOND, YEAR = event(0, "promoted", A), event(1, "promoted", B, previous=A), 8760


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([FIRST, event(YEAR, "promoted", B, previous=A), event(2, "promoted", C, previous=B)], (A, B, C)),
        ([event(YEAR, "promoted", A), event(1, "promoted", B, previous=A)], (A, B)),
        ([FIRST, SECOND, event(YEAR, "rolled-back", B), event(2, "promoted", C, previous=A)], (A, C)),
        ([FIRST, SECOND, event(-YEAR, "rolled-back", B), event(2, "promoted", C, previous=A)], (A, C)),
        ([FIRST, SECOND, event(2, "promoted", C, previous=B), event(-YEAR, "rolled-back", C)], (A, B)),
        ([FIRST, SECOND, event(2, "rolled-back", B, f"{B}-0", attempt=0)], (A,)),
        (
            [FIRST, SECOND, event(2, "rolled-back", B), event(-1, "promoted", B, f"{B}-2", previous=A, attempt=2)],
            (A, B),
        ),
    ],
    ids=[
        "promotion ahead",
        "first one ahead",
        "rollback ahead",
        "rollback back",
        "last rollback back",
        "no begun release",
        "again, back",
    ],
)
def test_wrong_clocks_do_not_say_who_serves(ends, expected):
    assert lineage(*ends) == expected


KEY, RUN = "20260302t050000-01234567", f"release-m-{B[:12]}"
RELEASED = {
    "promoted": [event(8, "promoted", B, previous=A)],
    "rolled back": [event(8, "rolled-back", B, previous=A, reason="worse")],
    "released again": [event(8, "rolled-back", B), event(9, "approved", B, f"{B}-2", after_attempt=1)],
    "failed": [record("run-finished", RUN, hour(8), run=RUN, state="failed", reason="away", exit_code=1)],
    "under way": [],
}


def life(end: str) -> list:
    """The first release, a quarantine that was accepted, a retraining, and its release up to here."""
    run, window = f"retrain-m-{KEY}", {"start": hour(3), "end": hour(4)}
    return [
        event(0, "registered", A, A), event(1, "release-started", A), event(2, "promoted", A),
        record("quarantined", "4", hour(4), window=window),
        record("accepted", "4", hour(4.5), reason="new", windows=[window], breaches=[]),
        check(hour(5), "retrain", decision_key=KEY),
        record("run-started", run, hour(5.1), run=run, attempt=1, pipeline="retrain", decision_key=KEY),
        event(6, "evaluated", B, B, passed=True), event(6.1, "registered", B, B),
        record("run-finished", run, hour(6.2), run=run, state="succeeded", bundle=B),
        event(6.5, "approved", B, B, after_attempt=0),
        record("run-started", RUN, hour(7), run=RUN, attempt=1, pipeline="release", bundle=B),
        event(7.1, "release-started", B, previous=A),
        *RELEASED[end],
    ]  # fmt: skip


def judged(history: list) -> tuple:
    """What is decided by, without when it was."""
    state = ModelState.of(history)
    return (
        state.lineage, state.challenger, state.release_to_approve, state.awaits_release(), state.approved(B),
        state.rolled_back(B) and state.rolled_back(B).key, state.unfinished() and state.unfinished().key,
        [(each.key, each.bundle, each.brought) for each in state.retrainings],
        state.stalled and state.stalled.bundle, state.open_release and state.open_release.key, state.quarantined,
    )  # fmt: skip


@pytest.mark.parametrize("end", RELEASED)
def test_no_record_dated_ahead_changes_what_is_decided(end):
    history = life(end)
    for place, item in enumerate(history):
        moved = replace(item, time=item.time + timedelta(hours=YEAR))
        assert judged([*history[:place], moved, *history[place + 1 :]]) == judged(history), item.kind


def test_an_approval_of_an_earlier_version_counts_by_its_time():
    back = event(1, "rolled-back", B)
    for at, left in ((0, True), (2, False)):
        assert (ModelState.of([back, event(at, "approved", B, B)]).rolled_back(B) is not None) == left


def test_a_promotion_whose_predecessor_is_lost_counts_by_its_time():
    assert lineage(FIRST, event(1, "promoted", C, previous=B)) == (A, C)


def test_a_release_that_goes_on_is_open_beside_one_dated_ahead():
    ended = [event(YEAR, "release-started", B, previous=A), event(YEAR, "rolled-back", B, previous=A)]
    state = ModelState.of([FIRST, *ended, event(2, "release-started", C, previous=A)])
    assert state.open_release.data.bundle == C


def test_the_bundle_is_found_in_the_key_where_the_data_do_not_name_it():
    found = champion([record("promoted", f"{C}-2", START)])
    assert found.bundle == C


def release(at: float, state: str | None = "failed", *, bundle: str = A, attempt: int = 1, **ended) -> list:
    """A try of a release and, half an hour later, how it ended."""
    run = f"release-m-{bundle[:12]}"
    key = run if attempt == 1 else f"{run}.{attempt}"
    made = [record("run-started", key, hour(at), run=run, attempt=attempt, pipeline="release", bundle=bundle)]
    if state is not None:
        about = {"run": run, "state": state, "reason": "the server does not know inferenceservices", **ended}
        made.append(record("run-finished", key, hour(at + 0.5), **about))
    return made


def test_a_release_that_failed_by_what_may_pass_is_stalled_whoever_began_it():
    found = stalled(release(1))
    assert (found.bundle, found.run, found.tries) == (A, f"release-m-{A[:12]}", (hour(1),))
    assert "does not know inferenceservices" in found.reason


@pytest.mark.parametrize(
    "records",
    [
        [],
        release(1, None),
        release(1, "succeeded"),
        release(1, "rejected"),
        release(1, exit_code=2),
        [*release(1), event(2, "rolled-back", A)],
        [*release(1), event(2, "registered", B)],
        [*release(1), *release(2, "succeeded", bundle=B)],
        [*release(1), *release(2, "succeeded", attempt=2)],
    ],
    ids=["none", "going", "succeeded", "rejected", "user", "rolled back", "overtaken", "another", "went well then"],
)
def test_a_release_is_not_stalled(records):
    assert stalled(records) is None


def test_a_release_that_ended_without_a_verdict_is_tried_again_after_a_cooldown():
    seen = [*release(1, "inconclusive"), event(1.5, "rolled-back", A, not_judged=True)]
    found = stalled(seen)
    assert found is not None
    assert found.next_try(Budget(cooldown_seconds=3600)) == hour(2.5)
    assert ModelState.of(seen).rolled_back(A) is None


def test_a_release_rolled_back_before_its_bundle_was_tried_is_stalled():
    assert stalled([*release(1), event(1, "rolled-back", A, not_started=True)]) is not None
    assert stalled([event(0, "rolled-back", A), *release(1)]) is not None  # approved since, or nobody could begin it


def test_tries_are_at_once_then_a_cooldown_apart_and_within_the_budget():
    budget = Budget(cooldown_seconds=24 * 3600, max_retrains=5, period_seconds=10 * 24 * 3600)

    def next_try(*hours: float) -> datetime:
        tries = [each for number, at in enumerate(hours) for each in release(at, attempt=number + 1)]
        return stalled(tries).next_try(budget)

    assert next_try(1) == hour(1)
    assert next_try(1, 2) == hour(2)
    assert next_try(1, 2, 3) == hour(27)
    assert next_try(1, 2, 3, 27) == hour(51)
    assert next_try(1, 2, 3, 27, 51) == hour(241)
    assert next_try(1, 2, 3, 27, 51, 241) == hour(265)


def retraining(at: float, key: str, state: str | None = "succeeded", *, bundle: str = B, attempt: int = 1, **ended):
    """A run of a retraining and, half an hour later, how it ended."""
    run = f"retrain-m-{key}"
    name = run if attempt == 1 else f"{run}.{attempt}"
    made = [record("run-started", name, hour(at), run=run, decision_key=key)]
    if state is not None:
        made.append(record("run-finished", name, hour(at + 0.5), run=run, state=state, bundle=bundle, **ended))
    return made


@pytest.mark.parametrize(
    ("records", "brought", "ended"),
    [
        (retraining(1, "k", None), None, None),
        (retraining(1, "k"), None, None),
        (retraining(1, "k", "rejected"), "rejected", 1.5),
        (retraining(1, "k", "inconclusive"), "inconclusive", 1.5),
        (retraining(1, "k", "failed", step="train"), "failed", 1.5),
        ([*retraining(1, "k", "failed", step="train"), *retraining(2, "k", attempt=2)], None, None),
        ([*retraining(1, "k"), event(3, "promoted", B)], "promoted", 3),
        ([*retraining(1, "k"), event(3, "rolled-back", B)], "rolled back", 3),
        ([*retraining(1, "k"), event(3, "rolled-back", B, not_started=True)], None, None),
        ([*retraining(1, "k"), event(3, "promoted", B), event(9, "rolled-back", B)], "rolled back", 9),
        ([event(0, "rolled-back", B), *retraining(1, "k")], None, None),
    ],
    ids=[
        "going", "not released yet", "rejected", "inconclusive", "failed", "went well then", "promoted", "rolled back",
        "not begun", "rolled back by hand", "rolled back before",
    ],
)  # fmt: skip
def test_what_a_retraining_brought(records, brought, ended):
    (found,) = ModelState.of(records).retrainings
    assert (found.brought, found.ended) == (brought, None if ended is None else hour(ended))
    assert found.time == hour(1)


def decided(at: float, **data):
    return check(hour(at), "retrain", decision_key=f"k{at:g}", **data)


def test_a_retraining_that_needs_an_approval_waits_for_it():
    waits = decided(1, approval_wanted=True)
    state = ModelState.of([waits])
    assert state.retraining_to_approve == waits
    assert state.unfinished() is None
    approved = ModelState.of([waits, record("approved", "k1", hour(2), decision_key="k1")])
    assert approved.retraining_to_approve is None
    assert approved.unfinished() == waits


def test_a_retraining_that_is_not_approved_lapses_when_a_later_check_asks_for_something_else():
    waits = decided(1, approval_wanted=True)
    assert ModelState.of([waits, check(hour(2), "warn")]).retraining_to_approve == waits
    assert ModelState.of([waits, check(hour(2))]).retraining_to_approve is None


def test_the_release_to_approve_is_that_of_the_bundle_registered_last():
    registered = [event(1, "registered", A, key=A), event(2, "registered", B, key=B)]
    assert ModelState.of(registered).release_to_approve == B
    assert ModelState.of([*registered, event(3, "approved", B, key=B)]).release_to_approve is None
    assert ModelState.of([*registered, event(3, "release-started", B)]).release_to_approve is None


def test_a_challenger_is_one_until_it_is_judged_and_again_once_it_is_approved():
    registered = [event(0, "promoted", A), event(1, "registered", B, key=B)]
    assert ModelState.of(registered).challenger == B
    back = [*registered, event(2, "rolled-back", B)]
    assert ModelState.of(back).challenger is None
    assert ModelState.of([*back, event(3, "approved", B, key=B)]).challenger == B
    assert ModelState.of([*registered, event(2, "rolled-back", B, not_started=True)]).challenger == B
    promoted = ModelState.of([*registered, event(2, "promoted", B)])
    assert (promoted.challenger, promoted.champion_bundle, promoted.previous) == (None, B, A)


def test_a_bundle_that_came_back_was_preceded_by_the_one_it_replaced_last():
    there_and_back = [event(0, "promoted", A), event(1, "promoted", B), event(2, "promoted", A, key=f"{A}-2")]
    assert ModelState.of(there_and_back).before(A) == B
    assert ModelState.of(there_and_back).before(B) == A
    assert ModelState.of(there_and_back[:1]).before(A) is None
