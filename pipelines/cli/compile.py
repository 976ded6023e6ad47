"""``kedge compile``: the pipelines as the specs that KFP runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add ``kedge compile``."""
    app.command("compile")(compile_pipelines)


def compile_pipelines(
    out: Annotated[Path, typer.Option(help="Folder for retrain.yaml and release.yaml.")] = Path("compiled"),
    policy: Annotated[
        Path | None, typer.Option(help="Policy file that becomes the default of the parameter `policy`.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Step image, at best by digest.")] = None,
) -> None:
    """Write the compiled pipelines, to upload or to keep beside a release.

    Example: kedge compile --out compiled --image registry.example/kedge/step@sha256:0f3a...
    """
    from components import policy as policies
    from pipelines.compile import compile_all

    for path in compile_all(out, policies.load(policy) if policy else None, image=image):
        typer.echo(str(path))
