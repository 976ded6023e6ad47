"""The rows of a table's file one by one: JSON lines, CSV; Parquet is read in :mod:`kedge.tables.confined`.

Each row comes with where it stands. Nothing larger than a line is in memory.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from kedge.body import UnreadableBody, json_cause, shown

MAX_LINE_BYTES = 64 << 10

Rows = Iterator[tuple[str, Any]]
"""Where a row stands, and the row: cells by their columns' names, or whatever the line holds."""


def from_lines(path: Path) -> Rows:
    """A file of JSON lines.

    Raises:
        UnreadableBody: a line is not JSON or too long.
    """
    for number, line in _lines(path):
        if line.strip():
            try:
                yield f"line {number}", orjson.loads(line)
            except orjson.JSONDecodeError as exc:
                cause = json_cause(line.rstrip(b"\r\n"), exc).removeprefix("line 1, ")
                raise UnreadableBody("malformed", f"line {number} is not JSON: {cause}") from None


def from_csv(path: Path, columns: Sequence[str], required: int) -> Rows:
    """These columns of a CSV file with a header, of which the first so many are required; cells are text.

    Raises:
        UnreadableBody: a required column is missing, or it is no such file.
    """
    reader = csv.reader((_decoded(number, line) for number, line in _lines(path)), strict=True)
    try:
        names = next(reader, [])
        require(columns[:required], names)
        for values in reader:
            if values:
                if len(values) != len(names):
                    raise ValueError(f"{len(values)} cells, the header has {len(names)}")
                cells = dict(zip(names, values, strict=True))
                yield f"line {reader.line_num}", {name: cells[name] for name in columns if name in cells}
    except (csv.Error, ValueError) as exc:
        cause = "lines end with \\r alone; end them with \\n" if "new-line character" in str(exc) else exc
        fault = f"not a CSV file with the columns {', '.join(columns)}: line {reader.line_num}: {cause}"
        raise UnreadableBody("malformed", fault) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, each of bounded length."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise UnreadableBody("too-large", f"line {number} has more than {MAX_LINE_BYTES:,} bytes")
            yield number, line


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as exc:
        if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UnreadableBody("malformed", "the file is UTF-16; send UTF-8") from None
        raise UnreadableBody("malformed", f"line {number} is not UTF-8: {exc.reason}") from None


def require(required: Sequence[str], names: Sequence[str]) -> None:
    """Raise UnreadableBody if some of the required columns are not there."""
    missing = [name for name in required if name not in names]
    if missing:
        apart = "; columns are separated by commas" if len(names) == 1 and re.search(r"[;\t|]", names[0]) else ""
        raise UnreadableBody(
            "malformed", f"columns {missing} are missing; the file has {shown(', '.join(names))}{apart}"
        )
