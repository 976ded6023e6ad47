"""What was appended of an event that came again is in the bare table once after the daily upkeep."""

import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.tables import appending, log, upkeep

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOON = 1_772_452_800_000_000
MODEL = {"name": "payments", "target": "returned", "features": {"amount": {"type": "number"}}}
POLICY = policies.parse({"model": MODEL, "data": {"source": {"format": "log"}}})


@pytest.fixture
def ids(store):
    def read(table="predictions"):
        found = appending.open_table(store, f"logs/payments/{table}").to_pyarrow_table(columns=["_id", "_received"])
        return sorted(zip(found["_id"].to_pylist(), found["_received"].cast(pa.int64()).to_pylist(), strict=True))

    return read


@pytest.fixture
def append(store):
    def write(writer, sequence, ids, *, received, time=NOON, table="predictions"):
        rows = {"_id": ids, appending.DATED_BY[table]: pa.array([time] * len(ids), log.TIME)}
        rows["_received"] = pa.array([received] * len(ids), log.TIME)
        rows |= {"_label": [1.0] * len(ids)} if table == "labels" else {}
        appending.append(store, POLICY, table, pa.table(rows), writer=writer, sequence=sequence)

    return write


@pytest.fixture
def remove(store, tmp_path):
    """Takes repeated rows out of the days that changed since a time."""

    def run(since=LONG_AGO):
        return upkeep.remove_repeats(store, POLICY, since, tmp_path)

    return run


@pytest.mark.parametrize("table", appending.TABLES)
def test_an_event_that_came_again_stays_once_as_it_was_received_first(append, ids, remove, table):
    append("one", 1, ["a", "b"], received=NOON + 1, table=table)
    append("two", 1, ["b", "c"], received=NOON, table=table)
    assert remove() == 1
    assert ids(table) == [("a", NOON + 1), ("b", NOON), ("c", NOON)]
    assert remove() == 0


def test_of_many_rows_of_an_id_the_first_stays_and_other_ids_are_left_alone(append, ids, remove):
    many = [f"id-{number}" for number in range(3000)]
    append("one", 1, many, received=NOON + 5)
    append("two", 1, many[1000:], received=NOON + 3)
    append("three", 1, many[2000:], received=NOON + 9)
    assert remove() == 3000
    expected = [(identity, NOON + (5 if number < 1000 else 3)) for number, identity in enumerate(many)]
    assert ids() == sorted(expected)


def test_only_days_that_changed_are_read(append, ids, remove):
    append("one", 1, ["a"], received=NOON)
    append("two", 1, ["a"], received=NOON + 1)
    assert remove(datetime.now(UTC) + timedelta(minutes=1)) == 0
    assert len(ids()) == 2


def test_a_correction_of_a_label_is_no_duplicate(store, remove):
    for number, outcome in enumerate((0.0, 1.0)):
        rows = {"_id": ["a"], "_label": [outcome], "_observed": pa.array([NOON], log.TIME)}
        rows["_received"] = pa.array([NOON + number], log.TIME)
        appending.append(store, POLICY, "labels", pa.table(rows), writer="one", sequence=number)
    assert remove() == 0


def test_nothing_is_lost_while_another_collector_appends(append, ids, remove):
    append("one", 0, ["a", "b"], received=NOON)
    append("two", 0, ["a", "b"], received=NOON + 1)
    fewer = range(1, upkeep.ATTEMPTS)  # each may meet one attempt

    def others():
        for number in fewer:
            append("two", number, [f"new-{number}"], received=NOON + 2)

    thread = threading.Thread(target=others)
    thread.start()
    removed = remove()
    thread.join()
    assert removed == 2
    assert [identity for identity, _ in ids()] == ["a", "b", *(f"new-{number}" for number in fewer)]
