"""``kedge policy``: check a policy file, print the format's JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.policy.data import Source
    from kedge.tables.columns import Label
    from kedge.tables.reader import Reader

DAY = 86_400
MAX_ROWS = 1_000_000
"""Rows looked through for a label; one that is rarer is not missed."""
WORDS: dict[bool, tuple[str, ...]] = {True: ("yes", "on"), False: ("no", "off")}
"""What YAML reads as true and false where it stands without quotes, besides these two words."""


def register(app: typer.Typer) -> None:
    """Add ``kedge policy check`` and ``kedge policy schema``."""
    commands = typer.Typer(help="Check a policy file; print the format's JSON Schema.", no_args_is_help=True)
    commands.command("check")(check)
    commands.command("schema")(schema)
    app.add_typer(commands, name="policy")


def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    rps: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e5, help="Requests a second; default: what a table on this machine shows."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the policy with every default filled in.")] = False,
) -> None:
    """Check a policy file; every fault is named with its line.

    Also a column or label that a table on this machine lacks.

    It also says what a good policy implies: that a release ends before its outcomes are due, for instance, or cannot
    find the harm that it states at the model's traffic.

    Example: kedge policy check payments.yaml
    """
    from kedge import policy
    from kedge.errors import PolicyError
    from kedge.policy.notes import notes

    parsed = policy.load(file)
    faults = [*code_faults(file, parsed), *estimator_faults(file, parsed), *table_faults(file, parsed)]
    if faults:
        raise PolicyError("\n".join(faults))
    if as_json:
        typer.echo(parsed.model_dump_json(indent=2))
    else:
        typer.echo(f"{file}: good ({parsed.name}: {len(parsed.model.features)} features, {parsed.model.task})")
        for note in notes(parsed, rows_a_day(parsed) if rps is None else rps * DAY):
            line = policy.line_of(file, note.partition(":")[0].split("."))
            typer.echo(f"  line {line}: {note}" if line else f"  {note}")


def code_faults(file: Path, parsed: Policy) -> list[str]:
    """A package of the team that is not here, or has no module of the name; nothing of it is run."""
    from kedge import code, policy
    from kedge.errors import UsageError

    if parsed.code is None or parsed.code.startswith(code.KEPT):
        return []
    try:
        package = code.read(parsed.code)
    except UsageError as exc:
        return [f"{file}:{policy.line_of(file, ('code',))}: {exc}"]
    path = parsed.features.transform
    if path is None or path.startswith("sklearn.") or path.partition(":")[0] in package.modules:
        return []
    line = policy.line_of(file, ("features", "transform"))
    said = f"code has no module {path.partition(':')[0]!r}; it has {', '.join(package.modules)}"
    return [f"{file}:{line}: features.transform: {said}"]


def estimator_faults(file: Path, parsed: Policy) -> list[str]:
    """Parameters, constraints and losses that an estimator does not take, where its library is here."""
    from kedge import policy
    from kedge.errors import UsageError

    train, faults = parsed.train, []
    if not train.parameters and not train.monotone and parsed.model.loss == "squared":
        return []
    try:
        from kedge.bundle import Signature, estimators
        from kedge.training.estimators import settings
    except ModuleNotFoundError:
        return []
    for name in (each for each in train.estimators if ":" not in each):
        try:
            estimators.named(name).checked(settings(name, parsed, Signature(())))
        except UsageError as exc:
            if not isinstance(exc.__cause__, ModuleNotFoundError):
                field = str(exc).partition(":")[0].partition(" ")[0]
                faults.append(f"{file}:{policy.line_of(file, field.split('.'))}: {exc}")
    return faults


def table_faults(file: Path, parsed: Policy) -> list[str]:
    """Columns and labels that a table on this machine does not have; one elsewhere is asked by a run."""
    source, faults = parsed.data.source, _sql_faults(file, parsed)
    if faults or source.format in ("log", "sql") or "://" in source.location or not Path(source.location).exists():
        return faults
    import pyarrow as pa

    from kedge.errors import DataError
    from kedge.tables.sources import open_reader

    try:
        reader = open_reader(source)
        faults = _absent_columns(file, parsed, reader.names)
        if not faults and parsed.model.task == "binary":
            faults = _absent_labels(file, parsed, reader)
    except (DataError, pa.ArrowException):
        return []  # a fault of the table, which the run that reads it names
    return faults


def _sql_faults(file: Path, parsed: Policy) -> list[str]:
    """A driver that is missing, or a query that is no SELECT, where the variable with the address is set here."""
    import os

    from kedge import policy

    sources: dict[tuple[str, ...], Source] = {("data", "source"): parsed.data.source}
    if parsed.data.labels is not None:
        sources["data", "labels", "source"] = parsed.data.labels.source
    set_here = {
        field: each for field, each in sources.items() if each.format == "sql" and os.environ.get(each.location)
    }
    faults = {field: fault for field, each in set_here.items() if (fault := _sql_fault(each))}
    return [f"{file}:{policy.line_of(file, field)}: {'.'.join(field)}: {fault}" for field, fault in faults.items()]


def _sql_fault(source: Source) -> str:
    from kedge.errors import DataError
    from kedge.tables import sql

    try:
        sql.engine(source.location, source.query or "")
    except DataError as exc:
        return str(exc)
    return ""


def rows_a_day(parsed: Policy) -> float | None:
    """Of a table on this machine, by the time that its rows (of at most the first million) span; None: not known."""
    source = parsed.data.source
    column = parsed.data.time_column
    if column is None or source.format == "sql" or "://" in source.location or not Path(source.location).exists():
        return None
    import pyarrow as pa

    from kedge.errors import DataError
    from kedge.scaffold import look

    try:
        return look.rows_a_day(source, column, parsed.data.time_format)
    except (DataError, pa.ArrowException):
        return None  # a fault of the table, which the run that reads it names


def _absent_columns(file: Path, parsed: Policy, present: list[str]) -> list[str]:
    import difflib

    from kedge import policy
    from kedge.tables.columns import fields_of

    faults = []
    for field, column in fields_of(parsed.model, parsed.data).items():
        if column not in present:
            close = difflib.get_close_matches(column, present, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(present[:20])}"
            line = policy.line_of(file, field)
            table = parsed.data.source.location
            faults.append(f"{file}:{line}: {'.'.join(field)}: {table} has no column {column!r}{hint}")
    return faults


def _absent_labels(file: Path, parsed: Policy, reader: Reader) -> list[str]:
    """Labels that no row has. Reads the target until each was met, so mostly the first rows."""
    import pyarrow.compute as pc

    from kedge import policy
    from kedge.errors import DataError
    from kedge.tables.columns import convert
    from kedge.tables.sources import plain_value

    model = parsed.model
    column = model.target_column or model.target
    labels = {"positive_label": model.positive_label, "negative_label": model.negative_label}
    wanted: dict[str, Label] = {field: label for field, label in labels.items() if label is not None}
    values: dict[object, None] = {}  # in the order in which they were met
    never: set[str] = set()
    rows = 0
    for piece in reader.pieces([column]):
        raw = piece.rows.column(column)
        held = (plain_value(each) for each in raw.unique())
        values |= dict.fromkeys(value for value in held if value is not None and value != "")
        for field, label in list(wanted.items()):
            try:
                if pc.max(convert(raw, "positive", label).values).as_py() == 1:
                    del wanted[field]
            except DataError:  # the label is text, and the column holds numbers
                never.add(field)
        rows += len(raw)
        if not wanted or rows >= MAX_ROWS:
            break
    if not values:
        return []
    said_held = (
        f"the column {column!r} holds {', '.join(map(repr, list(values)[:5]))}{', ...' if len(values) > 5 else ''}"
    )
    faults = []
    for field, label in wanted.items():
        word = next((text for text in values if isinstance(label, bool) and str(text).lower() in WORDS[label]), None)
        if word is not None:
            yaml = str(label).lower()
            said = f'{yaml} is what YAML makes of an unquoted {word}; {said_held}: write "{word}" in quotes'
        elif rows < MAX_ROWS or field in never:
            said = f"no row has {label!r}; {said_held}"
        else:
            continue
        faults.append(f"{file}:{policy.line_of(file, ('model', field))}: model.{field}: {said}")
    return faults


def schema() -> None:
    """Print the JSON Schema of a policy, for editors and reviews.

    Example: kedge policy schema > policy.schema.json
    """
    import json

    from kedge import policy

    typer.echo(json.dumps(policy.schema(), indent=2))
