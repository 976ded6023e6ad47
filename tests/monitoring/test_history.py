from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge import records as ledger
from kedge.monitoring import history
from kedge.monitoring.alarm import Observation, alarm
from kedge.monitoring.history import CHECKS, champion, due_release, key_of, load_history, stalled
from kedge.policy import Budget, parse
from kedge.records import Record
from tests.records.counting import Counting

START = datetime(2026, 3, 2, tzinfo=UTC)
A, B, C = "a" * 40, "b" * 40, "c" * 40


def event(hour: int, kind: str, bundle: str, key: str | None = None, **data) -> Record:
    time = START + timedelta(hours=hour)
    return Record(model="m", kind=kind, key=key or f"{bundle}-1", time=time, data={"bundle": bundle, **data})


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
    found = champion([Record(model="m", kind="promoted", key=f"{C}-2", time=START)])
    assert found.bundle == C


def check(hour: int, *, breached: bool | None = False, action: str = "none", tenure_id: str = "promoted/a") -> Record:
    time = START + timedelta(hours=hour)
    signal = {"breached": breached, "labels": 10, "evidence_id": f"{hour}"}
    data = {"action": action, "champion": {"tenure_id": tenure_id}, "signals": {"error": signal, "shift": signal}}
    return Record(model="m", kind="check", key=key_of(time), time=time, data=data)


def store_of(records) -> Counting:
    store = Counting()
    for each in records:
        ledger.append(store, each)
    return store


def checks_in(records) -> list[Record]:
    return [item for item in records if item.kind == "check"]


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture(scope="module")
def year() -> Counting:
    """A year of hourly checks."""
    return store_of([event(0, "promoted", A), *map(check, range(9000))])


def test_a_check_after_a_year_of_checks_reads_as_much_as_after_four_days(year):
    year.reads = 0
    found = load_history(year, "m", 2, hour(9000))
    assert year.reads == CHECKS + 1
    assert len(checks_in(found)) == CHECKS
    assert found[0].kind == "promoted"


def test_a_check_of_the_past_knows_what_was_before_it(year):
    found = [item for item in checks_in(load_history(year, "m", 2, hour(500))) if item.time < hour(500)]
    assert [item.time for item in found] == [hour(number) for number in range(400, 500)]


def test_as_many_checks_are_read_as_tell_whether_the_alarm_is_on():
    store = store_of(check(number, breached=number >= 150) for number in range(400))
    found = load_history(store, "m", 2, hour(400))
    assert store.reads == 300  # the newest 250 are bad; the good ones before them settle it
    assert found[0].time == hour(100)


def test_checks_under_another_champion_tell_nothing_of_this_one():
    tenures = ["promoted/a"] * 350 + ["promoted/b"] * 50
    store = store_of(check(number, breached=True, tenure_id=tenure_id) for number, tenure_id in enumerate(tenures))
    load_history(store, "m", 2, hour(400))
    assert store.reads == 100


def test_the_check_that_asked_for_the_newest_retraining_is_known_however_old():
    asked = check(0, breached=True, action="retrain")
    data = {"pipeline": "retrain", "decision_key": f"{asked.time:%Y%m%dt%H%M%S}-0a1b2c3d"}
    begun = Record(model="m", kind="run-started", key="r", time=START, data=data)
    found = checks_in(load_history(store_of([asked, begun, *map(check, range(1, 200))]), "m", 2, hour(200)))
    assert found[0].key == asked.key
    assert len(found) == CHECKS + 1


@settings(deadline=None)  # says nothing of time
@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_what_is_read_says_of_the_alarm_what_all_checks_say(looks, needed):
    made = [
        check(at, breached=breached, action="quarantine" if quarantined else "none")
        for at, (breached, quarantined) in enumerate(looks)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "CHECKS", 5)
        found = checks_in(load_history(store_of(made), "m", needed, hour(len(made))))
    if any(look.breached for look in map(look_of, found)):  # else: an alarm that nothing read confirms is over
        assert alarm(map(look_of, found), needed) == alarm(map(look_of, made), needed)


def look_of(item: Record) -> Observation:
    signal = item.data["signals"]["error"]
    breached = None if item.data["action"] == "quarantine" else signal["breached"]
    return Observation(
        breached=breached,
        start=item.time - timedelta(hours=1),
        end=item.time,
        labels=10,
        evidence_id=signal["evidence_id"],
    )


def release(hour: float, state: str | None = "failed", *, bundle: str = A, attempt: int = 1, **ended) -> list[Record]:
    """A try of a release and, half an hour later, how it ended."""
    run = f"release-m-{bundle[:12]}"
    key, began = run if attempt == 1 else f"{run}.{attempt}", START + timedelta(hours=hour)
    data = {"run": run, "attempt": attempt, "pipeline": "release", "bundle": bundle}
    made = [Record(model="m", kind="run-started", key=key, time=began, data=data)]
    if state is not None:
        data = {"run": run, "state": state, "reason": "the server does not know inferenceservices", **ended}
        made.append(
            Record(model="m", kind="run-finished", key=key, time=began + timedelta(minutes=30), data=data),
        )
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


def rules(**release) -> dict:
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    return {"model": model, "data": {"source": {"format": "log"}}, "release": release}


def test_a_stalled_release_is_due_when_its_time_has_come_and_nobody_need_approve_it():
    asked, manual = parse(rules()), parse(rules(approval="manual"))
    tries = [each for number in range(3) for each in release(number, attempt=number + 1)]
    assert due_release(release(1), asked, hour(2)).bundle == A
    assert due_release(tries, asked, hour(25)) is None
    assert due_release(tries, asked, hour(26)) is not None
    assert due_release(release(1), manual, hour(2)) is None
    assert due_release([event(0, "approved", A, key=A), *release(1)], manual, hour(2)) is not None
