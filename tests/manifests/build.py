"""What kustomize makes of a folder."""

from __future__ import annotations

import shutil
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


def copied(folder: Path, place: str) -> Path:
    """One folder of the manifests, in a copy of them all, to be changed."""
    shutil.copytree(MANIFESTS, folder / "manifests")
    shutil.copytree(ROOT / "charts/kedge/files", folder / "charts/kedge/files")
    return folder / "manifests" / place


def take(kustomization: Path, component: str) -> None:
    """Have a kustomization take a component before its others' settings are carried."""
    told = yaml.safe_load(kustomization.read_text())
    components = told.get("components", [])
    last = components.index("../../components/settings") if "../../components/settings" in components else 0
    told["components"] = [*components[:last], component, *components[last:]]
    kustomization.write_text(yaml.safe_dump(told))
