"""``kedge replay``: what a policy would have done with a history, before it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text

if TYPE_CHECKING:
    from kedge.policy import Policy


def replay(
    policy: PolicyFile = None,
    model: ModelName = None,
    data: Annotated[str | None, typer.Option(help="Replay this table instead of the policy's own source.")] = None,
    block: Annotated[
        str | None, typer.Option(help="A block is one check: rows (250) or a time (12h, 7d). Default: its window.")
    ] = None,
    start_rows: Annotated[int, typer.Option(help="Rows that the first model is trained on.")] = 2000,
    label_delay: Annotated[
        float | None, typer.Option(min=0, help="Seconds until an outcome is known. Default: the policy's, else 0.")
    ] = None,
    costs: Annotated[
        str | None, typer.Option(help="As run=20,release=10,error=1; what is left out is the policy's.")
    ] = None,
    vs: Annotated[
        str, typer.Option(help="Rules beside it: never, every:N, gated:N, paired:N, adwin.")
    ] = "never,every:1,every:5,gated:5,paired:5,adwin",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    cache: Annotated[
        Path, typer.Option(help="Keeps what was fitted: a replay that was killed goes on from there.")
    ] = Path(".kedge/replay"),
    store: StoreRoot = None,
) -> None:
    """See what a policy would have done with a history.

    Block by block, with the real checks, decisions, training and gates, beside simple rules and the best schedule
    in hindsight.

    Example: kedge replay --policy fraud.yaml --data history.parquet --block 1d --html replay.html
    """
    from kedge.bundle import packages
    from kedge.progress import bar
    from kedge.replay import blocks as cutting
    from kedge.replay import history, page
    from kedge.replay import replay as replays
    from kedge.settings import Settings
    from kedge.store import open_store, write_file

    settings = Settings.of(store)
    log_store = open_store(settings.store)
    read = chosen_policy(policy, model, settings)
    packages.fetch(log_store, read)
    asked = _priced(read if data is None else history.with_source(read, data), costs)
    delay = (asked.labels.due_seconds or 0) if label_delay is None else label_delay
    cut = cutting.cut(
        asked,
        history.read(asked, log_store),
        block=f"{asked.monitor.window_seconds:.15g}s" if block is None else block,
        start_rows=start_rows,
        label_delay_seconds=delay,
    )
    names = [name.strip() for name in vs.split(",") if name.strip()]
    with bar("replay", 2 * len(cut), lambda line: typer.echo(line, err=True)) as (advance, _):
        result = replays(cut, names, folder=cache, progress=lambda _total: advance)
    if html is not None:
        write_file(html, page.html(result).encode())
    if as_json:
        typer.echo(json_text(result.to_dict()))
        return
    for line in page.lines(result):
        typer.echo(line)
    if html is not None:
        typer.echo(f"page: {html}")


def _priced(policy: Policy, text: str | None) -> Policy:
    """The policy with the costs of ``--costs``."""
    from pydantic import ValidationError

    from kedge.errors import UsageError
    from kedge.policy.costs import RetrainingCosts

    if text is None:
        return policy
    parts = [part.strip().partition("=")[::2] for part in text.split(",")]
    given, known = dict(parts), {"error", "run", "release", "horizon_rows"}
    if len(given) < len(parts) or set(given) - known or not all(given.values()):
        raise UsageError(
            f"--costs {text!r}: as run=20,release=10,error=1, each once; names are {', '.join(sorted(known))}"
        )
    try:
        costs = RetrainingCosts.model_validate({**policy.costs.model_dump(), **given})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise UsageError(f"--costs {text!r}: {first['loc'][0]}: {first['msg']}") from None
    return policy.model_copy(update={"costs": costs})
