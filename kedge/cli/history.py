"""``kedge history``: who released what, on which data and code, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kedge.errors import UsageError
    from kedge.records import Record
    from kedge.store import Store

CHECKS = 1000
"""Checks looked back at: a model has thousands, and each is an object to read."""
COLUMNS = ("time (UTC)", "what", "who", "bundle", "rows", "code", "why")


def register(app: typer.Typer) -> None:
    """Add ``kedge history``."""
    app.command("history")(history)


def history(
    model: Annotated[str, typer.Option(help="The model's name.")],
    store: Annotated[str | None, typer.Option(help="Folder or s3://bucket/prefix; default $KEDGE_STORE.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Newest lines shown.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Also checks that asked for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole records, one JSON array.")] = False,
) -> None:
    """Show who released what, on which data and code, and why; newest last. Of the checks, the last thousand.

    Every line is an immutable record in the store. `rows` is the fingerprint of the snapshot a bundle was trained on,
    `code` the git commit of the training code, both from the bundle's own manifest.

    Example: kedge history --model payments --limit 20
    """
    from kedge import records as ledger
    from kedge.settings import Settings
    from kedge.store import open_store

    opened = open_store(Settings.of(store).store)
    others = ledger.read(opened, model, [kind for kind in ledger.KINDS if kind != "check"])
    records = ledger.in_order([*others, *ledger.newest(opened, model, "check", max(limit, CHECKS))])
    if not records:
        raise unknown_model(opened, model)
    shown = [item for item in records if every or item.data.get("action") != "none"][-limit:]
    if as_json:
        import orjson

        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print_table(COLUMNS, lines(opened, shown))


def lines(store: Store, records: Sequence[Record]) -> list[tuple[str, ...]]:
    """One line a record, in the order of ``COLUMNS``."""
    from kedge.monitoring.history import bundle_of

    @cache
    def origin(model: str, bundle: str | None) -> tuple[str, str]:
        return _origin(store, model, bundle) if bundle else ("", "")

    judged = {item.data.get("run") for item in records if item.kind == "evaluated"}

    def reason(item: Record) -> str:
        rejected = (item.kind, item.data.get("state"), item.data.get("step")) == (
            "run-finished",
            "rejected",
            "evaluate",
        )
        return "" if rejected and item.data.get("run") in judged else why(item.data)  # the evaluation's line said it

    return [
        (
            f"{item.time:%Y-%m-%d %H:%M}",
            what(item),
            item.actor,
            (bundle_of(item) or "")[:12],
            *origin(item.model, bundle_of(item)),
            reason(item),
        )
        for item in records
    ]


def what(item: Record) -> str:
    """What happened, in a few words."""
    data = item.data
    match item.kind:
        case "check":
            return f"check: {data.get('action')}"
        case "run-started":
            return f"run started: {item.key}"
        case "run-finished":
            return f"run {data.get('state', 'ended')}: {item.key}"
        case "evaluated":
            return "passed its gates" if data.get("passed") else "did not pass its gates"
        case "registered":
            return f"registered as version {data.get('version', '?')}"
        case _:
            return item.kind.replace("-", " ")


def why(data: Mapping[str, Any]) -> str:
    """The reasons a record gives."""
    reasons = data.get("reasons")
    text = "; ".join(dict.fromkeys(map(str, reasons))) if reasons else str(data.get("reason") or "")
    step = data.get("step")
    return f"{step}: {text}" if isinstance(step, str) and text else text


def _origin(store: Store, model: str, bundle: str) -> tuple[str, str]:
    """Snapshot and commit a bundle was made from, each cut to twelve digits; empty where the bundle is gone."""
    import orjson

    try:
        made = orjson.loads(store.get(f"bundles/{model}/{bundle}/bundle.json"))
        return str(made["snapshot"])[:12], str(made["commit"])[:12]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return "", ""


def unknown_model(store: Store, model: str) -> UsageError:
    """That the store knows nothing of a model, and which ones it knows."""
    from kedge.errors import UsageError

    names = ", ".join(sorted({key.split("/")[1] for key in store.keys("records")}))
    return UsageError(f"store {store.url}: no records of a model {model!r}; it has {names or 'none at all'}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; where there is none, no line is cut or wrapped."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = (
        None if sys.stdout.isatty() else sum(max(map(len, column)) + 3 for column in zip(columns, *rows, strict=True))
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=wide, highlight=False)
    with console.capture() as shown:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in shown.get().splitlines()))
