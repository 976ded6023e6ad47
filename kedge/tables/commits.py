"""Opening a Delta table whose log is whole.

Delta Lake does not sync what it writes into a folder: after a power cut a commit may be empty, which reads as one that
did nothing, or end between two of its lines, which reads as one that did less. Object storage keeps an object whole or
not at all, so only folders are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    refuse_torn(location, table)
    return table


def refuse_torn(location: str, table: DeltaTable, after: int | None = None) -> None:
    """Refuse a table that read a commit, or a checkpoint, of which the end is missing as one that did less.

    That a commit names fewer files than it added shows where its writer said how many, as delta-rs and so kedge does.

    Args:
        after: Only later commits are looked at; None: those after the last checkpoint.

    Raises:
        DeltaError: names the file, and what to do.
    """
    if "://" in location:
        return
    log = Path(location, "_delta_log")
    if after is None:
        _refuse_other_size(log)
    for number in range(1 + (_checkpoint(log) if after is None else after), table.version() + 1):
        path = _commit(log, number)
        if path.exists() and (fault := _lacking(path.read_bytes())):
            raise DeltaError(_torn(path, fault))


def _lacking(commit: bytes) -> str:
    """What a commit whose lines are whole lacks; empty: nothing, as far as it says."""
    if not commit:
        return "is empty"
    action = orjson.loads(commit.partition(b"\n")[0])
    metrics = action.get("commitInfo", {}).get("operationMetrics") or {}
    added, named = metrics.get("num_added_files", 0), commit.count(b'\n{"add":')
    return (
        f"names {named} of the {added} files that it added: it is cut off"
        if isinstance(added, int) and added > named
        else ""
    )


def _refuse_other_size(log: Path) -> None:
    """Refuse a checkpoint that has other bytes than ``_last_checkpoint`` says."""
    newest = last_checkpoint(log)
    said, files = newest.get("sizeInBytes"), checkpoint_files(log, newest.get("version"))
    size = sum(path.stat().st_size for path in files)
    if files and type(said) is int and size != said:
        raise DeltaError(bad_checkpoint(f"{files[0].name} has {size:,} bytes, _last_checkpoint says {said:,}"))


def checkpoint_files(log: Path, version: object) -> list[Path]:
    """The files of a version's checkpoint in the form that is one table, or one in parts; of any other none."""
    if not isinstance(version, int):
        return []
    name = re.compile(rf"{version:020}\.checkpoint(\.\d{{10}}\.\d{{10}})?\.parquet")
    return sorted(path for path in log.glob(f"{version:020}.checkpoint*") if name.fullmatch(path.name))


def bad_checkpoint(what: str) -> str:
    """What to do where a checkpoint is not what was written."""
    return f"{_damaged(what)}; where all commits before are still there, delete it and _last_checkpoint"


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
        return bad_checkpoint(f"{checkpoint.name} is missing or cut off")
    return ""


def _whole(path: Path) -> bool:
    try:
        return bool([orjson.loads(line) for line in path.read_bytes().splitlines()])
    except orjson.JSONDecodeError:
        return False


def _checkpoint(log: Path) -> int:
    """The version that ``_last_checkpoint`` names; -1: it names none."""
    version = last_checkpoint(log).get("version")
    return version if type(version) is int else -1


def last_checkpoint(log: Path) -> dict[str, Any]:
    """What ``_last_checkpoint`` says; empty if it is not there, or is none."""
    try:
        said = orjson.loads((log / "_last_checkpoint").read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _commit(log: Path, number: int) -> Path:
    return log / f"{number:020}.json"


def _torn(path: Path, what: str) -> str:
    said = f"a file of that name that holds {NOTHING} lets the table go on without what the commit did"
    return f"{_damaged(f'{path.name} {what}')}; without one, {said}"


def _damaged(what: str) -> str:
    return f"the table's _delta_log is damaged ({what}); restore it from a backup"
