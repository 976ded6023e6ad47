"""The command itself: errors become one message and an exit code."""

import atexit
import gc
import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from kedge import cli
from kedge.cli import COMMANDS, build
from kedge.image import VERSION

THRESHOLDS = gc.get_threshold()


def kedge(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kedge.cli", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys, kedge.cli as cli; cli.build();"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'sklearn', 'xgboost', 'mlflow', 'kfp', 'scipy', 'kserve', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"


def test_threads_of_a_command_wait_asleep_unless_somebody_says_otherwise(monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    monkeypatch.setattr(cli, "_run", lambda: None)
    try:
        cli.main()
    finally:
        atexit.unregister(gc.freeze)
        gc.set_threshold(*THRESHOLDS)
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}


def test_the_version_is_printed_and_nothing_run():
    done = kedge("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kedge {VERSION}\n", "")


def test_a_mistake_of_the_user_is_one_message_without_a_trace_and_exit_code_2(tmp_path):
    done = kedge("policy", "check", str(tmp_path / "absent.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}/absent.yaml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("group", [[], ["policy"]])
def test_the_help_of_every_command_fits_its_line(group, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(build(), [*group, "--help"]).output.partition("Commands:")[2].strip().splitlines()
    assert len(lines) == (2 if group else len(COMMANDS))
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []


def options(name):
    return {word for option in get_command(build()).commands[name].params for word in option.opts}


@pytest.mark.parametrize(
    "name", [n for n in COMMANDS if n not in ("adopt", "demo", "doctor", "init", "policy", "release")]
)
def test_every_command_that_knows_a_model_takes_its_policy_or_its_name(name):
    assert {"--policy", "--model", "--store"} <= options(name)


def test_an_option_that_was_renamed_says_its_new_name():
    done = kedge("compile", "--out=specs")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: --out is called --output now\n")
    assert "Possible options: --output" in kedge("compile", "--outt").stderr


def test_a_mistyped_command_is_answered_with_the_one_that_is_close():
    done = kedge("drfit")
    assert done.returncode == 2
    assert "Did you mean 'drift'" in done.stderr


def test_every_command_has_a_help_text_with_an_example():
    commands = get_command(build()).commands
    leaves = [
        leaf for group in commands.values() for leaf in (getattr(group, "commands", None) or {"": group}).values()
    ]
    lacking = [leaf.name for leaf in leaves if "Example: kedge " not in (leaf.help or "")]
    assert lacking == []


@pytest.mark.parametrize("words", [("demo", "--data", "x.csv"), ("demo", "--policy", "p.yaml")])
def test_demo_wants_data_and_policy_together(words):
    done = kedge(*words)
    assert done.returncode == 2
    assert "--data and --policy belong together" in done.stderr


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = kedge("demo", "--folder", str(tmp_path))
    assert done.returncode == 2
    assert "not empty and not a demo's folder" in done.stderr
    assert (tmp_path / "thesis.txt").exists()
