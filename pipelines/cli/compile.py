"""``kedge compile``: the pipelines as KFP runs them, and as objects for kubectl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from components.errors import UsageError

NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def register(app: typer.Typer) -> None:
    """Add ``kedge compile``."""
    app.command("compile")(compile_pipelines)


def compile_pipelines(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for retrain.yaml and release.yaml.")] = Path(
        "compiled"
    ),
    policy: Annotated[
        Path | None,
        typer.Option(help="Policy file: default of the parameter `policy`, and what the steps use on a cluster."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Step image, at best by digest.")] = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Also write Pipeline and PipelineVersion, into OUT/kubernetes.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of these objects; default the one kubectl is set to.")
    ] = None,
) -> None:
    """Write the compiled pipelines, to upload, to apply, or to keep beside a release.

    Example: kedge compile --policy fraud.yaml --image registry.example/kedge/step@sha256:0f3a... --kubernetes
    && kubectl apply -f compiled/kubernetes
    """
    from components import policy as policies
    from pipelines.compile import compile_all, compile_objects

    _refuse_namespace(namespace, kubernetes=kubernetes)
    settings = policies.load(policy) if policy else None
    paths = compile_all(out, settings, image=image)
    if kubernetes:
        paths += compile_objects(out / "kubernetes", settings, image=image, namespace=namespace)
    for path in paths:
        typer.echo(str(path))


def _refuse_namespace(namespace: str | None, *, kubernetes: bool) -> None:
    if namespace is not None and not kubernetes:
        raise UsageError("--namespace is that of the objects that --kubernetes writes: give both")
    if namespace is not None and not NAMESPACE.fullmatch(namespace):
        raise UsageError(f"namespace {namespace!r} must be 1 to 63 lower-case letters, digits and inner dashes")
