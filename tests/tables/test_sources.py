import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from kedge import policy as policies
from kedge.errors import DataError
from kedge.policy import Policy, Source
from kedge.store import Store
from kedge.tables import sources
from kedge.tables.files import refuse_system_file
from kedge.tables.reader import BATCH_ROWS
from kedge.tables.sources import Table

Policies = Callable[..., Policy]


def opened(policy: Policy, store: Store) -> Table:
    return sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)


def lay(table: pa.Table, folder: Path, format: str, group: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    match format:
        case "parquet":
            pq.write_table(table, folder / "t.parquet", row_group_size=group)
            return folder / "t.parquet"
        case "csv":
            pa_csv.write_csv(table, folder / "t.csv")
            return folder / "t.csv"
        case _:
            write_deltalake(str(folder / "delta"), table)
            return folder / "delta"


@pytest.mark.parametrize("format", ["parquet", "csv", "delta"])
def test_every_format_gives_the_same_rows(
    format: str, tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    table = opened(policy_for(lay(parcels, tmp_path / "t", format), format), store)
    rows = pa.Table.from_batches(table.batches(), table.schema).sort_by("_time")
    assert rows.column_names == ["_time", "_id", "weight", "items", "express", "country", "late"]
    assert rows.slice(2, 2).drop_columns(["_time"]).to_pylist() == [
        {"_id": "p2", "weight": 1.0, "items": 2.0, "express": 1.0, "country": None, "late": 1.0},
        {"_id": "p3", "weight": None, "items": 3.0, "express": 0.0, "country": "AT", "late": 0.0},
    ]
    assert rows["_time"].to_pylist() == parcels["sent"].to_pylist()
    assert table.rows_read == 10
    assert table.target_values == {"0": 7, "1": 3}


def test_the_values_of_a_target_that_are_told_are_counted_to_the_end(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_TARGET_VALUES", 2)
    table = opened(policy_for(lay(pa.concat_tables([parcels, parcels]), tmp_path / "t", "parquet")), store)
    list(table.batches())
    assert table.target_values == {"0": 14, "1": 6}


@pytest.mark.parametrize("format", ["parquet", "csv", "delta"])
def test_a_time_range_holds_its_start_and_not_its_end(
    format: str, tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    table = opened(policy_for(lay(parcels, tmp_path / "t", format), format), store)
    start = datetime(2026, 3, 2, 3, tzinfo=UTC)
    rows = pa.Table.from_batches(table.batches(["items"], start, start + timedelta(hours=3)))
    assert rows.column_names == ["_time", "items"]
    assert sorted(rows["items"].to_pylist()) == [3.0, 4.0, 5.0]


UNUSUAL = {"weight": "Umsatz.netto", "items": "order total (EUR)", "country": 'we"ird, `x`', "late": "zu spät?"}


@pytest.mark.parametrize("format", ["parquet", "csv", "delta", "sql"])
def test_columns_are_read_by_what_the_table_calls_them_and_give_the_same_rows(
    format: str, tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = policy_for(lay(parcels, tmp_path / "plain", "parquet"))
    other = parcels.rename_columns([UNUSUAL.get(name, name) for name in parcels.column_names])
    other = other.append_column("Umsatz", pa.array([0.0] * 10))  # the beginning of another column's name
    said = policy_for("PARCELS", "parquet").to_dict()
    for feature in said["model"]["features"]:
        feature |= {"column": UNUSUAL[feature["name"]]} if feature["name"] in UNUSUAL else {}
    said["model"]["target_column"] = UNUSUAL["late"]
    said["data"]["source"] = {"format": format, "location": "PARCELS"}
    if format == "sql":
        monkeypatch.setenv("PARCELS", f"sqlite:///{tmp_path}/parcels.db")
        with closing(sqlite3.connect(tmp_path / "parcels.db")) as database, database:
            names = ", ".join('"{}"'.format(name.replace('"', '""')) for name in other.column_names)
            database.execute(f"CREATE TABLE parcels ({names})")
            rows = [[str(v) if isinstance(v, datetime) else v for v in row.values()] for row in other.to_pylist()]
            database.executemany(f"INSERT INTO parcels VALUES ({', '.join('?' * len(rows[0]))})", rows)
        said["data"]["source"]["query"] = "SELECT * FROM parcels"
    else:
        said["data"]["source"]["location"] = str(lay(other, tmp_path / "other", format))
    asked = policies.parse(said)
    read = [pa.Table.from_batches(opened(each, store).batches()).sort_by("_time") for each in (plain, asked)]
    assert read[1].equals(read[0])
    start = datetime(2026, 3, 2, 3, tzinfo=UTC)
    some = pa.Table.from_batches(opened(asked, store).batches(["weight", "late"], start))
    assert some.column_names == ["_time", "weight", "late"]
    assert some.num_rows == 7


def test_a_column_that_is_missing_is_named_with_the_field_that_names_it(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    said = policy_for(lay(parcels, tmp_path / "t", "parquet")).to_dict()
    said["model"]["features"][0]["column"] = "Gewicht"
    with pytest.raises(DataError, match=r"column 'Gewicht' .* is missing; .*; see model.features.weight.column in the"):
        opened(policies.parse(said), store)


def test_row_groups_outside_the_time_range_are_not_read(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    table = opened(policy_for(lay(parcels, tmp_path / "t", "parquet")), store)
    start = datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert sum(batch.num_rows for batch in table.batches(start=start)) == 2
    assert table.rows_read == 2  # the third group of 4, 4 and 2 rows


def test_batches_are_at_most_65536_rows(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    count = BATCH_ROWS + 10
    time = pa.array([0] * count, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    for format in ("csv", "parquet"):
        place = lay(
            pa.table({"sent": time, "late": [0] * count, "x": [1.5] * count}), tmp_path / format, format, group=count
        )
        policy = policy_for(place, format, id_column=None)
        policy = policy.model_copy(
            update={"model": policy.model.model_copy(update={"features": {"x": policy.model.features["weight"]}})}
        )
        sizes = [batch.num_rows for batch in opened(policy, store).batches()]
        assert max(sizes) <= BATCH_ROWS
        assert sum(sizes) == count


def test_a_folder_is_read_whole_without_hidden_files(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    folder = tmp_path / "days"
    (folder / "b").mkdir(parents=True)
    pq.write_table(parcels.slice(4), folder / "b" / "2.parquet")
    pq.write_table(parcels.slice(0, 4), folder / "1.parquet")
    (folder / "_temporary.parquet").write_bytes(b"half a file")
    (folder / ".3.parquet").write_bytes(b"half a file")
    rows = pa.Table.from_batches(opened(policy_for(folder), store).batches(["items"]))
    assert rows["items"].to_pylist() == [float(k) for k in range(10)]


def test_a_pattern_names_several_files(tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store) -> None:
    for name in ("a1", "a2", "b1"):
        pa_csv.write_csv(parcels, tmp_path / f"{name}.csv")
    table = opened(policy_for(tmp_path / "a*.csv", "csv"), store)
    assert sum(batch.num_rows for batch in table.batches()) == 20


def test_time_by_row_number_counts_through_all_files(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    pa_csv.write_csv(parcels.slice(0, 6), folder / "1.csv")
    pa_csv.write_csv(parcels.slice(6), folder / "2.csv")
    row_time = {"start": "1996-05-07T00:00:00", "step_seconds": 1800}
    table = opened(policy_for(folder, "csv", time_column=None, row_time=row_time), store)
    times = pa.Table.from_batches(table.batches([]))["_time"].to_pylist()
    assert times == [datetime(1996, 5, 7, tzinfo=UTC) + timedelta(minutes=30 * k) for k in range(10)]
    cut = datetime(1996, 5, 7, 4, tzinfo=UTC)
    assert pa.Table.from_batches(table.batches(["items"], start=cut))["items"].to_pylist() == [8.0, 9.0]


def test_a_delta_table_keeps_the_version_it_was_opened_at(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    place = lay(parcels, tmp_path / "t", "delta")
    table = opened(policy_for(place, "delta"), store)
    write_deltalake(str(place), parcels, mode="append")
    assert table.version == "0"
    assert sum(batch.num_rows for batch in table.batches()) == 10
    assert opened(policy_for(place, "delta"), store).version == "1"


def test_a_delta_table_with_deleted_rows_is_read_without_them(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    from deltalake import DeltaTable

    place = lay(parcels, tmp_path / "t", "delta")
    DeltaTable(str(place)).delete("items < 4")
    rows = pa.Table.from_batches(opened(policy_for(place, "delta"), store).batches(["items"]))
    assert sorted(rows["items"].to_pylist()) == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def test_provenance_says_file_row_and_fault(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "parcel,sent,weight,items,express,country,late\n"
        "a,2026-03-02T00:00:00Z,1.5,1,true,AT,0\n"
        "b,2026-03-02,heavy,1.5,perhaps,AT,1\n"
        "c,yesterday,1,1,0,AT,1\n"
        "d,,1,1,0,AT,1\n"
    )
    rows = pa.Table.from_batches(opened(policy_for(file, "csv"), store).batches(provenance=True)).to_pylist()
    assert [row["_row"] for row in rows] == [1, 2, 3, 4]
    assert {row["_file"] for row in rows} == {str(file)}
    assert rows[0]["_fault"] is None
    assert rows[1]["_fault"] == (
        "column 'weight': 'heavy' is not a number; column 'items': '1.5' is not a whole number; "
        "column 'express': 'perhaps' is not true or false (nor 1 or 0); a category takes any two texts"
    )
    assert (rows[1]["weight"], rows[1]["items"], rows[1]["express"]) == (None, None, None)
    assert rows[2]["_fault"] == "column 'sent': 'yesterday' is not a time such as 2026-03-02T08:00:00Z"
    assert rows[3]["_fault"] == "column 'sent': the time is missing"


def test_without_provenance_an_unreadable_value_is_an_error_with_file_row_and_column(
    tmp_path: Path, policy_for: Policies, store: Store
) -> None:
    file = tmp_path / "t.csv"
    file.write_text("parcel,sent,weight,items,express,country,late\na,2026-03-02,1,1,1,AT,0\nb,2026-03-02,x,1,1,AT,0\n")
    with pytest.raises(DataError, match=r"t\.csv, row 2: column 'weight': 'x' is not a number"):
        list(opened(policy_for(file, "csv"), store).batches())


def test_a_missing_column_is_named_with_those_there_are(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    for format in ("parquet", "csv", "delta"):
        table = parcels.rename_columns(["parcel", "sent", "weigth", "items", "express", "country", "late"])
        place = lay(table, tmp_path / format, format)
        with pytest.raises(DataError) as raised:
            opened(policy_for(place, format), store)
        assert str(raised.value) == (
            f"{place}: column 'weight' (did you mean 'weigth'?) is missing; "
            "the table has: parcel, sent, weigth, items, express, country, late"
        )
        assert raised.value.exit_code == 2


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_later_file_without_a_column_is_named(
    format: str, tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    write = pq.write_table if format == "parquet" else pa_csv.write_csv
    write(parcels, folder / f"1.{format}")
    write(parcels.drop_columns(["country"]), folder / f"2.{format}")
    with pytest.raises(DataError, match=rf"2\.{format}: column 'country' is missing"):
        list(opened(policy_for(folder, format), store).batches())


def test_a_column_of_a_type_no_model_reads_is_named(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    table = parcels.set_column(2, "weight", pa.array([[1.0]] * 10))
    with pytest.raises(DataError, match=r"t\.parquet: column 'weight' holds list<.*>, which no model input is made of"):
        list(opened(policy_for(lay(table, tmp_path / "t", "parquet")), store).batches())
    table = parcels.set_column(1, "sent", pa.array(range(10)))
    with pytest.raises(DataError, match=r"column 'sent' holds int64; a time is a timestamp, a date or ISO 8601 text"):
        list(opened(policy_for(lay(table, tmp_path / "t", "parquet")), store).batches())


def test_a_truncated_parquet_file_is_named(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    place = lay(parcels, tmp_path / "t", "parquet")
    whole = place.read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        place.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"t\.parquet: not a whole Parquet file: .*; write it anew"):
            opened(policy_for(place), store)


def test_a_damaged_row_group_is_named(tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store) -> None:
    place = tmp_path / "t.parquet"
    pq.write_table(parcels, place, row_group_size=5, compression="zstd")
    raw = bytearray(place.read_bytes())
    start = pq.ParquetFile(place).metadata.row_group(1).column(0).data_page_offset
    raw[start : start + 60] = bytes(60)
    place.write_bytes(raw)
    with pytest.raises(DataError, match=r"t\.parquet, after row 5: row group 1 is damaged"):
        list(opened(policy_for(place), store).batches())


@pytest.mark.parametrize("content", [b"", b"\n\n", b"   "])
def test_an_empty_csv_file_is_an_error(content: bytes, tmp_path: Path, policy_for: Policies, store: Store) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.csv: empty; a CSV file begins with a line of column names"):
        opened(policy_for(tmp_path / "t.csv", "csv"), store)


def test_bytes_that_are_not_utf8_are_named_with_their_line(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    place = lay(parcels, tmp_path / "t", "csv")
    place.write_bytes(place.read_bytes().replace(b'"p4"', b'"p\xe9"'))
    with pytest.raises(DataError, match=r"t\.csv, line 6: not UTF-8: byte 0xe9; save the file as UTF-8"):
        list(opened(policy_for(place, "csv"), store).batches())


def test_bad_bytes_in_the_header_or_at_the_end_are_named(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    place = tmp_path / "t.csv"
    place.write_bytes("parcel,late\na,1\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"line 1: not UTF-8: byte 0xff"):
        opened(policy_for(place, "csv"), store)
    place.write_bytes(b"parcel,sent,weight,items,express,country,late\na,2026-03-02,1,1,1,\xc3")
    with pytest.raises(DataError, match=r"line 2: not UTF-8: the file ends within a character; was it cut short\?"):
        list(opened(policy_for(place, "csv"), store).batches())


def test_a_csv_line_with_another_number_of_values_is_named(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    place = lay(parcels, tmp_path / "t", "csv")
    place.write_text(place.read_text() + "p11,2026-03-02\n")
    with pytest.raises(DataError, match=r"t\.csv.*row 11: not readable as CSV: Expected 7 columns, got 2; quote"):
        list(opened(policy_for(place, "csv"), store).batches())


def test_a_csv_column_given_twice_is_an_error(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    (tmp_path / "t.csv").write_text("late,late\n1,0\n")
    with pytest.raises(DataError, match=r"t\.csv, line 1: has the column 'late' twice; rename one"):
        opened(policy_for(tmp_path / "t.csv", "csv"), store)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_delimiter_quotes_line_breaks_and_byte_order_mark(
    delimiter: str, tmp_path: Path, policy_for: Policies, store: Store
) -> None:
    lines = [
        ["parcel", "sent", "weight", "items", "express", "country", "late"],
        ['"a\nb"', '"2026-03-02 08:00:00+01:00"', " 1.5 ", "NA", "TRUE", '"N""A"', "1"],
        ["c", "2026-03-02T08:00:00.25", "nan", "3.0", "", "NA", "0.0"],
    ]
    (tmp_path / "t.csv").write_text("\ufeff" + "\r\n".join(delimiter.join(line) for line in lines), newline="")
    rows = pa.Table.from_batches(opened(policy_for(tmp_path / "t.csv", "csv"), store).batches()).to_pylist()
    assert rows == [
        {
            "_time": datetime(2026, 3, 2, 7, tzinfo=UTC),
            "_id": "a\nb",
            "weight": 1.5,
            "items": None,
            "express": 1.0,
            "country": 'N"A',
            "late": 1.0,
        },
        {
            "_time": datetime(2026, 3, 2, 8, 0, 0, 250_000, tzinfo=UTC),
            "_id": "c",
            "weight": None,
            "items": 3.0,
            "express": None,
            "country": "NA",
            "late": 0.0,
        },
    ]


def test_a_packed_csv_file_is_unpacked(tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store) -> None:
    import gzip

    place = lay(parcels, tmp_path / "t", "csv")
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(place.read_bytes()))
    assert sum(batch.num_rows for batch in opened(policy_for(packed, "csv"), store).batches()) == 10
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t\.csv\.gz"):
        list(opened(policy_for(packed, "csv"), store).batches())


@pytest.mark.parametrize(("format", "name"), [("parquet", "parquet"), ("csv", "CSV"), ("delta", "Delta")])
def test_nothing_there_is_an_error(format: str, name: str, tmp_path: Path, policy_for: Policies, store: Store) -> None:
    with pytest.raises(DataError, match=r"nowhere: no .*; check data\.source\.location"):
        opened(policy_for(tmp_path / "nowhere", format), store)


def test_an_unknown_column_asked_for_is_an_error(
    tmp_path: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    table = opened(policy_for(lay(parcels, tmp_path / "t", "parquet")), store)
    with pytest.raises(DataError, match=r"column 'wight' .*is missing"):
        list(table.batches(["wight"]))


def test_an_error_of_a_csv_file_does_not_repeat_its_row(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    header = "parcel,sent,weight,items,express,country,late\n"
    (tmp_path / "t.csv").write_text(header + "p1,2026-03-02,1,1,1,AT,0\n" + "p2,2026-03-02,1,1,1,AT,0,secret\n")
    with pytest.raises(DataError) as raised:
        list(opened(policy_for(tmp_path / "t.csv", "csv"), store).batches())
    assert "Expected 7 columns, got 8" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "p2" not in str(raised.value)


@pytest.mark.parametrize("form", ["csv", "parquet", "delta"])
@pytest.mark.parametrize("location", ["/proc/self/environ", "/etc/passwd", "/etc", "link.csv", "folder"])
def test_in_a_pod_no_table_is_read_from_the_files_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, location: str
) -> None:
    """There lie the Secrets of the step, and an error or a profile would show them."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    for ending in (".csv", ".parquet"):
        (tmp_path / "folder" / f"part{ending}").symlink_to("/etc/passwd")
    if (form, location) == ("delta", "folder"):
        pytest.skip("a Delta table is its log")
    with pytest.raises(DataError, match=r"lies in /(proc|etc), .* cluster\.volumes") as caught:
        sources.open_reader(Source.model_validate({"format": form, "location": location}))
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/etc/other.parquet", "file:///etc/other.parquet", "../../../../../../../etc/other.parquet"]
)
def test_in_a_pod_no_delta_table_leads_to_files_of_the_system(
    tmp_path: Path, parcels: pa.Table, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    place = lay(parcels, tmp_path / "t", "delta")
    commit = Path(place, "_delta_log/00000000000000000000.json")
    commit.write_text(re.sub(r'"path":"[^"]*"', f'"path":"{path}"', commit.read_text()))
    with pytest.raises(DataError, match=r"other\.parquet: lies in /etc"):
        sources.open_reader(Source(format="delta", location=str(place)))


def test_in_a_pod_a_link_that_may_not_be_followed_is_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", lambda _path: os.listdir("/proc/1/root/nothing"))
    with pytest.raises(DataError, match=r"lies in /proc"):
        refuse_system_file("/tmp/../proc/1/root/x.csv", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_outside_of_a_pod_a_folder_of_the_system_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(DataError, match=r"no .* file there"):
        sources.open_reader(Source.model_validate({"format": "parquet", "location": "/etc/nothing-here"}))
