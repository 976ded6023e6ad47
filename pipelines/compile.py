"""Compile the pipelines to the specs that KFP runs."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

from components.image import STEP_IMAGE
from components.policy import Policy
from components.store import write_file

PIPELINES = ("retrain", "release")


def compile_all(folder: Path, policy: Policy | None = None, *, image: str | None = None) -> list[Path]:
    """Write ``retrain.yaml`` and ``release.yaml`` into a folder and return their paths.

    Args:
        folder: Made if it is not there; files of these names are replaced, each whole or not at all.
        policy: Becomes the default of the parameter ``policy``, so that a form is filled in.
        image: The step image, at best by digest; default the name in ``components.image``.
    """
    return [compile_one(name, folder / f"{name}.yaml", policy, image=image) for name in PIPELINES]


def compile_one(name: str, path: Path, policy: Policy | None = None, *, image: str | None = None) -> Path:
    """Write the spec of one pipeline and return its path."""
    from kfp.compiler import Compiler

    pipeline = getattr(import_module(f"pipelines.{name}"), name)
    with tempfile.TemporaryDirectory(prefix="kedge-compile-") as beside:
        made = Path(beside) / f"{name}.yaml"
        Compiler().compile(
            pipeline, str(made), pipeline_parameters={"policy": policy.to_dict()} if policy is not None else None
        )
        text = made.read_text(encoding="utf-8")
    if image is not None:
        text = text.replace(f"image: {STEP_IMAGE}\n", f"image: {image}\n")
    write_file(path, text.encode())
    return path
