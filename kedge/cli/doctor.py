"""``kedge doctor``: is everything there that kedge needs, and what to type if not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import StoreRoot

if TYPE_CHECKING:
    from kedge.doctor.finding import Finding
    from kedge.settings import Settings

KUBECONFIG = "kubeconfig"
MARKS = {"good": "ok", "warning": "!", "bad": "x", "skipped": "-"}


def doctor(
    store: StoreRoot = None,
    namespace: Annotated[str | None, typer.Option(help="Where kedge is, or will be; default the current one.")] = None,
    prometheus: Annotated[
        str | None, typer.Option(envvar="KEDGE_PROMETHEUS", help="Prometheus' address, if there is one.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Account of Kubeflow's steps, which release: NAMESPACE/NAME.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check that everything kedge needs is there; say what to type.

    Looks at store, registry, Kubeflow Pipelines, KServe, gateway, what must run, permissions and images.

    Exit code 1 if anything is bad; a warning or what could not be looked at is none; 2 if the kubeconfig is at fault.

    Example: kedge doctor --namespace ml
    """
    import json

    from kedge.doctor.finding import run
    from kedge.settings import Settings

    found = run({**_checks(Settings.of(store), prometheus), "kubernetes": lambda: _cluster(namespace, steps)})
    if as_json:
        typer.echo(json.dumps([each.to_dict() for each in found], indent=2))
    else:
        typer.echo("\n".join(told(found)))
    if any(each.what == KUBECONFIG for each in found):
        raise typer.Exit(2)
    if any(each.state == "bad" for each in found):
        raise typer.Exit(1)


def told(found: list[Finding]) -> list[str]:
    """The findings for a person: a line each, the fix beneath."""
    from kedge.errors import without_passwords

    width = max(len(each.what) for each in found)
    lines = []
    for each in found:
        lines.append(f"{MARKS[each.state]:>2}  {each.what:<{width}}  {each.seen}")
        if each.fix and each.state != "good":
            lines.append(f"    {'':<{width}}  -> {each.fix}")
    counts = {state: sum(each.state == state for each in found) for state in MARKS}
    return [*map(without_passwords, lines), ", ".join(f"{count} {state}" for state, count in counts.items() if count)]


def _checks(settings: Settings, prometheus: str | None) -> dict[str, Callable[[], list[Finding]]]:
    import os
    from pathlib import Path

    from kedge.doctor import aliases, places, runs

    path = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
    token = Path(path) if path else None
    return {
        "store": lambda: places.store(settings.store),
        "records": lambda: places.records(settings.store),
        "registry": lambda: places.registry(settings.registry),
        aliases.WHAT: lambda: aliases.compared(settings.store, settings.registry),
        "kubeflow pipelines": lambda: runs.kfp(settings.kfp_host, token),
        "token": lambda: runs.token(token),
        "prometheus": lambda: places.prometheus(prometheus),
    }


def _cluster(namespace: str | None, steps: str | None) -> list[Finding]:
    from kedge.doctor import cluster
    from kedge.doctor.api import KubeconfigError
    from kedge.doctor.client import KubernetesCluster
    from kedge.doctor.finding import bad, skipped
    from kedge.errors import UsageError

    try:
        return cluster.examined(KubernetesCluster(namespace), steps)
    except KubeconfigError as exc:
        return [bad(KUBECONFIG, str(exc), "kubectl config get-contexts; export KUBECONFIG=FILE")]
    except UsageError as exc:
        return [skipped("kubernetes", str(exc), "export KUBECONFIG=FILE")]
