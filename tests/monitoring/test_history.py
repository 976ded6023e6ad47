from datetime import UTC, datetime, timedelta

import pytest

from kedge import records as ledger
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
    return made.check(hour(at), action, champion=champion, signals={"shift": signal})


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
    found = load_history(year, "fraud", hour(9000))
    assert year.reads == CHECKS + 1
    assert len(checks_in(found)) == CHECKS
    assert found[0].kind == "promoted"


def test_a_check_of_the_past_knows_what_was_before_it(year):
    found = [item for item in checks_in(load_history(year, "fraud", hour(500))) if item.time < hour(500)]
    assert [item.time for item in found] == [hour(number) for number in range(500 - CHECKS, 500)]


def test_the_check_that_asked_for_the_newest_retraining_is_known_however_old():
    asked = check(0, breached=True, action="retrain")
    begun = made.record("run-started", "r", START, decision_key=f"{asked.time:%Y%m%dt%H%M%S}-0a1b2c3d")
    found = checks_in(load_history(store_of([asked, begun, *map(check, range(1, 200))]), "fraud", hour(200)))
    assert found[0].key == asked.key
    assert len(found) == CHECKS + 1


def rules(**release) -> dict:
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    budget = {"cooldown_seconds": 86_400}
    return {
        "model": model,
        "data": {"source": {"format": "log"}},
        "release": release,
        "monitor": {"budget": budget},
    }


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
