"""CSV files, UTF-8 with a header line. Every value is read as text and turned into what the policy says it is."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from kedge.clouds import reason
from kedge.errors import DataError
from kedge.tables import columns as column_types
from kedge.tables.columns import describe_missing
from kedge.tables.files import CSV, File, find
from kedge.tables.parquet import with_constants
from kedge.tables.reader import BATCH_ROWS, COUNTED_ROWS, Bounds, Piece, TableReader, refuse_twice

DELIMITERS = ",;\t|"
RARE = "^~\x01: "
"""Delimiters of files whose header holds none of the others, if the line below holds as many."""
COMPRESSED = (".gz", ".bz2", ".zst")
MAX_HEADER = 1_000_000
BLOCK_BYTES = 4 << 20
OTHERS = {
    b"\x1f\x8b": "compressed by gzip: call it .csv.gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: call it .csv.zst",
    b"BZh": "compressed by bzip2: call it .csv.bz2",
    b"PK\x03\x04": "an archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"PAR1": "a Parquet file: call it .parquet",
    b'{"': "JSON: write it as Parquet or CSV",
    b"{\n": "JSON: write it as Parquet or CSV",
    b"[{": "JSON: write it as Parquet or CSV",
    b"[\n": "JSON: write it as Parquet or CSV",
    b"<!DOCTYPE": "a page of the web, perhaps of a login: fetch the table itself",
    b"<html": "a page of the web, perhaps of a login: fetch the table itself",
    b"<?xml": "XML: write it as Parquet or CSV",
}
"""First bytes of other formats -> what they are, and the way from there."""
ESCAPED = re.compile(rb'(?:^|[,;\t|])"[^"\r\n]*\\"(?![,;\t|"\r\n]|\Z)', re.MULTILINE)
"""A quote within quotes, written by a backslash: a reader of CSV sees the end of the value there."""
HEADER = re.compile(rb'(?:"(?:[^"]|"")*"|[^"\r\n]|")*?(?=\r|\n|\Z)')
"""The first line; a name in quotes may hold line ends."""


class CsvReader:
    """One CSV file, or all below a folder, or a pattern of them. See :class:`kedge.tables.reader.Reader`.

    The delimiter is the one of ``, ; tab |`` that the header holds most, else of ``^ ~ : space``; values may be quoted
    with ``"`` and hold line breaks; an empty value is missing. ``.csv.gz`` and its like are unpacked.
    """

    version = None
    typed = False

    def __init__(self, location: str, files: Sequence[File] | None = None) -> None:
        self.place = location
        self._files = find(location, CSV) if files is None else files

    @cached_property
    def names(self) -> list[str]:
        return _names(self._files[0])

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.names])

    def parts(self) -> Sequence[TableReader]:
        return [CsvReader(file.place, [file]) for file in self._files]

    def pieces(self, columns: Sequence[str], bounds: Bounds | None = None) -> Iterator[Piece]:  # noqa: ARG002
        for file in self._files:
            names = _names(file)
            missing = [name for name in columns if name not in names]
            if missing:
                raise DataError(describe_missing(missing, names, file.place))
            yield from _pieces(file, columns, BATCH_ROWS)

    def batches(self, columns: Sequence[str], **_: bool) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            yield from (piece.rows for piece in _pieces(file, columns, COUNTED_ROWS))


def _names(file: File) -> list[str]:
    names = header(file)[0]
    return [*(name for name in file.partition if name not in names), *names]


def _pieces(file: File, columns: Sequence[str], batch_rows: int) -> Iterator[Piece]:
    """The rows, of these columns where the file or its folders have them."""
    names, delimiter = header(file)
    said = {name: file.partition[name] for name in columns if name not in names and name in file.partition}
    stored = [name for name in columns if name in names]
    first = 1
    try:
        for batch in _open(file, names, delimiter, stored):
            batch = batch.select(stored)  # Arrow takes no column for all
            for start in range(0, batch.num_rows, batch_rows):
                rows = with_constants(batch.slice(start, batch_rows), said)
                yield Piece(rows, file.place, first)
                first += rows.num_rows
    except (pa.ArrowException, OSError) as exc:
        if "Empty CSV file" in str(exc):  # a header alone, without a line end
            return
        refuse_bad_bytes(file)
        raise DataError(f"{file.place}, {_reason(exc, first - 1)}") from exc


def _open(file: File, names: list[str], delimiter: str, columns: Sequence[str]) -> Any:
    return pa_csv.open_csv(
        _stream(file),
        pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _first_lines(file: File) -> tuple[bytes, bytes]:
    """The line of column names, and the one below."""
    with _stream(file) as stream:
        start = _read(stream, MAX_HEADER, file)
    _refuse_other_format(start, file)
    if b'\\"' in start and (escaped := ESCAPED.search(start)):
        line = 1 + start.count(b"\n", 0, escaped.end())
        raise DataError(
            f'{file.place}, line {line}: a quote within quotes is written as \\", as Spark does unless told otherwise; '
            'write it as "", in Spark by .option("escape", "\\"")'
        )
    if not start.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError(f"{file.place}: empty; a CSV file begins with a line of column names")
    lines = []
    rest = start.removeprefix(codecs.BOM_UTF8)
    for _ in range(2):
        rest = rest.lstrip(b"\r\n")
        found = HEADER.match(rest)
        lines.append(found[0] if found is not None else b"")
        rest = rest[len(lines[-1]) :]
    return lines[0], lines[1]


def _refuse_other_format(start: bytes, file: File) -> None:
    """What a file is by its first bytes, whatever its name says."""
    said = next((said for begin, said in OTHERS.items() if start.lstrip().startswith(begin)), "")
    if said:
        raise DataError(f"{file.place}: is no CSV file but {said}")


def header(file: File) -> tuple[list[str], str]:
    """Column names and delimiter.

    Raises:
        DataError: empty, not UTF-8, or a name twice.
    """
    try:
        first, second = _first_lines(file)
        text = first.decode("utf-8")
    except UnicodeDecodeError:
        refuse_bad_bytes(file)
        raise
    if "\0" in text:
        raise DataError(f"{file.place}, line 1: holds NUL bytes, as UTF-16 and binary files do; save the file as UTF-8")
    delimiter = max(DELIMITERS, key=text.count)
    if delimiter not in text and not text.startswith("#"):
        delimiter = _rare_delimiter(text, second.decode("utf-8", "replace"), file) or delimiter
    names = _split(text, delimiter, file)
    if len(names) > 1 and all(re.fullmatch(r"\s*'.+'\s*", name) for name in names):
        raise DataError(f'{file.place}, line 1: names in single quotes; write the file with " or without quotes')
    refuse_values(names, f"{file.place}, line 1")
    refuse_twice(names, f"{file.place}, line 1")
    return names, delimiter


def _rare_delimiter(header: str, row: str, file: File) -> str:
    found = next((sign for sign in RARE if 0 < header.count(sign) == row.count(sign)), "")
    if "  " in header.strip() and "  " in row.strip():
        raise DataError(f"{file.place}, line 1: columns parted by several spaces; write the file with one delimiter")
    return found


def refuse_values(names: Sequence[str], place: str) -> None:
    """Raise DataError if most names are numbers or times, as in a row. Years, and 0, 1, 2 are names."""
    texts = pa.array([name.strip() for name in names])
    read = [column_types.convert(texts, kind).values.is_valid() for kind in ("number", "time")]
    values = int(pc.sum(pc.or_(*read)).as_py())
    numbers = [int(name) for name in names if name.isdecimal()]
    if 2 * values > len(names) and not (numbers == sorted(set(numbers)) and len(numbers) == values):
        raise DataError(
            f"{place}: {values} of its {len(names)} names are numbers or times, so that it looks like a row; begin the "
            "file with a line of column names"
        )


def _split(line: str, delimiter: str, file: File) -> list[str]:
    import csv

    try:
        return next(csv.reader(line.splitlines(keepends=True), delimiter=delimiter))
    except (csv.Error, StopIteration) as exc:
        raise DataError(f"{file.place}, line 1: not a line of column names: {exc}") from exc


def _stream(file: File) -> Any:
    try:
        return file.system.open_input_stream(file.path)
    except OSError as exc:
        raise DataError(f"{file.place}: cannot be read: {exc.strerror or reason(file.place, exc)}") from exc


def _read(stream: Any, count: int, file: File) -> bytes:
    try:
        return bytes(stream.read(count))
    except OSError as exc:
        hint = "; is it whole, and compressed as its name says?" if file.path.endswith(COMPRESSED) else ""
        raise DataError(f"{file.place}: cannot be read: {_line(exc)}{hint}") from exc


def _refuse_utf16(file: File) -> None:
    with _stream(file) as stream:
        begin = _read(stream, 2, file)
    if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        said = "it is UTF-16 or UTF-32, which Excel calls Unicode text; save the file as UTF-8"
        raise DataError(f"{file.place}, line 1: not UTF-8: byte 0x{begin[0]:02x}: {said}")


def refuse_bad_bytes(file: File) -> None:
    """Name the first bytes that are not UTF-8, if that is what is wrong."""
    _refuse_utf16(file)
    line, rest = 1, b""
    with _stream(file) as stream:
        while block := _read(stream, BLOCK_BYTES, file):
            data = rest + block
            try:
                data.decode("utf-8")
                rest = b""
            except UnicodeDecodeError as exc:
                if exc.reason != "unexpected end of data" or len(data) - exc.start > 3:
                    line += data.count(b"\n", 0, exc.start)
                    raise DataError(
                        f"{file.place}, line {line}: not UTF-8: byte 0x{data[exc.start]:02x}; save the file as UTF-8"
                    ) from exc
                rest = data[exc.start :]
            line += data.count(b"\n", 0, len(data) - len(rest))
    if rest:
        raise DataError(f"{file.place}, line {line}: not UTF-8: the file ends within a character; was it cut short?")


def _reason(exc: BaseException, read: int) -> str:
    """Arrow's words, without the row that it repeats, and what to do about a line of another length."""
    line = _line(exc)
    uneven = re.fullmatch(r".*Row #(\d+): (Expected (\d+) columns, got (\d+))", line)
    if uneven is None:
        return f"after row {read}: not readable as CSV: {line}"
    row, named, values = (int(uneven[group]) for group in (1, 3, 4))
    fix = 'quote values that hold the delimiter with ", and write " within them as ""'
    if named < values and (row == 2 or named == 1):
        first = "the first line must be that of the column names, with nothing above it and as many delimiters as a row"
        short = "; R's write.table leaves the first one out without col.names = NA" if values == named + 1 else ""
        fix = f"{first}{short}; {fix}"
    elif values < named:
        fix = 'quote values that hold a line end with ", leave none out, and delete what is no row, such as a total'
    return f"row {row - 1}: not readable as CSV: {uneven[2]}; {fix}"


def _line(exc: BaseException) -> str:
    """Arrow's words, without the row that it repeats."""
    return re.sub(r"(Expected \d+ columns, got \d+).*", r"\1", str(exc).strip().split("\n", 1)[0])
