"""Finding the files of a table: one file, a folder, a pattern, locally or in object storage.

A folder ``day=2026-01-01`` below it says the value of a column in all its rows: the layout of partitioned tables
that Hive, Spark, Polars and DuckDB write.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pafs

from kedge.clouds import place_of, reason
from kedge.errors import DataError
from kedge.tables.cloud_files import file_system


@dataclass(frozen=True)
class File:
    """One file and the file system it lies in; ``place`` is how a person finds it."""

    system: Any
    path: str
    place: str
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """Columns that the folders say, with their value in this file."""

    def open(self) -> Any:
        """A random-access Arrow file. Raises DataError if it cannot be opened."""
        try:
            return self.system.open_input_file(self.path)
        except OSError as exc:
            raise DataError(f"{self.place}: cannot be read: {_reason(self.place, exc)}") from exc


PARQUET = (".parquet", ".pq", ".parquet.gzip")
CSV = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.zst")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
UNREAD = {
    ".parquet.gz": "a compressed Parquet file: unpack it",
    ".xlsx": "an Excel workbook: save the sheet as CSV",
    ".xls": "an Excel workbook: save the sheet as CSV",
    ".ods": "a spreadsheet: save the sheet as CSV",
    ".json": "JSON: write it as Parquet or CSV",
    ".jsonl": "JSON lines: write them as Parquet or CSV",
    ".ndjson": "JSON lines: write them as Parquet or CSV",
    ".txt": "text: if it is CSV, call it .csv",
    ".psv": "text: if it is CSV, call it .csv",
    ".tab": "text: if it is CSV, call it .csv",
    ".dat": "text: if it is CSV, call it .csv",
    ".data": "text: if it is CSV, give it a line of column names and call it .csv",
    ".orc": "an ORC file: write it as Parquet",
    ".avro": "an Avro file: write it as Parquet",
    ".feather": "an Arrow file: write it as Parquet",
    ".arrow": "an Arrow file: write it as Parquet",
    ".pkl": "a pickle, which may run code when it is read: write it as Parquet",
    ".pickle": "a pickle, which may run code when it is read: write it as Parquet",
    ".xz": "compressed by xz: unpack it, or compress it with gzip or zstd",
    ".lz4": "compressed by lz4: unpack it, or compress it with gzip or zstd",
    ".tar": "an archive: unpack it, or compress the CSV file with gzip",
    ".tgz": "an archive: unpack it, or compress the CSV file with gzip",
    ".7z": "an archive: unpack it, or compress the CSV file with gzip",
    ".rar": "an archive: unpack it, or compress the CSV file with gzip",
    ".html": "a page of the web: save the table as CSV",
    ".xml": "XML: write it as Parquet or CSV",
    ".zip": "an archive: unpack it, or compress the CSV file with gzip",
    ".db": "a database: query it by SQL, or export it as Parquet",
    ".sqlite": "a database: query it by SQL, or export it as Parquet",
    ".duckdb": "a database: export it as Parquet",
    ".lance": "a Lance table: export it as Parquet",
    ".vortex": "a Vortex file: write it as Parquet",
    ".h5": "an HDF5 file: write it as Parquet",
    ".sas7bdat": "a SAS file: write it as Parquet",
    ".sav": "an SPSS file: write it as Parquet",
    ".dta": "a Stata file: write it as Parquet",
    ".arff": "a Weka file: write it as CSV",
    ".rds": "a file of R: write it as Parquet or CSV",
}
"""Files of other formats by their endings: what they are, and the way from there."""
PACKED = re.compile(r"(?<!\.parquet)\.(gz|bz2|zst)$")
"""What compression adds to an ending."""
FOREIGN = {
    "_delta_log": "a Delta table: `format: delta` reads it, with its folder as the location",
    ".hoodie": "a Hudi table, which kedge does not read: export it to Parquet or Delta, or query it by SQL",
    "metadata": "an Iceberg table, which kedge does not read: export it to Parquet or Delta, or query it by SQL",
    "_versions": "a Lance table, which kedge does not read: export it to Parquet or Delta",
    "snapshot": "a Paimon table, which kedge does not read: export it to Parquet or Delta, or query it by SQL",
}
"""Folders that tell a table of another format: its files are not its rows, some of them are deleted or of the past."""
MARKS = {
    "metadata": re.compile(r".*\.metadata\.json.*|version-hint\.text|snap-.*\.avro"),
    "_versions": re.compile(r".*\.manifest"),
    "snapshot": re.compile(r"snapshot-\d+|LATEST|EARLIEST"),
}
"""Of such folders those that other tables may have too -> files that only these tables have there."""
DUCKLAKE = re.compile(r"ducklake-[0-9a-f-]{36}(-delete)?\.parquet")


class NothingThere(DataError):
    """No table lies at a location; who names it knows which field to check."""


SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/run", "/var/run", "/root")


def find(location: str, endings: Sequence[str]) -> list[File]:
    """The files at a location, sorted by name; names that begin with ``.`` or ``_`` are passed over in folders.

    Raises:
        NothingThere: there is none.
        DataError: they are those of another table format.
    """
    found = _in_object_storage(location, endings) if "://" in location else _local(location, endings)
    if not found:
        raise NothingThere(f"{location}: no {' or '.join(endings[:2])} file there")
    return found


def listed(location: str) -> list[str]:
    """The names of the files at a location, relative to a folder's; of a Delta table perhaps only its log's.

    Raises:
        DataError: nothing is there, or object storage does not answer.
    """
    if "://" in location:
        system, path = file_system(location)
        names = _names(location, system, f"{path}/_delta_log".lstrip("/")) or _names(location, system, path)
        names = [PurePosixPath(name).relative_to(path).as_posix() for name in names if name != path] or names
    else:
        path = str(Path(location).expanduser())
        folder = Path(path)
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
        names = names or ([path] if folder.is_file() else glob.glob(path, recursive=True))
    if not names:
        raise DataError(f"{location}: no such file or folder")
    return names


def refuse_system_file(location: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse, in a pod, a table among the files of the system: there lie the Secrets of the step that reads it.

    A policy is written by whoever trains a model, a step's Secrets are the installation's. Links are followed.

    Raises:
        DataError: it lies in one of SYSTEM.
    """
    if "://" in location or "KUBERNETES_SERVICE_HOST" not in environment:
        return
    path = Path(location).expanduser()
    try:
        path = path.resolve()
    except OSError:  # behind a link that may not be followed
        path = Path(os.path.abspath(path))
    folder = next((folder for folder in SYSTEM if path.is_relative_to(folder)), None)
    if folder is not None:
        raise DataError(
            f"{location}: lies in {folder}, where a pod has its system and its Secrets: no table is read from there; "
            "mount a claim by the policy's cluster.volumes, or name an address in object storage"
        )


def foreign(names: Iterable[str]) -> tuple[str, str] | None:
    """The folder of another table format among these paths, and what it is; None if there is none.

    >>> foreign(["lake/sales/data/a.parquet", "lake/sales/metadata/v1.metadata.json"])[0]
    'lake/sales'
    >>> foreign(["lake/sales/metadata/notes.parquet"]) is None
    True
    """
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        for place, part in enumerate(parts):
            if part in FOREIGN and (part not in MARKS or MARKS[part].fullmatch(PurePosixPath(name).name)):
                return "/".join(parts[:place]), FOREIGN[part]
        if DUCKLAKE.fullmatch(PurePosixPath(name).name):
            said = "a DuckLake table, some of whose rows its files alone do not tell as deleted: export it to Parquet"
            return "/".join(parts), said
    return None


def _local(location: str, endings: Sequence[str]) -> list[File]:
    refuse_system_file(location)
    path = Path(location).expanduser()
    base = path
    if path.is_file():
        names = [path]
    elif path.is_dir():
        names = _chosen(location, [file for file in path.rglob("*") if file.is_file()], path, endings)
    else:
        names = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
        base = Path(*(path.parts[: next((k for k, part in enumerate(path.parts) if glob.has_magic(part)), -1)]))
    _refuse_part(location, base)
    system = pafs.LocalFileSystem()
    for name in names:
        refuse_system_file(str(name))
    return [File(system, str(name), str(name), _partition(name, base)) for name in sorted(names)]


def _refuse_part(location: str, base: Path) -> None:
    """Refuse the files of a folder that is inside a table of another format."""
    for folder in base.absolute().parents[:3]:
        marks = (folder / name for name in FOREIGN)
        table = foreign(f"{mark.name}/{file.name}" for mark in marks if mark.is_dir() for file in mark.iterdir())
        if table is not None:
            raise DataError(f"{location}: lies in {folder}, which is {table[1]}")


def _names(location: str, system: Any, path: str) -> list[str]:
    """The files at a path in object storage; none if there is nothing."""
    try:
        if path and system.get_file_info(path).type == pafs.FileType.File:
            return [path]
        found = system.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as exc:
        raise DataError(f"{location}: cannot be listed: {_reason(location, exc)}") from exc
    return [item.path for item in found if item.type == pafs.FileType.File]


def _in_object_storage(location: str, endings: Sequence[str]) -> list[File]:
    system, path = file_system(location)
    names = _names(location, system, path)
    if names == [path]:
        return [File(system, path, location)]
    base, root = Path(path), place_of(location).root
    chosen = sorted(_chosen(location, [Path(name) for name in names], base, endings))
    return [File(system, str(name), f"{root}/{name}", _partition(name, base)) for name in chosen]


def _chosen(location: str, files: Sequence[Path], folder: Path, endings: Sequence[str]) -> list[Path]:
    """Those of a folder's files that are the table's."""
    inside = [file.relative_to(folder) for file in files]
    table = foreign(name.as_posix() for name in inside)
    if table is not None:
        raise DataError(f"{'/'.join([location.rstrip('/'), *filter(None, [table[0]])])}: is {table[1]}")
    return [folder / name for name in inside if _counts(name, endings)]


def _counts(name: Path, endings: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "_")) and "=" not in part for part in name.parts)
    return name.name.lower().endswith(tuple(endings)) and not hidden


def unread(names: Iterable[str]) -> str:
    """What files are that are of no format kedge reads, by their endings; empty: not known.

    >>> unread(["data/book.xlsx"])
    'an Excel workbook: save the sheet as CSV'
    """
    lower = [PACKED.sub("", name.lower()) for name in names]
    return next((said for ending, said in UNREAD.items() if any(name.endswith(ending) for name in lower)), "")


def _partition(name: Path, base: Path) -> dict[str, str | None]:
    """The columns that folders between base and file say."""
    parts = name.relative_to(base).parts[:-1] if name.is_relative_to(base) else ()
    pairs = (part.split("=", 1) for part in parts if "=" in part)
    return {unquote(column): None if value == NO_VALUE else unquote(value) for column, value in pairs if column}


def _reason(place: str, exc: OSError) -> str:
    return exc.strerror or reason(place, exc)
