"""Environments that hold kedge as pip installs it: the built wheel, and the packages of some of its extras."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.chart.render import ROOT


def built(folder: Path) -> Path:
    """The wheel, built from the checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: Path, folder: Path, extra: str) -> Path:
    """The ``bin`` of a new environment with the wheel and the packages of an extra, or of none.

    Nothing is fetched and nothing copied, so it takes a second: the packages are those of the environment the tests run
    in, all of them for ``local``, which needs most, and else links to those that pip would install.
    """
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    (packages,) = (folder / "lib").glob("python3.*/site-packages")
    if extra == "local":  # a path in a .pth file is no place for more of these: the checkout stays out
        (packages / "packages.pth").write_text(str(metadata.distribution("kedge").locate_file("")))
    else:
        for name in needed("kedge", frozenset({extra} - {""})) - {"kedge"}:
            link(metadata.distribution(name), packages)
    return folder / "bin"


def needed(name: str, extras: frozenset[str]) -> set[str]:
    """The distributions that one with these extras needs, itself among them."""
    found: set[str] = set()
    waiting = [(name, extras)]
    done = set()
    while waiting:
        each = waiting.pop()
        if each in done:
            continue
        done.add(each)
        found.add(each[0])
        for line in metadata.requires(each[0]) or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in each[1] | {""}
            ):
                waiting.append((canonical(requirement.name), frozenset(requirement.extras)))
    return found


def canonical(name: str) -> str:
    """A distribution's name as every tool writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def link(distribution: metadata.Distribution, packages: Path) -> None:
    """Link each file of a distribution into another environment's packages; folders may be shared by several."""
    origin = Path(str(distribution.locate_file("")))
    for file in distribution.files or ():
        if file.parts[0] != ".." and file.suffix != ".pyc":
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(origin / file)
