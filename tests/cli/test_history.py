from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from typer.testing import CliRunner

from kedge import records
from kedge.cli import build
from kedge.errors import UsageError
from kedge.store import open_store
from tests.records.made import record

START = datetime(2026, 3, 2, tzinfo=UTC)
A = "a1" * 20


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path)
    manifest = {"snapshot": "5" * 40, "commit": "c" * 40}
    opened.put(f"bundles/fraud/{A}/bundle.json", orjson.dumps(manifest))
    events = [
        ("check", "k0", {"action": "none", "reasons": ["no feature drifted"]}),
        ("check", "k1", {"action": "retrain", "reasons": ["labelled loss rose", "2 checks in a row"]}),
        ("run-started", "retrain-fraud-k1", {"reason": "labelled loss rose"}),
        ("evaluated", A, {"passed": True, "reasons": []}),
        ("registered", A, {"bundle": A, "version": "4"}),
        ("run-finished", "retrain-fraud-k1", {"state": "failed", "step": "train", "reason": "[bold]disk full[/bold]"}),
        ("promoted", f"{A}-1", {"bundle": A, "reason": "no worse on 300 labels"}),
    ]
    for hour, (kind, key, data) in enumerate(events):
        time = START + timedelta(hours=hour)
        records.append(opened, record(kind, key, time, actor="ada", **data))
    return opened


def run(store, *words: str):
    return CliRunner().invoke(build(), ["history", "--store", store.url, *words])


def test_says_who_released_what_on_which_data_and_code_and_why_newest_last(store):
    done = run(store, "--model", "fraud")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["time", "(UTC)", "what", "who", "bundle", "rows", "code", "why"]
    assert lines[-1].split() == [
        *("2026-03-02", "06:00", "promoted", "ada", A[:12], "5" * 12, "c" * 12),
        *("no", "worse", "on", "300", "labels"),
    ]
    assert "labelled loss rose; 2 checks in a row" in done.output
    assert "registered as version 4" in done.output
    assert "passed its gates" in done.output


def test_checks_that_asked_for_nothing_are_left_out_unless_all_is_wanted(store):
    assert "no feature drifted" not in run(store, "--model", "fraud").output
    assert "no feature drifted" in run(store, "--model", "fraud", "--all").output


def test_a_reason_with_markup_is_shown_as_it_is(store):
    assert "train: [bold]disk full[/bold]" in run(store, "--model", "fraud").output


@pytest.mark.parametrize(
    ("state", "told"), [("rejected", "did not pass its gates"), ("inconclusive", "could not be judged")]
)
def test_why_a_challenger_did_not_pass_is_said_once_where_its_evaluation_stands(store, state, told):
    data = {"run": "r9", "bundle": A, "outcome": state, "reasons": ["loss 0.4, must be below 0.3"]}
    ended = {"run": "r9", "state": state, "step": "evaluate", "reason": "loss 0.4, must be below 0.3"}
    for hour, (kind, item) in enumerate({"evaluated": data | {"passed": False}, "run-finished": ended}.items()):
        records.append(store, record(kind, "r9", START + timedelta(hours=9 + hour), **item))
    judged, finished = run(store, "--model", "fraud").output.splitlines()[-2:]
    assert told in judged
    assert judged.endswith("loss 0.4, must be below 0.3")
    assert f"run {state}: r9" in finished
    assert "0.4" not in finished
    alone = run(store, "--model", "fraud", "--limit", "1").output.splitlines()[-1]
    assert alone.endswith("evaluate: loss 0.4, must be below 0.3")


def test_the_limit_keeps_the_newest(store):
    lines = run(store, "--model", "fraud", "--limit", "2").output.splitlines()
    assert len(lines) == 3
    assert "run failed" in lines[1]
    assert "promoted" in lines[2]


def test_the_policy_file_names_the_model_as_well(store, tmp_path):
    features = {"x": {"type": "number"}}
    rules = {"model": {"name": "fraud", "target": "y", "features": features}, "data": {"source": {"format": "log"}}}
    (tmp_path / "p.yaml").write_text(json.dumps(rules))
    assert run(store, "--policy", str(tmp_path / "p.yaml")).output == run(store, "--model", "fraud").output


def test_json_holds_whole_records(store):
    body = json.loads(run(store, "--model", "fraud", "--json", "--limit", "1").output)
    assert body[0]["kind"] == "promoted"
    assert body[0]["data"]["bundle"] == A


def test_a_bundle_that_was_deleted_leaves_its_line(store):
    store.delete(f"bundles/fraud/{A}/bundle.json")
    assert run(store, "--model", "fraud").output.splitlines()[-1].split()[4:6] == [A[:12], "no"]


def test_an_unknown_model_is_a_usage_error_that_names_those_there_are(store):
    done = run(store, "--model", "frued")
    assert isinstance(done.exception, UsageError)
    assert "it has fraud" in str(done.exception)
