"""Parquet from strangers, read by a process that gets so much memory and no more.

What a Parquet file says of itself may be a lie, in its footer, its pages' heads and what they unpack to, and the
libraries that read it make room for what it says. So a process of its own turns the file into lines of JSON, and is
ended when it takes more. Needs no pyarrow.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from kedge.body import UnreadableBody, shown
from kedge.tables.rowwise import Rows, require

MAX_ROWS = 5_000_000
MAX_TEXT_BYTES = 64 << 10
MEMORY_BYTES = 384 << 20
"""Of the process, its libraries included. The kernel lets it ask for twice as much; refused memory, it may hang."""
SECONDS = 120.0
LOOK_SECONDS = 0.02
REFUSED = 3
"""Exit code of the process that says itself what is wrong."""


def from_parquet(path: Path, columns: Sequence[str], required: int, max_bytes: int) -> Rows:
    """These columns of a Parquet file, of which the first so many are required, in no given order; the first is an id.

    The file has to lie in a folder of its own, ending in ``.parquet``: Delta Lake, which reads it, writes down there
    what it found, and the rows are kept there for the next call.

    Args:
        max_bytes: Of the rows as JSON.

    Raises:
        UnreadableBody: a required column is missing, it is too large when it is read, or no such file.
    """
    lines = path.with_suffix(".jsonl")
    if not lines.exists():
        _unpack(path, lines, columns, required, max_bytes)
    with lines.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            yield f"{columns[0]} {shown(row[columns[0]])}", row


def _unpack(path: Path, lines: Path, columns: Sequence[str], required: int, max_bytes: int) -> None:
    part = lines.with_suffix(".part")
    command = [sys.executable, "-P", "-m", "kedge.tables.confined", str(path), str(required), str(max_bytes), *columns]
    with part.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as said:
        environment = {**os.environ, "TOKIO_WORKER_THREADS": "1"}
        with subprocess.Popen(command, stdout=file, stderr=said, env=environment) as process:
            code = _watched(process)
        said.seek(0)
        last = said.read().rpartition(b"\n")[2]
    if code == REFUSED:
        raise UnreadableBody(*orjson.loads(last))
    if code:
        raise UnreadableBody(
            "too-large",
            f"the file's {path.stat().st_size:,} bytes take more than {MEMORY_BYTES >> 20} MiB of memory, or "
            f"{SECONDS:g} s, when they are unpacked; send fewer rows at once",
        )
    part.rename(lines)


def _watched(process: subprocess.Popen[bytes]) -> int:
    """The process's exit code; it is killed when it takes too much."""
    deadline, memory = time.monotonic() + SECONDS, Path(f"/proc/{process.pid}/statm")
    while (code := process.poll()) is None:
        with suppress(OSError, IndexError):  # it ended, or this machine is no Linux
            if int(memory.read_text().split()[1]) * resource.getpagesize() > MEMORY_BYTES:
                process.kill()
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(LOOK_SECONDS)
    return code


def main(arguments: Sequence[str]) -> int:
    """Write the rows of a Parquet file to standard output, a JSON object a line; the exit code."""
    path, required, max_bytes, *columns = arguments
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MEMORY_BYTES, 2 * MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = 0
    try:
        for row in _rows(Path(path), columns, int(required)):
            line = orjson.dumps(row, default=repr, option=orjson.OPT_APPEND_NEWLINE)
            size += len(line)
            if size > int(max_bytes):
                raise UnreadableBody("too-large", f"its rows have more than {int(max_bytes):,} bytes; send fewer")
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except UnreadableBody as exc:
        sys.stderr.buffer.write(b"\n" + orjson.dumps([exc.reason, str(exc)]))
        return REFUSED
    return 0


def _rows(path: Path, columns: Sequence[str], required: int) -> Iterator[dict[str, Any]]:
    from arro3.core import DataType
    from deltalake import DeltaTable, convert_to_deltalake

    try:
        convert_to_deltalake(path.parent)
        table = DeltaTable(path.parent)
        kinds = {field.name: field.type.type for field in table.schema().fields}
        require(columns[:required], list(kinds))
        present = [name for name in columns if name in kinds]
        _refuse_long(table, [name for name in present if kinds[name] in ("string", "binary")])
        for batch in table.scan(columns=present):
            cells = {name: batch[name] for name in present}
            if not DataType.is_string_view(cells[columns[0]].type):
                cells[columns[0]] = cells[columns[0]].cast(DataType.string())
            for values in zip(*(column.to_pylist() for column in cells.values()), strict=True):
                yield dict(zip(present, values, strict=True))
    except (UnreadableBody, MemoryError):
        raise
    except Exception as exc:  # noqa: BLE001  (Delta Lake and the Arrow below it have no exception in common)
        first = str(exc).strip().partition("\n")[0]
        fault = f"not a Parquet file with the columns {', '.join(columns)}: {first}"
        raise UnreadableBody("malformed", fault) from None


def _refuse_long(table: Any, texts: Sequence[str]) -> None:
    """A text that repeats is in a file once; each row that is read would have its own."""
    from deltalake import QueryBuilder

    if (rows := table.count()) > MAX_ROWS:
        raise UnreadableBody("too-large", f"{rows:,} rows; send at most {MAX_ROWS:,} at once")
    for name in texts:
        query = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("rows", table)
        found = query.execute(f"SELECT max(octet_length({name})) AS length FROM rows").read_all()  # noqa: S608
        longest = found["length"].to_pylist()[0] or 0
        if longest > MAX_TEXT_BYTES:
            raise UnreadableBody("too-large", f"column {name!r} has a text of {longest:,} bytes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
