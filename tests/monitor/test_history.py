from datetime import UTC, datetime, timedelta

from components.monitor.history import champion
from components.record import Record, vetoed_windows

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


def window(hour: int, hours: int, action: str) -> Record:
    start = START + timedelta(hours=hour)
    end = start + timedelta(hours=hours)
    data = {"action": action, "window": {"start": start.isoformat(), "end": end.isoformat()}}
    return Record(model="m", kind="check", key=end.isoformat(), time=end, data=data)


def test_vetoed_windows_are_joined_where_they_touch_and_others_are_left_out():
    records = [
        window(0, 2, "veto"),
        window(1, 2, "veto"),
        window(3, 1, "veto"),
        window(4, 1, "none"),
        window(9, 1, "veto"),
    ]
    assert vetoed_windows(records) == [
        (START, START + timedelta(hours=4)),
        (START + timedelta(hours=9), START + timedelta(hours=10)),
    ]
