from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kedge import records
from kedge.cli import build
from kedge.errors import PolicyError, UsageError, UserError
from kedge.records import Evaluated, Record
from kedge.store import open_store
from kedge.store.identity import begin
from kedge.submission import submit
from tests.submission import small
from tests.submission.fake_kfp import FakeKfp
from tests.submission.steps import BUNDLE

POLICY = """
model: {name: fraud, target: y, features: {amount: {type: number}}}
data: {source: {format: csv, location: rows.csv}, time_column: at}
release: {approval: manual}
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch) -> list[str]:
    (tmp_path / "fraud.yaml").write_text(POLICY)
    monkeypatch.setenv("KEDGE_KFP_HOST", "http://never-asked")
    return ["submit", "--policy", str(tmp_path / "fraud.yaml"), "--store", str(tmp_path / "store"), "--local"]


def run(words: list[str], *more: str):
    return CliRunner().invoke(build(), [*words, *more])


def test_submit_tells_each_step_and_the_end(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("passing", tmp_path))
    result = run(words, "--key", "first")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line for line in lines if line.endswith("started")] == ["verdict: started", "closing: started"]
    assert lines[-2] == f"bundle {BUNDLE} waits for approval: kedge approve"
    assert lines[-1] == f"run retrain-fraud-first succeeded, bundle {BUNDLE}"
    again = run(words, "--key", "first", "--json")
    (outcome,) = json.loads(again.stdout)
    assert (outcome["state"], outcome["bundle"]) == ("succeeded", BUNDLE)


def test_a_failed_run_is_printed_and_raised_with_its_exit_code(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("mistaken", tmp_path))
    result = run(words, "--key", "first", "--json")
    assert isinstance(result.exception, UserError)
    assert "column 'amount' is missing" in str(result.exception)
    assert json.loads(result.stdout)[0]["step"] == "broken"


def test_without_a_key_the_run_is_named_by_its_time(words, monkeypatch) -> None:
    asked: dict[str, object] = {}

    def retrain(settings, policy, **about) -> submit.RunOutcome:
        asked.update(about)
        return submit.RunOutcome(run="r", state="succeeded")

    monkeypatch.setattr(submit, "submit_retrain", retrain)
    assert run(words, "--end", "2026-03-02T06:00:00", "--change-point", "2026-03-01T12:00:00+01:00").exit_code == 0
    assert (asked["key"], str(asked["end"])) == ("20260302T060000", "2026-03-02 06:00:00+00:00")
    assert str(asked["change_point"]) == "2026-03-01 11:00:00+00:00"


@pytest.mark.parametrize(
    ("more", "error", "why"),
    [
        (["--end", "yesterday"], UsageError, "--end 'yesterday': not a time"),
        (["--change-point", "monday"], UsageError, "--change-point 'monday': not a time"),
        (["--key", "a/b"], UsageError, "key 'a/b' must be"),
        (["--release", BUNDLE], UsageError, "no registered bundle begins with"),
        (["--policy", "nowhere.yaml"], PolicyError, "nowhere.yaml: cannot be read"),
    ],
)
def test_the_users_mistakes_are_named(words, more: list[str], error: type[UserError], why: str) -> None:
    begin(open_store(words[words.index("--store") + 1]))
    result = run(words, *more)
    assert isinstance(result.exception, error)
    assert why in str(result.exception)
    assert error.exit_code == 2


def test_where_nothing_serves_what_passed_is_registered_and_its_release_explained(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("passing", tmp_path))
    policy = Path(words[2])
    policy.write_text(POLICY.replace("manual", "auto"))
    result = run(words, "--key", "first")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-4] == f"run retrain-fraud-first succeeded, bundle {BUNDLE}"
    assert "registered and not released" in lines[-3]
    assert lines[-2].split()[:4] == ["kedge", "up", "--policy", str(policy)]
    assert lines[-1].split() == ["kedge", "submit", "--policy", str(policy), "--local", "--release", BUNDLE]


def test_a_platform_that_came_up_during_the_run_is_not_to_be_started(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("passing", tmp_path))
    seen = iter((False, True))
    monkeypatch.setattr("kedge.rollout.local.folder.Folder.running", lambda _: next(seen))
    Path(words[2]).write_text(POLICY.replace("manual", "auto"))
    lines = run(words, "--key", "first").output.splitlines()
    assert "when the run began" in lines[-2]
    assert lines[-1].split()[:2] == ["kedge", "submit"]


def test_the_page_of_a_run_is_printed_for_people_and_for_programs(words, monkeypatch) -> None:
    words.remove("--local")
    with FakeKfp() as kfp:
        monkeypatch.setenv("KEDGE_KFP_HOST", kfp.address)
        monkeypatch.setenv("KEDGE_KFP_UI", "https://kubeflow.example/_/pipeline")
        begun = run(words, "--key", "first", "--no-wait")
        again = run(words, "--key", "first", "--no-wait", "--json")
        kfp.shutdown()
    page = "https://kubeflow.example/_/pipeline/#/runs/details/r1"
    assert begun.stdout.splitlines() == [
        f"run retrain-fraud-first: started, {page}",
        f"run retrain-fraud-first running, {page}",
    ]
    assert json.loads(again.stdout)[0]["address"] == page


def test_a_submit_ends_with_how_good_the_candidate_is_and_where_it_stands(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("passing", tmp_path))
    metrics = {"rows": 726.0, "loss": 0.49203, "loss_low": 0.45, "loss_high": 0.535, "constant_loss": 0.68973}
    data = Evaluated(
        bundle=BUNDLE, champion=None, run="retrain-fraud-first", outcome="passed", passed=True, reasons=(),
        rows_needed=0, gates=(), metrics=metrics, report="reports/fraud/evaluate-x.html",
    )  # fmt: skip
    key = records.evaluation_key(BUNDLE, "retrain-fraud-first")
    store = open_store(tmp_path / "store")
    records.append(store, Record(model="fraud", key=key, time=datetime(2026, 3, 2, tzinfo=UTC), data=data))
    lines = run(words, "--key", "first").output.splitlines()
    assert lines[-2:] == [
        "loss 0.492 (mean log loss, nats; 95 % interval 0.45 to 0.535), best constant 0.6897, no champion yet; on 726 "
        "rows that it was not trained on",
        f"its page: {store.url}/reports/fraud/evaluate-x.html",
    ]


def test_a_failure_says_its_sentence_once(words, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled("mistaken", tmp_path))
    result = run(words, "--key", "first")
    said = f"{result.output}{result.exception}"
    assert said.count("column 'amount' is missing") == 1
