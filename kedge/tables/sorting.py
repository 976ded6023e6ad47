"""More rows than memory holds, put into one order: sorted runs on disk, merged a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kedge.tables.columns import TIME
from kedge.tables.fingerprint import canonical_order

RUN_ROWS = 131_072
"""Rows sorted in memory at a time."""
BLOCK_ROWS = 2_048
"""Rows of each run that are read at a time while runs are merged; up to twice as many are in memory."""
RUN, PLACE = "_run", "_place"


@dataclass
class Sorter:
    """Rows of one schema in, the same rows out in canonical order.

    Args:
        folder: Where the runs lie meanwhile; as large as the rows.
    """

    folder: Path
    rows: int = 0
    _runs: list[Path] = field(default_factory=list)
    _kept: list[pa.RecordBatch] = field(default_factory=list)
    _count: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take more rows."""
        self._kept.append(batch)
        self._count += batch.num_rows
        self.rows += batch.num_rows
        if self._count >= RUN_ROWS:
            self._spill()

    def blocks(self) -> Iterator[pa.Table]:
        """All rows in order, some at a time, once."""
        if not self._runs:  # they fit into memory
            if self._kept:
                yield canonical_order(pa.Table.from_batches(self._kept))
            self._kept = []
            return
        if self._count:
            self._spill()
        yield from _merged([_Run(number, path) for number, path in enumerate(self._runs)])

    def _spill(self) -> None:
        rows = canonical_order(pa.Table.from_batches(self._kept))
        self._kept, self._count = [], 0
        path = self.folder / f"run-{len(self._runs):05d}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema, options=options) as writer:
            writer.write_table(rows, max_chunksize=BLOCK_ROWS)
        self._runs.append(path)
        pa.default_memory_pool().release_unused()


class _Run:
    """A sorted run, read a block at a time."""

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.read = 0
        """Rows read so far."""
        self._file = pa.OSFile(str(path), "rb")
        self._reader = pa.ipc.open_file(self._file)
        self._next = 0
        self.first = _ticks(self._reader.get_batch(0).column(TIME)[0])

    def block(self) -> pa.Table:
        """The next rows, with the run's number and their places in the run."""
        batch = self._reader.get_batch(self._next)
        self._next += 1
        places = np.arange(self.read, self.read + batch.num_rows, dtype=np.int32)
        self.read += batch.num_rows
        marks = pa.array(np.full(batch.num_rows, self.number, np.int32)), pa.array(places)
        return pa.Table.from_arrays([*batch.columns, *marks], names=[*batch.schema.names, RUN, PLACE])

    @property
    def done(self) -> bool:
        """Whether no block is left."""
        return bool(self._next == self._reader.num_record_batches)


def _merged(runs: Sequence[_Run]) -> Iterator[pa.Table]:
    """Rows of sorted runs in one order.

    What lies in memory is sorted; all rows up to the first one that is the last read of a run go out, since what that
    run still holds comes after it. A run whose rows come later is not opened before.
    """
    waiting = sorted(runs, key=lambda run: run.first)
    open_: dict[int, _Run] = {}
    held: list[pa.Table] = []
    while waiting or held:
        if not held:
            held = [_opened(waiting.pop(0), open_)]
        ordered = canonical_order(pa.concat_tables(held).combine_chunks())
        place = _first_end(ordered, open_)
        if waiting and waiting[0].first <= _ticks(ordered[TIME][place]):
            held = [ordered, _opened(waiting.pop(0), open_)]
            continue
        yield ordered.slice(0, place + 1).drop_columns([RUN, PLACE])
        rest = ordered.slice(place + 1)
        left = np.bincount(rest[RUN].to_numpy(), minlength=len(runs))
        held = [rest] if rest.num_rows else []
        for run in list(open_.values()):
            if left[run.number] < BLOCK_ROWS and not run.done:
                held.append(run.block())
            elif not left[run.number]:
                del open_[run.number]


def _opened(run: _Run, open_: dict[int, _Run]) -> pa.Table:
    open_[run.number] = run
    return run.block()


def _first_end(ordered: pa.Table, runs: Mapping[int, _Run]) -> int:
    """Where in the ordered rows the first row stands that is the last one read of its run."""
    numbers, places = ordered[RUN].to_numpy(), ordered[PLACE].to_numpy()
    last = np.full(max(runs) + 1, -1, np.int64)
    for number, run in runs.items():
        last[number] = run.read - 1
    return int(np.argmax(places == last[numbers]))


def _ticks(time: Any) -> int:
    """Microseconds of a time; a missing one comes last."""
    value = time.cast(pa.int64()).as_py()
    return int(np.iinfo(np.int64).max) if value is None else int(value)
