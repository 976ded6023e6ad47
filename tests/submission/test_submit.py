"""Runs of pipelines that take a second, with KFP's local runner."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kedge import owner, steps
from kedge import records as ledger
from kedge.errors import RunError, StoreError, UsageError, UserError
from kedge.settings import Settings
from kedge.store import open_store
from kedge.submission import submit
from tests.records.made import record
from tests.submission import small
from tests.submission.steps import BUNDLE
from tests.training import rows

POLICY = rows.policy()
DEADLINE = 60.0


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(store=str(tmp_path / "store"), registry="sqlite:///none", platform=str(tmp_path), kfp_host=None)


@pytest.fixture
def runs(monkeypatch, settings, tmp_path) -> Callable[..., submit.RunOutcome]:
    """Submit one of the small pipelines in the place of retrain."""

    def run(pipeline: str, key: str = "k", **words) -> submit.RunOutcome:
        monkeypatch.setitem(submit.LOCAL, "retrain", small.compiled(pipeline, tmp_path))
        return submit.submit_retrain(settings, POLICY, reason="test", key=key, end=rows.END, **words)

    return run


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def records(settings: Settings, *kinds: type):
    return ledger.read(open_store(settings.store), POLICY.name, *kinds)


def test_a_run_that_passes_says_so_step_by_step_and_happens_once(runs, settings, tmp_path, monkeypatch) -> None:
    said: list[str] = []
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    outcome = runs("passing", say=said.append)
    assert list(temporary.iterdir()) == []  # nothing is left behind
    assert (outcome.state, outcome.bundle, outcome.version) == ("succeeded", BUNDLE, "7")
    assert [line for line in said if line.endswith("started")] == ["verdict: started", "closing: started"]
    assert runs("crashing") == outcome  # the same key: nothing is run, or this would fail
    (begun,) = records(settings, ledger.RunStarted)
    assert begun.key == outcome.run == "retrain-fraud-k"
    assert begun.data.decision_key == "k"
    assert begun.data.pipeline == "retrain"


def test_a_model_that_is_registered_does_not_begin_anew_in_an_empty_store(runs, settings, monkeypatch) -> None:
    known = SimpleNamespace(exists=True, versions=lambda model: [model])
    monkeypatch.setattr(submit, "Registry", lambda uri: known)
    with pytest.raises(StoreError, match="is empty, and registry sqlite:///none has bundles of fraud"):
        runs("passing")
    assert not Path(settings.store).exists()


def test_a_skipped_branch_is_a_failure_not_a_success(runs, settings) -> None:
    outcome = runs("skipping")
    assert outcome.state == "failed"
    assert "a branch was skipped" in outcome.reason
    with pytest.raises(RunError, match="a branch was skipped"):
        outcome.raise_if_failed()
    (finished,) = records(settings, ledger.RunFinished)
    assert finished.data.state == "failed"


def test_the_users_mistake_is_told_with_its_step_and_not_tried_again(runs, settings) -> None:
    outcome = runs("mistaken")
    assert (outcome.state, outcome.step, outcome.reason) == ("failed", "broken", "column 'amount' is missing")
    with pytest.raises(UserError, match="failed in step broken: column 'amount' is missing"):
        outcome.raise_if_failed()
    assert runs("passing") == outcome


def test_a_crash_is_told_by_its_name(runs, settings) -> None:
    outcome = runs("crashing")
    assert (outcome.state, outcome.step, outcome.exit_code) == ("failed", "broken", 1)
    assert outcome.reason == "ZeroDivisionError: it happens"


def test_after_a_step_was_killed_the_next_submission_goes_on(runs, settings) -> None:
    first = runs("dying")
    assert (first.state, first.step, first.exit_code) == ("failed", "broken", 1)
    assert first.reason.startswith("the step ended without a word")
    assert runs("passing").state == "succeeded"
    assert [each.key for each in records(settings, ledger.RunStarted)] == ["retrain-fraud-k", "retrain-fraud-k.2"]
    assert {each.key: each.data.state for each in records(settings, ledger.RunFinished)} == {
        "retrain-fraud-k": "failed",
        "retrain-fraud-k.2": "succeeded",
    }


def test_a_second_submitter_of_a_running_key_waits_for_the_first(runs, settings) -> None:
    outcomes: list[submit.RunOutcome] = []
    first = threading.Thread(target=lambda: outcomes.append(runs("waiting")))
    first.start()
    until(lambda: Path(settings.store, "step-pid").exists())
    assert runs("crashing", wait=False).state == "running"
    second = threading.Thread(target=lambda: outcomes.append(runs("crashing")))
    second.start()
    Path(settings.store, "go-on").touch()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert [outcome.state for outcome in outcomes] == ["succeeded", "succeeded"]
    assert len(records(settings, ledger.RunStarted)) == 1


def test_a_killed_submitter_takes_its_steps_along_and_the_next_one_goes_on(runs, settings, tmp_path) -> None:
    program = f"""
        from pathlib import Path
        from kedge.submission import submit
        from kedge.settings import Settings
        from tests.training import rows
        submit.LOCAL["retrain"] = Path({str(small.compiled("waiting", tmp_path))!r})
        settings = Settings(store={settings.store!r}, registry="none", platform=".", kfp_host=None)
        submit.submit_retrain(settings, rows.policy(), reason="test", key="k", end=rows.END)
    """
    submitter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    until(lambda: Path(settings.store, "step-pid").exists())
    pid = int(Path(settings.store, "step-pid").read_text())
    began = owner._began(pid)
    submitter.kill()
    submitter.wait()
    until(lambda: owner._began(pid) in (None, -1) or owner._began(pid) != began)
    assert runs("passing").state == "succeeded"
    first, second = records(settings, ledger.RunFinished)
    assert first.data.reason == "the process that ran it ended without a word"
    assert (second.key, second.data.state) == ("retrain-fraud-k.2", "succeeded")


def test_an_interrupt_ends_the_steps_and_is_recorded(runs, settings, monkeypatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # a step's first line comes while the step runs

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs("waiting", say=interrupted)
    (finished,) = records(settings, ledger.RunFinished)
    assert (finished.data.state, finished.data.reason) == ("failed", "interrupted")


def test_a_run_imports_nothing_from_the_folder_it_is_started_in(runs, tmp_path, monkeypatch) -> None:
    for name in ("components", "pipelines", "kedge"):  # a repository of Kubeflow pipelines
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert runs("passing").state == "succeeded"


def test_a_run_of_another_host_is_not_taken_over(runs, settings) -> None:
    store = open_store(settings.store)
    owner = {"host": "elsewhere", "pid": 1, "began": 1}
    ledger.append(store, record("run-started", "retrain-fraud-k", rows.END, model=POLICY.name, owner=owner))
    assert runs("passing", wait=False).state == "running"


@pytest.mark.parametrize("key", ["", "a/b", "../up", "x" * 81, "-dash", "a b"])
def test_a_key_that_is_no_plain_name_is_refused(runs, key: str) -> None:
    with pytest.raises(UsageError, match="1 to 80 letters"):
        runs("passing", key=key)


def test_a_time_can_be_a_key() -> None:
    assert submit.run_name("retrain", "fraud", "2026-03-02T06:00:00+00:00") == "retrain-fraud-2026-03-02T060000-0000"


def test_a_process_number_used_again_is_another_process() -> None:
    assert not owner.gone(owner.this_process())
    assert owner.gone({**owner.this_process(), "began": 1})
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child_owner = {**owner.this_process(), "pid": child.pid, "began": owner._began(child.pid)}
    until(lambda: owner._began(child.pid) == -1)  # ended, not yet waited for
    assert owner.gone(child_owner)
    child.wait()
    assert owner.gone(child_owner)


def registered(settings: Settings, *kinds: str) -> None:
    for kind in kinds:
        ledger.append(open_store(settings.store), record(kind, BUNDLE, rows.END, model=POLICY.name))


def test_only_a_registered_bundle_is_released(settings) -> None:
    with pytest.raises(UsageError, match="is not registered"):
        submit.submit_release(settings, POLICY, BUNDLE)


def test_a_release_waits_for_the_approval_the_policy_asks_for(settings) -> None:
    manual = rows.policy(release={"approval": "manual"})
    registered(settings, "registered")
    with pytest.raises(UsageError, match="waits for approval: kedge approve"):
        submit.submit_release(settings, manual, BUNDLE)
    registered(settings, "approved")
    submit.refuse_unready(open_store(settings.store), manual, BUNDLE)


PASSED = submit.RunOutcome(run="retrain-fraud-k", state="succeeded", bundle=BUNDLE)


def test_what_passed_is_not_released_where_an_approval_is_missing(settings) -> None:
    said: list[str] = []
    manual = rows.policy(release={"approval": "manual"})
    assert submit.release_passed(settings, manual, PASSED, say=said.append) == [PASSED]
    assert said == [f"bundle {BUNDLE} waits for approval: kedge approve"]


def test_what_passed_is_released(settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(submit.LOCAL, "release", small.compiled("releasing", tmp_path))
    registered(settings, "registered")
    trained, released = submit.release_passed(settings, POLICY, PASSED)
    assert (trained, released.run, released.state) == (PASSED, f"release-fraud-{BUNDLE[:12]}", "succeeded")


def test_steps_leave_their_reason_in_words_of_bounded_length(tmp_path) -> None:
    store = open_store(tmp_path)

    def work() -> None:
        raise ValueError("x" * 10_000)

    with pytest.raises(ValueError, match="xxx"):
        steps.run_step(store, "fraud", "deploy", work, run="by-hand")
    (finished,) = ledger.read(store, "fraud", ledger.RunFinished)
    assert finished.key == "by-hand"  # submitted from KFP's own page: nobody announced it
    assert finished.data.reason.startswith("ValueError: xxx")
    assert len(finished.data.reason) == 4000
