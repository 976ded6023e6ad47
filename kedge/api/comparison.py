"""Profile a table, compare two: pandas, Polars, DuckDB, Arrow, or where one lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge import drift
from kedge import policy as policies
from kedge.drift import Comparison, Profile
from kedge.drift.arrow_reader import kind_of, type_of
from kedge.drift.columns import Categories, Numbers
from kedge.drift.compare import MIN_ROWS
from kedge.drift.text import told
from kedge.errors import DataError, some
from kedge.policy import Policy
from kedge.progress import watched
from kedge.tables.columns import Kind, describe_missing, fields_of, formats, named
from kedge.tables.files import CSV, PARQUET, unread
from kedge.tables.reader import TableReader, sample, sampled
from kedge.tables.scan import SAMPLE_ROWS, Scan
from kedge.tables.sources import open_table
from kedge.tables.stream import ArrowStream, described
from kedge.tables.untyped import mostly_numbers

if TYPE_CHECKING:
    from pyarrow import RecordBatch

    AnyTable = str | Path | ArrowStream
    """A Parquet or CSV file, a folder or a pattern of them, a Delta table, or what has ``__arrow_c_stream__``."""

NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal")
"""How the types of a reference begin that are numbers."""


@dataclass(frozen=True, kw_only=True)
class ComparedTables(Comparison):
    """A table against a reference, with the profiles of both, which a notebook draws."""

    reference: Profile
    current: Profile
    min_rows: int
    """Rows needed on either side for a verdict."""

    def __str__(self) -> str:
        return told(self, self.current, self.min_rows)

    __repr__ = __str__

    def to_html(self, title: str = "Drift") -> str:
        """A whole page with every column, to be kept or sent."""
        from kedge.drift.html_view import drift_page

        return drift_page(self, self.reference, self.current, title=title)

    def _repr_html_(self) -> str:
        from kedge.drift.html_view import drift_sections
        from kedge.report import fragment

        return fragment(*drift_sections(self, self.reference, self.current))


def profile(table: AnyTable, *, policy: Policy | str | Path | None = None, dependence: bool = False) -> Profile:
    """Profile a reference table: of every column the counts that later tables are compared with.

    Args:
        table: Of pandas, Polars, DuckDB or Arrow, or a path; read once, never held whole.
        policy: Profile the features and the target of this policy, by their names; else all columns.
        dependence: Also count pairs of columns; their dependence is then compared, at twice the time.

    Returns:
        A few kilobytes, which ``to_json()`` keeps and a notebook draws.

    Raises:
        DataError: not a table, not one row, or a feature's column is missing.
        PolicyError: the policy cannot be read.

    >>> import pyarrow as pa
    >>> amounts = profile(pa.table({"amount": [10.0, 20.0, None]}))
    >>> amounts.rows, amounts.columns["amount"].missing
    (3, 1)
    """
    return _profile(table, policies.load(policy) if isinstance(policy, str | Path) else policy, dependence=dependence)


def _profile(table: AnyTable, policy: Policy | None, *, dependence: bool = False, texts: Sequence[str] = ()) -> Profile:
    """As :func:`profile`; ``texts`` are columns that CSV does not say to be text, and the other table does."""
    reader, what = open_table(table), label(table)
    present = _present(reader)
    names, kinds = _features(policy, present, what) if policy is not None else ({each: each for each in present}, {})
    scan = Scan(reader, kinds, _formats(policy, names))
    if texts and not reader.typed:
        codes = [each.name for each in scan.schema() if each.name in texts and kind_of(each.type) == "number"]
        scan = Scan(reader, dict.fromkeys(codes, "category"), {})

    def build() -> Profile:
        batches = _some(watched(scan.batches(list(names), spread=True, threads=True), what), what)
        batches = _whole(batches, list(names), reader)
        return drift.build(_renamed(batches, names), dependence=dependence)

    return _with_unreadable(scan.counted(build), scan, names)


def compare(
    reference: Profile | AnyTable,
    current: AnyTable,
    *,
    policy: Policy | str | Path | None = None,
    alpha: float | None = None,
    min_psi: float | None = None,
    min_rows: int | None = None,
    threads: int = 1,
) -> ComparedTables:
    """Say which columns of a table drifted from a reference.

    Args:
        reference: What :func:`profile` gave, the file it was written to, or a table.
        current: The table to judge.
        policy: Compare its features by its thresholds; else all columns of the reference.
        alpha: False discovery rate over the columns; default the policy's, else 0.05.
        min_psi: Effect floor, debiased PSI in nats; default the policy's, else 0.005.
        min_rows: Fewer rows on either side give no verdict; default the policy's, else 200.
        threads: More are faster and need up to 50 MB more memory; the result does not depend on it.

    Raises:
        DataError: not a table or a profile, or the profile lacks a feature.
        PolicyError: the policy cannot be read.

    >>> import pyarrow as pa
    >>> before = pa.table({"amount": [float(k % 100) for k in range(5000)]})
    >>> now = pa.table({"amount": [float(k % 100) + 30 for k in range(5000)]})
    >>> compare(before, now).drifted, compare(before, before).drifted
    (['amount'], [])
    """
    policy = policies.load(policy) if isinstance(policy, str | Path) else policy
    known = _reference(reference, policy, current)
    profiled = set(known.columns)  # a policy compares its features, and not the target that is there too
    thresholds: dict[str, Any] = {}
    if policy is not None:
        profiled |= set(fields_of(policy.model, policy.data).values())
        if isinstance(reference, str | Path) and _is_table(str(reference)):
            profiled |= set(_present(open_table(reference)))
        known = _selected(known, policy, label(reference))
        monitor = policy.monitor
        thresholds = {"alpha": monitor.drift.alpha, "min_psi": monitor.drift.min_psi, "min_rows": monitor.min_rows}
    given = {"alpha": alpha, "min_psi": min_psi, "min_rows": min_rows}
    thresholds |= {name: value for name, value in given.items() if value is not None}
    counted = _counted(known, open_table(current), policy, profiled, label(current), threads)
    compared = drift.compare(known, counted, **thresholds)
    least = thresholds.get("min_rows", MIN_ROWS)
    return ComparedTables(**vars(compared), reference=known, current=counted, min_rows=least)


def label(table: Profile | AnyTable) -> str:
    """What a table is called in messages: where it lies, or whose it is."""
    return str(table) if isinstance(table, str | Path) else described(table)


def _reference(reference: Profile | AnyTable, policy: Policy | None, current: AnyTable) -> Profile:
    if isinstance(reference, Profile):
        return reference
    if isinstance(reference, str | Path) and not _is_table(str(reference)):
        return _read(Path(reference))
    texts = _texts(current) if policy is None and isinstance(reference, str | Path) else ()
    return _profile(reference, policy, texts=texts)


def _texts(table: AnyTable) -> list[str]:
    """The columns that a table in files holds as text, where files of its format say so."""
    reader = open_table(table) if isinstance(table, str | Path) else None
    if reader is None or not reader.typed:
        return []
    return [column.name for column in Scan(reader, {}, {}).schema() if type_of(column.type) == "string"]


def _is_table(location: str) -> bool:
    """Whether an address is a table's by its look; else it is a profile's."""
    path = Path(location)
    return "://" in location or "*" in location or path.name.lower().endswith(PARQUET + CSV) or path.is_dir()


def _read(path: Path) -> Profile:
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror}; `kedge profile DATA -o {path}` writes it") from exc
    try:
        return Profile.from_json(raw)
    except DataError as exc:
        what = unread([path.name]) if path.suffix.lower() != ".json" else ""
        raise DataError(f"{path}: {f'is {what}' if what else exc}") from exc


def _selected(known: Profile, policy: Policy, what: str) -> Profile:
    """The features in a profile; a bundle's has none that are private."""
    features = policy.model.features.items()
    names = [name for name, feature in features if feature.privacy == "keep" or name in known.columns]
    try:
        return known.select(names)
    except DataError as exc:
        raise DataError(f"{what}: {exc}; profile the table again with the policy") from exc


def _shared(known: Profile, present: list[str], policy: Policy | None, what: str) -> dict[str, str]:
    """The columns that a table and a profile share, each with its name in the profile."""
    names = {each: each for each in present} if policy is None else named(policy.model, present)
    names = {column: name for column, name in names.items() if name in known.columns}
    if not names:
        raise DataError(
            f"{what}: has none of the columns of the reference; it has: {some(present)}; the reference: "
            f"{some(known.columns)}"
        )
    return names


def _counted(
    known: Profile, reader: TableReader, policy: Policy | None, profiled: set[str], what: str, threads: int
) -> Profile:
    names = _shared(known, _present(reader), policy, what)
    kinds = _kinds(policy, known, reader, names)
    scan = Scan(reader, kinds, _formats(policy, names))
    if policy is None and not reader.typed:
        kinds |= dict.fromkeys(_odd_numbers(known, reader, scan, names), "number")
        scan = Scan(reader, kinds)

    def count() -> Profile:
        rows = _some(watched(scan.batches(list(names), threads=threads > 1), what), what)
        return drift.count(known, _renamed(rows, names), threads=threads)

    counted = _with_unreadable(scan.counted(count), scan, names)
    new = [each for each in scan.schema() if not {each.name, names.get(each.name)} & profiled]
    return replace(counted, extra={column.name: str(column.type) for column in new})


def _kinds(policy: Policy | None, known: Profile, reader: TableReader, names: Mapping[str, str]) -> dict[str, Kind]:
    """What columns are told to be: by the policy, else text that the reference knows as text."""
    if policy is not None:
        return {column: policy.model.features[name].type for column, name in names.items()}
    if reader.typed:
        return {}
    return {column: "category" for column, name in names.items() if isinstance(known.columns[name], Categories)}


def _odd_numbers(known: Profile, reader: TableReader, scan: Scan, names: Mapping[str, str]) -> list[str]:
    """Columns of a CSV file that are numbers in the reference, and most values of which are: the others are invalid."""
    texts = [
        column
        for column, name in names.items()
        if known.columns[name].type.startswith(NUMBERS) and type_of(scan.schema().field(column).type) == "string"
    ]
    values = [piece.rows for piece in sample(reader, texts, SAMPLE_ROWS)[0]] if texts else []
    return [
        column for column in texts if mostly_numbers([rows[column] for rows in values if column in rows.schema.names])
    ]


def _formats(policy: Policy | None, names: Mapping[str, str]) -> dict[str, str]:
    """How columns write their numbers as text, where the policy says it."""
    said = formats(policy.model) if policy is not None else {}
    return {column: said[name] for column, name in names.items() if name in said}


def _present(reader: TableReader) -> list[str]:
    """The columns of the table, of any of its files that are looked at."""
    return list(dict.fromkeys(name for part in sampled(reader) for name in part.names))


def _renamed(batches: Iterable[RecordBatch], names: Mapping[str, str]) -> Iterator[RecordBatch]:
    return (batch.rename_columns([names[each] for each in batch.schema.names]) for batch in batches)


def _with_unreadable(counted: Profile, scan: Scan, names: Mapping[str, str]) -> Profile:
    """The profile, with how many values of each column could not be read."""
    columns = dict(counted.columns)
    for column, rows in scan.unreadable.items():
        numbers = columns[names[column]]
        if isinstance(numbers, Numbers):
            columns[names[column]] = replace(numbers, unreadable=rows)
    return replace(counted, columns=columns)


def _some(batches: Iterable[RecordBatch], what: str) -> Iterator[RecordBatch]:
    """The batches; refuses a table without a row by its name."""
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    if not rows:
        raise DataError(f"{what}: empty: not one row")


def _whole(batches: Iterable[RecordBatch], names: list[str], reader: TableReader) -> Iterator[RecordBatch]:
    """The batches of a reference; refuses a file that lacks a column of the others, as training does."""
    for batch in batches:
        absent = [name for name in names if name not in batch.schema.names]
        for part in reader.parts() if absent else ():
            lacking = [name for name in absent if name not in part.names]
            if lacking:
                raise DataError(describe_missing(lacking, list(part.names), part.place))
        yield batch


def _features(policy: Policy, present: list[str], what: str) -> tuple[dict[str, str], dict[str, Kind]]:
    """A policy's features, and its target if the table has it, by their columns; and what the features are."""
    model = policy.model
    names = named(model, present)
    missing = [column for name, column in model.columns.items() if name != model.target and name not in names.values()]
    if missing:
        raise DataError(describe_missing(missing, present, what))
    kinds: dict[str, Kind] = {
        column: model.features[name].type for column, name in names.items() if name in model.features
    }
    return names, kinds
