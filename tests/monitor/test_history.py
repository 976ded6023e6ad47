from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import record
from components.monitor import history
from components.monitor.alarm import Look, alarm
from components.monitor.history import CHECKS, champion, key_of, recall
from components.record import Record
from tests.record.counting import Counting

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


def test_a_candidate_taken_back_from_its_canary_changes_nothing():
    found = champion([event(0, "promoted", A), event(5, "rolled-back", B)])
    assert (found.bundle, found.since) == (A, START)


def test_rolling_back_the_champion_brings_the_one_before_back_into_a_new_reign():
    before = champion([event(0, "promoted", A)])
    after = champion([event(0, "promoted", A), event(5, "promoted", B), event(6, "rolled-back", B)])
    assert after.bundle == A
    assert after.since == START + timedelta(hours=6)
    assert after.reign != before.reign


def test_a_bundle_promoted_twice_in_a_row_keeps_its_reign():
    assert champion([event(0, "promoted", A), event(3, "promoted", A, key="again")]).since == START


def test_the_bundle_is_found_in_the_key_where_the_data_do_not_name_it():
    found = champion([Record(model="m", kind="promoted", key=f"{C}-2", time=START)])
    assert found.bundle == C


def check(hour: int, *, bad: bool | None = False, action: str = "none", reign: str = "promoted/a") -> Record:
    time = START + timedelta(hours=hour)
    sign = {"bad": bad, "labels": 10, "evidence": f"{hour}"}
    data = {"action": action, "champion": {"reign": reign}, "signs": {"error": sign, "shift": sign}}
    return Record(model="m", kind="check", key=key_of(time), time=time, data=data)


def store_of(records) -> Counting:
    store = Counting()
    for each in records:
        record.append(store, each)
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
    found = recall(year, "m", 2, hour(9000))
    assert year.reads == CHECKS + 1
    assert len(checks_in(found)) == CHECKS
    assert found[0].kind == "promoted"


def test_a_check_of_the_past_knows_what_was_before_it(year):
    found = [item for item in checks_in(recall(year, "m", 2, hour(500))) if item.time < hour(500)]
    assert [item.time for item in found] == [hour(number) for number in range(400, 500)]


def test_as_many_checks_are_read_as_tell_whether_the_alarm_is_on():
    store = store_of(check(number, bad=number >= 150) for number in range(400))
    found = recall(store, "m", 2, hour(400))
    assert store.reads == 300  # the newest 250 are bad; the good ones before them settle it
    assert found[0].time == hour(100)


def test_checks_under_another_champion_tell_nothing_of_this_one():
    reigns = ["promoted/a"] * 350 + ["promoted/b"] * 50
    store = store_of(check(number, bad=True, reign=reign) for number, reign in enumerate(reigns))
    recall(store, "m", 2, hour(400))
    assert store.reads == 100


def test_the_check_that_asked_for_the_newest_retraining_is_known_however_old():
    asked = check(0, bad=True, action="retrain")
    data = {"pipeline": "retrain", "decision_key": f"{asked.time:%Y%m%dt%H%M%S}-0a1b2c3d"}
    begun = Record(model="m", kind="run-started", key="r", time=START, data=data)
    found = checks_in(recall(store_of([asked, begun, *map(check, range(1, 200))]), "m", 2, hour(200)))
    assert found[0].key == asked.key
    assert len(found) == CHECKS + 1


@settings(deadline=None)  # says nothing of time
@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_what_is_read_says_of_the_alarm_what_all_checks_say(looks, needed):
    made = [check(at, bad=bad, action="veto" if veto else "none") for at, (bad, veto) in enumerate(looks)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "CHECKS", 5)
        found = checks_in(recall(store_of(made), "m", needed, hour(len(made))))
    if any(look.bad for look in map(look_of, found)):  # else: an alarm that nothing read confirms is over
        assert alarm(map(look_of, found), needed) == alarm(map(look_of, made), needed)


def look_of(item: Record) -> Look:
    sign = item.data["signs"]["error"]
    bad = None if item.data["action"] == "veto" else sign["bad"]
    return Look(bad=bad, start=item.time - timedelta(hours=1), end=item.time, labels=10, evidence=sign["evidence"])
