import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kedge import policy as policies
from kedge.api.comparison import profile
from kedge.cli import build
from kedge.data import ingest, validate
from kedge.errors import DataError, PolicyError, UsageError
from kedge.scaffold import look, write
from kedge.scaffold.guess import plain_name
from kedge.store import open_store
from kedge.tables import snapshot
from kedge.tables.sources import source_at

START = datetime(2026, 3, 2, tzinfo=UTC)


def payments(rows: int = 300) -> pa.Table:
    """Payments with every kind of column, and some that no model can read."""
    return pa.table(
        {
            "payment_id": [f"p-{k:05}" for k in range(rows)],
            "requested_at": pa.array([START + timedelta(minutes=k) for k in range(rows)], pa.timestamp("us", tz="UTC")),
            "booked": [date(2026, 3, 2) + timedelta(days=k % 7) for k in range(rows)],
            "amount": [None if k % 20 == 0 else 8.0 + k * 2.7 for k in range(rows)],
            "change": [(-1) ** k * k / 100 for k in range(rows)],
            "retries": [k % 4 for k in range(rows)],
            "recurring": [k % 2 == 0 for k in range(rows)],
            "vip": [int(k % 5 == 0) for k in range(rows)],
            "country": ["NO" if k % 3 else "AT" for k in range(rows)],
            "postcode": [f"0{k % 7}10" for k in range(rows)],
            "note": [f"note {k} of a customer" for k in range(rows)],
            "currency": ["EUR"] * rows,
            "nothing": pa.nulls(rows, pa.float64()),
            "tags": [["a"]] * rows,
            "_etl": list(range(rows)),
            "returned": [int(k % 4 == 0) for k in range(rows)],
        }
    )


def run(*words: object) -> Any:
    return CliRunner().invoke(build(), ["init", *map(str, words)])


def written(table: Path, *words: object) -> tuple[dict[str, Any], str]:
    file = table.parent / "policy.yaml"
    done = run(table, "-o", file, *words)
    assert done.exit_code == 0, done.exception
    policies.load(file)
    return yaml.safe_load(file.read_text()), done.stderr


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pq.write_table(payments(), tmp_path / "Direct Debits.parquet")
    return tmp_path / "Direct Debits.parquet"


def test_each_column_is_guessed_written_and_said(table: Path) -> None:
    policy, said = written(table)
    assert policy["model"]["name"] == "direct-debits"
    assert (policy["model"]["task"], policy["model"]["target"], policy["model"]["positive_label"]) == (
        "binary",
        "returned",
        1,
    )
    assert policy["model"]["features"] == {
        "amount": {"type": "number"},
        "change": {"type": "number"},
        "retries": {"type": "integer"},
        "recurring": {"type": "boolean"},
        "vip": {"type": "boolean"},
        "country": {"type": "category"},
        "postcode": {"type": "category"},
    }
    assert policy["data"]["time_column"] == "requested_at"
    assert policy["data"]["id_column"] == "payment_id"
    assert policy["data"]["source"] == {"format": "parquet", "location": "Direct Debits.parquet"}
    for line in (
        "returned      target, binary: by its name",
        "requested_at  time: holds times, as timestamp[us, tz=UTC]; others: booked",
        "payment_id    id: by its name, and each value is there once",
        "amount        number: 10.7 to 815.3",
        "note          left out: 300 different texts in 300 rows: too many for a category",
        "currency      left out: one value only, 'EUR'",
        "nothing       left out: not one value",
        "tags          left out: holds list<element: string>: make columns of numbers or texts of it to use it",
        "booked        left out: a time; make a number of it, such as hours since, to use it",
        "_etl          left out: begins with _, as columns of tools do; name a feature and give it this `column`",
        "positive is 1 (by its name)",
    ):
        assert line in said


def test_parquet_csv_and_delta_of_the_same_rows_are_guessed_alike(table: Path, tmp_path: Path) -> None:
    flat = payments().drop_columns(["tags"])
    pa_csv.write_csv(flat, tmp_path / "rows.csv")
    write_deltalake(str(tmp_path / "delta"), flat)
    expected = written(table)[0]
    for place in (tmp_path / "rows.csv", tmp_path / "delta"):
        policy = written(place, "--force")[0]
        assert policy["model"] | {"name": ""} == expected["model"] | {"name": ""}
        assert policy["data"] | {"source": {}} == expected["data"] | {"source": {}}


UNUSUAL = {
    "amount": "Umsatz.netto",
    "country": "order total (EUR)",
    "recurring": "ja/nein",
    "returned": "Storno?",
    "requested_at": "Zeit (UTC)",
    "payment_id": "Beleg-Id",
}
"""What a customer's table may call them."""


@pytest.mark.parametrize("form", ["parquet", "csv", "delta"])
def test_columns_whose_names_no_feature_may_have_get_a_plain_one_and_are_read(form: str, tmp_path: Path) -> None:
    table = payments().drop_columns(["tags"])
    table = table.rename_columns([UNUSUAL.get(name, name) for name in table.column_names])
    place = tmp_path / f"rows.{form}"
    match form:
        case "parquet":
            pq.write_table(table, place)
        case "csv":
            pa_csv.write_csv(table, place)
        case _:
            write_deltalake(str(place), table)
    policy, said = written(place, "--target", "Storno?")
    features = policy["model"]["features"]
    assert {name: feature.get("column") for name, feature in features.items() if "column" in feature} == {
        "Umsatz_netto": "Umsatz.netto",
        "order_total_EUR": "order total (EUR)",
        "ja_nein": "ja/nein",
    }
    assert (policy["model"]["target"], policy["model"]["target_column"]) == ("Storno", "Storno?")
    assert (policy["data"]["time_column"], policy["data"]["id_column"]) == ("Zeit (UTC)", "Beleg-Id")
    assert any("Umsatz.netto " in line and line.endswith("in the policy: Umsatz_netto") for line in said.splitlines())
    checked = CliRunner().invoke(build(), ["policy", "check", str(tmp_path / "policy.yaml")])
    assert checked.exit_code == 0, checked.output
    asked, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(asked, store, ingest.run(asked, store, datetime(2026, 3, 3, tzinfo=UTC)))
    taken = snapshot.load(store, asked.name, name)
    assert taken.rows == 300
    assert {"Umsatz_netto", "order_total_EUR", "ja_nein", "Storno"} < set(snapshot.read(store, taken).column_names)


def test_a_column_the_table_does_not_have_is_refused_with_line_and_field(table: Path) -> None:
    written(table)
    file = table.parent / "policy.yaml"
    lines = file.read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if line.strip().startswith("amount: {type: number}"))
    file.write_text("\n".join(lines).replace("amount: {type: number}", "amount: {type: number, column: amuont}"))
    done = CliRunner().invoke(build(), ["policy", "check", str(file)])
    assert isinstance(done.exception, PolicyError)
    assert str(done.exception) == (
        f"{file}:{at}: model.features.amount.column: {table} has no column 'amuont'; did you mean 'amount'?"
    )
    file.write_text(file.read_text().replace(table.name, "elsewhere.parquet"))
    assert CliRunner().invoke(build(), ["policy", "check", str(file)]).exit_code == 0


LABELLED = """\
model:
  name: m
  target: y
  positive_label: {positive}
  negative_label: {negative}
  features: {{x: {{type: number}}}}
data:
  source: {{format: {format}, location: rows.{format}}}
  time_column: at
"""


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("values", "positive", "negative", "said"),
    [
        (["no", "yes"], '"yes"', '"no"', []),
        ([0, 1, None], "1", "0", []),
        (["True", "False"], "true", "false", []),
        (
            ["no", None, "Yes"],
            "yes",
            "no",
            [
                "F:4: model.positive_label: true is what YAML makes of an unquoted Yes; "
                "the column 'y' holds 'no', 'Yes': "
                'write "Yes" in quotes',
                "F:5: model.negative_label: false is what YAML makes of an unquoted no; "
                "the column 'y' holds 'no', 'Yes': "
                'write "no" in quotes',
            ],
        ),
        (
            ["no", "yes"],
            '"yes"',
            '"nein"',
            ["F:5: model.negative_label: no row has 'nein'; the column 'y' holds 'no', "],
        ),
        ([0, 1], '"yes"', '"no"', ["F:4: model.positive_label: no row has 'yes'", "F:5: model.negative_label: no row"]),
        ([None, None], "1", "0", []),
    ],
)
def test_a_label_that_no_row_has_is_refused_with_what_the_column_holds(
    values: list, positive: str, negative: str, said: list[str], form: str, tmp_path: Path
) -> None:
    rows = pa.table({"at": ["2026-03-02"] * len(values), "x": [1.0] * len(values), "y": values})
    {"csv": pa_csv.write_csv, "parquet": pq.write_table}[form](rows, tmp_path / f"rows.{form}")
    file = tmp_path / "policy.yaml"
    file.write_text(LABELLED.format(positive=positive, negative=negative, format=form))
    done = CliRunner().invoke(build(), ["policy", "check", str(file)])
    told = str(done.exception).replace(str(file), "F").splitlines() if done.exit_code else []
    assert len(told) == len(said), told
    assert all(line.startswith(start) for line, start in zip(told, said, strict=True)), told


def test_the_policy_written_is_ready_to_run(tmp_path: Path) -> None:
    pa_csv.write_csv(payments().drop_columns(["tags"]), tmp_path / "rows.csv")
    written(tmp_path / "rows.csv")
    policy, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(policy, store, ingest.run(policy, store, datetime(2026, 3, 3, tzinfo=UTC)))
    assert snapshot.load(store, policy.name, name).rows == 300
    assert policy.train.min_rows <= 300 * 0.8


def test_a_table_without_times_gets_a_guess_that_says_so(tmp_path: Path) -> None:
    lines = ["period,price,class"] + [f"{k % 48 / 48:.4f},{k % 7 / 10},{k % 2}" for k in range(200)]
    (tmp_path / "elec.csv").write_text("\n".join(lines) + "\n")
    policy, said = written(tmp_path / "elec.csv")
    assert policy["data"]["row_time"] == {"start": START.replace(year=2000, month=1, day=1), "step_seconds": 60}
    assert policy["model"]["features"] == {
        "period": {"type": "number"},
        "price": {"type": "number"},
    }
    assert "no column holds times: row_time is a guess, change it to what is true" in said
    assert "CHANGE BOTH to what is true" in (tmp_path / "policy.yaml").read_text()


def test_many_whole_numbers_are_no_truth_value(tmp_path: Path) -> None:
    rows = 3000
    made = {"salary": [10_000 + 331 * k for k in range(rows)], "y": [k % 2 for k in range(rows)]}
    pq.write_table(pa.table(made), tmp_path / "salaries.parquet")
    assert written(tmp_path / "salaries.parquet")[0]["model"]["features"]["salary"]["type"] == "integer"


def test_texts_a_person_reads_as_dates_or_numbers_are_read_as_that(tmp_path: Path) -> None:
    rows = 300
    made = {
        "listed": [f"{1 + k % 28:02}.{1 + k % 12:02}.2026" for k in range(rows)],
        "price": [f"1.{k:03},50" for k in range(rows)],
        "size": [float(k % 97) for k in range(rows)],
        "y": [k % 2 for k in range(rows)],
    }
    pq.write_table(pa.table(made), tmp_path / "flats.parquet")
    policy, _ = written(tmp_path / "flats.parquet")
    assert policy["model"]["features"] == {
        "price": {"type": "number", "format": "1.234,5"},
        "size": {"type": "number"},
    }
    assert (policy["data"]["time_column"], policy["data"]["time_format"]) == ("listed", "%d.%m.%Y")
    text = (tmp_path / "policy.yaml").read_text()
    assert 'time_column: listed  # times such as 01.01.2026, read by "%d.%m.%Y"' in text
    assert 'numbers such as 1.000,50, read by "1.234,5"; 1000.5 to 1299.5' in text
    policy, _ = written(tmp_path / "flats.parquet", "--target", "price", "--force")
    assert policy["model"]["target_format"] == "1.234,5"
    store = open_store(tmp_path / "store")
    ingest.run(policies.load(tmp_path / "policy.yaml"), store, START + timedelta(days=1000))


def test_the_target_named_is_the_target(table: Path) -> None:
    policy, said = written(table, "--target", "amount", "--name", "sizes")
    assert (policy["model"]["task"], policy["model"]["target"], policy["model"]["name"]) == (
        "regression",
        "amount",
        "sizes",
    )
    assert policy["model"]["features"]["returned"] == {"type": "boolean"}
    assert "target, regression: as told" in said
    country, said = written(table, "--target", "country", "--force")
    assert (country["model"]["positive_label"], country["model"]["negative_label"]) == ("AT", "NO")  # the rarer one
    assert "positive is 'AT' (the rarer one), negative 'NO'" in said
    recurring = written(table, "--target", "recurring", "--force")[0]["model"]
    assert recurring["positive_label"] is True
    assert "negative_label" not in recurring


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("amuont", "--target 'amuont': no such column in .*; did you mean 'amount'?"),
        ("xyz", "--target 'xyz': no such column in .*; it has payment_id, requested_at"),
        ("note", "--target 'note': it holds 300 different texts; kedge predicts one of at most 100 classes"),
        ("currency", "--target 'currency': it holds one value only, 'EUR': nothing to learn"),
        ("nothing", "--target 'nothing': it holds no value"),
        ("requested_at", r"--target 'requested_at': it holds times, as timestamp\[us, tz=UTC\]"),
    ],
)
def test_a_target_that_cannot_be_one_is_an_error_that_says_why(target: str, said: str, table: Path) -> None:
    done = run(table, "-o", table.parent / "p.yaml", "--target", target)
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2
    with pytest.raises(UsageError, match=said):
        raise done.exception
    assert not (table.parent / "p.yaml").exists()


def test_without_a_likely_target_it_asks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(
        UsageError, match="no column looks like the outcome to predict; name it: --target COLUMN, one of a, b"
    ):
        raise run(tmp_path / "t.csv", "-o", tmp_path / "p.yaml").exception


def test_an_existing_file_is_kept_unless_forced(table: Path) -> None:
    file = table.parent / "policy.yaml"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"policy\.yaml: exists; --force replaces it, -o names another file"):
        raise run(table, "-o", file).exception
    assert file.read_text() == "mine"
    assert run(table, "-o", file, "--force").exit_code == 0
    assert policies.load(file).name == "direct-debits"


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        ("none.csv", None, DataError, r"none\.csv: no such file or folder"),
        ("t.json.gz", b"\x1f\x8b", DataError, r"is JSON: write it as Parquet or CSV"),
        ("t.xlsx", b"PK", DataError, r"is an Excel workbook: save the sheet as CSV"),
        ("t.bin", b"PK", DataError, r"neither Parquet \(\.parquet, \.pq.*\), nor CSV \(\.csv, .*\), nor a Delta table"),
        ("t.csv", b"", DataError, r"t\.csv: empty; a CSV file begins with a line of column names"),
        ("t.csv", b"a,label\n", DataError, r"t\.csv: empty: not one row"),
        ("t.parquet", b"PAR1....", DataError, r"t\.parquet: not a whole Parquet file"),
        ("t.csv", b"a,label\n\xff,1\n", DataError, r"t\.csv, line 2: not UTF-8: byte 0xff"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_and_writes_nothing(
    name: str, content: bytes | None, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=said):
        raise run(tmp_path / name, "-o", tmp_path / "p.yaml").exception
    assert not (tmp_path / "p.yaml").exists()


def test_words_yaml_would_read_as_something_else_stay_text(tmp_path: Path) -> None:
    rows = ["country,on,label"] + [
        f"{('NO', 'null', '1e5', 'a: b')[k % 4]},{k % 77},{('yes', 'no')[k % 2]}" for k in range(200)
    ]
    (tmp_path / "on.csv").write_text("\n".join(rows) + "\n")
    policy, _ = written(tmp_path / "on.csv")
    assert policy["model"]["name"] == "on"
    assert "on" in policy["model"]["features"]
    assert (policy["model"]["positive_label"], policy["model"]["negative_label"]) == ("yes", "no")


def test_what_a_table_holds_cannot_leave_its_comment(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"x": ["a\nmodel: {name: evil}\n"] * 100, "z": [k % 37 for k in range(100)], "label": [0, 1] * 50}),
        tmp_path / "t.parquet",
    )
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["model"]["name"] == "t"
    assert list(policy["model"]["features"]) == ["z"]


def test_a_location_outside_the_policys_folder_is_absolute(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "policy.yaml"
    assert run(table, "-o", file).exit_code == 0
    assert yaml.safe_load(file.read_text())["data"]["source"]["location"] == str(table)
    assert policies.load(file).data.source.location == str(table)


def test_only_the_first_rows_of_a_large_table_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "MAX_ROWS", 100)
    pq.write_table(payments(300), tmp_path / "t.parquet")
    seen = look.look(source_at(str(tmp_path / "t.parquet")))
    assert (seen.rows, seen.whole) == (100, False)
    _, said = written(tmp_path / "t.parquet")
    assert "looked at 100 of the rows of" in said


def test_the_command_ends_with_code_2_and_one_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kedge.cli", "init", "none.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "error: none.csv: no such file or folder\n")


@given(st.text(max_size=60))
def test_any_table_name_gives_a_model_name_that_is_allowed(name: str) -> None:
    from kedge.policy.model import NAME

    assert NAME.fullmatch(write.model_name(name))


@pytest.mark.parametrize("absurd", [1e39, -1.797e308])
def test_one_absurd_value_does_not_keep_a_policy_from_being_written(absurd: float, tmp_path: Path) -> None:
    rows = 300
    amounts = [absurd if k == 7 else 1.5 + k % 50 for k in range(rows)]
    pq.write_table(pa.table({"amount": amounts, "y": [k % 2 for k in range(rows)]}), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert policy["model"]["features"]["amount"]["type"] == "number"
    assert "1.5 to 50.5" in said


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([Decimal(k % 50) for k in range(300)], pa.decimal128(10, 2)), "number"),
        (pa.array([Decimal(k % 50) for k in range(300)], pa.decimal128(10, 0)), "integer"),
        ([float(k % 50) for k in range(300)], "number"),
        ([f"{k % 50}.0" for k in range(300)], "number"),
        ([f"{k % 50}" for k in range(300)], "integer"),
    ],
)
def test_whole_numbers_that_may_have_fractions_next_month_are_numbers(values: Any, kind: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"price": values, "y": [k % 2 for k in range(300)]}), tmp_path / "t.parquet")
    assert written(tmp_path / "t.parquet")[0]["model"]["features"]["price"] == {"type": kind}


def test_a_time_of_day_orders_rows_better_than_a_day(tmp_path: Path) -> None:
    times = [START + timedelta(minutes=7 * k) for k in range(300)]
    made = {"born": [time.date() for time in times], "paid": times, "x": range(300), "y": [k % 2 for k in range(300)]}
    pq.write_table(pa.table({**made, "x": [k % 9 for k in range(300)]}), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert (policy["data"]["time_column"], "others: born" in said) == ("paid", True)


def wine(rows: int = 300) -> dict[str, Any]:
    """Three classes, as whole numbers."""
    return {"alcohol": [11 + k % 40 / 10 for k in range(rows)], "class": [k % 7 % 3 for k in range(rows)]}


@pytest.mark.parametrize("classes", [[0, 1, 2], [0.0, 1.0, 2.0]])
def test_whole_numbers_are_refused_with_the_lines_that_say_what_they_mean(classes: list[Any], tmp_path: Path) -> None:
    made = wine() | {"class": [classes[k] for k in wine()["class"]]}
    pq.write_table(pa.table(made), tmp_path / "wine.parquet")
    done = run(tmp_path / "wine.parquet", "-o", tmp_path / "p.yaml")
    assert isinstance(done.exception, UsageError)
    line = f'  kedge init {tmp_path / "wine.parquet"} --target "class"'
    lines = str(done.exception).splitlines()
    assert "target 'class' holds 3 different whole numbers (" in lines[0]
    assert lines[1:] == [
        f"{line} --task multiclass   # one of these classes",
        f'{line} --positive "2"   # that class against all others',
        f"{line} --task regression   # a quantity",
    ]
    assert not (tmp_path / "p.yaml").exists()


def test_texts_of_several_values_are_classes_and_whole_numbers_are_if_it_is_said(tmp_path: Path) -> None:
    names = ["setosa", "versicolor", "virginica"]
    pq.write_table(pa.table(wine() | {"class": [names[k] for k in wine()["class"]]}), tmp_path / "iris.parquet")
    assert written(tmp_path / "iris.parquet")[0]["model"]["classes"] == names
    pq.write_table(pa.table(wine()), tmp_path / "wine.parquet")
    told = written(tmp_path / "wine.parquet", "--task", "multiclass", "--force")[0]["model"]
    assert (told["task"], told["classes"]) == ("multiclass", [0, 1, 2])
    assert "positive_label" not in told


def test_what_classes_mean_can_be_said(tmp_path: Path) -> None:
    pq.write_table(pa.table(wine()), tmp_path / "wine.parquet")
    one = written(tmp_path / "wine.parquet", "--positive", "2")[0]["model"]
    assert (one["task"], one["positive_label"]) == ("binary", 2)
    assert "negative_label" not in one
    assert written(tmp_path / "wine.parquet", "--task", "regression", "--force")[0]["model"]["task"] == "regression"
    done = run(tmp_path / "wine.parquet", "--positive", "7", "-o", tmp_path / "q.yaml")
    assert str(done.exception) == "--positive '7': 'class' holds 0, 1, 2"


@pytest.mark.parametrize(("answer", "task"), [("2", "binary"), ("classes", "multiclass"), ("quantity", "regression")])
def test_on_a_terminal_it_asks_what_classes_mean(
    answer: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kedge.cli import init

    monkeypatch.setattr(init, "_at_a_terminal", lambda: True)
    pq.write_table(pa.table(wine()), tmp_path / "wine.parquet")
    words = ["init", str(tmp_path / "wine.parquet"), "-o", str(tmp_path / "p.yaml")]
    done = CliRunner().invoke(build(), words, input=answer + "\n")
    assert done.exit_code == 0, done.exception
    assert "target 'class' holds 3 different whole numbers (0, 1, 2)" in done.stderr
    assert policies.load(tmp_path / "p.yaml").model.task == task


def test_a_number_of_many_values_is_a_quantity_without_a_question(tmp_path: Path) -> None:
    made = {"x": [k % 9 for k in range(300)], "y": [25 + k * 7 % 321 for k in range(300)]}
    pq.write_table(pa.table(made), tmp_path / "diabetes.parquet")
    assert written(tmp_path / "diabetes.parquet", "--target", "y")[0]["model"]["task"] == "regression"


def test_what_only_numbers_the_rows_is_no_feature(tmp_path: Path) -> None:
    rows = 2000
    shuffled = [k * 777 % rows for k in range(rows)]
    made = {
        "Unnamed: 0": list(range(rows)),
        "index": [float(k) for k in range(rows)],
        "txn": [8001 + k for k in range(rows)],
        "shuffled": shuffled,
        "gaps": [k + k // 9 for k in range(rows)],
        "customer_id": [k * k % 1201 for k in range(rows)],
        "shop_id": [100 + k % 12 for k in range(rows)],
        "amount": [10 + k % 83 for k in range(rows)],
        "y": [k // 3 % 2 for k in range(rows)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert policy["model"]["features"] == {"shop_id": {"type": "category"}, "amount": {"type": "integer"}}
    for name, why in (
        ("Unnamed: 0", "left out: the number of the row, as libraries write the index of a table"),
        ("index", "left out: the number of the row, as libraries write the index of a table"),
        ("txn", "left out: numbers the rows: it goes on next month and says nothing of them"),
        ("customer_id", "different ids: the size of an id says nothing"),
    ):
        assert any(line.startswith(f"  {name} ") and why in line for line in said.splitlines()), (name, said)


def test_a_policy_is_passed_by_its_own_table_and_the_next_month(tmp_path: Path) -> None:
    """Numbers go on, categories come, outcomes are open, a few values are absurd."""

    def month(first: int) -> pa.Table:
        rows = 1000
        return pa.table(
            {
                "at": pa.array([START + timedelta(minutes=first + k) for k in range(rows)], pa.timestamp("us", "UTC")),
                "txn": [first + k for k in range(rows)],
                "amount": [1e39 if k % 40 == 9 else float(first + k * k % 997) for k in range(rows)],
                "shop": [f"S{(first + k) % 900}" if k % 7 == 0 else "A" for k in range(rows)],
                "y": [None if k % 30 == 0 else k // 5 % 2 for k in range(rows)],
            }
        )

    (tmp_path / "t").mkdir()
    pq.write_table(month(0), tmp_path / "t" / "1.parquet")
    policy, said = written(tmp_path / "t")
    assert "34 without one yet: not labelled, left out" in said
    assert "25 values are invalid, as they are to a run" in said
    assert policy["data"]["max_bad_row_share"] == 0.05
    pq.write_table(month(40_000), tmp_path / "t" / "2.parquet")
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    for end, rows in ((START + timedelta(days=2), 941), (START + timedelta(days=60), 1882)):
        name = validate.run(rules, store, ingest.run(rules, store, end))
        assert snapshot.load(store, rules.name, name).rows == rows


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["23,456", "1,200"], "numbers such as 23,456, in several formats: say which by --format v=1,234.5, or"),
        (
            ["01/02/2026", "02/01/2026"],
            "dates such as 01/02/2026, in several formats: say which by --format v=%d/%m/%Y",
        ),
    ],
)
def test_text_that_several_formats_read_otherwise_is_left_out_with_how_to_declare_it(
    texts: list[str], said: str, tmp_path: Path
) -> None:
    policy, told = written(table_of(texts, tmp_path))
    assert "v" not in policy["model"]["features"]
    assert f"left out: looks like {said}" in told


@pytest.mark.parametrize(
    ("texts", "kind", "format"),
    [
        (["12,345.60", "7.10"], "number", "1,234.5"),
        (["$12.50", "$7.99"], "number", "1,234.5"),
        (["7%", "12%"], "integer", "1,234.5"),
        (["0,25", "1.234,50"], "number", "1.234,5"),
        (["0,125", "-4,018"], "number", "1.234,5"),
        (["(12.50)", "7.99"], "number", "1,234.5"),
        (["7.99-", "12.50"], "number", "1,234.5"),
        (["1 234,50 \u20ac", "7,99 \u20ac"], "number", "1.234,5"),
        (["1'234.50", "7.90"], "number", "1,234.5"),
        (["CHF 1'234.50", "CHF 7.90"], "number", "1,234.5"),
    ],
)
def test_text_that_one_format_reads_as_numbers_is_a_feature_of_that_format(
    texts: list[str], kind: str, format: str, tmp_path: Path
) -> None:
    policy, told = written(table_of(texts, tmp_path))
    assert policy["model"]["features"]["v"] == {"type": kind, "format": format}
    assert f'read by "{format}"' in told


@pytest.mark.parametrize(
    "texts",
    [
        ["01099", "80331"],
        ["PAL0708", "PAL0910"],
        ["SKU12", "SKU77"],
        ["10_1", "11_1"],
        ["A1", "B2"],
        ["1.2.3", "1.2.4"],
        ["12-34", "56-78"],
        ["3 km", "40 m"],
    ],
)
def test_text_that_no_format_reads_is_a_category(texts: list[str], tmp_path: Path) -> None:
    policy, _ = written(table_of(texts, tmp_path))
    assert policy["model"]["features"]["v"] == {"type": "category"}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("%Y-%m-%d %H:%M:%S CET", "looks like dates such as 2026-"),
        ("%d. März %Y %H:%M", "looks like dates such as "),
        ("/Date(%s)/", "looks like dates such as /Date"),
        ("%H:%M:%S", "times of day such as 0.*: write date and time into one column"),
    ],
)
def test_texts_that_look_like_times_and_are_none_say_what_to_do(form: str, said: str, tmp_path: Path) -> None:
    at = [(START + timedelta(minutes=7 * k)).strftime(form) for k in range(200)]
    made = {"v": at, "x": [k % 31 for k in range(200)], "y": [k % 2 for k in range(200)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, told = written(tmp_path / "t.parquet")
    assert "v" not in policy["model"]["features"]
    assert re.search(rf"v +left out: {said}", told)


def table_of(texts: list[str], folder: Path) -> Path:
    made = {
        "v": [texts[k % 2] for k in range(300)],
        "x": [k % 31 for k in range(300)],
        "y": [k % 2 for k in range(300)],
    }
    pq.write_table(pa.table(made), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    "format",
    [
        "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%d-%b-%y", "%B %d, %Y", "%Y/%m/%d %H:%M", "%Y%m%d",
        "%d.%m.%y %H:%M:%S", "%a, %d %b %Y %H:%M:%S", "unix_seconds", "unix_milliseconds", "unix_nanoseconds",
        "%Y%m%d%H%M%S", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S GMT", "%d/%b/%Y:%H:%M:%S +0000",
        "%Y%m%d%H%M", "%Y/%m/%d %H:%M:%S.000", "%a, %d %b %Y %H:%M:%S +0000", "[%d/%b/%Y:%H:%M:%S +0000]",
    ],
)  # fmt: skip
def test_times_in_a_form_of_their_own_are_the_time_and_are_read(format: str, tmp_path: Path) -> None:
    days = [START + timedelta(days=k) for k in range(400)]
    unit = {"unix_seconds": 1, "unix_milliseconds": 10**3, "unix_nanoseconds": 10**9}.get(format)
    at = [int(day.timestamp()) * unit if unit else day.strftime(format) for day in days]
    made = {"at": at, "x": [k % 31 for k in range(400)], "y": [k % 3 // 2 for k in range(400)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["data"]["time_column"] == "at"
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(rules, store, ingest.run(rules, store, days[-1] + timedelta(days=1)))
    times = snapshot.read(store, snapshot.load(store, rules.name, name))["_time"].to_pylist()
    assert [time.date() for time in times] == [day.date() for day in days]


def test_a_column_that_some_files_lack_is_no_feature(tmp_path: Path) -> None:
    rows = payments(200)
    (tmp_path / "t").mkdir()
    pq.write_table(rows, tmp_path / "t" / "1.parquet")
    pq.write_table(rows.append_column("channel", pa.array(["web"] * 200)), tmp_path / "t" / "2.parquet")
    policy, said = written(tmp_path / "t")
    assert "channel" not in policy["model"]["features"]
    assert "1.parquet has no such column" in said


def test_ids_that_repeat_are_no_category(tmp_path: Path) -> None:
    made = {
        "order_id": [f"o{k // 2}" for k in range(400)],
        "x": [k % 31 for k in range(400)],
        "y": [k % 2 for k in range(400)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert "order_id" not in policy["model"]["features"]
    assert "200 different ids in 400 rows" in said


def test_the_rows_a_day_of_a_table_too_large_to_look_at_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MAX_ROWS", 100)
    at = pa.array([START + timedelta(hours=k) for k in range(2400)], pa.timestamp("us", "UTC"))
    made = {"at": at, "x": [k * 31 % 97 for k in range(2400)], "y": [k % 2 for k in range(2400)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    _, said = written(tmp_path / "t.parquet")
    assert "about 24 rows a day" in said


def test_a_column_that_alone_tells_the_outcome_is_called_a_suspected_leak(tmp_path: Path) -> None:
    rows = 1000
    outcome = [int(k * 7919 % 100 < 30) for k in range(rows)]
    made = {
        "refund": [None if not y else 5.0 + k % 20 for k, y in enumerate(outcome)],
        "status": ["closed" if y else "open" for y in outcome],
        "amount": [k * 31 % 211 for k in range(rows)],
        "note": [f"n{k % 400}" for k in range(rows)],
        "y": outcome,
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert set(policy["model"]["features"]) == {"refund", "status", "amount", "note"}
    suspected = [line.split()[0] for line in said.splitlines() if "SUSPECTED LEAK" in line]
    assert suspected == ["refund", "status"]
    assert (tmp_path / "policy.yaml").read_text().count("SUSPECTED LEAK: it alone tells the outcome (100.0%)") == 2


def test_a_column_that_alone_tells_a_quantity_is_called_a_suspected_leak(tmp_path: Path) -> None:
    rows = 1000
    price = [100 + k * 7919 % 1000 / 7 for k in range(rows)]
    made = {"tax": [p * 0.2 for p in price], "size": [k * 31 % 211 for k in range(rows)], "price": price}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    _, said = written(tmp_path / "t.parquet", "--target", "price")
    assert [line.split()[0] for line in said.splitlines() if "SUSPECTED LEAK" in line] == ["tax"]


def test_a_leak_is_suspected_however_the_rows_lie(tmp_path: Path) -> None:
    """As in tables of experiments, each second row holds the same few values."""
    heat = [175 + 10 * (k % 6) for k in range(300)]
    made = {"heat": heat, "size": [k * 31 % 211 for k in range(300)], "y": [float(each) for each in heat]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    _, said = written(tmp_path / "t.parquet", "--target", "y", "--task", "regression")
    assert [line.split()[0] for line in said.splitlines() if "SUSPECTED LEAK" in line] == ["heat"]


def test_days_of_a_sheet_are_the_time_where_the_columns_name_says_so(tmp_path: Path) -> None:
    days = [START + timedelta(hours=6 * k) for k in range(400)]
    counted = [(day - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1) for day in days]
    made = {"order_date": counted, "steps": [46_000 + k % 31 for k in range(400)], "y": [k % 2 for k in range(400)]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["data"]["time_column"] == "order_date"
    assert list(policy["model"]["features"]) == ["steps"]
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(rules, store, ingest.run(rules, store, days[-1] + timedelta(days=1)))
    assert snapshot.read(store, snapshot.load(store, rules.name, name))["_time"].to_pylist() == days


def test_a_class_of_a_few_rows_is_left_out_of_a_policy_that_its_own_table_passes(tmp_path: Path) -> None:
    kinds = ["a"] * 500 + ["b"] * 400 + ["c"] * 300 + ["rare"] * 3 + ["once"]
    made = {"x": [k % 31 for k in range(len(kinds))], "y": [kinds[k * 5 % len(kinds)] for k in range(len(kinds))]}
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet", "--target", "y", "--task", "multiclass")
    assert policy["model"]["classes"] == ["a", "b", "c"]
    assert "classes of fewer than 8 rows are left out: rare (3), once (1)" in said
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(rules, store, ingest.run(rules, store, START + timedelta(days=9000)))
    assert snapshot.load(store, rules.name, name).rows == 1200


def test_letters_and_their_accents_are_one_name_however_they_are_coded() -> None:
    assert plain_name("cafe\u0301 total") == "caf\u00e9_total"


def test_of_hundreds_of_columns_a_message_names_a_few(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"c{k}": [1, 2, 3] for k in range(300)}), tmp_path / "t.parquet")
    done = run(tmp_path / "t.parquet", "-o", tmp_path / "p.yaml")
    assert "one of c0, c1, " in str(done.exception)
    assert str(done.exception).endswith("c19 and 280 more")


def test_a_folder_of_a_hive_table_is_not_taken_for_the_outcome(tmp_path: Path) -> None:
    rows = payments(200).drop_columns(["recurring", "vip", "country"])
    for country in ("AT", "DE"):
        (tmp_path / "t" / f"country={country}").mkdir(parents=True)
        pq.write_table(rows, tmp_path / "t" / f"country={country}" / "part.parquet")
    policy, _ = written(tmp_path / "t")
    assert (policy["model"]["target"], "country" in policy["model"]["features"]) == ("returned", True)


@pytest.mark.parametrize(("kind", "limit"), [("float64", "9,007,199,254,740,992"), ("float32", "16,777,216")])
def test_ids_stored_as_floats_are_left_out_with_the_reason(kind: str, limit: str, tmp_path: Path) -> None:
    ids = (10**16 + 2 * np.arange(300)).astype(kind)
    rows = payments(300).drop_columns(["payment_id"]).append_column("order_id", pa.array(ids))
    pq.write_table(rows, tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet", "--target", "returned")
    held = {"float64": "double", "float32": "float"}[kind]
    assert "order_id" not in policy["model"]["features"]
    assert policy["data"]["id_column"] == "note"
    assert f"left out: stored as {held}, which holds whole numbers exactly below {limit} only: different ids" in said


def test_durations_are_numbers(tmp_path: Path) -> None:
    took = pa.array([timedelta(seconds=k % 50) for k in range(300)], pa.duration("us"))
    pq.write_table(
        payments(300).append_column("took", took).append_column("late", [[k % 2 for k in range(300)]]),
        tmp_path / "t.parquet",
    )
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["model"]["features"]["took"] == {"type": "integer"}


def test_decimals_of_any_width_are_numbers(tmp_path: Path) -> None:
    widths = (pa.decimal32(8, 2), pa.decimal64(12, 2), pa.decimal128(20, 2), pa.decimal256(50, 2))
    table = pa.table({f"d{place}": pa.array([k % 50 / 4 for k in range(300)]).cast(pa.decimal128(8, 2)).cast(width)
                      for place, width in enumerate(widths)})  # fmt: skip
    pq.write_table(table.append_column("y", [[k % 2 for k in range(300)]]), tmp_path / "t.parquet")
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["model"]["features"] == {f"d{place}": {"type": "number"} for place in range(len(widths))}


def test_rows_in_groups_without_times_are_dealt_at_random(tmp_path: Path) -> None:
    kinds = [f"k{k // 100}" for k in range(300)]
    table = pa.table({"kind": kinds, "x": [k % 17 / 3 for k in range(300)], "late": [k % 2 for k in range(300)]})
    pa_csv.write_csv(table, tmp_path / "t.csv")
    done = run(tmp_path / "t.csv", "-o", tmp_path / "p.yaml")
    assert "kind: the rows lie in groups of it, so their order is no time: `order: drawn` deals them" in done.stderr
    assert policies.load(tmp_path / "p.yaml").data.row_time.order == "drawn"
    pa_csv.write_csv(table.take(np.random.default_rng(0).permutation(300)), tmp_path / "u.csv")
    assert run(tmp_path / "u.csv", "-o", tmp_path / "q.yaml").exit_code == 0
    assert policies.load(tmp_path / "q.yaml").data.row_time.order == "file"


def test_rows_that_lie_in_many_groups_are_dealt_at_random_and_years_are_not(tmp_path: Path) -> None:
    made = {
        "width": [k // 25 / 7 for k in range(2000)],
        "x": [k % 31 for k in range(2000)],
        "y": [k % 2 for k in range(2000)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert policy["data"]["row_time"]["order"] == "drawn"
    assert "width: the rows lie in groups of it" in said
    pq.write_table(
        pa.table({"model_year": [1980 + k // 50 for k in range(2000)], **{n: made[n] for n in "xy"}}),
        tmp_path / "t.parquet",
    )
    assert "order" not in written(tmp_path / "t.parquet", "--force")[0]["data"]["row_time"]


def test_a_word_for_no_outcome_yet_is_no_third_class(tmp_path: Path) -> None:
    made = {
        "x": [k % 31 for k in range(400)],
        "y": [["won", "lost", "lost", "Pending"][k % 4] for k in range(400)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    done = run(tmp_path / "t.parquet", "-o", tmp_path / "p.yaml", "--target", "y")
    assert "'Pending' reads like no outcome yet: leave those empty" in str(done.exception)


def test_windows_and_steps_fit_the_rows_a_day_that_the_table_shows(tmp_path: Path) -> None:
    times = [START + timedelta(hours=k) for k in range(600)]
    table = payments(600).drop_columns(["requested_at", "booked"]).add_column(0, "at", pa.array(times))
    pq.write_table(table, tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet")
    assert "about 24 rows a day: windows and steps are chosen for that; `kedge policy check` says what so few" in said
    assert policy["monitor"]["window_seconds"] == 28 * 86_400
    assert [step["percent"] for step in policy["release"]["steps"]] == [50]
    assert "# about 24 rows a day" in (tmp_path / "policy.yaml").read_text()
    done = CliRunner().invoke(build(), ["policy", "check", str(tmp_path / "policy.yaml")])
    assert "monitor.min_rows" not in done.output
    assert "release.analysis.harm: 24 rows a day are few" in done.output  # which no step of any length could mend
    file = tmp_path / "policy.yaml"
    file.write_text(file.read_text().replace(f"window_seconds: {28 * 86_400}", "window_seconds: 86400"))
    done = CliRunner().invoke(build(), ["policy", "check", str(file)])
    assert "monitor.min_rows: at 24 rows a day a window has about 24, 200 are needed" in done.output


def test_a_database_driver_that_is_missing_is_said_by_policy_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "model: {name: m, target: y, features: {x: {type: number}}}\n"
        "data:\n"
        "  source: {format: sql, location: BANK_DB, query: SELECT * FROM t}\n"
        "  time_column: t\n"
    )
    check = ["policy", "check", str(file)]
    monkeypatch.delenv("BANK_DB", raising=False)
    assert CliRunner().invoke(build(), check).exit_code == 0
    for known in ("postgresql+psycopg://reader:secret@db/bank", "mysql+pymysql://reader:secret@db/bank"):
        monkeypatch.setenv("BANK_DB", known)
        assert CliRunner().invoke(build(), check).exit_code == 0
    monkeypatch.setenv("BANK_DB", "oracle+oracledb://reader:secret@db/bank")
    said = str(CliRunner().invoke(build(), check).exception)
    assert said.startswith(f"{file}:3: data.source: $BANK_DB: no connection can be made from it: the driver oracledb")
    assert "secret" not in said


def test_of_several_formats_the_one_that_is_said_is_taken_and_the_policy_has_the_line_of_each(tmp_path: Path) -> None:
    rows = 300
    made = {
        "paid at": [f"{1 + k % 12:02}/{1 + k // 30:02}/2026" for k in range(rows)],
        "price": [f"1,{k % 97:03}" for k in range(rows)],
        "x": [float(k % 31) for k in range(rows)],
        "y": [k % 2 for k in range(rows)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    _, said = written(tmp_path / "t.parquet")
    assert "say which by --format 'paid at=%d/%m/%Y', or --format 'paid at=%m/%d/%Y'" in said
    text = (tmp_path / "policy.yaml").read_text()
    assert '    # price: {type: number, format: "1,234.5"}\n' in text
    assert '  # time_column: "paid at"\n  # time_format: "%d/%m/%Y"\n  # time_format: "%m/%d/%Y"\n' in text
    policy, _ = written(tmp_path / "t.parquet", "--format", "paid at=%m/%d/%Y", "--format", "price=1.234,5", "--force")
    assert (policy["data"]["time_column"], policy["data"]["time_format"]) == ("paid at", "%m/%d/%Y")
    assert policy["model"]["features"]["price"] == {"type": "number", "format": "1.234,5"}
    for wrong, reason in (
        ("z=%d", "no such column"),
        ("price=%d", "are not written so"),
        ("x", "must be COLUMN=FORMAT"),
    ):
        with pytest.raises(UsageError, match=reason):
            raise run(tmp_path / "t.parquet", "--format", wrong, "-o", tmp_path / "p.yaml").exception


def test_ids_of_more_digits_than_a_float_holds_are_told_apart(tmp_path: Path) -> None:
    made = {
        "post_id": [str(12_345_678_901_234_567_890 + k) for k in range(300)],
        "x": [float(k % 31) for k in range(300)],
    }
    pq.write_table(pa.table(made | {"y": [k % 2 for k in range(300)]}), tmp_path / "t.parquet")
    policy, _ = written(tmp_path / "t.parquet")
    assert policy["data"]["id_column"] == "post_id"
    assert profile(tmp_path / "t.parquet").columns["post_id"].kind == "category"


def test_infinities_and_rows_without_a_time_are_invalid_to_the_policy_of_their_own_table(tmp_path: Path) -> None:
    made = {
        "at": [None if k % 25 == 3 else START + timedelta(hours=k) for k in range(300)],
        "x": [float("inf") if k % 20 == 0 else k % 31 / 2 for k in range(300)],
        "y": [k % 2 for k in range(300)],
    }
    pq.write_table(pa.table(made), tmp_path / "t.parquet")
    _, said = written(tmp_path / "t.parquet")
    assert "x   15 values are invalid" in said
    assert "at  12 values are invalid" in said
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(rules, store, ingest.run(rules, store, START + timedelta(days=60)))
    assert snapshot.load(store, rules.name, name).rows == 273


def test_what_tools_write_for_no_outcome_is_no_class(tmp_path: Path) -> None:
    sex = [["NA", "female", "male"][k % 30 and 1 + k % 2] for k in range(300)]
    pq.write_table(pa.table({"x": [float(k % 31) for k in range(300)], "sex": sex}), tmp_path / "t.parquet")
    policy, said = written(tmp_path / "t.parquet", "--target", "sex")
    assert policy["model"]["task"] == "binary"
    assert "10 without one yet: not labelled, left out" in said
    rules, store = policies.load(tmp_path / "policy.yaml"), open_store(tmp_path / "store")
    name = validate.run(rules, store, ingest.run(rules, store, None))
    assert snapshot.load(store, rules.name, name).rows == 290


@pytest.mark.parametrize("odd", ["inf", "1e400", "bool"])
def test_one_odd_value_is_no_third_class_of_an_outcome_of_two(odd: str, tmp_path: Path) -> None:
    rows = [f"{k % 31}.5,{odd if k == 7 else k % 2}" for k in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *rows, ""]))
    policy, said = written(tmp_path / "t.csv")
    assert policy["model"]["task"] == "binary"
    assert "1 values are invalid" in said


def test_a_table_of_times_and_an_outcome_alone_is_told_that_nothing_is_left_to_learn_from(tmp_path: Path) -> None:
    days = "".join(f"2026-03-{day:02d},{day * day}\n" for day in range(1, 29))
    (tmp_path / "series.csv").write_text("day,level\n" + days)
    result = run(tmp_path / "series.csv", "--target", "level", "-o", tmp_path / "policy.yaml")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).endswith("no column is left that could be a feature beside 'level', 'day'")


def test_times_of_day_are_told_the_way_to_a_feature(tmp_path: Path) -> None:
    times = pa.array([3600 * (k % 24) for k in range(300)], pa.time32("s"))
    table = payments().append_column("opened", times)
    pq.write_table(table, tmp_path / "rows.parquet")
    said = run(tmp_path / "rows.parquet", "-o", tmp_path / "policy.yaml").output
    assert "left out: times of day: write date and time into one column" in said
