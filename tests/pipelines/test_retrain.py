"""The real pipeline, from a Parquet file to the registry, with KFP's local runner."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import bundle, records
from kedge.policy import Policy
from kedge.registry import Registry
from kedge.settings import Settings
from kedge.store import open_store
from kedge.submission.submit import RunOutcome, submit_retrain
from tests.training import rows

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path, registry_uri) -> Settings:
    return Settings(store=str(tmp_path / "store"), registry=registry_uri, platform=str(tmp_path), kfp_host=None)


def retrain(settings: Settings, policy: Policy, **words) -> RunOutcome:
    return submit_retrain(settings, policy, reason="test", key="k", end=rows.END, **words)


def policy_of(tmp_path: Path, table: pa.Table, **sections) -> Policy:
    pq.write_table(table, tmp_path / "rows.parquet")
    return rows.policy(tmp_path / "rows.parquet", **sections)


def kill_the_step(settings: Settings) -> None:
    """Kill the Python process in which the step of this store runs: the one that holds no child."""
    running = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and settings.store.encode() in _words(process) and b"executor_main" in _words(process)
    ]
    os.kill(max(running), signal.SIGKILL)


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_retraining_whose_step_was_killed_goes_on_to_a_registered_challenger(settings, tmp_path) -> None:
    policy = policy_of(tmp_path, rows.table())
    killed = False

    def say(line: str) -> None:
        nonlocal killed
        if line == "train: started" and not killed:
            killed = True
            kill_the_step(settings)

    first = retrain(settings, policy, say=say)
    assert (first.state, first.step) == ("failed", "train")
    second = retrain(settings, policy, say=say)
    assert (second.state, second.version) == ("succeeded", "1")
    store = open_store(settings.store)
    kinds = [each.kind for each in records.read(store, policy.name)]
    assert sorted(kinds) == ["evaluated", "registered", *["run-finished"] * 2, *["run-started"] * 2]
    (version,) = Registry(settings.registry).versions("fraud")
    assert (version.bundle, version.aliases) == (second.bundle, ("challenger",))
    assert version.tags["kedge.run"] == "retrain-fraud-k"
    made = bundle.open_bundle(Path(version.source))
    assert (
        bundle.golden_difference(made, lambda golden: made.load_model().score(made.signature.encode_rows(golden))) == 0
    )
    assert retrain(settings, policy) == second


def test_a_challenger_that_fails_a_gate_is_not_registered(settings, tmp_path) -> None:
    lines: list[str] = []
    policy = policy_of(tmp_path, rows.table(600), gates={"max_loss": 0.01, "min_rows": 100})
    outcome = retrain(settings, policy, say=lines.append)
    assert "notify: nobody is to be told" in lines  # the exit step runs after the one that fails the run
    assert (outcome.state, outcome.step, outcome.exit_code) == ("rejected", "evaluate", 0)
    assert "must be at most 0.01 and below" in outcome.reason
    assert outcome.reason.count("loss") == 1
    store = open_store(settings.store)
    (evaluated,) = records.read(store, "fraud", records.Evaluated)
    assert (evaluated.data.bundle, evaluated.data.passed) == (outcome.bundle, False)
    assert records.read(store, "fraud", records.Registered) == []


def test_a_challenger_that_cannot_be_judged_waits_for_rows_and_is_no_failure(settings, tmp_path) -> None:
    outcome = retrain(settings, policy_of(tmp_path, rows.table(600)))
    assert (outcome.state, outcome.step, outcome.exit_code, outcome.rows_needed) == ("inconclusive", "evaluate", 0, 80)
    assert outcome.reason.startswith(
        "120 rows to judge on, must be at least 200: 80 more are needed; nothing is decided"
    )
    assert records.read(open_store(settings.store), "fraud", records.Registered) == []
    outcome.raise_if_failed()
    assert retrain(settings, policy_of(tmp_path, rows.table(600))) == outcome


def test_one_class_only_is_the_users_mistake_and_nothing_is_trained(settings, tmp_path) -> None:
    table = rows.table(600)
    table = table.set_column(table.schema.get_field_index("y"), "y", pa.array([1] * 600))
    outcome = retrain(settings, policy_of(tmp_path, table))
    assert (outcome.state, outcome.step, outcome.exit_code) == ("failed", "validate", 2)
    assert "one class" in outcome.reason
    assert list(open_store(settings.store).keys("bundles")) == []
