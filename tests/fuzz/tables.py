"""Tables gone wrong at random, as exports and pipelines break them; and the same rows written otherwise."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kedge import policy as policies
from kedge.policy import Policy

ROWS = 240
NAMES = ("id", "at", "amount", "items", "gift", "shop", "late")
START = datetime(2026, 3, 1, tzinfo=UTC)
# fmt: off
CELLS: tuple[Any, ...] = (
    1e39, -1e39, 1.797e308, float("inf"), float("-inf"), float("nan"), 1e-320, -0.0, 2**53 + 1, 2**63 - 1, -(2**63),
    2**64, 10**400, "", " ", "?", "NA", "nan", "inf", "1e999", "1e-999", "1,234.5", "$5", "7%", "0x1F", "1_000", "--1",
    "٣", "１２", "1\u00a0000", "\x00", "\x07", "\ufeff", "\u2028", "é" * 3, "\U0001f600", "x" * 70_000, '"', "'",
    "=1+1", "a,b", "a;b", "a\nb", "a\r\nb", "a\rb", 'a"b', "true", "TRUE", "yes", "2", "None", "null",
    "0001-01-01", "9999-12-31T23:59:59Z", "10000-01-01", "2026-02-30", "2026-03-01T25:00", "2026-03-01", "01.03.2026",
    "1772323200", "2026-03-01T00:00:00+99:00", "2026-03-01T00:00:00.123456789Z", "-0001-01-01T00:00:00",
    None, True, False, b"\xff\xfe", b"b", Decimal("1e30"), Decimal("NaN"), datetime(1, 1, 1), datetime(9999, 12, 31),
    timedelta(days=999_999), [1, 2], [], {"a": 1},
)
TYPES: tuple[pa.DataType, ...] = (
    pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(20, 4),
    pa.decimal256(50, 10), pa.bool_(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary(4),
    pa.timestamp("s"), pa.timestamp("ns", "Europe/Vienna"), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"),
    pa.duration("ns"), pa.null(), pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int8()),
    pa.dictionary(pa.int8(), pa.string()), pa.uuid(), pa.month_day_nano_interval(), pa.json_(),
)
# fmt: on
HEADERS = (
    "",
    " ",
    "id",
    "at",
    "late",
    "Amount",
    "amount ",
    "a b",
    "_id",
    "a.b",
    '"',
    "é",
    "x" * 2000,
    "\x00",
    "1",
    "a,b",
)


def policy_for(location: str, kind: str) -> Policy:
    """What reads all of these tables."""
    return policies.parse(
        {
            "model": {
                "name": "fuzz",
                "target": "late",
                "features": {
                    "amount": {"type": "number"},
                    "items": {"type": "integer"},
                    "gift": {"type": "boolean"},
                    "shop": {"type": "category"},
                },
            },
            "data": {
                "source": {"format": kind, "location": location},
                "time_column": "at",
                "id_column": "id",
                "max_bad_row_share": 0.1,
            },
        }
    )


def good() -> dict[str, list[Any]]:
    """The columns of a table without a fault."""
    return {
        "id": [f"r{k:03}" for k in range(ROWS)],
        "at": [START + timedelta(minutes=k) for k in range(ROWS)],
        "amount": [k / 8 for k in range(ROWS)],
        "items": [k % 90 for k in range(ROWS)],
        "gift": [k % 3 == 0 for k in range(ROWS)],
        "shop": ["ABCD"[k % 4] for k in range(ROWS)],
        "late": [k % 5 // 4 for k in range(ROWS)],
    }


def mutant(seed: int, folder: Path) -> tuple[Path, str]:
    """A table with one to three faults, laid into the folder: its place and format."""
    draw = random.Random(seed)
    columns = good()
    for _ in range(draw.choice((1, 1, 2, 3))):
        draw.choice((_cell, _cell, _cell, _column, _shape))(columns, draw)
    kind = draw.choice(("csv", "parquet"))
    raw = _csv(columns, draw) if kind == "csv" else _parquet(columns, draw)
    if draw.random() < 0.4:
        raw = draw.choice((_flipped, _cut, _doubled))(raw, draw)
    place = folder / f"table.{kind}"
    if draw.random() < 0.2:
        place = folder / "table"
        inside = place / draw.choice(("day=2026-03-01", "shop=A", "late=1", "=x", "sub", "id=%00"))
        inside.mkdir(parents=True)
        (inside / f"part.{kind}").write_bytes(raw)
        (place / f"whole.{kind}").write_bytes(_csv(good(), draw) if kind == "csv" else _parquet(good(), draw))
    else:
        place.write_bytes(raw)
    return place, kind


def twin(seed: int, folder: Path) -> tuple[Path, str]:
    """The table without a fault, stored otherwise: its place and format."""
    draw = random.Random(seed)
    table = _table(good())
    if draw.random() < 0.5:
        order = list(range(ROWS))
        draw.shuffle(order)
        table = table.take(order)
    parts = [table.slice(0, 100), table.slice(100)] if draw.random() < 0.5 else [table]
    kind = draw.choice(("csv", "parquet"))
    place = folder / "twin"
    place.mkdir()
    for number, part in enumerate(parts):
        write: Callable[[pa.Table, random.Random, Path], None] = _twin_csv if kind == "csv" else _twin_parquet
        write(part, draw, place / f"{number}.{kind}")
    return place, kind


# fmt: off
SAME: dict[str, Sequence[pa.DataType]] = {
    "id": (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())),
    "at": (pa.timestamp("s", "UTC"), pa.timestamp("ns", "Europe/Vienna"), pa.timestamp("ms")),
    "amount": (pa.float32(), pa.decimal128(30, 4), pa.string()),
    "items": (pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(30, 2), pa.string()),
    "gift": (pa.int8(), pa.float64()),
    "shop": (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())),
    "late": (pa.bool_(), pa.float32(), pa.uint8(), pa.string()),
}
# fmt: on


def _twin_parquet(table: pa.Table, draw: random.Random, file: Path) -> None:
    for name, types in SAME.items():
        if draw.random() < 0.5:
            column = table[name].cast(draw.choice(types))
            table = table.set_column(table.schema.get_field_index(name), name, column)
    names = list(NAMES)
    draw.shuffle(names)
    pq.write_table(
        table.select(names),
        file,
        row_group_size=draw.choice((7, 64, 1000)),
        compression=draw.choice(("snappy", "zstd", "none")),
        use_dictionary=draw.random() < 0.5,
    )


def _twin_csv(table: pa.Table, draw: random.Random, file: Path) -> None:
    times = draw.choice(("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.000+00:00"))
    words = draw.choice((("true", "false"), ("True", "False"), ("1", "0"), ("TRUE", "FALSE")))
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=draw.choice(",;\t|"),
        quoting=draw.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)),
        lineterminator=draw.choice(("\n", "\r\n")),
    )
    names = list(NAMES)
    draw.shuffle(names)
    writer.writerow(names)
    for row in table.to_pylist():
        row |= {"at": row["at"].strftime(times), "gift": words[0 if row["gift"] else 1]}
        writer.writerow([row[name] for name in names])
    text = out.getvalue()
    text = text.rstrip("\r\n") if draw.random() < 0.3 else text
    file.write_bytes(text.encode("utf-8-sig" if draw.random() < 0.3 else "utf-8"))


def _cell(columns: dict[str, list[Any]], draw: random.Random) -> None:
    column = draw.choice(list(columns.values()))
    value = draw.choice(CELLS)
    if not column:
        return
    for _ in range(draw.choice((1, 1, 5, len(column)))):
        column[draw.randrange(len(column))] = value


def _column(columns: dict[str, list[Any]], draw: random.Random) -> None:
    name = draw.choice(list(columns))
    match draw.randrange(4):
        case 0:
            del columns[name]
        case 1:
            columns[draw.choice(HEADERS)] = columns.pop(name)
        case 2:
            columns[name] = [draw.choice(CELLS)] * len(columns[name])
        case _:
            columns[name + " "] = list(columns[name])


def _shape(columns: dict[str, list[Any]], draw: random.Random) -> None:
    rows = draw.choice((0, 1, 2, 30))
    for name in columns:
        columns[name] = columns[name][:rows]


def _csv(columns: dict[str, list[Any]], draw: random.Random) -> bytes:
    out = io.StringIO()
    end = draw.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
    delimiter = draw.choice((",", ",", ";", "\t", "|", ":", " "))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, escapechar="\\", doublequote=draw.random() < 0.9)
    rows = list(zip(*columns.values(), strict=True))
    if draw.random() < 0.9:
        writer.writerow(list(columns))
    for row in rows:
        short = row[: draw.randrange(len(row) + 1)] if draw.random() < 0.002 else row
        writer.writerow(["" if value is None else value for value in short])
    encoding = draw.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    return out.getvalue().encode(encoding, "replace")


def _parquet(columns: dict[str, list[Any]], draw: random.Random) -> bytes:
    table = _table(columns)
    for _ in range(draw.choice((0, 1, 2))):
        if table.num_columns:
            place = draw.randrange(table.num_columns)
            column = _as(table.column(place), draw.choice(TYPES))
            table = table.set_column(place, table.column_names[place], column)
    if draw.random() < 0.03 and table.num_columns:
        table = pa.Table.from_arrays(
            [*table.columns, table.column(0)], names=[*table.column_names, table.column_names[-1]]
        )
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink, row_group_size=draw.choice((50, 1000)))
    except pa.ArrowException:  # a type or a time that Parquet does not have
        pq.write_table(_table(good()), sink)
    return sink.getvalue()


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):  # of several types: all as text
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowException, ValueError):
        pass
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_duration(kind):
        return pa.array(np.arange(len(column)) % 100).cast(kind, safe=False)
    return pa.nulls(len(column), kind)


def _flipped(raw: bytes, draw: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(draw.choice((1, 3, 20))):
        if data:
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _cut(raw: bytes, draw: random.Random) -> bytes:
    return raw[: draw.randrange(len(raw) + 1)]


def _doubled(raw: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(raw) + 1)
    return raw[:at] + raw[draw.randrange(len(raw) + 1) :]
