"""Finding the files of a table: one file, a folder, a pattern, locally or in object storage."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from kedge.errors import DataError


@dataclass(frozen=True)
class File:
    """One file and the file system it lies in; ``place`` is how a person finds it."""

    system: Any
    path: str
    place: str

    def open(self) -> Any:
        """A random-access Arrow file. Raises DataError if it cannot be opened."""
        try:
            return self.system.open_input_file(self.path)
        except OSError as exc:
            raise DataError(f"{self.place}: cannot be read: {_reason(exc)}") from exc


def find(location: str, endings: Sequence[str]) -> list[File]:
    """The files at a location, sorted by name; names that begin with ``.`` or ``_`` are passed over in folders.

    Raises:
        DataError: there is none.
    """
    found = _in_object_storage(location, endings) if location.startswith("s3://") else _local(location, endings)
    if not found:
        raise DataError(f"{location}: no {' or '.join(endings)} file there; check data.source.location")
    return found


def s3_settings() -> dict[str, Any]:
    """Where object storage is, from the environment; credentials are found by the client itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    settings: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.partition("://")
        settings |= {"endpoint_override": host.rstrip("/"), "scheme": scheme}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return settings | ({"region": region} if region else {})


def _local(location: str, endings: Sequence[str]) -> list[File]:
    path = Path(location).expanduser()
    if path.is_file():
        names = [path]
    elif path.is_dir():
        names = [file for file in path.rglob("*") if file.is_file() and _counts(file.relative_to(path), endings)]
    else:
        names = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    system = pafs.LocalFileSystem()
    return [File(system, str(name), str(name)) for name in sorted(names)]


def _in_object_storage(location: str, endings: Sequence[str]) -> list[File]:
    system = pafs.S3FileSystem(**s3_settings())
    path = location.removeprefix("s3://").rstrip("/")
    try:
        info = system.get_file_info(path)
        if info.type == pafs.FileType.File:
            return [File(system, path, location)]
        listed = system.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as exc:
        raise DataError(f"{location}: cannot be listed: {_reason(exc)}") from exc
    names = [item.path for item in listed if item.type == pafs.FileType.File]
    counting = sorted(name for name in names if _counts(Path(name).relative_to(path), endings))
    return [File(system, name, f"s3://{name}") for name in counting]


def _counts(name: Path, endings: Sequence[str]) -> bool:
    return name.name.endswith(tuple(endings)) and not any(part.startswith((".", "_")) for part in name.parts)


def _reason(exc: OSError) -> str:
    return exc.strerror or str(exc)
