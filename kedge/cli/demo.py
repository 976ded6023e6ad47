"""``kedge demo``: watch the loop close on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def demo(
    task: Annotated[
        Literal["binary", "multiclass", "regression"],
        typer.Option(
            help="What is asked of a payment: does it come back, what becomes of it, when is the money there."
        ),
    ] = "binary",
    data: Annotated[Path | None, typer.Option(help="Replay this table instead of the generated payments.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy of --data.")] = None,
    folder: Annotated[Path, typer.Option(help="Emptied, then holds everything of the demo.")] = Path(".kedge/demo"),
    warm_up: Annotated[int, typer.Option(min=1, help="Blocks of --data the first model is trained on.")] = 8,
    blocks: Annotated[int | None, typer.Option(min=1, help="Blocks of --data to replay; default: all.")] = None,
) -> None:
    """Watch the loop close: drift, retraining, canary, rollback.

    A served model goes bad, is noticed, retrained and released; three bad candidates are rolled back.

    Real parts on loopback: KServe model servers in two slots behind Envoy, the collector, MLflow on SQLite, the
    pipelines in KFP's local runner. The clock runs as fast as the machine; it stands still while a model trains.
    Nothing is left running. Exit code 1 if the story did not come true.

    Example: kedge demo

    Example: kedge demo --task multiclass

    Example: kedge demo --data elec.csv --policy examples/electricity.yaml
    """
    import signal
    import sys

    from kedge.cli.up import PLATFORM
    from kedge.errors import UsageError
    from kedge.extras import require

    if (data is None) != (policy is None):
        raise UsageError("--data and --policy belong together: the table, and what kedge must know about it")
    require("kedge demo", "local", (*PLATFORM, "pyarrow", "kfp", "sklearn", "alembic"))
    from kedge.demo import run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = folder.absolute()

    def say(line: str) -> None:
        typer.echo(line)
        sys.stdout.flush()

    if data is not None and policy is not None:
        page = run.replay(data, policy, place, say, warm_up=warm_up, most=blocks)
    else:
        page = run.tell_story(place, say, task)
    say(f"\npage: {page}\nlook further: kedge history --store {place}/store --model {_name(place)}")


def _name(place: Path) -> str:
    from kedge.policy import load

    return load(place / "policy.yaml").name
