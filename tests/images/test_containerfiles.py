"""What the image definitions promise: locked, numeric user, one Python, one set of model libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kedge.image import STEP_IMAGE
from tests.chart.render import ROOT

IMAGES = sorted(path.parent for path in ROOT.glob("images/*/Containerfile"))
images = pytest.mark.parametrize("folder", IMAGES, ids=lambda p: p.name)


def text(folder: Path) -> str:
    return (folder / "Containerfile").read_text()


def locked(image: str) -> dict[str, set[str]]:
    """Versions by package; a package may have one for every Python."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "images" / image / "requirements.txt").read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+)==([^ ;]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_there_are_three_images():
    assert [folder.name for folder in IMAGES] == ["collect", "serve", "step"]


@images
def test_hadolint_finds_nothing(folder):
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), folder / "Containerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@images
def test_base_is_one_build_argument_pinned_by_digest(folder):
    assert re.findall(r"^ARG BASE=(\S+)", text(folder), re.M) == re.findall(
        r"^ARG BASE=(\S+@sha256:[0-9a-f]{64})$", text(IMAGES[0]), re.M
    )
    assert re.findall(r"^FROM (\S+)", text(folder), re.M) == 3 * ["${BASE}"]


@images
def test_user_is_a_number_that_is_not_root(folder):
    assert re.findall(r"^USER (\S+)", text(folder), re.M) == ["65532:65532"]


@images
def test_nothing_is_installed_that_is_not_locked_with_its_hash(folder):
    installs = re.findall(r"pip install[^\n]*(?:\\\n[^\n]*)*", text(folder))
    assert len(installs) == (3 if folder.name == "serve" else 2)  # the compiler of its trees
    assert all("--require-hashes" in each for each in installs)


@images
def test_image_carries_the_labels_that_say_what_it_is(folder):
    wanted = {"title", "description", "source", "licenses", "version", "revision"}
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)", text(folder))) == wanted


def test_training_and_serving_share_every_version():
    """A model saved by one XGBoost and loaded by another predicts wrongly without an error."""
    step, serve = locked("step"), locked("serve")
    shared = step.keys() & serve.keys()
    assert {"xgboost-cpu", "scikit-learn", "numpy", "skops"} <= shared
    assert {name for name in shared if step[name] != serve[name]} == set()


def test_the_compiled_pipelines_name_the_image_that_is_built():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f"kedge/step:{version[1]}" == STEP_IMAGE


def test_build_script_passes_shellcheck():
    for script in ("images/build", "tools/install", ".ci/cluster"):
        done = subprocess.run(
            [Path(sys.executable).with_name("shellcheck"), ROOT / script], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_build_script_says_which_engine_is_missing(tmp_path):
    for name in ("bash", "dirname", "sed", "git", "env"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    done = subprocess.run([ROOT / "images" / "build"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "none of docker, podman and buildah works here" in done.stderr
