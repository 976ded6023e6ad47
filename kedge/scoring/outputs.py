"""Where predictions go: a Parquet file, a Delta table, a table of a database. Each is written whole, or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from kedge.clouds import place_of, reason
from kedge.errors import DataError, StoreError, UsageError
from kedge.scoring.tables import SQL
from kedge.store import Store
from kedge.store.files import sync_folder
from kedge.tables.cloud_files import file_system
from kedge.tables.files import CSV, PARQUET, UNREAD, foreign
from kedge.tables.staged import Staged, writing

TABLE = re.compile(r"[A-Za-z_]\w{0,62}(\.[A-Za-z_]\w{0,62})?")
TIME = pa.timestamp("us", tz="UTC")
KEPT = ("adopted", "bundles", "code", "deleted", "logs", "records", "reports", "runs", "snapshots")
"""Folders of the store."""
SQL_ROWS = 4096
"""So many are inserted at once: as objects of Python they are many times larger."""
BATCH = b"kedge.batch"
"""In a Parquet file's metadata: which batch it holds the predictions of."""


def schema(id_name: str, classes: Sequence[str] = ()) -> pa.Schema:
    """Columns of predictions: the id under its own name, ``score``, ``prediction``, ``version``, ``time``; of several
    classes ``score_NAME`` of each, and the name of the one decided for.

    Raises:
        UsageError: the id is called as one of the others.
    """
    answers = [f"score_{name}" for name in classes] or ["score"]
    if id_name in (*answers, "prediction", "version", "time"):
        raise UsageError(
            f"the ids' column is called {id_name!r}, as one of the predictions is: call it otherwise in the table"
        )
    return pa.schema(
        [
            (id_name, pa.string()),
            *((name, pa.float64()) for name in answers),
            ("prediction", pa.string() if classes else pa.float64()),
            ("version", pa.string()),
            ("time", TIME),
        ]
    )


class Output(Protocol):
    """Predictions of one batch on their way."""

    place: str

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows, of which nobody sees anything yet."""

    def holds(self, batch: str) -> bool:
        """Whether the output has this batch already.

        Raises:
            UsageError: it holds another one, and is not to be replaced.
        """

    def commit(self, batch: str) -> None:
        """Show them all at once.

        Raises:
            StoreError: the storage refused.
        """

    def abort(self) -> None:
        """Leave nothing behind."""


def open_output(location: str, columns: pa.Schema, *, model: str, replace: bool) -> Output:
    """What writes to a location.

    Args:
        location: A file that ends with .parquet; ``sql:VARIABLE/TABLE`` with the connection address in an environment
            variable; anything else is a Delta table.
        replace: Whether a Parquet file that is there may be replaced.

    Raises:
        UsageError, DataError: what is there is not for predictions of this model.
        StoreError: the storage does not answer.
    """
    if location.startswith(SQL):
        return SqlOutput(location, columns, model)
    if location.lower().endswith(PARQUET):
        return ParquetOutput(location, columns, model, replace=replace)
    if location.lower().endswith((*CSV, *UNREAD)):
        raise UsageError(
            f"--output {location}: predictions are written to Parquet (a name that ends with .parquet), to a Delta "
            "table (a folder) or to a database (sql:VARIABLE/TABLE)"
        )
    return DeltaOutput(location, columns, model)


def refuse_input(output: str, table: str) -> None:
    """Refuse to write into what is read.

    Raises:
        UsageError: the output is the table, a file of it, or a folder around it; or one of them has no name.
    """
    if not output or not table:
        raise UsageError(f"--{'data' if output else 'output'}: empty: name a place; is a variable not set?")
    if output.startswith(SQL) or table.startswith(SQL):
        return
    there, here = _resolved(output), _resolved(table)
    if there == here or there.startswith(f"{here}/") or here.startswith(f"{there}/"):
        raise UsageError(f"--output {output}: is --data, or lies with it in one folder tree: give another place")


def refuse_store(output: str, store: Store) -> None:
    """Refuse to write among what kedge keeps.

    Raises:
        UsageError: the output lies there.
    """
    own = "" if output.startswith(SQL) else f"{_resolved(output)}/"
    kept = next((name for name in KEPT if own.startswith(f"{_resolved(store.uri(name))}/")), None)
    if kept is not None:
        raise UsageError(f"--output {output}: lies among the {kept} of the store: give another place")


def refuse_alike(columns: pa.Schema, place: str) -> None:
    """Refuse names that a table without capitals takes for one.

    Raises:
        UsageError: two columns are called so.
    """
    lower = [name.lower() for name in columns.names]
    twice = next((name for name in columns.names if lower.count(name.lower()) > 1), None)
    if twice is not None:
        alike = [name for name in columns.names if name.lower() == twice.lower()]
        raise UsageError(f"{place}: its columns would be {' and '.join(map(repr, alike))}: write a .parquet file")


class ParquetOutput:
    """A Parquet file: written beside, then renamed."""

    def __init__(self, location: str, columns: pa.Schema, model: str, *, replace: bool) -> None:
        self.place, self._model, self._replace = location, model, replace
        self._remote = "://" in location
        there = location if self._remote else str(Path(location).expanduser().absolute())
        self._system, self._path = file_system(there)
        self._held = self._batch_there()
        folder = Path(self._path).parent
        with writing(self.place):
            if not self._remote:
                folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=f".{Path(location).name[:100]}.", suffix=".part", dir=None if self._remote else folder
            )
            os.close(handle)
        self._beside = Path(name)
        self._writer: Any = pq.ParquetWriter(name, columns, use_dictionary=["version"])

    def write(self, rows: pa.RecordBatch) -> None:
        with writing(self.place):
            self._writer.write_batch(rows)

    def holds(self, batch: str) -> bool:
        self._held = self._batch_there()  # another scoring may have written meanwhile
        if self._held is not None and self._held != f"{self._model}/{batch}" and not self._replace:
            raise UsageError(
                f"{self.place}: holds the predictions of another batch: give another name, or --replace; nothing was "
                "written or logged"
            )
        return self._held == f"{self._model}/{batch}"

    def commit(self, batch: str) -> None:
        self._writer.add_key_value_metadata({BATCH: f"{self._model}/{batch}"})
        with writing(self.place):
            self._writer.close()
            if self._remote:
                with self._beside.open("rb") as source, self._system.open_output_stream(self._path) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                self._beside.unlink()
            else:
                with self._beside.open("rb+") as written:
                    os.fsync(written.fileno())
                self._beside.chmod(0o644)
                self._beside.rename(self._path)
                sync_folder(Path(self._path).parent)

    def abort(self) -> None:
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._beside.unlink(missing_ok=True)

    def _batch_there(self) -> str | None:
        """The model and batch of the predictions that are there; None: nothing is, or it will be replaced."""
        try:
            kind = self._system.get_file_info(self._path).type
        except OSError as exc:
            raise StoreError(f"{self.place}: storage does not answer: {reason(self.place, exc)}") from exc
        if kind == pafs.FileType.NotFound:
            return None
        if kind == pafs.FileType.Directory:
            raise UsageError(f"{self.place}: is a folder; predictions are one file, so give another name")
        try:
            with self._system.open_input_file(self._path) as file:
                held = (pq.read_metadata(file).metadata or {}).get(BATCH)
        except (OSError, pa.ArrowException):
            if self._replace:
                return None
            raise UsageError(
                f"{self.place}: is there and is no whole Parquet file, as one that another program left half-written: "
                "delete it, or give --replace"
            ) from None
        if held is None and not self._replace:
            raise UsageError(
                f"{self.place}: is there and holds no predictions that kedge wrote: give another name, or --replace"
            )
        return held.decode() if held is not None else None


class DeltaOutput:
    """A Delta table, to which each batch is one commit."""

    def __init__(self, location: str, columns: pa.Schema, model: str) -> None:
        self.place, self._model = location, model
        if "://" not in location:
            location = str(Path(location).expanduser().absolute())
            if Path(location).is_file():
                raise UsageError(f"{self.place}: is a file; name a Delta table's folder, or a file that ends .parquet")
            names = [entry.name for entry in Path(location).iterdir()] if Path(location).is_dir() else []
            if names and "_delta_log" not in names:
                table = foreign(f"{name}/x" for name in names)
                raise UsageError(
                    f"{self.place}: is a folder with other files in it{f', {table[1]}' if table else ''}, and no Delta "
                    "table (no _delta_log): give a new folder"
                )
        refuse_alike(columns, self.place)
        self._staged = Staged(location, columns, options=place_of(location).options if "://" in location else {})
        there = self._staged.columns
        lost = [name for name in columns.names if name not in there and not name.startswith("score_")] if there else []
        if lost:
            raise DataError(
                f"{self.place}: a Delta table without a column {lost[0]!r}, which predictions have: give another place"
            )

    def write(self, rows: pa.RecordBatch) -> None:
        self._staged.write(rows)

    def holds(self, batch: str) -> bool:
        return self._staged.done(f"kedge/{self._model}/{batch}")

    def commit(self, batch: str) -> None:
        self._staged.commit(f"kedge/{self._model}/{batch}")

    def abort(self) -> None:
        self._staged.abort()


class SqlOutput:
    """A table of a database, filled in one transaction. Beside the predictions' columns it has ``batch``."""

    def __init__(self, location: str, columns: pa.Schema, model: str) -> None:
        import sqlalchemy as sa
        from sqlalchemy.exc import SQLAlchemyError

        from kedge.tables.sql import engine

        variable, _, name = location.removeprefix(SQL).partition("/")
        if not TABLE.fullmatch(name):
            raise UsageError(f"--output {location}: write sql:VARIABLE/TABLE, the variable holding the address")
        self.place, self._model, self._faults = f"table {name} on ${variable}", model, SQLAlchemyError
        refuse_alike(columns.append(pa.field("batch", pa.string())), self.place)
        schema_name, _, plain = name.rpartition(".")
        kinds: dict[Any, Any] = {
            pa.string(): sa.String(200),
            pa.float64(): sa.Float(53),
            TIME: sa.DateTime(timezone=True),
        }
        fields = [sa.Column(field.name, kinds[field.type], nullable=field.type != pa.string()) for field in columns]
        self._columns = [field.name for field in columns]
        self._table = sa.Table(plain, sa.MetaData(), *fields, sa.Column("batch", sa.String(160), index=True),
                               schema=schema_name or None)  # fmt: skip
        self._sa, self._unnamed = sa, f"unnamed-{uuid4()}"
        with self._translated():
            made = engine(variable, "SELECT 1")
            held = sa.inspect(made)
            if held.has_table(plain, schema=schema_name or None):
                there = {column["name"] for column in held.get_columns(plain, schema=schema_name or None)}
                lost = [column for column in [*self._columns, "batch"] if column not in there]
                if lost:
                    raise DataError(
                        f"{self.place}: has no column {lost[0]!r}; predictions have {', '.join(self._columns)} and "
                        "batch: name another table"
                    )
            else:
                self._table.create(made)
            self._connection = made.connect()
            self._transaction = self._connection.begin()

    def write(self, rows: pa.RecordBatch) -> None:
        with self._translated():
            for first in range(0, len(rows), SQL_ROWS):
                part = rows.slice(first, SQL_ROWS).to_pylist()
                self._connection.execute(self._table.insert(), [{**row, "batch": self._unnamed} for row in part])

    def holds(self, batch: str) -> bool:
        held = self._table.c.batch == f"{self._model}/{batch}"
        with self._translated():
            counted = self._sa.select(self._sa.func.count()).select_from(self._table).where(held)
            return bool(self._connection.execute(counted).scalar())

    def commit(self, batch: str) -> None:
        column = self._table.c.batch
        with self._translated():
            named = self._table.update().where(column == self._unnamed).values(batch=f"{self._model}/{batch}")
            self._connection.execute(named)
            self._transaction.commit()
            self._connection.close()

    def abort(self) -> None:
        with suppress(Exception):
            self._transaction.rollback()
            self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from kedge.tables.sql import first_line

        try:
            yield
        except self._faults as exc:
            raise StoreError(f"{self.place}: the database refused: {first_line(exc)}") from None


def _resolved(location: str) -> str:
    location = location.rstrip("/")
    if "://" in location:
        return location
    plain = re.split(r"[*?\[]", location, maxsplit=1)[0]  # of a pattern, the folder it begins with
    path = Path(plain if plain == location else os.path.dirname(plain) or ".").expanduser().resolve()
    return str(path)
