"""Headers, line ends and bytes that are not as they should be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake

from kedge import policy as policies
from kedge.api.comparison import profile
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import open_store
from kedge.tables import parquet
from kedge.tables.columns import convert
from kedge.tables.csv import CsvReader
from kedge.tables.delta import DeltaReader
from kedge.tables.parquet import ParquetReader
from kedge.tables.reader import sample
from kedge.tables.sources import open_source


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_any_system_end_the_header(end: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(end.join(["a,b", "1,x", "2,y", ""]).encode())
    reader = CsvReader(str(tmp_path / "t.csv"))
    rows = [row for piece in reader.pieces(reader.names) for row in piece.rows.to_pylist()]
    assert rows == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


def test_a_name_in_quotes_may_hold_a_line_end_and_the_delimiter(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"total\n(EUR)","a,b";\n1,2\n')
    assert CsvReader(str(tmp_path / "t.csv")).names == ["total\n(EUR)", "a,b;"]


def test_a_first_line_that_is_no_header_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x" * 200_000 + ",y\n1,2\n")
    with pytest.raises(DataError, match=r"t.csv, line 1: not a line of column names: field larger than"):
        CsvReader(str(tmp_path / "t.csv")).schema()


@pytest.mark.parametrize("encoded", [False, True])
def test_text_of_parquet_that_is_not_utf8_is_one_sentence(encoded: bool, tmp_path: Path) -> None:
    values = pa.Array.from_buffers(pa.string(), 2, [*pa.array(["ab", "cd"]).buffers()[:2], pa.py_buffer(b"ab\xff\xfe")])
    pq.write_table(pa.table({"k": values}), tmp_path / "t.parquet", use_dictionary=encoded)
    reader = ParquetReader(str(tmp_path / "t.parquet"))
    for read in (reader.pieces, reader.batches):
        with pytest.raises(DataError, match=r"t.parquet, after row 0: row group 0 is damaged: .*Invalid UTF8"):
            list(read(["k"]))


def test_a_file_that_lacks_a_column_of_the_others_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], "b": [1.0]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2.parquet: column 'b' is missing; the table has: a"):
        profile(tmp_path)


def dealt(folder: Path, order: str, kind: str = "number") -> Policy:
    model = {"name": "m", "target": "y", "features": {"x": {"type": kind}}}
    row_time = {"start": "2026-01-01T00:00:00Z", "step_seconds": 1, "order": order}
    source = {"format": "parquet", "location": str(folder)}
    return policies.parse({"model": model, "data": {"source": source, "row_time": row_time}})


def test_rows_whose_order_is_no_time_are_dealt_alike_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    for number in range(2):
        x = np.arange(500.0) + 500 * number
        pq.write_table(pa.table({"x": x, "y": np.full(500, number)}), folder / f"{number}.parquet")
    times = []
    for order in ("file", "drawn", "drawn"):
        policy = dealt(folder, order)
        table = open_source(policy.data.source, policy.data, store=open_store(tmp_path / "store"), model=policy.model)
        rows = pa.Table.from_batches(list(table.batches()))
        times.append(rows.sort_by("_time")["y"].to_numpy())
    assert times[0].tolist() == [0.0] * 500 + [1.0] * 500
    assert times[1].tolist() == times[2].tolist()
    assert 200 < times[1][:500].sum() < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\x00", "is no CSV file but compressed by gzip: call it .csv.gz"),
        (b"PK\x03\x04\x14\x00", "is no CSV file but an archive or an Excel workbook"),
        (b"PAR1\x15\x04", "is no CSV file but a Parquet file"),
        (b"<!DOCTYPE html>\n<p>log in</p>\n", "is no CSV file but a page of the web"),
        (b'\n[{"a": 1,\n"b": 2}]', "is no CSV file but JSON"),
        ("a,b\n1,2\n".encode("utf-16-be"), "line 1: holds NUL bytes, as UTF-16"),
        (b"\xef\xbb\xbf", "empty; a CSV file begins with a line of column names"),
        (b"Sales,,\n1,2,3\n", "has the column '' twice; give each a name; the first line must be that of"),
        (b"a,b\n1,2\n3\n", "row 2: not readable as CSV: Expected 2 columns, got 1; quote values that hold a line end"),
        (b"# of March\n# by me\na,b\n1,2\n", "row 2: .* Expected 1 columns, got 2; the first line must be that of"),
        (b"a  b\n1  2\n", "line 1: columns parted by several spaces"),
        (b"'a','b'\n'1','2'\n", "line 1: names in single quotes"),
        (b'a,b\n1,"""x\\"""\n2,"a \\"b\\", c"\n', "line 3: a quote within quotes is written as .*, as Spark does"),
    ],
)
def test_what_is_no_csv_is_said_by_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        profile(tmp_path / "t.csv")


@pytest.mark.parametrize("sign", list(",;\t|^~: \x01"))
def test_a_delimiter_is_found_by_the_header_and_a_rare_one_by_the_row_below_too(sign: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n".replace(",", sign))
    (tmp_path / "one.csv").write_text("total amount\n1\n2\n")
    assert {name: column.rows for name, column in profile(tmp_path / "t.csv").columns.items()} == {"a": 2, "b": 2}
    assert list(profile(tmp_path / "one.csv").columns) == ["total amount"]


def test_a_header_alone_is_a_table_without_rows_with_and_without_a_line_end(tmp_path: Path) -> None:
    for end in ("", "\n"):
        (tmp_path / "t.csv").write_text("a,b" + end)
        reader = CsvReader(str(tmp_path / "t.csv"))
        assert (reader.names, list(reader.pieces(["a"]))) == (["a", "b"], [])


def test_a_sample_holds_its_own_rows_and_large_files_give_what_small_ones_lack(tmp_path: Path) -> None:
    for name, rows in (("a", 5), ("b", 10_000), ("c", 10_000)):
        pq.write_table(pa.table({"x": np.arange(rows)}), tmp_path / f"{name}.parquet")
    pieces, whole = sample(ParquetReader(str(tmp_path)), ["x"], 305)
    assert ([piece.rows.num_rows for piece in pieces], whole) == ([5, 150, 150], False)
    assert sum(piece.rows.get_total_buffer_size() for piece in pieces) < 305 * 16
    for rows, whole in ((20_004, False), (20_005, True), (30_000, True)):
        assert sample(ParquetReader(str(tmp_path)), ["x"], rows)[1] == whole


def test_uuids_of_a_delta_table_are_ids_as_those_of_a_parquet_file(tmp_path: Path) -> None:
    ids = pa.array([bytes([row]) * 16 for row in range(3)], pa.binary(16))
    table = pa.table({"id": pa.ExtensionArray.from_storage(pa.uuid(), ids), "x": [1.0, 2.0, 3.0]})
    write_deltalake(tmp_path / "delta", table)
    pq.write_table(table, tmp_path / "t.parquet")
    for reader in (DeltaReader(str(tmp_path / "delta")), ParquetReader(str(tmp_path / "t.parquet"))):
        assert reader.schema() == table.schema
        [piece] = reader.pieces(["id"])
        assert convert(piece.rows["id"], "id").values[1].as_py() == "01010101-0101-0101-0101-010101010101"
    assert profile(tmp_path / "delta").rows == 3


def as_delta(folder: Path) -> DeltaReader:
    convert_to_deltalake(folder)
    return DeltaReader(str(folder))


def repeating(length: int, rows: int) -> pa.Table:
    """A text that the file holds once, and every row has once it is read."""
    return pa.table({"x": pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), ["x" * length])})


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_rows_that_repeat_a_long_text_are_read_few_at_once(form: str, tmp_path: Path) -> None:
    pq.write_table(repeating(1 << 20, 200), tmp_path / "t.parquet", store_schema=False)
    assert (tmp_path / "t.parquet").stat().st_size < 200_000
    reader = as_delta(tmp_path) if form == "delta" else ParquetReader(str(tmp_path))
    pieces = list(reader.pieces(["x"]))
    assert sum(piece.rows.num_rows for piece in pieces) == 200
    assert len(pieces) == 4
    assert max(piece.rows.nbytes for piece in pieces) <= parquet.BATCH_BYTES + 1000
    taken, whole = sample(reader, ["x"], 200)
    assert (sum(piece.rows.num_rows for piece in taken) < 200, whole) == (True, False)


def test_a_row_group_that_unpacks_to_too_much_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_UNPACKED", 1 << 20)
    packed: dict[str, Any] = {"use_dictionary": False, "compression": "zstd"}
    pq.write_table(pa.table({"x": ["x" * 1000] * 3000, "y": [1] * 3000}), tmp_path / "t.parquet", **packed)
    for reader in (ParquetReader(str(tmp_path)), as_delta(tmp_path)):
        assert sum(piece.rows.num_rows for piece in reader.pieces(["y"])) == 3000
        with pytest.raises(DataError, match=r"t\.parquet: row group 0 has 3,0\d\d,\d{3} bytes when it is unpacked"):
            list(reader.pieces(["x"]))


def test_ten_million_rows_of_one_number_are_read(tmp_path: Path) -> None:
    packed: dict[str, Any] = {"use_dictionary": False, "compression": "zstd", "row_group_size": 10_000_000}
    pq.write_table(pa.table({"x": pa.repeat(pa.scalar(1.5), 10_000_000)}), tmp_path / "t.parquet", **packed)
    pieces = ParquetReader(str(tmp_path / "t.parquet")).pieces(["x"])
    assert sum(piece.rows.num_rows for piece in pieces) == 10_000_000


def test_texts_that_are_no_categories_are_refused_by_their_column(tmp_path: Path) -> None:
    rows = repeating(2000, 20_000).append_column("y", pa.array([0, 1] * 10_000))
    pq.write_table(rows, tmp_path / "t.parquet", store_schema=False)
    policy = dealt(tmp_path, "file", "category")
    table = open_source(policy.data.source, policy.data, store=open_store(tmp_path / "store"), model=policy.model)
    with pytest.raises(DataError, match=r"t\.parquet, from row 1 on: column 'x' has texts of 2,004 bytes"):
        list(table.batches())


def test_a_commit_cut_between_two_lines_is_named(tmp_path: Path) -> None:
    for _ in range(2):
        write_deltalake(tmp_path, pa.table({"x": [1.0]}), mode="append")
    commit = tmp_path / f"_delta_log/{1:020}.json"
    commit.write_bytes(commit.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"0*1\.json names 0 of the 1 files that it added: it is cut off\); restore"):
        DeltaReader(str(tmp_path))


@pytest.mark.parametrize("said", ["sizeInBytes", "size"])
def test_a_checkpoint_that_is_not_the_one_written_is_named(said: str, tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"x": [1.0]}))
    DeltaTable(tmp_path).create_checkpoint()
    assert DeltaReader(str(tmp_path)).version == "0"
    last = tmp_path / "_delta_log/_last_checkpoint"
    last.write_text(json.dumps({**json.loads(last.read_text()), said: 2}))
    with pytest.raises(DataError, match=r"0\.checkpoint\.parquet has [\d,]+ (bytes|rows), _last_checkpoint says 2"):
        DeltaReader(str(tmp_path))


def test_a_checkpoint_that_unpacks_to_too_much_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deltalake(tmp_path, pa.table({"x": [1.0]}))
    DeltaTable(tmp_path).create_checkpoint()
    monkeypatch.setattr(parquet, "MAX_UNPACKED", 0)
    monkeypatch.setattr(parquet, "MAX_RATIO", 0)
    with pytest.raises(DataError, match=r"checkpoint\.parquet: row group 0 has"):
        DeltaReader(str(tmp_path))


def test_a_delta_table_that_needs_what_the_engine_lacks_is_refused_with_the_way_out(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"x": [1, 2]}))
    commit = next((tmp_path / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    widening = ["typeWidening"]
    needs = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": widening, "writerFeatures": widening}
    actions = [{"protocol": needs} if "protocol" in action else action for action in actions]
    commit.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(DataError, match="the table needs TypeWidening, which is not read here; drop it"):
        profile(tmp_path)
