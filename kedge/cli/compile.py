"""``kedge compile``: the pipelines as KFP runs them, and as objects for kubectl."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from kedge.cli.options import ModelName, optional_policy
from kedge.errors import UsageError, without_passwords

NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def compile(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for retrain.yaml, release.yaml, score.yaml.")
    ] = Path("compiled"),
    policy: Annotated[
        Path | None,
        typer.Option(help="Policy file: default of the parameter `policy`, and what the steps use on a cluster."),
    ] = None,
    model: ModelName = None,
    image: Annotated[str | None, typer.Option(help="Step image, at best by digest.")] = None,
    store: Annotated[str | None, typer.Option(help="Default of the parameter `store`; else $KEDGE_STORE.")] = None,
    registry: Annotated[
        str | None, typer.Option(help="Default of the parameter `registry`; else $MLFLOW_TRACKING_URI.")
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Default of the release's parameter `platform`; else $KEDGE_PLATFORM.")
    ] = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Also write Pipeline and PipelineVersion, into OUTPUT/kubernetes.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of these objects; default the one kubectl is set to.")
    ] = None,
) -> None:
    """Write the compiled pipelines, to upload or to apply.

    With a policy, a store and a registry every field of the form for retraining is filled in.

    Example: kedge compile --policy fraud.yaml --store s3://kedge/prod --registry http://mlflow.mlflow:5000
    --image registry.example/kedge/step@sha256:0f3a... --kubernetes && kubectl apply -f compiled/kubernetes
    """
    from kedge.settings import Settings
    from kedge.submission.compile import compile_all, compile_objects

    _refuse_namespace(namespace, kubernetes=kubernetes)
    addresses = _addresses(store, registry, platform)
    asked = optional_policy(policy, model, Settings.of(store))
    paths = compile_all(output, asked, image=image, addresses=addresses)
    if kubernetes:
        paths += compile_objects(output / "kubernetes", asked, image=image, namespace=namespace, addresses=addresses)
    for path in paths:
        typer.echo(str(path))


def _addresses(store: str | None, registry: str | None, platform: str | None) -> dict[str, str]:
    """Those given or, for the others, the environment's; everybody who sees the form reads them."""
    found = {
        "store": store or os.environ.get("KEDGE_STORE"),
        "registry": registry or os.environ.get("MLFLOW_TRACKING_URI"),
        "platform": platform or os.environ.get("KEDGE_PLATFORM"),
    }
    for name, address in found.items():
        if address and without_passwords(address) != address:
            raise UsageError(
                f"the address of the {name} holds a password or token, which everybody who sees the form would read: "
                "leave it out, and name a Secret with the variables in the policy's cluster.secrets"
            )
    return {name: address for name, address in found.items() if address}


def _refuse_namespace(namespace: str | None, *, kubernetes: bool) -> None:
    if namespace is not None and not kubernetes:
        raise UsageError("--namespace is that of the objects that --kubernetes writes: give both")
    if namespace is not None and not NAMESPACE.fullmatch(namespace):
        raise UsageError(f"namespace {namespace!r} must be 1 to 63 lower-case letters, digits and inner dashes")
