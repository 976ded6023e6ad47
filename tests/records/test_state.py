"""The fold of a model's records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kedge.policy import Budget
from kedge.records import ModelState
from tests.records.made import record

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
