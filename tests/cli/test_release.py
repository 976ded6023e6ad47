"""``kedge release simulate`` and ``kedge plan``."""

import json
import subprocess
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from kedge.cli import build

KEYS = [
    "rollouts",
    "rolled_back",
    "promoted",
    "held",
    "median_candidate_requests",
    "median_bad_answers",
    "median_seconds",
]


def invoke(*words: object) -> Result:
    return CliRunner().invoke(build(), [str(word) for word in words])


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "fraud.yaml"
    path.write_text(
        "model: {name: fraud, target: y, features: {amount: {type: number}}}\ndata: {source: {format: log}}\n"
    )
    return path


def simulated(policy, *words: object) -> dict:
    result = invoke("release", "simulate", "--policy", policy, "--rollouts", 5, "--seed", 1, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_bad_candidate_is_told_with_its_price(policy) -> None:
    figures = simulated(policy, "--rps", 10, "--base-error", 0.01, "--candidate-error", 0.3)
    assert list(figures) == KEYS
    assert (figures["rollouts"], figures["rolled_back"], figures["promoted"], figures["held"]) == (5, 1, 0, 0)
    assert 0 < figures["median_bad_answers"] < figures["median_candidate_requests"] < 10 * figures["median_seconds"]


def test_an_equal_candidate_has_no_price(policy) -> None:
    figures = simulated(policy, "--rps", 10, "--bake-outage", 600)
    assert (figures["promoted"], figures["median_seconds"], figures["median_bad_answers"]) == (1, None, None)


@pytest.mark.parametrize(
    "words",
    [
        ("--latency-ratio", 3),
        ("--accuracy-loss", 0.2),
        ("--score-shift", -1),
        ("--base-error", 0, "--candidate-error", 1),
    ],
)
def test_each_kind_of_harm_is_found(policy, words) -> None:
    assert simulated(policy, "--rps", 10, *words)["rolled_back"] == 1


def test_a_seed_names_its_releases_with_any_number_of_processes(policy) -> None:
    words = ("--rps", 10, "--candidate-error", 0.03)
    assert simulated(policy, *words) == simulated(policy, *words) != simulated(policy, *words, "--seed", 2)
    words = ("--rps", 100, "--score-shift", 0.5, "--rollouts")
    assert simulated(policy, *words, 100) == simulated(policy, *words, 99) | {"rollouts": 100}


def test_people_read_what_it_cost(policy) -> None:
    result = invoke("release", "simulate", "--policy", policy, "--rps", 10, "--candidate-error", 1, "--rollouts", 2)
    assert "2 releases at 10 requests a second: rolled back 100.0%" in result.stdout
    assert "requests of the candidate" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rps", 0), "Invalid value for '--rps': Input should be greater than or equal to 0.000001"),
        (("--rps", "fast"), "Invalid value for '--rps'"),
        (("--rps", "nan"), "Invalid value for '--rps'"),
        (("--rps", 1, "--base-error", 1.5), "'--base-error': Input should be less than or equal to 1"),
        (("--rps", 1, "--candidate-error", "nan"), "Invalid value for '--candidate-error'"),
        (("--rps", 1, "--latency-ratio", 0), "'--latency-ratio': Input should be greater than or equal to 0.01"),
        (("--rps", 1, "--rollouts", 0), "'--rollouts': Input should be greater than or equal to 1"),
        (("--rps", 1, "--bake-outage", "-5"), "'--bake-outage': Input should be greater than or equal to 0"),
        ((), "Missing option '--rps'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_with_a_sentence(policy, words, said) -> None:
    result = invoke("release", "simulate", "--policy", policy, *words)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("command", [["release", "simulate"], ["plan"]])
def test_a_policy_that_is_not_there_ends_with_two_and_a_sentence(tmp_path, command) -> None:
    words = [sys.executable, "-m", "kedge.cli", *command, "--policy", str(tmp_path / "none.yaml"), "--rps", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "none.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_says_how_long_steps_take_and_what_they_find(policy) -> None:
    result = invoke("plan", "--policy", policy, "--rps", 20, "--rollouts", 10, "--json")
    assert result.exit_code == 0, result.output
    planned = json.loads(result.stdout)
    assert list(planned) == ["rps", "promoted", "steps", "failures", "latency", "decisions"]
    assert (planned["rps"], planned["promoted"]) == (20, 1)
    assert list(planned["steps"]) == ["canary 5 %", "canary 25 %", "canary 50 %", "bake 95 %"]
    assert all(seconds >= 60 for seconds in planned["steps"].values())


def test_a_plan_refuses_a_rate_that_is_none(policy) -> None:
    result = invoke("plan", "--policy", policy, "--rps", -1)
    assert result.exit_code == 2
    assert "Invalid value for '--rps'" in result.output


def test_a_check_of_a_policy_says_what_little_traffic_cannot_find(policy) -> None:
    said = invoke("policy", "check", policy, "--rps", 0.0058).output
    assert "release.analysis.harm: 501 rows a day are few: a candidate that fails in up to 4.1% of requests" in said
    assert "release.analysis.harm" not in invoke("policy", "check", policy, "--rps", 10).output
