"""Tables as they are: one reader and one behaviour for `init`, `policy check`, `profile`, `drift` and training."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import write_deltalake

from kedge import cli
from kedge import policy as policies
from kedge.data import ingest, validate
from kedge.errors import DataError
from kedge.store import open_store
from kedge.tables import snapshot
from kedge.tables.files import find
from kedge.tables.sources import open_reader, source_at

END = datetime(2026, 3, 9, tzinfo=UTC)
ROWS = 600
Kedge = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kedge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kedge:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kedge", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def columns(rows: int = ROWS) -> dict[str, Any]:
    return {
        "at": [f"2026-03-02T{k // 60 % 24:02}:{k % 60:02}:00Z" for k in range(rows)],
        "amount": [1.0 + k % 50 / 4 for k in range(rows)],
        "items": [k % 9 for k in range(rows)],
        "shop": ["ABC"[k % 3] for k in range(rows)],
        "sold": [k % 2 for k in range(rows)],
    }


def policy(location: Path, form: str, **features: Any) -> dict[str, Any]:
    known = {"amount": {"type": "number"}, "items": {"type": "integer"}, "shop": {"type": "category"}}
    return {
        "model": {"name": "m", "target": "sold", "features": known | features},
        "data": {"source": {"format": form, "location": str(location)}, "time_column": "at"},
    }


def csv(path: Path, made: dict[str, Any]) -> Path:
    rows = zip(*made.values(), strict=True)
    lines = [",".join("" if value is None else str(value) for value in row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(made), *lines]) + "\n")
    return path


def written(path: Path, body: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    return path


def profiled(kedge: Kedge, table: Path, *more: object) -> tuple[dict[str, Any], str]:
    into = table.parent / f".{table.name}.json"
    code, _, err = kedge("profile", table, "-o", into, *more)
    assert code == 0, err
    return json.loads(into.read_bytes())["columns"], err


def trained(body: dict[str, Any], folder: Path) -> pa.Table:
    """The rows that a run of this policy would train on."""
    asked, store = policies.parse(body), open_store(folder / "store")
    name = validate.run(asked, store, ingest.run(asked, store, END))
    return snapshot.read(store, snapshot.load(store, asked.name, name))


# --- one reader


@pytest.mark.parametrize("late", ["X", "2026-03-02", "17"])
def test_a_csv_column_that_is_empty_in_its_first_megabytes_is_profiled_by_what_comes_later(
    kedge: Kedge, tmp_path: Path, late: str
) -> None:
    empty, filled = "," + "x" * 200 + "\n", f"{late}," + "x" * 200 + "\n"
    (tmp_path / "t.csv").write_text("code,text\n" + empty * 25_000 + filled * 500)
    code = profiled(kedge, tmp_path / "t.csv")[0]["code"]
    assert code["kind"] == {"X": "category", "17": "number"}.get(late, "time")
    assert (code["null"], code.get("unreadable", 0)) == (25_000, 0)
    told, _ = kedge("drift", tmp_path / "t.csv", tmp_path / "t.csv")[1:]
    assert "0 of 2 columns drifted" in told


def test_a_folder_whose_files_differ_in_a_columns_type_is_widened_by_every_command(
    kedge: Kedge, tmp_path: Path
) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    for day, kind in enumerate((pa.int64(), pa.float64(), pa.null(), pa.int32())):
        made = pa.table(columns())
        values = pa.nulls(ROWS) if kind == pa.null() else pa.array(columns()["items"], kind)
        pq.write_table(made.set_column(2, "items", values), folder / f"{day}.parquet")
    items = profiled(kedge, folder)[0]["items"]
    assert (items["kind"], items["type"], items["null"]) == ("number", "double", ROWS)
    assert "0 of 5 columns drifted" in kedge("drift", folder, folder)[1]
    assert kedge("init", folder, "--target", "sold", "-o", tmp_path / "p.yaml")[0] == 0
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["model"]["features"]["items"]["type"] == "number"
    assert trained(policy(folder, "parquet"), tmp_path)["items"].null_count == ROWS


def test_numbers_in_one_file_and_text_in_another_are_text_to_every_command(kedge: Kedge, tmp_path: Path) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    pq.write_table(pa.table(columns() | {"shop": list(range(ROWS))}), folder / "0.parquet")
    pq.write_table(pa.table(columns()), folder / "1.parquet")
    assert profiled(kedge, folder)[0]["shop"]["kind"] == "category"
    assert "0 of 5 columns drifted" in kedge("drift", folder, folder)[1]
    assert kedge("init", folder, "--target", "sold", "-o", tmp_path / "p.yaml")[0] == 0


def test_a_type_that_only_an_unsampled_file_has_is_widened_too(kedge: Kedge, tmp_path: Path) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    for day in range(30):
        values = columns(30)["items"]
        made = columns(30) | {"items": pa.array(values, pa.float64() if day == 1 else pa.int64())}
        pq.write_table(pa.table(made), folder / f"{day:02}.parquet")
    assert profiled(kedge, folder)[0]["items"]["type"] == "double"
    assert "0 of 5 columns drifted (900 rows" in kedge("drift", folder, folder)[1]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(("odd", "unreadable"), [("?", 0), ("unknown", 3), ("1e39", 3), ("2.5", 3)])
def test_values_that_are_no_integers_are_invalid_by_the_policy_and_no_other_type(
    kedge: Kedge, tmp_path: Path, form: str, odd: str, unreadable: int
) -> None:
    items = [odd if k in (5, 250, 400) else str(k % 9) for k in range(ROWS)]
    table = tmp_path / f"t.{form}"
    made = columns() | {"items": items}
    csv(table, made) if form == "csv" else pq.write_table(pa.table(made), table)
    pq.write_table(pa.table(columns()), tmp_path / "clean.parquet")
    body = policy(table, form)
    body["data"]["max_bad_row_share"] = 0.01
    rules = "--policy", written(tmp_path / "p.yaml", body)
    columns_, err = profiled(kedge, table, *rules)
    assert (columns_["items"]["kind"], columns_["items"]["null"]) == ("number", 3)
    assert columns_["items"]["unreadable"] == unreadable
    said = "items: 3 values cannot be read as its type and count as missing"
    assert (said in err) == bool(unreadable)
    code, out, _ = kedge("drift", tmp_path / "clean.parquet", table, *rules, "--min-psi", 0.1)
    assert code == 0
    assert "0 of 3 columns drifted" in out
    assert (said in out) == bool(unreadable)
    assert trained(body, tmp_path).num_rows == ROWS - unreadable


def test_a_policy_says_what_text_is_where_a_guess_would_err(kedge: Kedge, tmp_path: Path) -> None:
    made = columns() | {"shop": [f"{k % 3}" for k in range(ROWS)]}
    table = csv(tmp_path / "t.csv", made)
    rules = "--policy", written(tmp_path / "p.yaml", policy(table, "csv"))
    assert profiled(kedge, table)[0]["shop"]["kind"] == "number"
    assert profiled(kedge, table, *rules)[0]["shop"]["values"] == {"0": 200, "1": 200, "2": 200}


def test_a_format_of_the_policy_is_that_of_every_command(kedge: Kedge, tmp_path: Path) -> None:
    made = columns() | {"amount": [f"${1000 + k % 50:,}.50" for k in range(ROWS)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    body = policy(tmp_path / "t.parquet", "parquet", amount={"type": "number", "format": "1,234.5"})
    rules = "--policy", written(tmp_path / "p.yaml", body)
    amount = profiled(kedge, tmp_path / "t.parquet", *rules)[0]["amount"]
    assert (amount["kind"], amount["minimum"], amount["unreadable"]) == ("number", 1000.5, 0)
    assert trained(body, tmp_path)["amount"].to_pylist()[:2] == [1000.5, 1001.5]
    assert "0 of 3 columns drifted" in kedge("drift", tmp_path / "t.parquet", tmp_path / "t.parquet", *rules)[1]


def test_text_that_a_reference_knows_as_text_stays_it_in_a_csv_file(kedge: Kedge, tmp_path: Path) -> None:
    made = columns() | {"shop": [f"{k % 3}" for k in range(ROWS)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    assert "0 of 5 columns drifted" in kedge("drift", tmp_path / "t.parquet", csv(tmp_path / "t.csv", made))[1]


def test_a_uuid_of_parquet_is_an_id_to_every_command(kedge: Kedge, tmp_path: Path) -> None:
    given = [UUID(int=k * 12_345_678_901_234_567_890) for k in range(ROWS)]
    made = {"parcel_id": pa.array([each.bytes for each in given], pa.binary(16)).cast(pa.uuid()), **columns()}
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table(made), table, store_schema=False)  # as DuckDB and Spark write it
    assert kedge("init", table, "--target", "sold", "-o", tmp_path / "p.yaml")[0] == 0
    body = yaml.safe_load((tmp_path / "p.yaml").read_text())
    assert body["data"]["id_column"] == "parcel_id"
    assert kedge("policy", "check", tmp_path / "p.yaml")[0] == 0
    rows = trained(
        policy(table, "parquet")
        | {"data": body["data"] | {"source": body["data"]["source"] | {"location": str(table)}}},
        tmp_path,
    )
    assert set(rows["_id"].to_pylist()) == {str(each) for each in given}
    assert profiled(kedge, table)[0]["parcel_id"]["kind"] == "category"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_columns_of_one_name_are_one_sentence_to_every_command(kedge: Kedge, tmp_path: Path, form: str) -> None:
    table = tmp_path / f"t.{form}"
    made = pa.table([*map(pa.array, columns().values()), pa.array(columns()["items"])], names=[*columns(), "amount"])
    if form == "csv":
        table.write_text(",".join(made.column_names) + "\n" + "2026-03-02,1,2,A,1,3\n" * 10)
    else:
        pq.write_table(made, table)
    place = f"{table}, line 1" if form == "csv" else str(table)
    said = f"error: {place}: has the column 'amount' twice; rename one of them\n"
    for words in (("init", table), ("profile", table, "-o", tmp_path / "r.json"), ("drift", table, table)):
        assert kedge(*words)[::2] == (2, said)
    with pytest.raises(DataError, match="has the column 'amount' twice; rename one of them"):
        trained(policy(table, form), tmp_path)


def test_tables_without_a_common_column_are_said(kedge: Kedge, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(ROWS))}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"b": list(range(ROWS))}), tmp_path / "b.parquet")
    code, _, err = kedge("drift", tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert (code, "b.parquet: has none of the columns of the reference; it has: b; the reference: a" in err) == (
        2,
        True,
    )


# --- a folder is a table


def partitioned(folder: Path, form: str) -> Path:
    """A table as Hive lays it out: countries and days are folders."""
    for number, (country, day) in enumerate((("AT", "2026-01-01"), ("DE", "2026-01-02"), ("A%2FB", "2026-01-03"))):
        place = folder / f"country={country}" / f"day={day}" / f"part-{number}.{form}"
        place.parent.mkdir(parents=True)
        made = columns(200) | {"sold": [(k + number) % 2 for k in range(200)]}
        csv(place, made) if form == "csv" else pq.write_table(pa.table(made), place)
    (folder / "_SUCCESS").touch()
    return folder


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_folders_of_a_hive_table_are_columns_to_every_command(kedge: Kedge, tmp_path: Path, form: str) -> None:
    folder = partitioned(tmp_path / "sales", form)
    seen = profiled(kedge, folder)[0]
    assert seen["country"]["values"] == {"A/B": 200, "AT": 200, "DE": 200}
    assert kedge("init", folder, "--target", "sold", "-o", tmp_path / "p.yaml")[0] == 0
    features = yaml.safe_load((tmp_path / "p.yaml").read_text())["model"]["features"]
    assert features["country"]["type"] == "category"
    body = policy(folder, form, country={"type": "category"})
    body["data"]["time_column"] = "day"
    rows = trained(body, tmp_path)
    assert sorted(set(zip(rows["country"].to_pylist(), map(str, rows["_time"].to_pylist()), strict=True))) == [
        ("A/B", "2026-01-03 00:00:00+00:00"),
        ("AT", "2026-01-01 00:00:00+00:00"),
        ("DE", "2026-01-02 00:00:00+00:00"),
    ]
    assert "0 of 7 columns drifted" in kedge("drift", folder, folder)[1]


def test_a_pattern_keeps_the_columns_of_the_folders_that_it_names(kedge: Kedge, tmp_path: Path) -> None:
    partitioned(tmp_path / "sales", "parquet")
    at = profiled(kedge, tmp_path / "sales" / "country=A*" / "*" / "*.parquet")[0]
    assert at["country"]["values"] == {"A/B": 200, "AT": 200}


def test_a_missing_value_of_a_partition_is_missing(tmp_path: Path) -> None:
    place = tmp_path / "country=__HIVE_DEFAULT_PARTITION__" / "a.parquet"
    place.parent.mkdir()
    pq.write_table(pa.table(columns()), place)
    assert [file.partition for file in find(str(tmp_path), (".parquet",))] == [{"country": None}]


@pytest.mark.parametrize(
    ("marks", "name"),
    [
        (["metadata/v1.metadata.json"], "an Iceberg table"),
        ([".hoodie/hoodie.properties"], "a Hudi table"),
        (["sales/_delta_log/00000000000000000000.json"], "a Delta table"),
    ],
)
def test_a_folder_of_another_table_format_is_refused_by_its_name(
    kedge: Kedge, tmp_path: Path, marks: list[str], name: str
) -> None:
    folder = tmp_path / "lake"
    for mark in marks:
        (folder / mark).parent.mkdir(parents=True)
        (folder / mark).touch()
    (folder / "data").mkdir()
    pq.write_table(pa.table(columns()), folder / "data" / "a.parquet")
    for words in (("init", folder), ("profile", folder, "-o", tmp_path / "r.json"), ("drift", folder, folder)):
        code, _, err = kedge(*words)
        assert (code, f": is {name}" in err) == (2, True), err
    with pytest.raises(DataError, match=f"is {name}"):
        trained(policy(folder, "parquet"), tmp_path)


def test_a_delta_table_is_not_read_as_the_files_it_consists_of(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table(columns()))
    assert source_at(str(tmp_path / "t")).format == "delta"
    with pytest.raises(DataError, match="is a Delta table: `format: delta` reads it"):
        open_reader(policies.Source(format="parquet", location=str(tmp_path / "t")))


def test_parquet_and_csv_files_in_one_folder_are_no_table(kedge: Kedge, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    csv(folder / "a.csv", columns())
    pq.write_table(pa.table(columns()), folder / "b.parquet")
    for words in (("init", folder), ("profile", folder, "-o", tmp_path / "r.json")):
        code, _, err = kedge(*words)
        assert (code, "holds Parquet and CSV files together; give a pattern" in err) == (2, True)
