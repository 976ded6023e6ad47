import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import sources
from kedge.tables.reader import Bounds
from kedge.tables.sql import SqlReader, engine, keep_unreadable_times

Policies = Callable[..., Policy]
QUERY = "SELECT parcel, sent, weight, items, express, country, late FROM parcels WHERE parcel LIKE 'p%'"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "depot.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE parcels (parcel, sent, weight, items, express, country, late)")
        rows = [
            (f"p{k}", f"2026-03-02 0{k}:00:00", None if k == 1 else k / 2, k, k % 2, "AT", k == 2) for k in range(5)
        ]
        connection.executemany("INSERT INTO parcels VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    monkeypatch.setenv("DEPOT", f"sqlite:///{file}")
    return file


def opened(policy_for: Policies, store: Store, query: str = QUERY) -> sources.Table:
    policy = policy_for("DEPOT", "sql", source={"format": "sql", "location": "DEPOT", "query": query})
    return sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)


def test_a_query_gives_rows_of_the_same_shape(database: Path, policy_for: Policies, store: Store) -> None:
    rows = pa.Table.from_batches(opened(policy_for, store).batches(["weight", "express", "late"]))
    assert rows["weight"].to_pylist() == [0.0, None, 1.0, 1.5, 2.0]
    assert rows["express"].to_pylist() == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert rows["late"].to_pylist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert str(rows["_time"][4].as_py()) == "2026-03-02 04:00:00+00:00"


def test_a_column_of_mixed_types_is_read_by_what_the_policy_says(
    database: Path, policy_for: Policies, store: Store
) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE parcels SET weight = 'heavy' WHERE parcel = 'p3'")
    connection.close()
    with pytest.raises(DataError, match=r"query on \$DEPOT, row 4: column 'weight': 'heavy' is not a number"):
        list(opened(policy_for, store).batches())


def test_an_address_that_is_not_set_is_named(
    policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEPOT", raising=False)
    with pytest.raises(DataError, match=r"\$DEPOT is not set"):
        opened(policy_for, store)


@pytest.mark.parametrize("query", ["DROP TABLE parcels", "SELECT 1; DROP TABLE parcels", "", "INSERT INTO parcels"])
def test_anything_but_one_select_is_refused(database: Path, query: str) -> None:
    with pytest.raises(DataError, match="must be one SELECT"):
        SqlReader("DEPOT", query)


def test_what_the_database_says_is_passed_on_without_the_address(
    database: Path, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"query on \$DEPOT: the database refused: no such table: parcel") as raised:
        opened(policy_for, store, "SELECT * FROM parcel")
    assert "depot.db" not in str(raised.value)
    monkeypatch.setenv("DEPOT", "not an address with a secret")
    with pytest.raises(DataError, match="no connection can be made from it: it is not a URL") as raised:
        opened(policy_for, store)
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("DEPOT", "nobase://user:secret@host/db")
    with pytest.raises(DataError, match=r"\$DEPOT: no connection can be made") as raised:
        opened(policy_for, store)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+psycopg://me:SEC@RET@db/bank", "it has a second @: write %40 for one in the password"),
        ("postgresql+psycopg://me:SECRET@db:RET/bank", "it is not a URL"),
        ("snowflake://me:SECRET@account/bank", r"the driver snowflake is not installed; .* are in kedge\[step\]"),
        ("mssql+pyodbc://me:SECRET@db/bank", "the driver pyodbc is not installed"),
    ],
)
def test_an_address_that_does_not_do_is_refused_without_its_password(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPOT", address)
    with pytest.raises(DataError, match=rf"^\$DEPOT: no connection can be made from it: {said}") as raised:
        engine("DEPOT", "SELECT 1")
    assert "RET" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [
        ("timestamptz", b"infinity", "infinity"),
        ("timestamp", b"294276-01-01 00:00:00", "294276-01-01 00:00:00"),
        ("date", b"4713-01-01 BC", "4713-01-01 BC"),
        ("date", b"2026-03-02", date(2026, 3, 2)),
    ],
)
def test_a_time_that_python_has_none_for_is_one_text_not_the_end_of_the_query(
    kind: str, written: bytes, read: object
) -> None:
    import psycopg
    from psycopg.pq import Format

    adapters = psycopg.adapt.AdaptersMap(psycopg.adapters)
    keep_unreadable_times(adapters)
    oid = adapters.types[kind].oid
    loader = adapters.get_loader(oid, Format.TEXT)
    assert loader is not None
    assert loader(oid, None).load(written) == read


def test_bytes_and_long_numbers_among_other_values_are_one_odd_value_each(database: Path) -> None:
    query = "SELECT parcel, CASE parcel WHEN 'p3' THEN X'FF00' ELSE country END AS country FROM parcels"
    rows = next(SqlReader("DEPOT", query).pieces(["country"])).rows["country"]
    assert rows.type == pa.string()
    assert rows.to_pylist() == ["AT", "AT", "AT", "b'\\xff\\x00'", "AT"]
    assert SqlReader("DEPOT", query)._array("n", [2**70, 1]).to_pylist() == [str(2**70), "1"]


def test_what_ends_a_query_does_not_end_the_question_for_its_newer_rows(database: Path) -> None:
    reader = SqlReader("DEPOT", "SELECT * FROM parcels; -- all")
    bounds = Bounds("sent", datetime(2026, 3, 3, tzinfo=UTC), None)
    assert sum(piece.rows.num_rows for piece in reader.pieces(["sent"], bounds)) == 5


@pytest.mark.parametrize(
    "query",
    [
        "-- of all depots\nSELECT parcel FROM parcels WHERE country <> ';';",
        "/* a; b */ (SELECT parcel FROM parcels)",
        'WITH p AS (SELECT parcel AS "a;b" FROM parcels) SELECT "a;b" FROM p',
    ],
)
def test_comments_and_texts_may_hold_a_semicolon(database: Path, query: str) -> None:
    assert engine("DEPOT", query).dialect.name == "sqlite"
