"""A history cut into blocks: each is served by one model, then checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.errors import DataError, UsageError
from kedge.measure import Floats, outcomes
from kedge.policy import Policy
from kedge.policy.section import MAX_SECONDS

DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_START_ROWS = 50
MAX_SCORES = 500_000_000
"""What the fits of simple rules may say about later rows, 4 GB: each has a score for every row after it."""


@dataclass(frozen=True)
class Blocks:
    """Rows in time order; block j holds those from ``edges[j]`` to ``edges[j + 1]``."""

    policy: Policy
    table: pa.Table
    """Features, target and ``_time``."""
    edges: tuple[int, ...]
    known: tuple[int, ...]
    """Rows whose outcome is known when block j begins: those before ``known[j]``."""
    start_rows: int

    def __len__(self) -> int:
        return len(self.edges) - 1

    @cached_property
    def label(self) -> Floats:
        """Outcomes, shape (rows,)."""
        return outcomes(self.table, self.policy.model.target)

    @cached_property
    def microseconds(self) -> NDArray[np.int64]:
        """Times of the rows since 1970, shape (rows,)."""
        return np.asarray(self.table.column("_time").cast(pa.int64()).to_numpy())

    def time(self, row: int) -> datetime:
        """When a row happened."""
        return EPOCH + timedelta(microseconds=int(self.microseconds[row]))

    def end(self, block: int) -> datetime:
        """When a block is checked: right after its last row."""
        return self.time(self.edges[block + 1] - 1) + timedelta(microseconds=1)

    def rows(self, block: int) -> slice:
        """Rows of a block."""
        return slice(self.edges[block], self.edges[block + 1])


def cut(policy: Policy, table: pa.Table, *, block: str, start_rows: int, label_delay_seconds: float) -> Blocks:
    """Cut rows in time order into blocks; the first ``start_rows`` are what the first model is trained on.

    Args:
        policy: Names the target; of the blocks' policy ``labels`` say this delay.
        table: Features, target and ``_time``, in time order.
        block: So many rows ("250"), or so much time ("12h", "7d"). Rows at the end that fill no block are left out.
        start_rows: Rows before the first block.
        label_delay_seconds: How long after a row its outcome is known.

    Raises:
        UsageError: a block that is neither; too few rows to start with; so many blocks that no memory holds their fits.
        DataError: not two blocks of rows, or none known when the first begins.
    """
    rows = table.num_rows
    if start_rows < MIN_START_ROWS:
        raise UsageError(f"--start-rows {start_rows}: at least {MIN_START_ROWS} are needed to train a first model")
    stated = {"delay_seconds": label_delay_seconds, "complete_after_seconds": None}
    policy = policy.model_copy(update={"labels": policy.labels.model_copy(update=stated)})
    times = np.asarray(table.column("_time").cast(pa.int64()).to_numpy())
    edges = _by_rows(int(block), rows, start_rows) if block.isdigit() else _by_time(_duration(block), times, start_rows)
    if len(edges) < 3:
        raise DataError(f"{rows:,} rows are fewer than {start_rows:,} to start with and two blocks of {block}")
    held = sum(edges[-1] - edge for edge in edges) * (len(policy.model.classes) or 1)
    if held > MAX_SCORES:
        raise UsageError(
            f"--block {block}: {len(edges) - 1:,} blocks of {rows:,} rows; the fits of simple rules, one a block, "
            f"would hold {held * 8 / 1e9:,.0f} GB of scores, at most {MAX_SCORES * 8 / 1e9:,.0f} GB allowed; take "
            "longer blocks or a shorter history"
        )
    delay = round(min(label_delay_seconds, MAX_SECONDS) * 1e6)
    ends = [times[edge - 1] for edge in edges]
    known = tuple(
        min(edge, int(np.searchsorted(times, end - delay, "right"))) for edge, end in zip(edges, ends, strict=True)
    )
    if known[0] < MIN_START_ROWS:
        raise DataError(
            f"only {known[0]:,} of the first {start_rows:,} rows have an outcome {label_delay_seconds:,.15g} s later, "
            "when the first block begins: the history is shorter than the delay; raise --start-rows"
        )
    return Blocks(policy, table.slice(0, edges[-1]), tuple(edges), known, start_rows)


def _by_rows(count: int, rows: int, start: int) -> list[int]:
    if count < 1:
        raise UsageError("--block 0: a block has at least one row")
    return list(range(start, rows + 1, count))


def _by_time(step: int, times: NDArray[np.int64], start: int) -> list[int]:
    if start >= len(times):
        return []
    ends = np.arange(times[start] + step, times[-1] + 1, step)
    edges = [start, *(int(edge) for edge in np.searchsorted(times, ends, "left"))]
    return sorted(set(edges))


def _duration(text: str) -> int:
    match = DURATION.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--block {text!r}: rows such as 250, or a time such as 12h, 1d, 7d, 30min")
    return round(min(float(match[1]) * SECONDS[match[2]], MAX_SECONDS) * 1e6)
