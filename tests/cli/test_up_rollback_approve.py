"""The commands around a release, as a person types them."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kedge import bundle, policy, records
from kedge.cli import build
from kedge.rollout.local.folder import Folder
from kedge.rollout.model import Route
from kedge.settings import Settings
from kedge.store.identity import begin
from tests.bundle import models
from tests.records.made import record

NEW = "b" * 40
POLICY = """
model: {name: fraud, target: fraud, features: {x: {type: number}}}
data: {source: {format: csv, location: x.csv}, time_column: t}
"""


@pytest.fixture
def kedge(tmp_path, monkeypatch):
    """Runs a command on a store of its own; standard output, or the error raised."""
    monkeypatch.setenv("KEDGE_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("KEDGE_PLATFORM", raising=False)
    monkeypatch.setenv("KEDGE_ACTOR", "ada")
    (tmp_path / "fraud.yaml").write_text(POLICY)

    def run(*words):
        result = CliRunner().invoke(build(), [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def happened(store, kind, key, **data):
    time = datetime(2026, 3, 2, len(records.read(store, "fraud")), tzinfo=UTC)
    records.append(store, record(kind, key, time, bundle=NEW, **data))


def test_approval_is_recorded_in_the_persons_name(kedge, store, tmp_path):
    happened(store, "registered", NEW)
    out = kedge("approve", "--policy", tmp_path / "fraud.yaml", NEW[:8], "--reason", "looks right", "--no-submit")
    assert f"bundle {NEW} approved" in out
    approval = records.latest(store, "fraud", records.Approved)
    assert (approval.key, approval.actor) == (NEW, "ada")
    assert approval.data == records.Approved(bundle=NEW, reason="looks right", after_attempt=0)


def test_second_approval_is_written_only_after_a_rollback(kedge, store, tmp_path):
    happened(store, "registered", NEW)
    approve = ("approve", "--policy", tmp_path / "fraud.yaml", NEW, "--no-submit")
    kedge(*approve)
    kedge(*approve)
    assert len(records.read(store, "fraud", records.Approved)) == 1
    now = records.latest(store, "fraud", records.Approved).time
    records.append(store, record("rolled-back", f"{NEW}-1", now, reason="x"))
    kedge(*approve)
    assert [item.key for item in records.read(store, "fraud", records.Approved)] == [NEW, f"{NEW}-2"]


def test_approval_answers_a_rollback_by_a_clock_that_was_ahead(kedge, store, tmp_path):
    happened(store, "registered", NEW)
    ahead = datetime.now(UTC) + timedelta(days=400)
    records.append(store, record("rolled-back", f"{NEW}-1", ahead, reason="x"))
    for _ in range(2):
        kedge("approve", "--policy", tmp_path / "fraud.yaml", NEW, "--no-submit")
    assert records.read_state(store, "fraud").rolled_back(NEW) is None
    assert len(records.read(store, "fraud", records.Approved)) == 1


@pytest.mark.parametrize(
    ("begin", "message"), [("b" * 7, "8 to 40 hex digits"), ("c" * 8, "no registered bundle begins with cccccccc")]
)
def test_bundle_that_is_not_registered_cannot_be_approved(kedge, store, tmp_path, begin, message):
    happened(store, "registered", NEW)
    with pytest.raises(Exception, match=message) as caught:
        kedge("approve", "--policy", tmp_path / "fraud.yaml", begin)
    assert caught.value.exit_code == 2


def test_approval_submits_the_release(kedge, store, tmp_path, monkeypatch):
    from kedge.submission import submit

    asked = []

    def submit_release(settings, policy, bundle, **options):
        asked.append((policy.name, bundle, options["key"]))
        return submit.RunOutcome(run="release-1", state="succeeded")

    monkeypatch.setattr(submit, "submit_release", submit_release)
    happened(store, "registered", NEW)
    assert "run release-1: succeeded" in kedge("approve", "--policy", tmp_path / "fraud.yaml", NEW)
    assert asked == [("fraud", NEW, None)]


def test_approval_of_a_bundle_that_was_rolled_back_releases_it_once_more(kedge, store, tmp_path, monkeypatch):
    """Under `approval: auto` it is the bundle's first approval, and its release run has ended already."""
    from kedge.submission import submit

    asked = []

    def submit_release(settings, policy, bundle, **options):
        asked.append(options["key"])
        return submit.RunOutcome(run="release-2", state="succeeded")

    monkeypatch.setattr(submit, "submit_release", submit_release)
    happened(store, "registered", NEW)
    happened(store, "rolled-back", f"{NEW}-1", reason="worse")
    for _ in range(2):  # whoever approves twice releases once
        kedge("approve", "--policy", tmp_path / "fraud.yaml", NEW)
    assert asked == ["approved-1", "approved-1"]


def test_rollback_wants_a_model_or_a_policy(kedge, tmp_path):
    for words in ((), ("--model", "fraud", "--policy", tmp_path / "fraud.yaml")):
        with pytest.raises(Exception, match="either --policy FILE or --model NAME"):
            kedge("rollback", *words)


def test_rollback_of_what_is_not_served_is_the_users_mistake(kedge, store, tmp_path):
    begin(store)
    for words in (("--model", "fraud"), ("--policy", tmp_path / "fraud.yaml")):
        with pytest.raises(Exception, match=r"not served|no model is served") as caught:
            kedge("rollback", *words)
        assert caught.value.exit_code == 2


def test_rollback_of_a_running_release_answers_as_json(kedge, store, tmp_path):
    from kedge.rollout.model import Rollout

    now = datetime(2026, 3, 2, tzinfo=UTC)
    rollout = Rollout(
        bundle=NEW, uri="u", slot="green", champion="a" * 40, attempt=1, run="r", started=now, since=now, state="canary"
    )
    records.append(store, record("release-started", f"{NEW}-1", now, bundle=NEW))
    platform = Folder(tmp_path / "store" / "platform")
    platform.swap_route("fraud", Route(weights={"blue": 90, "green": 10}, rollout=rollout))
    out = kedge("rollback", "--policy", tmp_path / "fraud.yaml", "--reason", "odd", "--json")
    assert json.loads(out) == {"result": "rolled-back", "reason": "odd", "not_started": False}
    assert platform.route("fraud").weights == {"blue": 100}
    assert records.latest(store, "fraud", records.RolledBack).actor == "ada"


def test_up_serves_files_and_names_together(kedge, store, tmp_path, monkeypatch):
    started = []

    class Platform:
        def __init__(self, settings):
            started.append(settings)

        def run(self, stopped, say):
            pass

    monkeypatch.setattr("kedge.rollout.local.supervisor.Supervisor", Platform)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's own process keeps its handlers
    made = models.written(tmp_path / "made")
    bundle.publish(store, made)
    time = datetime(2026, 3, 2, tzinfo=UTC)
    records.append(store, record("registered", made.id, time, model="payments"))
    kedge("up", "--policy", tmp_path / "fraud.yaml", "--model", "payments")
    assert started[0].models == ["fraud", "payments"]
    assert [policy.load(path).name for path in started[0].policies] == ["fraud", "payments"]
    with pytest.raises(Exception, match="the model 'fraud' is given twice"):
        kedge("up", "--policy", tmp_path / "fraud.yaml", "--policy", tmp_path / "fraud.yaml")
    with pytest.raises(Exception, match="give --policy FILE or --model NAME, once for each model to serve"):
        kedge("up")


def test_the_guard_of_up_looks_again_after_a_full_disk(kedge, tmp_path, monkeypatch):
    """A full disk lets no route be written, so that the traffic could not be taken from the champion."""
    from kedge.cli import up
    from kedge.rollout import step
    from kedge.rollout.guard import Guarded

    said, stop = [], threading.Event()

    def look(*_, **__):
        if not said:
            raise OSError(28, "No space left on device", "routes/fraud.json")
        return Guarded(verdict="rolled back", reasons=("3 requests failed",))

    def say(line):
        said.append(line)
        if len(said) == 2:
            stop.set()

    monkeypatch.setattr(step, "guard", look)
    monkeypatch.setattr(up, "GUARD_PAUSE_SECONDS", 0.0)
    up.guard(policy.load(tmp_path / "fraud.yaml"), Settings.of(str(tmp_path / "store")), stop, say)
    assert "No space left on device" in said[0]
    assert said[1] == "fraud: rolled back: 3 requests failed"


def test_up_serves_until_it_is_told_to_stop(tmp_path):
    (tmp_path / "fraud.yaml").write_text(POLICY)
    words = ["up", "--policy", str(tmp_path / "fraud.yaml"), "--store", str(tmp_path / "store")]
    root = Path(__file__).parents[2]
    up = subprocess.Popen(
        [sys.executable, "-m", "kedge.cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with up:
        assert up.stdout.readline().startswith("gateway http://127.0.0.1:")
        seen = Folder(tmp_path / "store" / "platform").platform()
        assert seen.ready
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0
    assert not Folder(tmp_path / "store" / "platform").running()


def test_step_of_a_release_is_approved_by_its_name_or_percent(kedge, store, tmp_path):
    happened(store, "registered", NEW)
    approve = ("approve", "--policy", tmp_path / "fraud.yaml", NEW[:8], "--step")
    assert f"step 25 of bundle {NEW} approved" in kedge(*approve, "25")
    approved = records.latest(store, "fraud", records.Approved)
    assert (approved.key, approved.data.bundle, approved.data.step) == (f"{NEW}-step-25", NEW, "25")
    with pytest.raises(Exception, match="no step '10'; the policy has: 5, 25, 50"):
        kedge(*approve, "10")


def test_release_that_runs_is_suspended_and_resumed_in_a_persons_name(kedge, tmp_path):
    from kedge.rollout.model import Rollout

    now = datetime(2026, 3, 2, tzinfo=UTC)
    rollout = Rollout(
        bundle=NEW, uri="u", slot="green", champion="a" * 40, attempt=1, run="r", started=now, since=now, state="canary"
    )
    platform = Folder(tmp_path / "store" / "platform")
    platform.swap_route("fraud", Route(weights={"blue": 90, "green": 10}, rollout=rollout))
    assert "suspended at canary, by ada: closing" in kedge("suspend", "--model", "fraud", "--reason", "closing")
    assert platform.route("fraud").rollout.suspended == "by ada: closing"
    for was in ("suspended by ada: closing", "not suspended"):
        assert f"goes on at canary; it was {was}" in kedge("resume", "--model", "fraud")
    assert platform.route("fraud").rollout.suspended == ""
