"""``kedge adopt``: watch a model that KServe serves already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kedge.cli.options import StoreRoot

if TYPE_CHECKING:
    from kedge.scaffold.adopt import Found

NEEDED = (
    "nothing says what the model's inputs are: give --reference TABLE, or --feature NAME:TYPE for each, in the order "
    "of its requests; then the first --reference-rows requests are the reference"
)


def adopt(
    name: Annotated[str, typer.Argument(help="The InferenceService; its name becomes the model's.")],
    collector: Annotated[str, typer.Option(help="Address of kedge's collector, as the cluster sees it.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the InferenceService.")] = "default",
    reference: Annotated[
        str | None, typer.Option(help="A table to compare with: the rows it was trained on, at best.")
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(help="Without a table: an input, NAME:TYPE; repeat.")] = None,
    reference_rows: Annotated[
        int,
        typer.Option(min=100, help="Without a table: so many first requests are what later ones are compared with."),
    ] = 1000,
    target: Annotated[str | None, typer.Option(help="The outcome's column in the table, or a name for it.")] = None,
    task: Annotated[
        Literal["binary", "regression"],
        typer.Option(help="Without a table: what it predicts; several classes come with a table."),
    ] = "binary",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The policy file. Default: NAME.yaml.")] = None,
    store: StoreRoot = None,
    apply: Annotated[bool, typer.Option("--apply", help="Point the logger at the collector now.")] = False,
) -> None:
    """Watch a model that KServe serves already: drift and error.

    Its error needs labels. Nothing is trained or released.

    Writes a policy without a trigger, so that a check warns and never more, and prints the patch that sends
    requests and answers to the collector (--apply makes it). The model goes on as it is, but for a restart of its pods.

    Example: kedge adopt churn -n ml --collector http://kedge-collector.ml:8080 --reference s3://lake/churn.parquet
    """
    from kedge import clock
    from kedge import policy as policies
    from kedge.errors import UsageError
    from kedge.monitoring import adopted
    from kedge.rollout.kserve.api import SLOTS, Api, connect
    from kedge.scaffold import adopt as adoption
    from kedge.settings import Settings
    from kedge.store import open_store, write_file

    api = Api(namespace, connect())
    service = api.get(SLOTS, name)
    if service is None:
        raise UsageError(f"InferenceService {namespace}/{name}: there is none; kubectl get inferenceservices -A")
    seen = adoption.found(service)
    typer.echo("\n".join(adoption.told(seen)))
    elsewhere = adoption.logs_elsewhere(seen, collector)
    if apply and elsewhere is not None:
        raise UsageError(f"{name}: its requests are logged to {elsewhere} already; take that logger away first")
    file = output or Path(f"{name}.yaml")
    if not file.exists():
        if reference is None and not feature:
            raise UsageError(NEEDED)
        text = (
            adoption.policy_of_table(name, _absolute(reference), target)
            if reference is not None
            else adoption.policy_of_features(name, feature or [], target, task)
        )
        asked = policies.read(text, file)
        write_file(file, text.encode())
        typer.echo(f"wrote {file}: look through it; it says what is compared and when to worry")
    else:
        asked = policies.load(file)
    opened = open_store(Settings.of(store).store)
    about = {"service": f"{namespace}/{name}", "serves": seen.serves, "model": seen.model}
    made = adopted.adopt(opened, asked, clock.now(), table=reference is not None, rows=reference_rows, about=about)
    rows = made.data.rows
    typer.echo(f"reference: {f'the first {rows:,} requests that are logged' if rows else reference}")
    _log(api, seen, collector, apply=apply)
    typer.echo(f"then, by hand or in the chart's models: kedge monitor --policy {file}")


def _absolute(table: str) -> str:
    return table if "://" in table else str(Path(table).absolute())


def _log(api: object, seen: Found, collector: str, *, apply: bool) -> None:
    """Point the logger at the collector, or say how."""
    import yaml

    from kedge.rollout.kserve.api import SLOTS, Api
    from kedge.scaffold.adopt import patch

    assert isinstance(api, Api)
    body = patch(seen, collector)
    if seen.logger.get("url") == collector:
        typer.echo(f"its requests are logged to {collector} already")
    elif apply:
        api.apply(SLOTS, body)
        typer.echo(f"its requests are logged to {collector} from now on; its pods restart once for that")
    else:
        typer.echo("to log its requests, --apply, or: kubectl apply --server-side --field-manager kedge -f - <<EOF")
        typer.echo(f"{yaml.safe_dump(body, sort_keys=False)}EOF")
