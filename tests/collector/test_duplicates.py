"""What two collectors appended of one event is in the bare table once after upkeep."""

import threading
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow as pa
import pytest

from kedge.collector import duplicates
from kedge.tables import appending, log

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOON = 1_772_452_800_000_000
STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.fixture
def ids(store):
    def read(table="predictions"):
        found = appending.open_table(store, f"logs/payments/{table}").to_pyarrow_table(columns=["_id", "_received"])
        return sorted(zip(found["_id"].to_pylist(), found["_received"].cast(pa.int64()).to_pylist(), strict=True))

    return read


@pytest.fixture
def append(store, declared):
    def write(writer, sequence, ids, *, received, time=NOON):
        rows = {"_id": ids, "_time": pa.array([time] * len(ids), log.TIME)}
        rows["_received"] = pa.array([received] * len(ids), log.TIME)
        appending.append(store, declared(), "predictions", pa.table(rows), writer=writer, sequence=sequence)

    return write


def test_an_event_and_a_label_sent_to_two_collectors_stay_once(start, event, store, declared, ids):
    label = {"model": "payments", "labels": [{"id": "b", "label": 1, "observed_at": "2026-03-02T12:00:00Z"}]}
    with start(spool="one") as one, start(spool="two") as two:
        for client, sent in ((one, "ab"), (two, "bc")):
            for identity in sent:
                client.post("/", content=orjson.dumps(event(identity)), headers=STRUCTURED).raise_for_status()
            client.post("/v1/labels", json=label).raise_for_status()
            client.post("/v1/flush").raise_for_status()
    assert [[identity for identity, _ in ids(table)] for table in appending.TABLES] == [
        ["a", "b", "b", "c"],
        ["b", "b"],
    ]
    received = ids()[1][1]
    assert duplicates.remove(store, declared(), LONG_AGO) == 2
    assert [[identity for identity, _ in ids(table)] for table in appending.TABLES] == [["a", "b", "c"], ["b"]]
    assert ids()[1][1] == received  # the one received first
    assert duplicates.remove(store, declared(), LONG_AGO) == 0


def test_of_many_rows_of_an_id_the_first_stays_and_other_ids_are_left_alone(store, declared, append, ids):
    many = [f"id-{number}" for number in range(3000)]
    append("one", 1, many, received=NOON + 5)
    append("two", 1, many[1000:], received=NOON + 3)
    append("three", 1, many[2000:], received=NOON + 9)
    assert duplicates.remove(store, declared(), LONG_AGO) == 3000
    expected = [(identity, NOON + (5 if number < 1000 else 3)) for number, identity in enumerate(many)]
    assert ids() == sorted(expected)


def test_only_days_that_changed_are_read(store, declared, append, ids):
    append("one", 1, ["a"], received=NOON)
    append("two", 1, ["a"], received=NOON + 1)
    assert duplicates.remove(store, declared(), datetime.now(UTC) + timedelta(minutes=1)) == 0
    assert len(ids()) == 2


def test_a_correction_of_a_label_is_no_duplicate(store, declared):
    for number, outcome in enumerate((0.0, 1.0)):
        rows = {"_id": ["a"], "_label": [outcome], "_observed": pa.array([NOON], log.TIME)}
        rows["_received"] = pa.array([NOON + number], log.TIME)
        appending.append(store, declared(), "labels", pa.table(rows), writer="one", sequence=number)
    assert duplicates.remove(store, declared(), LONG_AGO) == 0


def test_nothing_is_lost_while_another_collector_appends(store, declared, append, ids):
    append("one", 0, ["a", "b"], received=NOON)
    append("two", 0, ["a", "b"], received=NOON + 1)

    def others():
        for number in range(1, 6):
            append("two", number, [f"new-{number}"], received=NOON + 2)

    thread = threading.Thread(target=others)
    thread.start()
    removed = duplicates.remove(store, declared(), LONG_AGO)
    thread.join()
    assert removed == 2
    assert [identity for identity, _ in ids()] == ["a", "b", *(f"new-{number}" for number in range(1, 6))]
