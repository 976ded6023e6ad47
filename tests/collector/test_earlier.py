"""A spool of an earlier version is taken over, whatever was in it; what cannot be read is kept and told."""

import sqlite3
import struct
import zlib
from contextlib import closing
from datetime import UTC, datetime

import orjson
import pytest

from kedge.tables import appending, log

NOON = 1_772_452_800_000_000
DAY = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
OWN = [("_id", "text"), ("_time", "time"), ("_received", "time"), ("_version", "text"), ("_slot", "text")]
OWN += [("_score", "double"), ("_prediction", "double"), ("_latency_ms", "double")]
SCHEMA = [[*column, ""] for column in OWN] + [["amount", "double", "keep"], ["country", "text", "keep"]]


def frame(kind, key, body):
    payload = b"payments %b %b" % (key, orjson.dumps(body))
    return struct.pack("<3s1sII", b"KDG", kind, len(payload), zlib.crc32(payload)) + payload


def predictions(*ids):
    own = [list(ids), *([value] * len(ids) for value in (NOON, NOON, "v1", "blue", 0.25, 0.0, 1.5, 12.5, "DE"))]
    return frame(b"c", b"5c4e", own)


def half(identity, **more):
    times = {"_time": NOON, "_received": NOON}
    return {"id": identity, "slot": "blue", "version": "v1"} | times | more


REQUEST = half("pair", schema="5c4e", rows=[[7.5, "AT"]])
RESPONSE = half("pair", scores=[0.75])
LABEL = {"_id": "a", "_label": 1.0, "_observed": NOON, "_received": NOON}


@pytest.fixture
def spool(tmp_path):
    """Of version 4: an index, the columns' file, and the folders."""
    spool = tmp_path / "spool"
    for name in ("journal", "schemas", "aside"):
        (spool / name).mkdir(parents=True)
    (spool / "schemas" / "5c4e.json").write_bytes(orjson.dumps(SCHEMA))
    with closing(sqlite3.connect(spool / "index.db")) as db, db:
        db.execute("PRAGMA user_version=4")
        db.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        db.execute("INSERT INTO facts VALUES ('writer', 'collect-old'), ('applied', '6')")
        db.execute("CREATE TABLE runs (number INTEGER PRIMARY KEY, day INTEGER, seen BLOB)")
        db.execute(
            "CREATE TABLE halves (key BLOB, kind TEXT, model TEXT, received INTEGER, body BLOB, "
            "PRIMARY KEY (key, kind)) WITHOUT ROWID"
        )
    return spool


@pytest.fixture
def read(store, declared):
    def ids():
        rows = log.read_window(store, declared(), *DAY).to_pylist()
        return {row["_id"]: (row["_score"], row["amount"], row["country"], row["_label"]) for row in rows}

    return ids


def test_a_flushed_empty_spool_of_the_version_before_starts(start, spool, event):
    with start() as client:
        assert client.get("/readyz").json() == {"ready": True, "faults": {}}
    assert sorted(path.name for path in spool.iterdir() if not path.is_dir()) == ["lock", "store"]


def test_what_an_earlier_version_acknowledged_is_appended(start, spool, read):
    with closing(sqlite3.connect(spool / "index.db")) as db, db:
        db.execute("INSERT INTO halves VALUES (x'01', 'q', 'payments', 0, ?)", (orjson.dumps(REQUEST),))
    data = predictions("a", "b") + frame(b"l", b"00", LABEL) + frame(b"r", b"01", RESPONSE)
    (spool / "journal" / f"{7:012d}.log").write_bytes(data)
    (spool / "aside" / f"{3:012d}.log").write_bytes(predictions("c"))
    with start() as client:
        client.post("/v1/flush")
        assert client.get("/readyz").json()["faults"] == {}
    own = (0.25, 12.5, "DE", None)
    assert read() == {"a": (*own[:3], 1.0), "b": own, "c": own, "pair": (0.75, 7.5, "AT", None)}


def test_a_segment_that_an_earlier_version_appended_is_not_appended_again(start, spool, store, declared):
    rows = appending.table_of({"_id": "text", "_time": "time"}, [["old"], [NOON]])
    appending.append(store, declared(), "predictions", rows, writer="collect-old", sequence=7)
    for number in (6, 7, 8):  # 6 is in the log by the index, 7 by Delta's transaction, 8 is not
        (spool / "journal" / f"{number:012d}.log").write_bytes(predictions(f"p{number}"))
    with start() as client:
        assert client.post("/v1/flush").status_code == 200
    table = appending.open_table(store, "logs/payments/predictions").to_pyarrow_table(columns=["_id"])
    assert sorted(table["_id"].to_pylist()) == ["old", "p8"]


@pytest.mark.parametrize("unknown", [b"p", b"b"])
def test_entries_of_a_kind_that_is_not_read_any_more_are_kept_and_hold_up_nobody(start, spool, read, unknown):
    file = spool / "journal" / f"{7:012d}.log"
    data = frame(unknown, b"00", [[1]]) + predictions("a")
    file.write_bytes(data)
    with start() as client:
        client.post("/v1/flush")
        assert file.name in client.get("/readyz").json()["faults"]["journal"]
    assert list(read()) == ["a"]
    assert {path.name for path in (spool / "damaged").iterdir()} == {file.name, "5c4e.json"}
    assert (spool / "damaged" / file.name).read_bytes() == data


def test_a_spool_of_the_first_version_starts_and_its_lines_are_kept(start, spool):
    file = spool / "journal" / f"{0:012d}.log"
    file.write_bytes(b"b30a5d96 l fraud 00ff {}\n")
    (spool / "index.db").unlink()
    with start() as client:
        assert file.name in client.get("/readyz").json()["faults"]["journal"]
    assert (spool / "damaged" / file.name).exists()


def test_a_spoilt_index_is_a_warning(start, spool, read):
    (spool / "index.db").write_bytes(b"SQLite format 3\0" + b"?" * 5000)
    (spool / "journal" / f"{7:012d}.log").write_bytes(predictions("a"))
    with start() as client:
        client.post("/v1/flush")
        ready = client.get("/readyz")
        assert (ready.status_code, "index cannot be read" in ready.json()["faults"]["index"]) == (200, True)
    assert list(read()) == ["a"]
    assert (spool / "damaged" / "index.db").exists()


def test_what_waited_and_cannot_be_read_is_kept_with_its_index(start, spool, read):
    with closing(sqlite3.connect(spool / "index.db")) as db, db:
        for number, half in enumerate((REQUEST, RESPONSE, {"id": "cut"})):
            row = (bytes([number]), "qrr"[number], orjson.dumps(half))
            db.execute("INSERT INTO halves VALUES (?, ?, 'payments', 0, ?)", row)
    with start() as client:
        client.post("/v1/flush")
        assert "index.db" in client.get("/readyz").json()["faults"]["journal"]
    assert list(read()) == ["pair"]
    assert (spool / "damaged" / "index.db").exists()


def test_columns_that_do_not_fit_their_file_hold_up_nobody(start, spool, read):
    file = spool / "journal" / f"{7:012d}.log"
    file.write_bytes(frame(b"c", b"5c4e", [["x"], [NOON]]) + predictions("a"))
    with start() as client:
        client.post("/v1/flush")
        assert file.name in client.get("/readyz").json()["faults"]["journal"]
    assert list(read()) == ["a"]
