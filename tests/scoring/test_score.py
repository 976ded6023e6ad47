"""A table scored by the champion: what is written, what is logged, what is refused."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from shutil import rmtree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LogisticRegression

from kedge.errors import BundleError, DataError, NothingServed, StoreError, TransformError, UsageError
from kedge.records import ModelState, Scored, read
from kedge.scoring import outputs, score
from kedge.scoring.logged import PredictionLog
from kedge.tables import log
from tests.scoring.conftest import ROWS, rules


def test_predictions_have_id_score_decision_version_and_time(world, champion):
    data, output = world.table(), world.folder / "scores.parquet"
    done = world.score(data, output)
    rows = pq.read_table(output)
    assert rows.column_names == ["customer", "score", "prediction", "version", "time"]
    assert rows["customer"].to_pylist() == pq.read_table(data)["customer"].to_pylist()
    assert set(rows["version"].to_pylist()) == {champion.id}
    assert set(rows["time"].to_pylist()) == {world.now}
    scores = rows["score"].to_numpy()
    assert rows["prediction"].to_pylist() == (scores >= 0.5).astype(float).tolist()
    assert np.array_equal(scores, champion.load_model().score(champion.signature.encode(pq.read_table(data))))
    assert (done.rows, done.written, done.logged, done.candidate) == (ROWS, True, True, "")


def test_predictions_are_logged_as_served_ones_are(world, champion):
    data = world.table()
    world.score(data)
    found = log.read_window(world.store, world.policy, world.now, world.now.replace(hour=3))
    assert len(found) == ROWS
    assert found["x"].to_pylist() == pq.read_table(data)["x"].to_pylist()
    assert set(found["_version"].to_pylist()) == {champion.id}
    assert world.log()["_day"].unique().to_pylist() == ["2026-03-02"]


def test_private_features_are_in_the_log_as_privacy_left_them(world):
    world.policy = rules(model={
        "name": "churn", "target": "left",
        "features": {"x": {"type": "number", "privacy": "drop"},
                     "country": {"type": "category", "values": ["AT", "BE"], "privacy": "mask"}},
    })  # fmt: skip
    world.release(world.bundle())
    world.score(world.table())
    assert world.log()["x"].null_count == ROWS
    assert set(world.log()["country"].to_pylist()) == {"*"}


def test_of_several_classes_each_has_a_score_and_the_decision_is_a_name(world):
    world.policy = rules(model={
        "name": "churn", "target": "left", "task": "multiclass", "classes": ["no", "maybe", "yes"],
        "features": {"x": {"type": "number"}, "country": {"type": "category", "values": ["AT", "BE"]}},
    })  # fmt: skip
    world.release(world.bundle(model=LogisticRegression().fit([[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [0, 1, 2])))
    rows = pq.read_table(world.score(world.table()).output)
    assert rows.column_names == ["customer", "score_no", "score_maybe", "score_yes", "prediction", "version", "time"]
    scores = np.column_stack([rows[f"score_{name}"].to_numpy() for name in ("no", "maybe", "yes")])
    assert rows["prediction"].to_pylist() == np.array(["no", "maybe", "yes"])[scores.argmax(axis=1)].tolist()
    logged = dict(zip(world.log()["_id"].to_pylist(), world.log()["_score"].to_pylist(), strict=True))
    assert [logged[each] for each in rows["customer"].to_pylist()] == scores.tolist()


def test_a_batch_scored_twice_is_logged_and_written_once_and_said(world, champion):
    data, output = world.table(), world.folder / "scores.parquet"
    world.score(data, output)
    before = output.stat().st_mtime_ns
    world.night()
    again = world.score(data, output)
    assert (again.logged, again.written) == (False, False)
    assert output.stat().st_mtime_ns == before
    assert len(world.log()) == ROWS
    assert "scored before at 2026-03-02 02:00" in world.said[0]
    assert "holds this batch already" in world.said[1]


def test_a_place_may_hold_the_day_that_is_scored(world, champion):
    world.table("2026-03-02")
    done = world.score(world.folder / "{date}.parquet", world.folder / "out" / "{date}.parquet")
    assert done.output == str(world.folder / "out" / "2026-03-02.parquet")
    assert pq.read_table(done.output).num_rows == ROWS


def test_the_same_rows_in_other_files_are_the_same_batch(world, champion, tmp_path):
    data = world.table(rows=70_000)
    world.score(data)
    (tmp_path / "cut").mkdir()
    whole = pq.read_table(data)
    for place, start in enumerate(range(0, 70_000, 10_001)):
        pq.write_table(whole.slice(start, 10_001), tmp_path / "cut" / f"{place}.parquet", row_group_size=777)
    again = world.score(tmp_path / "cut")
    assert (again.logged, again.written) == (False, True)
    assert len(world.log()) == 70_000


def test_the_same_ids_with_other_features_are_refused(world, champion):
    world.score(world.table())
    with pytest.raises(UsageError, match=r"ids were scored .* with other features.* new ids"):
        world.score(world.table(seed=2), world.folder / "other.parquet")
    assert not (world.folder / "other.parquet").exists()
    assert len(world.log()) == ROWS


def test_a_table_with_another_schema_is_refused_with_what_it_lacks(world, champion):
    with pytest.raises(DataError, match=r"'x'.* nothing was scored"):
        world.score(world.table(x=None))
    with pytest.raises(DataError, match="row 1: column 'x': 'a' is not a number; nothing was scored"):
        world.score(world.table(x=["a"] * ROWS))
    with pytest.raises(DataError, match="'customer'"):
        world.score(world.table(customer=None))
    assert list(world.folder.glob("out/*")) == []
    assert len(world.log()) == 0


def test_without_ids_or_rows_nothing_is_scored(world, champion):
    with pytest.raises(DataError, match="row 8: column 'customer': the id is missing"):
        world.score(world.table(customer=[None if row == 7 else "a" for row in range(ROWS)]))
    twice = world.table(customer=["a" if row in (3, 7) else str(row) for row in range(ROWS)])
    with pytest.raises(DataError, match=r"row 8: column 'customer': the id of row 4 again; .* nothing was scored"):
        world.score(twice)
    assert world.score(twice, log=False).rows == ROWS
    with pytest.raises(DataError, match=r"\.parquet, row 600: feature 'x': infinite.*; nothing was scored"):
        world.score(world.table(x=[0.0] * (ROWS - 1) + [float("inf")]))
    with pytest.raises(DataError, match="has no rows"):
        world.score(world.table(rows=0))
    world.policy = rules(data={"source": {"format": "parquet", "location": "unused"}, "time_column": "at"})
    with pytest.raises(DataError, match="which column is the id"):
        world.score(world.table())
    assert world.score(world.table(), id_column="customer").rows == ROWS


def test_a_store_that_is_emptied_is_named_and_gets_nothing(world, champion):
    rmtree(world.store.url)
    with pytest.raises(StoreError, match=r"is empty: it has no store\.json"):
        world.score(world.table())
    assert list(world.store.keys("")) == []


def test_before_the_first_promotion_what_is_to_be_done_is_said(world):
    with pytest.raises(NothingServed, match=r"no champion yet.*`kedge submit` trains"):
        world.score(world.table())
    made = world.bundle()
    with pytest.raises(NothingServed, match=f"`kedge submit --policy FILE --release {made.id[:12]}`"):
        world.score(world.table())


def test_an_output_that_another_program_left_half_written_is_refused_by_name(world, champion):
    output = world.folder / "scores.parquet"
    output.write_bytes(b"PAR1 and then the power went")
    with pytest.raises(UsageError, match=r"scores.parquet: is there and is no whole Parquet file.*--replace"):
        world.score(world.table(), output)
    assert world.score(world.table(), output, replace=True).written
    assert pq.read_table(output).num_rows == ROWS


def test_a_file_that_is_no_output_or_another_batchs_is_replaced_only_if_asked(world, champion):
    table, output = world.table("other"), world.folder / "scores.parquet"
    world.score(world.table(), output)
    with pytest.raises(UsageError, match=r"another batch.*--replace; nothing was written or logged"):
        world.score(table, output)
    assert len(world.log()) == ROWS
    world.score(table, output, replace=True)
    assert pq.read_table(output)["customer"][0].as_py() == "other-0"
    with pytest.raises(UsageError, match="no predictions that kedge wrote"):
        world.score(world.table(), table)


@pytest.mark.parametrize("output", ["rows.parquet", "./rows.parquet", "rows.parquet/inner", "."])
def test_the_output_is_never_the_input(world, champion, monkeypatch, output):
    monkeypatch.chdir(world.folder)
    data = world.table()
    before = os.stat(data).st_mtime_ns
    with pytest.raises(UsageError, match="is --data, or lies with it"):
        world.score(data, output)
    assert os.stat(data).st_mtime_ns == before


def test_a_scoring_that_fails_midway_leaves_nothing(world, champion, monkeypatch):
    def breaks(batches):
        yield next(batches)
        raise OSError("the disk is gone")

    monkeypatch.setattr(score, "ahead", lambda batches: breaks(batches))
    with pytest.raises(OSError, match="disk"):
        world.score(world.table(rows=70_000), world.folder / "out" / "scores.parquet")
    assert list((world.folder / "out").iterdir()) == []
    assert list((world.folder / "store").glob("logs/**/*.parquet")) == []
    assert read(world.store, "churn", Scored) == []


def test_what_was_logged_before_the_output_failed_is_written_by_the_next_call(world, champion, monkeypatch):
    data, output = world.table(), world.folder / "scores.parquet"

    def full(*_):
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(outputs.ParquetOutput, "commit", full)
        with pytest.raises(StoreError, match="full"):
            world.score(data, output)
    done = world.score(data, output)
    assert (done.logged, done.written) == (False, True)
    assert len(world.log()) == pq.read_table(output).num_rows == ROWS


def test_golden_rows_that_differ_here_score_nothing(world, champion, monkeypatch):
    monkeypatch.setattr("kedge.rollout.batch.golden_difference", lambda *_: 0.25)
    with pytest.raises(BundleError, match=r"golden rows of bundle .* differ by 0.25.*nothing was scored"):
        world.score(world.table())


def test_a_delta_table_gets_one_commit_a_batch(world, champion):
    output = world.folder / "scores"
    world.score(world.table(), output)
    world.score(world.table("more"), output)
    again = world.score(world.table("more"), output)
    found = pa.table(DeltaTable(output).to_pyarrow_dataset().to_table())
    assert (len(found), DeltaTable(output).version(), again.written) == (2 * ROWS, 2, False)
    assert found["time"].type == pa.timestamp("us", tz="UTC")


def test_a_killed_first_batch_leaves_a_delta_table_that_the_next_one_fills(world, champion, monkeypatch):
    output = world.folder / "scores"
    with monkeypatch.context() as killed:
        for left_undone in ("commit", "abort"):
            killed.setattr(outputs.DeltaOutput, left_undone, lambda *_: None)
        world.score(world.table(), output)
    assert list(output.glob("*.parquet"))
    world.score(world.table(), output)
    assert len(DeltaTable(output).to_pyarrow_dataset().to_table()) == ROWS


def test_a_folder_of_other_files_or_a_table_of_other_columns_is_no_output(world, champion):
    (world.folder / "photos").mkdir()
    (world.folder / "photos" / "cat.jpg").touch()
    with pytest.raises(UsageError, match="photos: is a folder with other files in it"):
        world.score(world.table(), world.folder / "photos")
    DeltaTable.create(world.folder / "sales", pa.schema([("score", pa.string())]))
    with pytest.raises(DataError, match=r"column 'score' is .*string.* there and double here"):
        world.score(world.table(), world.folder / "sales")


def test_a_database_gets_a_batch_in_one_transaction_once(world, champion, monkeypatch):
    file = world.folder / "bank.db"
    monkeypatch.setenv("BANK", f"sqlite:///{file}")
    for _ in range(2):
        done = world.score(world.table(), "sql:BANK/scores")
    assert not done.written
    world.score(world.table("more"), "sql:BANK/scores")
    with closing(sqlite3.connect(file)) as database, database:
        count, versions, batches = database.execute(
            "SELECT count(*), count(DISTINCT version), count(DISTINCT batch) FROM scores"
        ).fetchone()
    database.close()
    assert (count, versions, batches) == (2 * ROWS, 1, 2)
    with pytest.raises(UsageError, match="sql:VARIABLE/TABLE"):
        world.score(world.table(), "sql:BANK")


def test_a_query_of_a_database_is_scored(world, champion, monkeypatch):
    with closing(sqlite3.connect(world.folder / "bank.db")) as database, database:
        database.execute("CREATE TABLE customers (customer TEXT, x REAL, country TEXT)")
        database.executemany("INSERT INTO customers VALUES (?, ?, ?)", [("a", 1.0, "AT"), ("b", -1.0, "BE")])
    database.close()
    monkeypatch.setenv("BANK", f"sqlite:///{world.folder / 'bank.db'}")
    done = world.score("sql:BANK", world.folder / "scores.parquet", query="SELECT * FROM customers ORDER BY customer")
    assert done.rows == 2
    assert pq.read_table(world.folder / "scores.parquet")["prediction"].to_pylist() == [1.0, 0.0]


def test_a_model_that_raises_is_said_by_the_row_and_not_by_its_words(world, champion):
    data = world.table(x=[0.0, 0.0, None] + [0.0] * (ROWS - 3))  # a bare logistic regression takes no NaN
    with pytest.raises(TransformError, match=rf"row 3: the model of bundle {champion.id[:12]} raises ValueError; noth"):
        world.score(data)


def test_ids_that_were_scored_before_among_others_are_said(world, champion):
    world.score(world.table())
    world.night()
    ids = [f"rows-{row}" for row in range(ROWS - 1)] + ["new"]
    world.score(world.table("more", customer=ids))
    assert f"{ROWS - 1} of its first {ROWS} ids have predictions already" in world.said[0]
    world.night()
    world.score(world.table("third"))
    assert world.said == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("scores.csv", r"scores\.csv: predictions are written to Parquet"),
        ("", "--output: empty: name a place"),
        ("store/logs/churn/predictions", "lies among the logs of the store"),
        ("rows.parquet/of/scores", "is --data, or lies with it"),
        ("file/scores.parquet", r"file/scores\.parquet: cannot be written: File exists"),
        ("file/scores", "file/scores: cannot be written: .*Not a directory"),
    ],
)
def test_a_place_that_can_hold_no_predictions_is_refused_with_nothing_logged(
    world, champion, monkeypatch, output, said
):
    monkeypatch.chdir(world.folder)
    (world.folder / "file").touch()
    data = world.table()
    with pytest.raises(UsageError, match=said):
        world.score(data, output)
    assert len(world.log()) == 0


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"schema": pa.schema([("other", pa.string())])}, "a Delta table without a column 'customer'"),
        ({"partition_by": ["version"]}, "is partitioned by version, which is not written here"),
        ({"configuration": {"delta.columnMapping.mode": "name"}}, r"has delta\.columnMapping\.mode"),
        ({"more": pa.field("shop", pa.string(), nullable=False)}, "needs 'shop' in each row"),
    ],
)
def test_a_delta_table_that_demands_what_is_not_written_is_refused(world, champion, made, said):
    columns = outputs.schema("customer")
    columns = columns.append(made.pop("more")) if "more" in made else columns
    DeltaTable.create(world.folder / "scores", **{"schema": columns, **made})
    with pytest.raises(DataError, match=said):
        world.score(world.table(), world.folder / "scores")
    assert len(world.log()) == 0


def test_a_full_disk_is_an_error_with_the_place_that_leaves_no_row(world, champion, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for output in ("scores.parquet", "scores"):
        with monkeypatch.context() as patched:
            patched.setattr(pq.ParquetWriter, "write_batch", full)
            with pytest.raises(StoreError, match=f"{output}: cannot be written: No space left"):
                world.score(world.table(), world.folder / "out" / output)
        left = {file.parent.name for file in (world.folder / "out").rglob("*") if file.is_file()}
        assert left <= {"_delta_log"}  # of a table without rows
    assert len(world.log()) == 0


def test_an_id_called_as_a_column_of_predictions_is_refused(world, champion, monkeypatch):
    data = world.table(score=[str(row) for row in range(ROWS)])
    with pytest.raises(UsageError, match="ids' column is called 'score'"):
        world.score(data, id_column="score")
    with pytest.raises(UsageError, match="its columns would be 'score_A' and 'score_a': write a"):
        outputs.open_output(str(world.folder / "d"), outputs.schema("id", ["A", "a"]), model="m", replace=False)


def test_a_query_and_a_database_belong_together(world, champion):
    for data, query in ((world.table(), "SELECT 1"), ("sql:BANK", None)):
        with pytest.raises(UsageError, match="sql:VARIABLE and --query, one SELECT, belong together"):
            world.score(data, query=query)


def test_who_writes_meanwhile_is_not_overwritten(world, champion, monkeypatch):
    output = world.folder / "scores.parquet"
    ahead = score.ahead

    def meanwhile(batches):
        monkeypatch.setattr(score, "ahead", ahead)
        world.score(world.table("other"), output)
        return ahead(batches)

    monkeypatch.setattr(score, "ahead", meanwhile)
    with pytest.raises(UsageError, match="another batch"):
        world.score(world.table(), output)
    assert pq.read_table(output)["customer"][0].as_py() == "other-0"


def test_a_look_without_the_log_leaves_no_trace_in_it(world, champion):
    world.score(world.table(), log=False)
    assert len(world.log()) == 0
    assert read(world.store, "churn", Scored) == []


def test_the_record_says_what_was_scored_by_whom(world, champion):
    data = world.table()
    world.score(data, world.folder / "scores.parquet")
    (record,) = read(world.store, "churn", Scored)
    assert (record.time, record.data.bundle, record.data.rows) == (world.now, champion.id, ROWS)
    assert record.data.data == data
    assert ModelState.of([record]).champion is None


def test_what_was_not_logged_for_a_moment_is_logged_by_the_next_run(world, champion, monkeypatch):
    def away(*_):
        raise StoreError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(PredictionLog, "commit", away)
        with pytest.raises(StoreError, match="away"):
            world.score(world.table(), world.folder / "scores.parquet")
    assert (len(world.log()), (world.folder / "scores.parquet").exists()) == (0, False)
    world.score(world.table(), world.folder / "scores.parquet")
    assert (len(world.log()), len(read(world.store, "churn", Scored))) == (ROWS, 1)
    assert len(pq.read_table(world.folder / "scores.parquet")) == ROWS
