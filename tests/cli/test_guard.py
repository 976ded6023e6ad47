"""``kedge guard`` and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from kedge import clock, records
from kedge.cli import build
from kedge.errors import ReleaseError, RunError
from kedge.rollout import step
from kedge.rollout.guard import Guarded
from kedge.store import open_store
from kedge.submission import submit
from tests.records.made import check, record

NEW = "b" * 40
START = datetime(2026, 3, 2, tzinfo=UTC)
RULES = {
    "model": {"name": "fraud", "target": "y", "features": {"x": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
}


@pytest.fixture
def guard(tmp_path, monkeypatch):
    """Run the command where a look ends so."""

    def run(seen, *words, host="http://kfp"):
        monkeypatch.setenv("KEDGE_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("KEDGE_KFP_HOST", host)
        monkeypatch.setattr(step, "guard", lambda *_, **__: seen)
        file = tmp_path / "fraud.yaml"
        file.write_text(yaml.safe_dump(RULES))
        result = CliRunner().invoke(build(["guard"]), ["guard", "--policy", str(file), *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return run


def passed(store):
    """A check decided to retrain, and the retraining passed its gates."""
    decided = check(START, action="retrain", decision_key="k")
    began = record("run-started", "retrain-fraud-k", START, run="retrain-fraud-k", decision_key="k")
    ended = record("run-finished", "retrain-fraud-k", START, run="retrain-fraud-k", state="succeeded", bundle=NEW)
    for each in (decided, began, ended):
        records.append(store, each)


def test_limit_that_is_exceeded_with_nothing_to_roll_back_to_is_a_failure(guard):
    assert "fraud: within limits, 9 requests" in guard(Guarded(verdict="within limits", requests=9))
    with pytest.raises(ReleaseError, match="exceeds limits: failed requests"):
        guard(Guarded(verdict="exceeds limits", reasons=("failed requests",)))


def test_release_follows_its_retraining_at_the_next_look(guard, tmp_path, monkeypatch):
    passed(open_store(tmp_path / "store"))
    asked = []

    def submit_release(settings, policy, bundle, **options):
        asked.append((bundle, options["wait"]))
        return submit.RunOutcome(run="release-fraud", state="running")

    monkeypatch.setattr(submit, "submit_release", submit_release)
    assert "release release-fraud: running" in guard(Guarded(verdict="within limits"))
    guard(Guarded(verdict="within limits"), "--no-submit")
    assert asked == [(NEW, False)]


def test_release_that_the_cluster_failed_is_tried_again_as_the_run_that_it_was(guard, tmp_path, monkeypatch):
    """Approved once more after a rollback, the release is a run of another name than the first one."""
    store, run, asked = open_store(tmp_path / "store"), f"release-fraud-{NEW[:12]}", []
    passed(store)
    for at, name, state in ((1, run, "rejected"), (2, f"{run}-approved-2", "failed")):
        began, about = START + timedelta(hours=at), {"run": name, "pipeline": "release", "bundle": NEW}
        records.append(store, record("run-started", name, began, **about))
        records.append(store, record("run-finished", name, began, run=name, state=state, exit_code=1))

    def submit_release(settings, policy, bundle, **options):
        asked.append((bundle, options["key"], options["again"]))
        return submit.RunOutcome(run=f"{run}-approved-2", state="running")

    monkeypatch.setattr(submit, "submit_release", submit_release)
    assert f"release {run}-approved-2: running" in guard(Guarded(verdict="within limits"))
    assert asked == [(NEW, "approved-2", True)]


def test_champion_is_guarded_also_while_kubeflow_is_away(guard, tmp_path, monkeypatch):
    passed(open_store(tmp_path / "store"))

    def submit_release(*_, **__):
        raise RunError("KFP at http://kfp: no answer")

    monkeypatch.setattr(submit, "submit_release", submit_release)
    said = guard(Guarded(verdict="within limits"))
    assert "could not be begun: KFP at http://kfp" in said
    assert "fraud: within limits" in said


@pytest.mark.parametrize("verdict", ["exceeds limits", "not judged"])
def test_limit_with_nothing_to_roll_back_to_is_told_once(guard, tmp_path, monkeypatch, verdict):
    from kedge import notify

    monkeypatch.setitem(RULES, "notify", {"url_variable": "CHAT_URL"})
    told = []
    monkeypatch.setattr(notify, "post", lambda _, line: told.append(line) or "told")
    for _ in range(2):
        with pytest.raises(ReleaseError):
            guard(Guarded(verdict=verdict, reasons=("failed requests: 60 of 200",), requests=200))
    assert told == [f"fraud: guard: {verdict}, 200 requests: failed requests: 60 of 200"]


def test_rollback_by_the_guard_is_told_once(guard, tmp_path, monkeypatch):
    from kedge import notify

    monkeypatch.setitem(RULES, "notify", {"url_variable": "CHAT_URL"})
    told, store = [], open_store(tmp_path / "store")
    monkeypatch.setattr(notify, "post", lambda _, line: told.append(line) or "told")
    now = clock.now()
    for kind in ("promoted", "rolled-back"):
        about = {"bundle": NEW, "reason": "guard: failed requests"}
        records.append(store, record(kind, f"{NEW}-1", now, actor="guard", **about))
    for _ in range(2):
        guard(Guarded(verdict="rolled back", reasons=("failed requests",), requests=200), host="")
    assert told == [f"fraud: champion {NEW[:12]} was rolled back: guard: failed requests"]
