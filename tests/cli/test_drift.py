"""``kedge profile`` and ``kedge drift`` on any table, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import write_deltalake

from kedge import cli

N = 3000


def table(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return pa.table({"amount": rng.standard_normal(N) + shift, "country": rng.choice(["AT", "CH"], N)})


@pytest.fixture
def kedge(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["kedge", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err

    return run


@pytest.fixture
def reference(kedge, tmp_path):
    pq.write_table(table(0), tmp_path / "reference.parquet", row_group_size=500)
    code, out, err = kedge("profile", tmp_path / "reference.parquet", "-o", tmp_path / "reference.json")
    assert (code, err) == (0, "")
    assert "3,000 rows, 2 columns" in out
    return tmp_path / "reference.json"


def written(path, made, form):
    match form:
        case "parquet":
            pq.write_table(made, path / "current.parquet")
            return path / "current.parquet"
        case "csv":
            pa_csv.write_csv(made, path / "current.csv")
            return path / "current.csv"
        case "semicolons":
            pa_csv.write_csv(made, path / "current.csv", pa_csv.WriteOptions(delimiter=";"))
            return path / "current.csv"
        case "folder":
            (path / "folder" / "day=1").mkdir(parents=True)
            pq.write_table(made.slice(0, 1000), path / "folder" / "day=1" / "a.parquet")
            pq.write_table(made.slice(1000), path / "folder" / "b.parquet")
            return path / "folder"
        case "pattern":
            pq.write_table(made.slice(0, 1000), path / "p-1.parquet")
            pq.write_table(made.slice(1000), path / "p-2.parquet")
            return path / "p-*.parquet"
        case _:
            write_deltalake(path / "delta", made)
            return path / "delta"


@pytest.mark.parametrize("form", ["parquet", "csv", "semicolons", "folder", "pattern", "delta"])
def test_drift_reads_any_table_and_exits_0_with_or_without_drift(kedge, reference, tmp_path, form):
    current = written(tmp_path, table(1, shift=0.5), form)
    code, out, err = kedge("drift", "--reference", reference, "--current", current, "--json")
    body = json.loads(out)
    assert (code, err) == (0, "")
    assert body["rows"] == N
    assert body["drifted"] == ["amount"]
    assert body["features"]["country"]["drifted"] is False


def test_a_quiet_table_says_so(kedge, reference, tmp_path):
    current = written(tmp_path, table(2), "parquet")
    code, out, _ = kedge("drift", "--reference", reference, "--current", current)
    assert code == 0
    assert out.startswith("0 of 2 columns drifted (3,000 rows against 3,000)")


def test_a_page_is_written(kedge, reference, tmp_path):
    current = written(tmp_path, table(1, shift=0.5), "parquet")
    code, out, _ = kedge("drift", "--reference", reference, "--current", current, "--html", tmp_path / "drift.html")
    assert code == 0
    assert "amount: distribution" in out
    assert "<b>amount</b>" in (tmp_path / "drift.html").read_text()


def test_too_few_rows_is_said_and_no_mistake(kedge, reference, tmp_path):
    current = written(tmp_path, table(1, shift=5).slice(0, 30), "parquet")
    code, out, _ = kedge("drift", "--reference", reference, "--current", current)
    assert code == 0
    assert "too few rows" in out
    assert "not the same as no drift" in out


def test_a_renamed_column_gets_its_likely_new_name(kedge, reference, tmp_path):
    current = written(tmp_path, table(1).rename_columns(["amounts", "country"]), "parquet")
    code, out, _ = kedge("drift", "--reference", reference, "--current", current)
    assert code == 0
    assert "amount: missing" in out
    assert "renamed to 'amounts'?" in out


def test_dependence_is_compared_where_the_profile_has_it(kedge, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, N))
    pq.write_table(pa.table({"x": x, "y": x + y}), tmp_path / "tied.parquet")
    pq.write_table(pa.table({"x": x, "y": rng.permutation(x + y)}), tmp_path / "loose.parquet")
    assert kedge("profile", tmp_path / "tied.parquet", "-o", tmp_path / "r.json", "--dependence")[0] == 0
    code, out, _ = kedge("drift", "--reference", tmp_path / "r.json", "--current", tmp_path / "loose.parquet")
    assert code == 0
    assert "x and y: rank correlation 0." in out


POLICY = """
model:
  name: payments
  target: fraud
  features:
    amount: {type: number}
data:
  source: {format: parquet, location: x.parquet}
  row_time: {start: 2026-01-01, step_seconds: 60}
monitor:
  min_rows: 5000
"""


def test_a_policy_chooses_columns_and_thresholds(kedge, reference, tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY)
    current = written(tmp_path, table(1, shift=0.5), "parquet")
    code, out, _ = kedge(
        "profile", tmp_path / "reference.parquet", "-o", tmp_path / "r.json", "--policy", tmp_path / "p.yaml"
    )
    assert (code, "1 columns" in out) == (0, True)
    code, out, _ = kedge("drift", "--reference", reference, "--current", current, "--policy", tmp_path / "p.yaml")
    assert "too few rows: 3,000" in out
    words = (
        "drift",
        "--reference",
        reference,
        "--current",
        current,
        "--policy",
        tmp_path / "p.yaml",
        "--min-rows",
        100,
    )
    code, out, _ = kedge(*words, "--json")
    assert list(json.loads(out)["features"]) == ["amount"]


def test_a_column_of_the_reference_that_the_policy_does_not_compare_is_not_called_new(kedge, tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY.replace("min_rows: 5000", "min_rows: 100"))
    for seed, name in enumerate(("then", "now")):
        made = table(seed).append_column("fraud", pa.array([0.0, 1.0] * (N // 2)))
        pq.write_table(made, tmp_path / f"{name}.parquet")
    rules, now = ("--policy", tmp_path / "p.yaml"), tmp_path / "now.parquet"
    kedge("profile", tmp_path / "then.parquet", "-o", tmp_path / "r.json", *rules)
    assert "fraud" in json.loads((tmp_path / "r.json").read_bytes())["columns"]
    code, out, _ = kedge("drift", "--reference", tmp_path / "r.json", "--current", now, *rules)
    assert code == 0
    assert "not in the reference: country" in out.splitlines()[-1]
    kedge("profile", tmp_path / "then.parquet", "-o", tmp_path / "r.json")
    _, out, _ = kedge("drift", "--reference", tmp_path / "r.json", "--current", now, *rules)
    assert "not in the reference" not in out
    _, out, _ = kedge("drift", "--reference", tmp_path / "then.parquet", "--current", now, *rules)
    assert "not in the reference" not in out


def test_a_few_words_among_the_numbers_of_a_csv_file_are_invalid_and_no_other_type(kedge, tmp_path):
    for name, odd in (("then", ""), ("now", "unknown"), ("codes", "007")):
        rows = "".join(f"{odd if odd and k % 30 == 7 else k % 83}\n" for k in range(2000))
        (tmp_path / f"{name}.csv").write_text("amount\n" + rows)
    _, out, _ = kedge("drift", tmp_path / "then.csv", tmp_path / "now.csv")
    assert "type changed" not in out
    assert "67 values are no numbers and count as missing" in out
    _, out, _ = kedge("drift", tmp_path / "then.csv", tmp_path / "codes.csv")
    assert "type changed  (was double, is string)" in out


def test_codes_that_a_csv_file_writes_as_digits_are_those_that_parquet_holds_as_text(kedge, tmp_path):
    codes, amounts = [str(k % 9) for k in range(2000)], [k % 83 for k in range(2000)]
    (tmp_path / "then.csv").write_text(
        "code,amount\n" + "".join(f"{c},{a}\n" for c, a in zip(codes, amounts, strict=True))
    )
    pq.write_table(pa.table({"code": codes, "amount": amounts}), tmp_path / "now.parquet")
    code, out, _ = kedge("drift", tmp_path / "then.csv", tmp_path / "now.parquet")
    assert (code, out.splitlines()[0]) == (0, "0 of 2 columns drifted (2,000 rows against 2,000)")


def test_mistakes_exit_2_and_name_the_thing(kedge, reference, tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY.replace("amount", "amuont"))
    (tmp_path / "no.json").write_text("{}")
    (tmp_path / "t.orc").write_bytes(b"ORC")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "reference.parquet").read_bytes()[:2000])
    (tmp_path / "odd.csv").write_text("amount,country\n1,AT\n1,AT,3\n")
    good = written(tmp_path, table(1), "parquet")
    for words, said in (
        (("drift", "--reference", tmp_path / "gone.json", "--current", good), "gone.json: cannot be read"),
        (("drift", "--reference", tmp_path / "t.orc", "--current", good), "t.orc: is an ORC file: write it as Parquet"),
        (("drift", "--reference", tmp_path / "no.json", "--current", good), "not a profile of this version"),
        (("drift", "--reference", tmp_path / "p.yaml", "--current", good), "not a profile: not JSON"),
        (("drift", good), "give two tables: kedge drift REFERENCE CURRENT"),
        (("drift", good, "--current", good), "give two tables"),
        (("drift", "--reference", reference), "give two tables"),
        (("drift", good, good, good), "give two tables"),
        (("drift", "--reference", reference, "--current", tmp_path / "gone.parquet"), "no such file or folder"),
        (("drift", "--reference", reference, "--current", tmp_path / "no.json"), "is JSON: write it as Parquet or CSV"),
        (("drift", "--reference", reference, "--current", tmp_path / "half.parquet"), "not a whole Parquet file"),
        (("drift", "--reference", reference, "--current", tmp_path / "odd.csv"), "not readable as CSV"),
        (("drift", "--reference", reference, "--current", good, "--policy", tmp_path / "p.yaml"), "'amuont'"),
        (("profile", good, "-o", tmp_path / "x.json", "--policy", tmp_path / "p.yaml"), "did you mean 'amount'?"),
        (("profile", tmp_path / "gone", "-o", tmp_path / "x.json"), "no such file or folder"),
        (("drift", "--reference", reference, "--current", good, "--alpha", "2"), "alpha"),
    ):
        code, _, err = kedge(*words)
        assert code == 2, (words, err)
        assert said in err
    assert not (tmp_path / "x.json").exists()


def test_two_tables_are_compared_as_a_table_is_with_a_profile(kedge, reference, tmp_path):
    current = written(tmp_path, table(1, 1.0), "parquet")
    by_profile = kedge("drift", "--reference", reference, "--current", current)
    assert "amount: distribution" in by_profile[1]
    assert kedge("drift", tmp_path / "reference.parquet", current) == by_profile
    assert kedge("drift", "--reference", tmp_path / "reference.parquet", "--current", current) == by_profile
    assert kedge("drift", reference, current) == by_profile


def test_a_corrupt_page_is_an_error_that_names_the_file(kedge, reference, tmp_path):
    path = tmp_path / "corrupt.parquet"
    pq.write_table(table(1), path, compression="zstd", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    raw[offset + 30 : offset + 400] = b"\xff" * 370
    path.write_bytes(bytes(raw))
    code, _, err = kedge("drift", "--reference", reference, "--current", path)
    assert code == 2
    assert "corrupt.parquet, after row 0: row group 0 is damaged" in err


def test_an_empty_table_is_no_reference(kedge, tmp_path):
    pq.write_table(table(1).slice(0, 0), tmp_path / "empty.parquet")
    code, _, err = kedge("profile", tmp_path / "empty.parquet", "-o", tmp_path / "r.json")
    assert code == 2
    assert "no rows" in err or "not one row" in err


def test_files_of_mixed_schemas_are_refused_as_reference_and_named_as_current(kedge, reference, tmp_path):
    (tmp_path / "mixed").mkdir()
    pq.write_table(table(1), tmp_path / "mixed" / "a.parquet")
    pq.write_table(table(2).select(["country"]), tmp_path / "mixed" / "b.parquet")
    code, _, err = kedge("profile", tmp_path / "mixed", "-o", tmp_path / "r.json")
    assert (code, "b.parquet: column 'amount'" in err) == (2, True)
    code, out, _ = kedge("drift", "--reference", reference, "--current", tmp_path / "mixed")
    assert code == 0
    assert "missing in some rows" in out


def test_the_hot_path_does_without_pandas(reference, tmp_path):
    current = written(tmp_path, table(1), "parquet")
    words = ["kedge", "drift", "--reference", str(reference), "--current", str(current)]
    program = (
        f"import sys; sys.argv = {words!r}\n"
        "from kedge.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pandas', 'scipy', 'sklearn', 'deltalake', 'pyarrow.dataset'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def compared(kedge, tmp_path, before, after):
    pq.write_table(before, tmp_path / "before.parquet")
    pq.write_table(after, tmp_path / "after.parquet")
    assert kedge("profile", tmp_path / "before.parquet", "-o", tmp_path / "before.json")[0] == 0
    code, out, _ = kedge("drift", "--reference", tmp_path / "before.json", "--current", tmp_path / "after.parquet")
    assert code == 0
    return out


@pytest.mark.parametrize("name", ["amount_eur", "AMOUNT", "salary"])
def test_a_new_column_that_holds_the_old_name_or_is_alone_of_its_type_is_suggested(kedge, tmp_path, name):
    renamed = table(1).rename_columns([name, "country"]).append_column("note", pa.array(["x"] * N))
    assert f"amount: missing  (renamed to '{name}'?)" in compared(kedge, tmp_path, table(0), renamed)


def test_two_new_columns_of_the_type_are_not_guessed_at(kedge, tmp_path):
    renamed = table(1).rename_columns(["salary", "country"]).append_column("bonus", pa.array(np.ones(N)))
    assert "amount: missing  (the window has no such column)" in compared(kedge, tmp_path, table(0), renamed)


def test_each_reason_stands_with_its_figure(kedge, tmp_path):
    amount, country = table(1).columns
    gaps = pa.array(np.array(amount), mask=np.arange(N) % 4 == 0)
    new = pa.array(["XX" if k % 50 == 0 else value for k, value in enumerate(country.to_pylist())])
    out = compared(kedge, tmp_path, table(0), pa.table({"amount": gaps, "country": new}))
    assert "amount: missing values (0.0% to 25.0%)" in out
    assert "new categories (2.0%)" in out


def test_a_changed_type_is_called_by_the_type_of_its_values(kedge, tmp_path):
    text = pa.array(["a", "b"] * (N // 2)).dictionary_encode()
    out = compared(kedge, tmp_path, table(0), table(1).set_column(0, "amount", text))
    assert "amount: type changed  (was double, is string)" in out


def test_a_column_that_cannot_be_compared_is_named(kedge, tmp_path):
    tags = pa.array([[1]] * N)
    before, after = (table(seed).append_column("tags", tags) for seed in (0, 2))
    out = compared(kedge, tmp_path, before, after)
    assert out.startswith("0 of 3 columns drifted")
    assert "not compared: tags (list<element: int64> columns are not compared)" in out


def test_with_a_policy_columns_are_the_features_that_they_hold(kedge, tmp_path):
    rules = {
        "model": {
            "name": "m",
            "target": "y",
            "features": {"amount": {"type": "number"}, "country": {"type": "category"}},
        },
        "data": {"source": {"format": "log"}},
    }
    rules["model"]["features"]["amount"]["column"] = "Umsatz.netto"
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(rules))
    called = {"amount": "Umsatz.netto", "country": "country"}
    theirs = [table(seed, shift).rename_columns(list(called.values())) for seed, shift in ((0, 0.0), (1, 1.0))]
    for name, made in zip(("then", "now"), theirs, strict=True):
        pq.write_table(made.append_column("amount", pa.array([7.0] * N)), tmp_path / f"{name}.parquet")
    reference = tmp_path / "reference.json"
    code, _, err = kedge("profile", tmp_path / "then.parquet", "-o", reference, "--policy", tmp_path / "p.yaml")
    assert (code, err) == (0, "")
    assert sorted(json.loads(reference.read_bytes())["columns"]) == ["amount", "country"]
    pq.write_table(table(1, 1.0), tmp_path / "own.parquet")  # as kedge itself writes features
    for current in ("now", "own"):
        words = (
            "--reference",
            reference,
            "--current",
            tmp_path / f"{current}.parquet",
            "--policy",
            tmp_path / "p.yaml",
        )
        code, out, _ = kedge("drift", *words, "--json")
        assert code == 0
        assert json.loads(out)["drifted"] == ["amount"]
    code, _, err = kedge("profile", tmp_path / "own.parquet", "-o", reference, "--policy", tmp_path / "p.yaml")
    assert code == 0
