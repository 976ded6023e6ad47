"""Opening a Delta table whose log is whole.

Delta Lake does not sync what it writes into a folder: after a power cut a commit may be empty, which reads as one that
did nothing. Object storage keeps an object whole or not at all, so only folders are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

NOTHING = '{"commitInfo":{}}'
"""A commit that does nothing."""


def opened(location: str, options: Mapping[str, str] | None = None) -> DeltaTable:
    """The Delta table at a location.

    Raises:
        TableNotFoundError: there is none.
        DeltaError: it cannot be opened, or a file of its log is not whole; says which, and what to do.
    """
    try:
        table = DeltaTable(location, storage_options=dict(options or {}) or None)
    except TableNotFoundError:
        raise
    except DeltaError as exc:
        if "://" not in location and (fault := _fault(Path(location, "_delta_log"))):
            raise DeltaError(fault) from exc
        raise
    refuse_empty(location, table)
    return table


def refuse_empty(location: str, table: DeltaTable, after: int | None = None) -> None:
    """Refuse a table that read an empty commit as one that did nothing.

    Args:
        after: Only later commits are looked at; None: those after the last checkpoint.

    Raises:
        DeltaError: names the file, and what to do.
    """
    if "://" in location:
        return
    log = Path(location, "_delta_log")
    for number in range(1 + (_checkpoint(log) if after is None else after), table.version() + 1):
        path = _commit(log, number)
        if path.exists() and not path.stat().st_size:
            raise DeltaError(_torn(path, "is empty"))


def _fault(log: Path) -> str:
    """Which commit after the last checkpoint is not whole, or that the checkpoint is not; empty: it does not show."""
    first = _checkpoint(log) + 1
    numbers = {int(path.stem) for path in log.glob("*.json") if path.stem.isdigit()}
    for number in range(first, max(numbers, default=0) + 1):
        path = _commit(log, number)
        if number not in numbers:
            return _torn(path, "is missing")
        if not _whole(path):
            return _torn(path, "is cut off")
    checkpoint = log / f"{first - 1:020}.checkpoint.parquet"
    if first and not (checkpoint.exists() and checkpoint.read_bytes()[-4:] == b"PAR1"):
        what = f"{checkpoint.name} is missing or cut off"
        return f"{_damaged(what)}; where all commits before are still there, delete it and _last_checkpoint"
    return ""


def _whole(path: Path) -> bool:
    try:
        return bool([orjson.loads(line) for line in path.read_bytes().splitlines()])
    except orjson.JSONDecodeError:
        return False


def _checkpoint(log: Path) -> int:
    """The version that ``_last_checkpoint`` names; -1: it names none."""
    try:
        return int(orjson.loads((log / "_last_checkpoint").read_bytes())["version"])
    except (OSError, ValueError, TypeError, KeyError):
        return -1


def _commit(log: Path, number: int) -> Path:
    return log / f"{number:020}.json"


def _torn(path: Path, what: str) -> str:
    said = f"a file of that name that holds {NOTHING} lets the table go on without what the commit did"
    return f"{_damaged(f'{path.name} {what}')}; without one, {said}"


def _damaged(what: str) -> str:
    return f"the table's _delta_log is damaged ({what}); restore it from a backup"
