"""Local files written whole or not at all: beside, fsync, rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file so that a reader, or a crash, sees the old bytes or the new ones and nothing between.

    Raises:
        OSError: as the file system gives it; nothing is left behind.
    """
    _replace(path, lambda: write_beside(path, data))


def copy_file(source: Path, path: Path) -> None:
    """As :func:`write_file`, with the bytes of another file."""
    with source.open("rb") as content:
        _replace(path, lambda: _beside(path, lambda file: shutil.copyfileobj(content, file)))


def _replace(path: Path, write: Callable[[], Path]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = write()
        try:
            beside.rename(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as exc:
        exc.filename = str(path)  # a write that failed names no file, a rename the hidden one
        raise


def write_beside(path: Path, data: bytes) -> Path:
    """Write the data, durable, to a new hidden file in the folder of ``path`` and return its name."""
    return _beside(path, lambda file: file.write(data))


def _beside(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a rename without it may be forgotten by a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
