"""Tables of any library are profiled and compared alike."""

from __future__ import annotations

import csv
from html.parser import HTMLParser

import arro3.core
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import kedge
from kedge.errors import DataError

N = 3000


def columns(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return {"amount": rng.standard_normal(N) + shift, "country": rng.choice(["AT", "CH"], N)}


def as_polars_gives_it(values):
    """Text as string views, in one chunk, from a library that is not pyarrow."""
    table = pa.table(values)
    return arro3.core.Table.from_arrow(table.set_column(1, "country", table["country"].cast(pa.string_view())))


def as_file(folder, values):
    file = folder / f"{values['amount'][0]}.parquet"
    pq.write_table(pa.table(values), file)
    return file


@pytest.fixture
def forms(tmp_path):
    def of(values):
        frame = pd.DataFrame(values, index=pd.Index(np.arange(N)[::-1], name="row"))
        table = pa.table(values)
        return {
            "pandas": frame,
            "pandas categorical": frame.astype({"country": "category"}),
            "polars": as_polars_gives_it(values),
            "arrow": table,
            "stream": table.to_reader(1000),
            "path": as_file(tmp_path, values),
            "text": str(as_file(tmp_path, values)),
        }

    return of


def test_every_form_of_a_table_gives_the_same_counts(forms):
    counted = {}
    for form, table in forms(columns()).items():
        profile = kedge.profile(table)
        amount, country = (profile.columns[name] for name in ("amount", "country"))
        assert list(profile.columns) == ["amount", "country"], form
        by_name = dict(zip(country.values, country.counts.tolist(), strict=True))
        counted[form] = (profile.rows, amount.counts.tolist(), amount.edges.tolist(), by_name)
    assert all(each == counted["arrow"] for each in counted.values())


def test_every_form_is_compared_with_every_other(forms):
    for first in ("pandas", "pandas categorical", "polars", "arrow", "path"):
        for second in ("pandas", "pandas categorical", "polars", "stream", "text"):
            same = kedge.compare(forms(columns(0))[first], forms(columns(1))[second])
            moved = kedge.compare(forms(columns(0))[first], forms(columns(1, 0.5))[second])
            assert (same.drifted, moved.drifted, dict(moved.extra)) == ([], ["amount"], {}), (first, second)


def test_a_reference_may_be_a_profile_or_the_file_it_was_kept_in(tmp_path):
    profile = kedge.profile(pa.table(columns()))
    (tmp_path / "reference.json").write_bytes(profile.to_json())
    for reference in (profile, tmp_path / "reference.json", str(tmp_path / "reference.json")):
        assert kedge.compare(reference, pa.table(columns(1, 0.5))).drifted == ["amount"]


def test_a_policy_selects_the_features_by_what_tables_call_them_and_gives_the_thresholds(tmp_path):
    features = {"amount": {"type": "number", "column": "Umsatz.netto"}, "country": {"type": "category"}}
    rules = {
        "model": {"name": "m", "target": "y", "features": features},
        "data": {"source": {"format": "log"}},
        "monitor": {"min_rows": 5000},
    }
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(rules))
    policy = kedge.read_policy(tmp_path / "policy.yaml")
    before, now = (
        pd.DataFrame(columns(seed, seed * 0.5)).rename(columns={"amount": "Umsatz.netto"}).assign(y=1, note="x")
        for seed in (0, 1)
    )
    for given in (policy, tmp_path / "policy.yaml"):
        assert list(kedge.profile(before, policy=given).columns) == ["amount", "country", "y"]
        few = kedge.compare(before, now, policy=given)
        assert (few.verdict, few.min_rows, dict(few.extra)) == ("too few rows", 5000, {"note": "string"})
        assert kedge.compare(before, now, policy=given, min_rows=200).drifted == ["amount"]
    with pytest.raises(DataError, match=r"the pandas DataFrame: column 'Umsatz.netto' is missing"):
        kedge.profile(before.drop(columns="Umsatz.netto"), policy=policy)


def test_a_notebook_shows_every_column_and_text_is_not_markup():
    values = columns() | {"<b>": np.arange(N)}
    shown = kedge.compare(pa.table(values), pa.table(values | columns(1, 0.5)))._repr_html_()
    profile = kedge.profile(pa.table(values))._repr_html_()
    for html in (shown, profile):
        assert "amount" in html
        assert "country" in html
        assert "&lt;b&gt;" in html
        assert html.count("<figure>") == 3
        assert "<body" not in html
        HTMLParser().feed(html)
    assert "Drifted, the surest first: amount." in shown


def test_the_style_of_a_notebook_stays_its_own():
    html = kedge.profile(pa.table(columns()))._repr_html_()
    rules = html.split("<style>")[1].split("</style>")[0].replace("\n  ", " ")
    selectors = [line.split("{")[0] for line in rules.splitlines() if line and not line.startswith("@media")]
    assert [each for each in selectors if not all(".kedge" in part for part in each.split(","))] == []


def test_the_page_of_a_comparison_is_whole(tmp_path):
    page = kedge.compare(pa.table(columns()), pa.table(columns(1))).to_html(title="Today")
    assert page.startswith("<!doctype html>")
    assert "<h1>Today</h1>" in page


def secret_frame():
    return pd.DataFrame({"card": ["4111-secret", 7]})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (secret_frame(), "the pandas DataFrame: cannot be read as an Arrow table: Conversion failed for column card"),
        (pa.chunked_array([[1]]), "the pyarrow ChunkedArray: cannot be read as an Arrow table"),
        (pa.table([[1], [2]], names=["a", "a"]), "has the column 'a' twice"),
        (pa.table({"a": pa.array([], pa.int64())}), "the pyarrow Table: empty: not one row"),
        ([1, 2], "a table is a path, or of pandas, Polars, DuckDB or Arrow; not a list"),
        ("gone.parquet", "no such file or folder"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence_without_its_content(table, said):
    with pytest.raises(DataError, match=said) as refused:
        kedge.profile(table)
    assert "secret" not in str(refused.value)


def test_a_stream_that_breaks_while_it_is_read_is_named():
    schema = pa.schema({"a": pa.int64()})

    def batches():
        yield pa.record_batch({"a": [1]}, schema=schema)
        raise OSError("the socket went away")

    with pytest.raises(DataError, match=r"the pyarrow RecordBatchReader: its rows cannot be read: .*socket went away"):
        kedge.profile(pa.RecordBatchReader.from_batches(schema, batches()))


def test_a_large_chunk_is_read_in_slices():
    many = pa.table({"a": np.arange(200_000) % 1000})
    profile = kedge.profile(many)
    assert (profile.rows, profile.columns["a"].finite) == (200_000, 200_000)


def test_a_csv_file_is_compared_with_a_frame_of_it(tmp_path):
    values = columns()
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(values)
        writer.writerows(zip(*values.values(), strict=True))
    assert kedge.compare(tmp_path / "t.csv", pd.read_csv(tmp_path / "t.csv")).drifted == []


def test_what_another_library_cannot_give_is_one_sentence_with_the_way_from_there() -> None:
    sparse = pd.DataFrame({"x": pd.arrays.SparseArray([1, 0])})
    for table, said in (
        (sparse, "cannot be read as an Arrow table: Sparse pandas data .*; cast what is of several types"),
        (pd.DataFrame({"x": [2**70, 1]}), "cannot be read as an Arrow table: .*too large.*; cast"),
        (
            pd.DataFrame([[1, 2]], columns=["x", "x"]),
            "the pandas DataFrame: has the column 'x' twice; rename one of them",
        ),
        (pd.DataFrame({"x": [1]})[[]], "the pandas DataFrame: has no column"),
        (pd.Series([1]), r"not the pandas Series; to_frame\(\) makes one of it"),
    ):
        with pytest.raises(DataError, match=said):
            kedge.profile(table)


def test_a_comparison_prints_what_the_command_prints():
    said = str(kedge.compare(pa.table(columns()), pa.table(columns(1, shift=1.0)))).splitlines()
    assert said[0] == "1 of 2 columns drifted (3,000 rows against 3,000)"
    assert said[1].startswith("  amount: distribution (PSI ")


def test_a_prompt_shows_a_line_or_a_few_and_no_counts():
    table = pa.table(columns())
    assert repr(kedge.profile(table)) == "<Profile of 3,000 rows: amount, country>"
    assert repr(kedge.compare(table, table)) == "0 of 2 columns drifted (3,000 rows against 3,000)"
