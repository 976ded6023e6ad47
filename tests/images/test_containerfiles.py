"""What the image definitions promise: locked, numeric user, one Python, one set of model libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kedge.image import STEP_IMAGE
from tests.chart.render import ROOT

TEXT = (ROOT / "images" / "Containerfile").read_text()
IMAGES = sorted(path.parent.name for path in ROOT.glob("images/*/requirements.txt"))
images = pytest.mark.parametrize("image", IMAGES)


def stages() -> dict[str, tuple[str, str]]:
    """What each stage begins with, and its lines, by name."""
    found = re.findall(r"^FROM (\S+) AS (\S+)\n((?:(?!FROM ).*\n)*)", TEXT, re.M)
    return {name: (base, lines) for base, name, lines in found}


def inherited(name: str) -> str:
    """The lines of a stage and of those it begins with."""
    base, lines = stages()[name]
    return (inherited(base) if base in stages() else "") + lines


def locked(image: str) -> dict[str, set[str]]:
    """Versions by package; a package may have one for every Python."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "images" / image / "requirements.txt").read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+)==([^ ;]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_there_are_three_images():
    assert IMAGES == ["collect", "serve", "step"]
    assert {*IMAGES, *(f"{image}-packages" for image in IMAGES)} <= stages().keys()


def test_hadolint_finds_nothing():
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "images" / "Containerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_base_is_one_build_argument_pinned_by_digest():
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", TEXT, re.M)
    outside = {base for base, _ in stages().values() if base not in stages()}
    assert outside == {"${BASE}"}


@images
def test_user_is_a_number_that_is_not_root(image):
    assert re.findall(r"^USER (\S+)", inherited(image), re.M) == ["65532:65532"]


@images
def test_an_image_has_its_own_packages_and_the_code_of_all(image):
    assert re.findall(r"^COPY --from=(\S+)", inherited(image), re.M) == [f"{image}-packages", "code"]
    assert f"images/{image}/requirements.txt" in stages()[f"{image}-packages"][1]


def test_nothing_is_installed_that_is_not_locked_with_its_hash():
    installs = re.findall(r"pip install[^\n]*", TEXT + (ROOT / "images" / "install").read_text())
    assert len(installs) == 3  # the installer, the compiler of the trees, an image's packages
    assert all("--require-hashes" in each for each in installs)


@images
def test_image_carries_the_labels_that_say_what_it_is(image):
    wanted = {"title", "description", "source", "licenses", "version", "revision"}
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)", inherited(image))) == wanted
    assert f'image.title="kedge/{image}"' in inherited(image)


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
    for script in ("images/build", "images/install", "tools/install", ".ci/cluster"):
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


def test_what_an_image_copies_is_let_through_to_the_build():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", TEXT, re.MULTILINE)
    paths = [path for each in copied for path in each.split()]
    assert "requirements/catboost.txt" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
        assert any(path == each or path.startswith(f"{each}/") for each in allowed), path
