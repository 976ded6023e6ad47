from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge import records as ledger
from kedge.monitoring import history
from kedge.monitoring.alarm import Observation, alarm
from kedge.monitoring.history import CHECKS, due_release, load_history
from kedge.policy import parse
from kedge.records import Checked, ModelState
from tests.records import made
from tests.records.counting import Counting

START = datetime(2026, 3, 2, tzinfo=UTC)
A = "a" * 40


def check(at: int, *, breached: bool | None = False, action: str = "none", tenure_id: str = "promoted/a"):
    signal = {"breached": breached, "labels": 10, "evidence_id": f"{at}"}
    champion = {"bundle": A, "since": START, "tenure_id": tenure_id}
    return made.check(hour(at), action, champion=champion, signals={"error": signal, "shift": signal})


def store_of(records) -> Counting:
    store = Counting()
    for each in records:
        ledger.append(store, each)
    return store


def checks_in(records) -> list:
    return ledger.of_kind(records, Checked)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture(scope="module")
def year() -> Counting:
    """A year of hourly checks."""
    return store_of([made.record("promoted", f"{A}-1", START), *map(check, range(9000))])


def test_a_check_after_a_year_of_checks_reads_as_much_as_after_four_days(year):
    year.reads = 0
    found = load_history(year, "fraud", 2, hour(9000))
    assert year.reads == CHECKS + 1
    assert len(checks_in(found)) == CHECKS
    assert found[0].kind == "promoted"


def test_a_check_of_the_past_knows_what_was_before_it(year):
    found = [item for item in checks_in(load_history(year, "fraud", 2, hour(500))) if item.time < hour(500)]
    assert [item.time for item in found] == [hour(number) for number in range(400, 500)]


def test_as_many_checks_are_read_as_tell_whether_the_alarm_is_on():
    store = store_of(check(number, breached=number >= 150) for number in range(400))
    found = load_history(store, "fraud", 2, hour(400))
    assert store.reads == 300  # the newest 250 are bad; the good ones before them settle it
    assert found[0].time == hour(100)


def test_checks_under_another_champion_tell_nothing_of_this_one():
    tenures = ["promoted/a"] * 350 + ["promoted/b"] * 50
    store = store_of(check(number, breached=True, tenure_id=tenure_id) for number, tenure_id in enumerate(tenures))
    load_history(store, "fraud", 2, hour(400))
    assert store.reads == 100


def test_the_check_that_asked_for_the_newest_retraining_is_known_however_old():
    asked = check(0, breached=True, action="retrain")
    begun = made.record("run-started", "r", START, decision_key=f"{asked.time:%Y%m%dt%H%M%S}-0a1b2c3d")
    found = checks_in(load_history(store_of([asked, begun, *map(check, range(1, 200))]), "fraud", 2, hour(200)))
    assert found[0].key == asked.key
    assert len(found) == CHECKS + 1


@settings(deadline=None)  # says nothing of time
@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_what_is_read_says_of_the_alarm_what_all_checks_say(looks, needed):
    checks = [
        check(at, breached=breached, action="quarantine" if quarantined else "none")
        for at, (breached, quarantined) in enumerate(looks)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "CHECKS", 5)
        found = checks_in(load_history(store_of(checks), "fraud", needed, hour(len(checks))))
    if any(look.breached for look in map(look_of, found)):  # else: an alarm that nothing read confirms is over
        assert alarm(map(look_of, found), needed) == alarm(map(look_of, checks), needed)


def look_of(item) -> Observation:
    signal = item.data.signals["error"]
    breached = None if item.data.action == "quarantine" else signal.breached
    return Observation(
        breached=breached,
        start=item.time - timedelta(hours=1),
        end=item.time,
        labels=10,
        evidence_id=signal.evidence_id,
    )


def rules(**release) -> dict:
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    return {"model": model, "data": {"source": {"format": "log"}}, "release": release}


def failing_release(tries: int) -> list:
    run = f"release-m-{A[:12]}"
    keys = [run if number == 0 else f"{run}.{number + 1}" for number in range(tries)]
    about = {"run": run, "pipeline": "release", "bundle": A}
    return [
        each
        for number, key in enumerate(keys)
        for each in (
            made.record("run-started", key, hour(number), **about),
            made.record("run-finished", key, hour(number + 0.5), run=run, state="failed"),
        )
    ]


def test_a_stalled_release_is_due_when_its_time_has_come_and_nobody_need_approve_it():
    asked, manual = parse(rules()), parse(rules(approval="manual"))
    once, thrice = ModelState.of(failing_release(1)), ModelState.of(failing_release(3))
    assert due_release(once, asked, hour(2)).bundle == A
    assert due_release(thrice, asked, hour(25)) is None
    assert due_release(thrice, asked, hour(26)) is not None
    assert due_release(once, manual, hour(2)) is None
    approved = ModelState.of([made.record("approved", A, START), *failing_release(1)])
    assert due_release(approved, manual, hour(2)) is not None
