import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from kedge import clock
from kedge import policy as policies
from kedge.errors import DataError, UsageError
from kedge.tables import appending, labels, log

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def declared(source, **model):
    return policies.parse(
        {
            "model": {
                "name": "payments",
                "target": "returned",
                "positive_label": "yes",
                "features": {"amount": {"type": "number"}},
            }
            | model,
            "data": {
                "source": {"format": "log"},
                "labels": {"source": source, "id_column": "payment", "label_column": "came_back"},
            },
        }
    )


def outcomes(*rows):
    ids, values, hours = zip(*rows, strict=True) if rows else ((), (), ())
    times = pa.array([NOON + timedelta(hours=hour) for hour in hours], pa.timestamp("us", tz="UTC"))
    texts = {"type": pa.string()} if not rows else {}
    return pa.table({"payment": pa.array(ids, **texts), "came_back": pa.array(values, **texts), "observed_at": times})


def logged(store, policy):
    rows = log.read_labels(store, policy, None).to_pylist()
    return sorted((row["_id"], row["_label"], (row["_observed"] - NOON) / timedelta(hours=1)) for row in rows)


@pytest.fixture(params=["parquet", "csv", "delta", "sql"])
def write(request, tmp_path, monkeypatch):
    """Replaces the declared table by these rows, in one of the formats."""

    def sql(table):
        with closing(sqlite3.connect(tmp_path / "labels.db")) as database, database:
            database.execute("DROP TABLE IF EXISTS outcomes")
            database.execute("CREATE TABLE outcomes (payment TEXT, came_back TEXT, observed_at TEXT)")
            rows = [tuple(row.values()) for row in table.to_pylist()]
            rows = [(identity, value, time.isoformat()) for identity, value, time in rows]
            database.executemany("INSERT INTO outcomes VALUES (?, ?, ?)", rows)
        database.close()

    path = str(tmp_path / f"labels.{request.param}")
    writers = {
        "parquet": lambda table: pq.write_table(table, path),
        "csv": lambda table: pa.csv.write_csv(table, path),
        "delta": lambda table: write_deltalake(path, table, mode="overwrite"),
        "sql": sql,
    }
    monkeypatch.setenv("LABELS_ADDRESS", f"sqlite:///{tmp_path / 'labels.db'}")
    source = {"format": request.param, "location": path}
    if request.param == "sql":
        source = {"format": "sql", "location": "LABELS_ADDRESS", "query": "SELECT * FROM outcomes"}

    def written(*rows):
        writers[request.param](outcomes(*rows))
        return declared(source)

    return written


def test_a_declared_table_is_read_on_from_where_it_ended_and_twice_changes_nothing(store, write):
    policy = write(("a", "yes", 0), ("b", "no", 1))
    assert labels.pull(store, policy).appended == 2
    assert labels.pull(store, policy).appended == 0
    policy = write(("a", "yes", 0), ("b", "no", 1), ("c", "yes", 2), ("late", "no", -3))
    assert labels.pull(store, policy).appended == 2
    assert logged(store, policy) == [("a", 1.0, 0), ("b", 0.0, 1), ("c", 1.0, 2), ("late", 0.0, -3)]


@pytest.mark.parametrize("kind", ["times", "dates", "text", "text with offsets", "times without offset"])
@pytest.mark.parametrize("format", ["delta", "sql"])
def test_only_rows_of_the_last_days_are_read_again_however_their_time_is_written(
    store, tmp_path, monkeypatch, format, kind
):
    days = [NOON.replace(hour=1) + timedelta(days=day) for day in (0, 10, 20, 29, 30)]
    times = {
        "times": pa.array(days, pa.timestamp("us", "UTC")),
        "times without offset": pa.array([day.replace(tzinfo=None) for day in days], pa.timestamp("us")),
        "dates": pa.array([day.date() for day in days]),
        "text": pa.array([day.isoformat().replace("+00:00", "Z") for day in days]),
        "text with offsets": pa.array([day.astimezone(timezone(timedelta(hours=-23))).isoformat() for day in days]),
    }[kind]
    table = pa.table({"payment": list("abcde"), "came_back": ["yes"] * 5, "observed_at": times})
    source = {"format": format, "location": str(tmp_path / "labels")}
    if format == "sql":
        source |= {"location": "LABELS_ADDRESS", "query": "SELECT * FROM outcomes -- all of them\n"}
        monkeypatch.setenv("LABELS_ADDRESS", f"sqlite:///{tmp_path / 'labels.db'}")
    policy = declared(source)

    def lay_down(rows):
        if format == "delta":
            write_deltalake(tmp_path / "labels", rows, mode="append")
            return
        with closing(sqlite3.connect(tmp_path / "labels.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS outcomes (payment, came_back, observed_at)")
            rows = [tuple(map(str, row.values())) for row in rows.to_pylist()]
            database.executemany("INSERT INTO outcomes VALUES (?, ?, ?)", rows)
        database.close()

    for row in range(4):
        lay_down(table.slice(row, 1))
    assert labels.pull(store, policy).read == 4
    lay_down(table.slice(4, 1))
    pulled = labels.pull(store, policy)
    assert (pulled.read, pulled.appended) == (2, 1)
    pulled = labels.pull(store, policy)
    assert (pulled.read, pulled.appended) == (2, 0)


def test_a_source_that_shrinks_takes_no_label_back_and_is_read_on_when_it_grows_again(store, write):
    labels.pull(store, write(("a", "yes", 0), ("b", "no", 1)))
    assert labels.pull(store, write(("b", "no", 1))).appended == 0
    policy = write(("c", "yes", 2))
    assert labels.pull(store, policy).appended == 1
    assert [row[0] for row in logged(store, policy)] == ["a", "b", "c"]


def test_a_label_dated_ahead_of_the_clock_does_not_hide_those_that_follow(store, write):
    labels.pull(store, write(("typo", "yes", 24 * 365 * 300), ("a", "no", 0)))
    in_time = (clock.now() - NOON) // timedelta(hours=1)
    policy = write(("typo", "yes", 24 * 365 * 300), ("a", "no", 0), ("b", "yes", in_time))
    assert labels.pull(store, policy).appended == 1
    assert labels.pull(store, policy).appended == 0
    assert [row[0] for row in logged(store, policy)] == ["a", "b", "typo"]


def test_a_crash_before_the_append_leaves_nothing_and_the_next_pull_brings_all(store, write, monkeypatch):
    policy = write(("a", "yes", 0), ("b", "no", 1))
    with monkeypatch.context() as patch:
        patch.setattr(appending, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            labels.pull(store, policy)
    assert logged(store, policy) == []
    assert labels.pull(store, policy).appended == 2


def killed(*_):
    raise KeyboardInterrupt


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "labels.parquet"

    def written(table, **model):
        pq.write_table(table, path)
        return declared({"format": "parquet", "location": str(path)}, **model)

    return written


def test_a_corrected_outcome_is_one_more_label(store, parquet):
    labels.pull(store, parquet(outcomes(("a", "no", 0))))
    policy = parquet(outcomes(("a", "no", 0), ("a", "yes", 5)))
    assert labels.pull(store, policy).appended == 1
    assert logged(store, policy) == [("a", 0.0, 0), ("a", 1.0, 5)]


def test_rows_older_than_the_overlap_are_not_read_again(store, parquet):
    policy = parquet(outcomes(("a", "no", 100)))
    labels.pull(store, policy)
    labels.pull(store, parquet(outcomes(("a", "no", 100), ("old", "yes", 0), ("recent", "yes", 90))))
    assert [row[0] for row in logged(store, policy)] == ["a", "recent"]


def test_rows_without_id_or_outcome_are_counted_and_named(store, parquet):
    policy = parquet(outcomes(("a", "yes", 0), (None, "no", 0), ("c", None, 0)))
    pulled = labels.pull(store, policy)
    assert (pulled.appended, pulled.invalid) == (1, 2)
    assert "row 2" in pulled.faults[0]


def test_a_label_that_is_neither_is_left_out_and_named_with_row_value_and_what_is_allowed(store, write):
    policy = write(("a", "yes", 0), ("b", "maybe", 0), ("c", "no", 0))
    model = policy.model.model_copy(update={"negative_label": "no"})
    policy = policy.model_copy(update={"model": model})
    pulled = labels.pull(store, policy)
    assert (pulled.appended, pulled.invalid) == (2, 1)
    assert logged(store, policy) == [("a", 1.0, 0), ("c", 0.0, 0)]
    assert pulled.faults[0].endswith(
        "row 2: column 'came_back': 'maybe' is neither model.positive_label 'yes' nor model.negative_label 'no'"
    )


def test_labels_of_a_regression_are_numbers(store, parquet):
    table = outcomes(("a", 2.5, 0), ("b", -1.0, 0))
    policy = parquet(table, task="regression", positive_label=1)
    labels.pull(store, policy)
    assert [row[1] for row in logged(store, policy)] == [2.5, -1.0]


def test_no_declared_source_and_a_missing_column_are_told_by_name(store, parquet, tmp_path):
    plain = {"model": {"name": "m", "target": "t", "features": {"a": {"type": "number"}}}}
    with pytest.raises(UsageError, match=r"data\.labels is not given"):
        labels.pull(store, policies.parse(plain | {"data": {"source": {"format": "log"}}}))
    policy = parquet(outcomes(("a", "yes", 0)).rename_columns(["payment", "outcome", "observed_at"]))
    with pytest.raises(DataError, match="came_back"):
        labels.pull(store, policy)


def test_outcomes_and_times_of_a_type_that_cannot_be_read_are_refused_by_column(store, parquet):
    table = outcomes(("a", "yes", 0))
    with pytest.raises(DataError, match="column 'came_back' holds list<element: int64>"):
        labels.pull(store, parquet(table.set_column(1, "came_back", pa.array([[1]]))))
    with pytest.raises(DataError, match="column 'observed_at' holds int64"):
        labels.pull(store, parquet(table.set_column(2, "observed_at", pa.array([5]))))


def test_a_source_without_rows_brings_nothing(store, write):
    assert labels.pull(store, write(("a", "yes", 0))).appended == 1
    assert labels.pull(store, write()).appended == 0
