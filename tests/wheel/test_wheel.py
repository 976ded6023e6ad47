"""kedge as pip installs it: the built wheel, outside the checkout, among a foreign repository's packages."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kedge.cpus import PATIENT
from tests.bundle import models
from tests.chart.render import ROOT
from tests.wheel import environment

BARE = """\
model: {name: fraud, target: is_fraud, features: {amount: {type: number}}}
data: {source: {format: log}}
"""
SECONDS = 240


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return environment.built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Callable[[str], Path]:
    """The ``bin`` of an environment with an extra, made once."""
    made: dict[str, Path] = {}

    def of(extra: str) -> Path:
        if extra not in made:
            made[extra] = environment.installed(wheel, tmp_path_factory.mktemp(extra or "bare"), extra)
        return made[extra]

    return of


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A repository of the layout that every Kubeflow repository has."""
    for package in ("components", "pipelines"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('a package of somebody else')\n")
    (tmp_path / "fraud.yaml").write_text(BARE)
    shutil.copy(ROOT / "examples" / "payments.csv", tmp_path)
    return tmp_path


def surroundings(folder: Path) -> dict[str, str]:
    """Nothing of this environment, and the folder's packages within reach of any import."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder),
        **PATIENT,
    }


def run(program: Path, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *words], cwd=folder, env=surroundings(folder) | variables, capture_output=True, text=True,
        timeout=SECONDS,
    )  # fmt: skip


def test_the_wheel_installs_one_name_and_carries_what_it_reads(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"kedge", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    data = {name for name in names if name.startswith("kedge/") and not name.endswith((".py", ".c"))}
    assert data == {
        "kedge/collector/openapi.yaml",
        "kedge/demo/payments.yaml",
        *(f"kedge/submission/specs/{pipeline}.yaml" for pipeline in ("release", "retrain", "score")),
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version"], "kedge 0"),
        (["--help"], "Retrain on fresh rows"),
        (["policy", "check", "fraud.yaml"], "good (fraud: 1 features"),
        (["policy", "schema"], '"title": "Policy"'),
        (["compile", "--policy", "fraud.yaml", "--kubernetes"], "kubernetes/release-fraud.yaml"),
        (["history", "--help"], "Usage"),
    ],
)
def test_without_an_extra_the_command_does_what_needs_none(programs, foreign, words, said) -> None:
    done = run(programs("") / "kedge", foreign, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


SUBMIT = ["submit", "--policy", "fraud.yaml"]


@pytest.mark.parametrize(
    ("extra", "words", "variables", "missing"),
    [
        ("", ["init", "payments.csv"], {}, "data"),
        ("", ["drift", "payments.csv", "payments.csv"], {}, "data"),
        ("", ["profile", "payments.csv", "-o", "p.json"], {}, "data"),
        ("", SUBMIT, {}, "local"),
        ("", SUBMIT, {"KEDGE_KFP_HOST": "http://127.0.0.1:1"}, "step"),
        ("", ["monitor", "--policy", "fraud.yaml"], {}, "step"),
        ("", ["rollback", "--policy", "fraud.yaml"], {}, "step"),
        ("", ["adopt", "churn", "--collector", "http://collector"], {}, "step"),
        ("", ["doctor"], {}, "step"),
        ("", ["up", "--policy", "fraud.yaml"], {}, "local"),
        ("", ["demo"], {}, "local"),
        ("data", SUBMIT, {}, "local"),
        ("data", ["up", "--policy", "fraud.yaml"], {}, "local"),
        ("data", ["demo"], {}, "local"),
    ],
)
def test_an_extra_that_is_missing_is_named_in_one_sentence(programs, foreign, extra, words, variables, missing) -> None:
    done = run(programs(extra) / "kedge", foreign, *words, **variables)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert sentence.endswith(f" which is not installed here; try: pip install 'kedge[{missing}]'")


@pytest.mark.parametrize(
    ("words", "extra"),
    [("kedge.serving --bundle .", "serve"), ("kedge.collector --store s --policy fraud.yaml --spool w", "collect")],
)
def test_a_service_names_the_extra_it_needs(programs, foreign, words, extra) -> None:
    done = run(programs("") / "python", foreign, "-m", *words.split())
    assert done.returncode == 2
    assert done.stderr.endswith(f"try: pip install 'kedge[{extra}]'\n")
    assert done.stderr.count("\n") == 1


def test_with_the_extra_data_tables_are_described_and_compared(programs, foreign) -> None:
    kedge = programs("data") / "kedge"
    for words, said in (
        (["init", "payments.csv"], "wrote payments.yaml"),
        (["policy", "check", "payments.yaml"], "good (payments"),
        (["profile", "payments.csv", "-o", "reference.json"], "1,104 rows"),
        (["drift", "reference.json", "payments.csv"], "0 of 11 columns drifted"),
    ):
        done = run(kedge, foreign, *words)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout + done.stderr


@pytest.mark.ci
def test_a_run_of_the_pipeline_needs_nothing_of_the_checkout(programs, foreign) -> None:
    kedge = programs("local") / "kedge"
    assert run(kedge, foreign, "init", "payments.csv").returncode == 0
    done = run(kedge, foreign, "submit", "--policy", "payments.yaml", "--local", "--json")
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert (outcome["state"], outcome["version"]) == ("succeeded", "1")


@contextmanager
def started(command: list[str | Path], folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=folder, env=surroundings(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """What it said after it was asked to end, which it does well."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
def test_the_platform_comes_up_among_packages_of_other_names(programs, foreign) -> None:
    with started([programs("local") / "kedge", "up", "--policy", "fraud.yaml"], foreign) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("gateway http://127.0.0.1:")
        ended(process)


@pytest.mark.slow
def test_a_model_is_served_without_the_compiled_trees_and_without_advice_nobody_can_follow(programs, foreign) -> None:
    bundle = models.written(foreign / "bundle")
    server = [programs("local") / "python", "-P", "-u", "-m", "kedge.serving", "--bundle", foreign / "bundle"]
    with started([*server, "--port", "0"], foreign) as process:
        assert process.stdout is not None
        address = process.stdout.readline().rsplit(" ", 1)[1].strip()
        golden = bundle.golden.to_pylist()[:2]
        rows = [{name: row[name] for name in bundle.signature.names} for row in golden]
        answer = httpx.post(f"{address}/v1/models/payments:predict", json={"instances": rows}, trust_env=False)
        said = ended(process)
    assert answer.json()["predictions"] == [row["_score"] for row in golden]
    assert "go to XGBoost's library" in said
    assert "make" not in said
    assert "compiled" in said
