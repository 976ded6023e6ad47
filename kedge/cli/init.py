"""``kedge init``: a first policy from a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.scaffold.guess import Guess, Guesses
    from kedge.scaffold.look import Look


def init(
    table: Annotated[
        str, typer.Argument(help="A Parquet or CSV file or folder, a Delta table, here or in object storage.")
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The policy file. Default: NAME.yaml.")] = None,
    target: Annotated[str | None, typer.Option(help="The column with the outcome to predict.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="binary, multiclass or regression, where whole numbers may be classes or a quantity."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="What a regression minimises: squared, absolute, poisson (counts) or 'quantile(0.9)'."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The class to predict against all others, as the table spells it.")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=FORMAT",
            help="How a column writes numbers or times, where several formats read it: 'paid=1,234.5', 'at=%d/%m/%Y'.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name. Default: from the table's.")] = None,
    values: Annotated[Path | None, typer.Option(help="Write the chart's values for this policy, too.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Look at a table and write a commented first policy.

    Each guess and its reason is said on standard error. On a terminal it asks what a target of several classes means.

    Example: kedge init examples/payments.csv -o payments.yaml
    """
    from kedge import policy
    from kedge.errors import UsageError
    from kedge.scaffold import look, write
    from kedge.store import write_file
    from kedge.tables.sources import source_at

    model = name or write.model_name(table)
    file = output or Path(f"{model}.yaml")
    for each, option in ((file, "-o"), (values, "--values")):
        if each is not None and each.exists() and not force:
            raise UsageError(f"{each}: exists; --force replaces it, {option} names another file")
    seen = look.look(source_at(table), _formats(format or []))
    guesses = _guessed(seen, target, task or (None if loss is None else "regression"), positive)
    if loss is not None and guesses.task != "regression":
        raise UsageError(f"--loss {loss!r}: belongs to --task regression, not to {guesses.task}")
    location = _location(table, file)
    text = write.policy_text(model, seen, guesses, location, loss or "squared")
    parsed = policy.read(text, file)  # nothing is written that `kedge policy check` would refuse
    write_file(file, text.encode())
    if values is not None:
        write_file(values, write.values_text(text, location, str(values)).encode())
    _say(seen, guesses, parsed)
    typer.echo(f"wrote {file}; look through its guesses, then: kedge policy check {file}", err=True)
    if values is not None:
        typer.echo(f"wrote {values}; fill in what is empty, then install the chart with it", err=True)


def _formats(said: list[str]) -> dict[str, str]:
    """Columns -> their formats; a name may hold =, a format does not."""
    from kedge.errors import UsageError

    pairs = [each.rpartition("=")[::2] for each in said]
    for column, each in pairs:
        if not column:
            raise UsageError(f"--format {each!r}: must be COLUMN=FORMAT, such as 'at=%d/%m/%Y'")
    return dict(pairs)


def _guessed(seen: Look, target: str | None, task: str | None, positive: str | None) -> Guesses:
    """The guesses, after the one question that no table answers."""
    from kedge.errors import UsageError
    from kedge.scaffold import guess

    tasks: dict[str | None, guess.Task | None] = {
        None: None, "binary": "binary", "multiclass": "multiclass", "regression": "regression"
    }  # fmt: skip
    if task not in tasks:
        raise UsageError(f"--task {task!r}: must be binary, multiclass or regression")
    told = tasks[task]
    try:
        return guess.guess(seen, target, task=told, positive=positive)
    except guess.Undecided as exc:
        if not _at_a_terminal():
            raise
        typer.echo(str(exc).split(": kedge predicts")[0], err=True)
        others: dict[str, guess.Task] = {}
        if task is None and exc.column.kind == "integer":
            others["classes"] = "multiclass"
        if task is None and exc.column.kind in ("number", "integer"):
            others["quantity"] = "regression"
        answer = typer.prompt(
            ", or ".join(["The class to predict against all others", *(f"`{word}`" for word in others)]), err=True
        )
        if answer in others and answer not in exc.column.values:
            return guess.guess(seen, exc.column.name, task=others[answer])
        return guess.guess(seen, exc.column.name, positive=answer)


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _location(table: str, file: Path) -> str:
    """The table's address; relative where it lies below the policy's folder, so that both may move together."""
    folder, place = file.absolute().parent, Path(table).absolute()
    if "://" in table:
        return table
    return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)


def _say(seen: Look, guesses: Guesses, parsed: Policy) -> None:
    from kedge.figures import in_words
    from kedge.scaffold.write import invalid_values, suspicion

    rows = f"{seen.rows:,} rows" if seen.whole else f"{seen.rows:,} of the rows"
    typer.echo(
        f"looked at {rows} of {seen.source.location} ({seen.source.format}, {len(seen.columns)} columns)", err=True
    )
    width = max(len(column.name) for column in seen.columns)
    unlabelled = guesses.target.column.missing - guesses.target.column.invalid
    open_ = f"; {unlabelled:,} without one yet: not labelled, left out" if unlabelled else ""
    said = [(guesses.target, f"target, {guesses.task}: {guesses.target.why}{_as(guesses.target)}{open_}")]
    if guesses.time is not None:
        said.append((guesses.time, f"time: {guesses.time.why}"))
    if guesses.id is not None:
        said.append((guesses.id, f"id: {guesses.id.why}"))
    said += [(found, f"{found.type}: {found.why}{_as(found)}") for found in guesses.features]
    said += [(found, f"left out: {found.why}") for found in guesses.left_out]
    said += [(found, f"SUSPECTED LEAK: {suspicion(found)}") for found in guesses.features if found.telling is not None]
    lines = [(found.column, words) for found, words in said]
    invalid = invalid_values(guesses)
    lines += [(column, f"{count:,} values are invalid, as they are to a run") for column, count in invalid]
    for column, words in lines:
        typer.echo(f"  {column.name:{width}}  {words}", err=True)
    if guesses.classes:
        typer.echo(f"classes are {', '.join(map(str, guesses.classes))}, in this order in the log", err=True)
    if guesses.task == "binary":
        negative = "" if guesses.negative is None else f", negative {guesses.negative!r}"
        typer.echo(f"positive is {guesses.positive!r} ({guesses.positive_why}){negative}", err=True)
    if guesses.time is None:
        typer.echo("no column holds times: row_time is a guess, change it to what is true", err=True)
    if guesses.grouped is not None:
        why = "the rows lie in groups of it, so their order is no time: `order: drawn` deals them at random"
        typer.echo(f"{guesses.grouped}: {why}", err=True)
    if guesses.rows_a_day is not None:
        typer.echo(f"about {in_words(guesses.rows_a_day)} rows a day: {_pace(parsed, guesses.rows_a_day)}", err=True)
    if guesses.id is None:
        typer.echo("no column looks like an id: duplicates cannot be told", err=True)


def _pace(parsed: Policy, rows_a_day: float) -> str:
    from kedge.policy.notes import notes

    if len(notes(parsed, rows_a_day)) == len(notes(parsed)):
        return "windows and steps fit that"
    return "windows and steps are chosen for that; `kedge policy check` says what so few rows cannot show"


def _as(found: Guess) -> str:
    """The name that the policy gives a column whose own may be none."""
    return "" if found.name == found.column.name else f"; in the policy: {found.name}"
