"""Compile the pipelines to the specs that the package ``kedge`` carries: ``make specs``."""

from __future__ import annotations

from pathlib import Path

from kfp.compiler import Compiler

from kedge.submission.compile import PIPELINES, SPECS
from pipelines.release import release
from pipelines.retrain import retrain
from pipelines.score import score


def compile_specs(folder: Path) -> list[Path]:
    """Write ``retrain.yaml``, ``release.yaml`` and ``score.yaml`` into a folder that is there; return their paths."""
    paths = [folder / f"{name}.yaml" for name in PIPELINES]
    for pipeline, path in zip((retrain, release, score), paths, strict=True):
        Compiler().compile(pipeline, str(path))
    return paths


if __name__ == "__main__":
    compile_specs(SPECS)
