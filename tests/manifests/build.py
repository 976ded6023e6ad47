"""What kustomize makes of a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.chart.render import ROOT, Object, tool

MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))


def build_text(folder: Path) -> str:
    """``kustomize build`` without leave to read outside the folder, as ``kubectl apply -k`` has it."""
    done = subprocess.run([tool("kustomize"), "build", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path) -> list[Object]:
    """The objects of a folder."""
    return list(yaml.safe_load_all(build_text(folder)))
