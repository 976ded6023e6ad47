from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kedge import notify, records, steps
from kedge.cli import build
from kedge.cli.monitor import follow_up
from kedge.errors import StoreError, UsageError
from kedge.settings import Settings
from kedge.store.identity import begin
from kedge.submission import submit
from tests.monitoring.conftest import trained, world  # noqa: F401  (fixtures)
from tests.monitoring.world import DAY, RULES, START, rows
from tests.records.made import record

CHALLENGER = "b" * 40


@dataclass
class Ended:
    """How a pipeline's process ended."""

    well: bool = True
    last_step: str | None = None
    tail: str = ""


class Pipeline:
    """Stands in for the process of the local runner: a run takes no time and ends with a verdict in the records."""

    def __init__(self, store, state: str = "rejected", **data) -> None:
        self.store, self.state, self.data = store, state, data
        self.runs: list[tuple[str, str]] = []
        self.times: list[tuple[str, str]] = []

    def __call__(self, pipeline, arguments, say) -> Ended:
        name = pipeline.stem
        self.runs.append((name, arguments["end"] if name == "retrain" else arguments["bundle"]))
        self.times.append((arguments.get("change_point", ""), arguments.get("champion_until", "")))
        steps.finish(self.store, "fraud", arguments["run"], self.state, **self.data)
        return Ended()


@pytest.fixture
def file(world, tmp_path):  # noqa: F811
    """The policy, and two days on which the relation was another."""
    path = tmp_path / "fraud.yaml"
    budget = {"cooldown_seconds": 0, "min_labels_after_rise": 700}  # two bad days of 600 rows each
    path.write_text(yaml.safe_dump({**RULES, "monitor": {**RULES["monitor"], "budget": budget}}))
    for day in range(2):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
    return path


def monitor(world, file, day: int, *words: str):  # noqa: F811
    now = (START + (day + 1) * DAY).isoformat()
    asked = ["monitor", "--policy", str(file), "--store", world.store.url, "--now", now, *words]
    return CliRunner().invoke(build(), asked, catch_exceptions=False)


@pytest.fixture
def pipeline(world, monkeypatch):  # noqa: F811
    found = Pipeline(world.store, reason="loss 0.61 is not below 0.60")
    monkeypatch.setattr(submit, "run_local", found)
    return found


def test_before_the_first_release_a_scheduled_check_succeeds_and_says_what_comes_first(world, file, pipeline):  # noqa: F811
    for key in [*world.store.keys("records/fraud/promoted")]:
        world.store.delete(key)
    early = monitor(world, file, 0)
    assert early.exit_code == 0
    assert "no bundle was promoted yet" in early.stderr
    assert "`kedge submit` trains and releases a first one" in early.stderr
    assert early.stdout == ""
    assert pipeline.runs == []


def test_an_empty_store_is_exit_code_1(world, file, pipeline):  # noqa: F811
    begin(world.store)
    shutil.rmtree(world.store.url)
    Path(world.store.url).mkdir()
    with pytest.raises(StoreError, match=r"it has no store\.json and no records"):
        monitor(world, file, 0)
    assert list(Path(world.store.url).iterdir()) == []
    assert pipeline.runs == []


def test_exits_0_and_says_why_whether_or_not_it_submits(world, file, pipeline):  # noqa: F811
    first = monitor(world, file, 0)
    assert first.exit_code == 0
    assert "fraud, 2026-03-02T00:00 to 2026-03-03T00:00 UTC, 600 rows: error rose" in first.output
    assert "action: warn" in first.output
    assert f"report: {world.store.url}/reports/fraud/check-20260303T000000Z.html" in first.output
    assert pipeline.runs == []
    second = monitor(world, file, 1)
    assert second.exit_code == 0
    assert "action: retrain" in second.output
    assert "rejected: loss 0.61 is not below 0.60" in second.output
    assert pipeline.runs == [("retrain", "2026-03-04T00:00:00+00:00")]


@pytest.mark.parametrize("time", [None, START])
def test_the_change_point_and_the_champions_newest_row_go_with_the_run(world, file, pipeline, time):  # noqa: F811
    monitor(world, file, 0)
    monitor(world, file, 1, "--no-submit")
    due = records.read(world.store, "fraud", records.Checked)[-1]
    settings = Settings.of(world.store.url)
    follow_up(settings, world.policy, replace(due, data=replace(due.data, change_point=time)), say=lambda _: None)
    assert pipeline.times == [("" if time is None else START.isoformat(), due.data.trained_until.isoformat())]


def test_the_same_check_twice_writes_one_record_and_submits_once(world, file, pipeline):  # noqa: F811
    monitor(world, file, 0)
    monitor(world, file, 1)
    again = monitor(world, file, 1)
    assert again.exit_code == 0
    assert "(checked before)" in again.output
    assert len(pipeline.runs) == 1
    assert len(records.read(world.store, "fraud", records.Checked)) == 2
    assert len(records.read(world.store, "fraud", records.RunStarted)) == 1


def test_without_submission_the_decision_stands_and_the_next_call_submits_it(world, file, pipeline):  # noqa: F811
    monitor(world, file, 0)
    held = monitor(world, file, 1, "--no-submit")
    assert held.exit_code == 0
    assert pipeline.runs == []
    monitor(world, file, 1)
    assert len(pipeline.runs) == 1


def test_what_nobody_submitted_is_submitted_by_the_next_days_check(world, file, pipeline):  # noqa: F811
    monitor(world, file, 0)
    monitor(world, file, 1, "--no-submit")
    world.serve(rows(600, START + 2 * DAY, 12, flipped=True))
    file.write_text(
        yaml.safe_dump({**RULES, "monitor": {**RULES["monitor"], "budget": {"cooldown_seconds": 10 * 86_400}}})
    )
    third = monitor(world, file, 2)
    assert "action: warn" in third.output
    assert "the retraining decided on at 20260304T000000Z is not done yet" in third.output
    assert pipeline.runs == [("retrain", "2026-03-04T00:00:00+00:00")]


def test_a_run_that_could_not_be_submitted_is_exit_code_1_and_taken_up_again(world, file, monkeypatch):  # noqa: F811
    from kedge.errors import RunError

    def away(*_):
        raise RunError("KFP at http://nowhere: connection refused")

    monitor(world, file, 0)
    monkeypatch.setattr(submit, "run_local", away)
    with pytest.raises(RunError, match="connection refused"):
        monitor(world, file, 1)
    assert [item.data.action for item in records.read(world.store, "fraud", records.Checked)] == [
        "warn",
        "retrain",
    ]
    back = Pipeline(world.store)
    monkeypatch.setattr(submit, "run_local", back)
    monitor(world, file, 1)
    assert len(back.runs) == 1


def test_a_training_that_passed_and_was_never_released_is_released_by_the_next_call(world, file, monkeypatch):  # noqa: F811
    passed = Pipeline(world.store, "succeeded", bundle=CHALLENGER)

    def killed(pipeline, arguments, say):
        if pipeline.stem == "release":
            raise KeyboardInterrupt
        return passed(pipeline, arguments, say)

    records.append(world.store, record("registered", CHALLENGER, START))
    monitor(world, file, 0)
    monkeypatch.setattr(submit, "run_local", killed)
    assert monitor(world, file, 1).exit_code != 0
    monkeypatch.setattr(submit, "run_local", passed)
    again = monitor(world, file, 1)
    assert again.exit_code == 0
    assert passed.runs[-1] == ("release", CHALLENGER)
    assert [run for run, _ in passed.runs].count("retrain") == 1


def failed_first_release(world):  # noqa: F811
    """A registered bundle whose release met a cluster without KServe, before any other was promoted."""
    for key in [*world.store.keys("records/fraud/promoted")]:
        world.store.delete(key)
    run = f"release-fraud-{CHALLENGER[:12]}"
    about = {"run": run, "attempt": 1, "pipeline": "release", "bundle": CHALLENGER, "owner": {}, "kfp": None}
    ended = {"run": run, "state": "failed", "step": "deploy", "reason": "install KServe", "exit_code": 1}
    told = [
        ("registered", CHALLENGER, {"bundle": CHALLENGER}),
        ("run-started", run, about),
        ("run-finished", run, ended),
    ]
    for kind, key, data in told:
        records.append(world.store, record(kind, key, START, **data))


def test_a_first_release_that_the_cluster_failed_is_tried_again_by_the_next_check(world, file, monkeypatch):  # noqa: F811
    failed_first_release(world)
    mended = Pipeline(world.store, "succeeded", bundle=CHALLENGER)
    monkeypatch.setattr(submit, "run_local", mended)
    held = monitor(world, file, 0, "--no-submit")
    assert (held.exit_code, mended.runs) == (0, [])
    again = monitor(world, file, 0)
    assert again.exit_code == 0
    assert "no bundle was promoted yet" in again.stderr
    assert f"the release of bundle {CHALLENGER[:12]} is tried again, for the second time" in again.stdout
    assert mended.runs == [("release", CHALLENGER)]
    assert records.read(world.store, "fraud", records.RunStarted)[-1].key == f"release-fraud-{CHALLENGER[:12]}.2"
    monitor(world, file, 1)
    assert len(mended.runs) == 1


def test_a_release_that_keeps_failing_is_tried_less_and_less_often(world, file, monkeypatch, tmp_path):  # noqa: F811
    failed_first_release(world)
    still = Pipeline(world.store, "failed", reason="install KServe", exit_code=1)
    monkeypatch.setattr(submit, "run_local", still)
    file.write_text(yaml.safe_dump({**RULES, "monitor": {**RULES["monitor"], "budget": {"cooldown_seconds": 86_400}}}))
    time_file = tmp_path / "clock"
    monkeypatch.setenv("KEDGE_CLOCK", str(time_file))
    for day in (0, 0, 0, 1, 1, 2):
        time_file.write_text((START + (day + 1) * DAY).isoformat())
        assert monitor(world, file, day).exit_code == 0
    tries = [item.time for item in records.read(world.store, "fraud", records.RunStarted)]
    assert tries == [START, START + DAY, START + DAY, START + 2 * DAY, START + 3 * DAY]


PROCESS = """
import sys, time
from pathlib import Path
from kedge.store import open_store
from kedge.submission import submit
from kedge.cli import build
from tests.cli.test_monitor import Pipeline
policy, store, now, mine, go = sys.argv[1:]
submit.run_local = Pipeline(open_store(store))
Path(mine).touch()
deadline = time.monotonic() + 60
while not Path(go).exists() and time.monotonic() < deadline:
    time.sleep(0.001)
build()(["monitor", "--policy", policy, "--store", store, "--now", now], standalone_mode=False)
print(len(submit.run_local.runs))
"""


def test_of_two_processes_at_once_one_trains(world, file, pipeline, tmp_path):  # noqa: F811
    monitor(world, file, 0)
    go, now = tmp_path / "go", (START + 2 * DAY).isoformat()
    ready = [tmp_path / "first", tmp_path / "second"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(file), world.store.url, now, str(mine), str(go)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in ready
    ]
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in ready) and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(text.split()[-1]) for text in said) == 1
    assert len(records.read(world.store, "fraud", records.Checked)) == 2
    assert len(records.read(world.store, "fraud", records.RunStarted)) == 1


def test_json_is_the_record_and_the_runs_and_nothing_else(world, file, pipeline):  # noqa: F811
    monitor(world, file, 0)
    body = json.loads(monitor(world, file, 1, "--json").stdout)
    assert body["data"]["action"] == "retrain"
    assert body["written_now"] is True
    assert body["runs"][0]["state"] == "rejected"


HEAVY = [
    "pandas", "scipy", "sklearn", "xgboost", "lightgbm", "catboost", "optuna", "skops", "mlflow", "kfp",
    "kubernetes", "kserve", "httpx", "obstore", "sqlalchemy", "jinja2", "rich", "jsonschema", "matplotlib",
    "msgspec", "starlette", "kedge.training", "kedge.evaluation", "kedge.rollout", "kedge.registry",
    "kedge.doctor", "kedge.api", "kedge.submission.submit",
]  # fmt: skip


def test_a_check_imports_nothing_heavy(world, file):  # noqa: F811
    code = (
        "import sys; from kedge.cli import build; build(['monitor'])(sys.argv[1:], standalone_mode=False);"
        f"print(sorted({set(HEAVY)} & set(sys.modules)))"
    )
    words = ["monitor", "--policy", str(file), "--store", world.store.url, "--now", (START + DAY).isoformat()]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def waiting(world, file, monkeypatch):  # noqa: F811
    """A retraining was decided on, and waits for a person."""
    budget = {**RULES["monitor"]["budget"], "approval": "manual"}
    file.write_text(yaml.safe_dump({**RULES, "monitor": {**RULES["monitor"], "budget": budget}}))
    pipeline = Pipeline(world.store)
    monkeypatch.setattr(submit, "run_local", pipeline)
    monitor(world, file, 0)
    return pipeline, monitor(world, file, 1)


def test_a_record_dated_ahead_is_named_by_every_check(world, file):  # noqa: F811
    ahead = datetime.now(UTC) + timedelta(days=365)
    records.append(world.store, record("registered", CHALLENGER, ahead, bundle=CHALLENGER))
    for _ in range(2):
        done = monitor(world, file, 0, "--no-submit")
        assert f"warning: records/fraud/registered/{CHALLENGER}.json is dated {ahead:%Y-%m-%d %H:%M}" in done.output


def approve(world, file, *words: str):  # noqa: F811
    words = ("approve", "--policy", str(file), "--store", world.store.url, *words)
    return CliRunner().invoke(build(), list(words))


def test_a_retraining_that_needs_an_approval_is_submitted_once_it_has_one(world, file, waiting):  # noqa: F811
    pipeline, checked = waiting
    key = records.newest(world.store, "fraud", records.Checked, 1)[0].data.decision_key
    assert f"a retraining waits for: kedge approve --model fraud {key}" in checked.output
    assert pipeline.runs == []
    status = CliRunner().invoke(build(), ["status", "--policy", str(file), "--store", world.store.url])
    assert f"waits for `kedge approve {key}`" in status.output
    done = approve(world, file, key, "--reason", "the change is real")
    assert done.exit_code == 0, done.output
    assert pipeline.runs == [("retrain", "2026-03-04T00:00:00+00:00")]
    (approval,) = records.read(world.store, "fraud", records.Approved)
    assert (approval.data.decision_key, approval.data.reason) == (key, "the change is real")
    assert monitor(world, file, 1).exit_code == 0
    assert len(pipeline.runs) == 1


def test_an_approval_that_starts_nothing_is_taken_up_by_the_next_check(world, file, waiting):  # noqa: F811
    pipeline, _ = waiting
    key = records.newest(world.store, "fraud", records.Checked, 1)[0].data.decision_key
    assert approve(world, file, key, "--no-submit").exit_code == 0
    assert pipeline.runs == []
    monitor(world, file, 1)
    assert len(pipeline.runs) == 1


def test_a_retraining_nobody_decided_on_is_not_approved(world, file, waiting):  # noqa: F811
    refused = approve(world, file, "20260101t000000-0a1b2c3d").exception
    assert isinstance(refused, UsageError)
    assert "no retraining 20260101t000000-0a1b2c3d waits for an approval; the one that does is 20260304t" in str(
        refused
    )


def test_what_a_check_saw_is_told_once(world, file, monkeypatch):  # noqa: F811
    budget = {**RULES["monitor"]["budget"], "approval": "manual"}
    told = []
    settings = {"monitor": {**RULES["monitor"], "budget": budget}, "notify": {"url_variable": "CHAT_URL"}}
    file.write_text(yaml.safe_dump({**RULES, **settings}))
    monkeypatch.setattr(notify, "post", lambda _, line: told.append(line) or "told the address")
    for day in (0, 1, 1):  # the second check decides the same anew
        monitor(world, file, day)
    first = min(item.data.decision_key for item in records.read(world.store, "fraud", records.Checked))
    (line,) = [line for line in told if "kedge approve" in line]
    assert line.startswith(f"fraud: a retraining waits for: kedge approve --model fraud {first}: ")
    assert len(told) == len(set(told))
