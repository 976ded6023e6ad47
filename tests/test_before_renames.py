"""What earlier versions wrote, under their names, is read as if written today: see fixtures/before_renames."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from kedge import bundle, policy
from kedge.cli.status import look, screen
from kedge.errors import PolicyError
from kedge.monitoring.history import load_history
from kedge.records import ModelState, Retraining, Window, quarantine, quarantined_windows, read
from kedge.rollout.model import decode_route, encode_route
from kedge.store import open_store
from tests.monitoring.world import DAY, START

BEFORE = Path(__file__).parent / "fixtures" / "before_renames"
BUNDLE = next((BEFORE / "store" / "bundles" / "fraud").iterdir()).name


@pytest.fixture
def store(tmp_path):
    return open_store(shutil.copytree(BEFORE / "store", tmp_path / "store"))


def test_records_of_every_kind_are_read_under_todays_names(store):
    records = read(store, "fraud")
    kinds = {path.name for path in (BEFORE / "store" / "records" / "fraud").iterdir()}
    assert {item.kind for item in records} == {*kinds, "quarantined"}
    corrupt, warned, retrain = (item.data for item in records if item.kind == "check")
    assert [each.action for each in (corrupt, warned, retrain)] == ["quarantine", "warn", "retrain"]
    assert (corrupt.corrupt[0].column, corrupt.corrupt[0].cause, corrupt.corrupt[0].share) == ("amount", "missing", 1.0)
    assert retrain.champion.tenure_id == f"promoted/{BUNDLE}-1"
    error = retrain.signals["error"]
    assert (error.breached, error.labels, error.evidence_id) == (True, 300, "2026-03-04T23:55:12+00:00/300")
    assert retrain.inputs.drifted_importance == retrain.inputs.detail["drifted_importance"] == 0
    finished = next(item for item in records if item.kind == "run-finished")
    assert finished.data.state == "rejected"
    back = next(item for item in records if item.kind == "rolled-back")
    assert back.data.not_started
    assert back.data.previous == BUNDLE


def test_no_name_of_before_is_left_in_what_is_read(store):
    text = str([(item.kind, item.data) for item in read(store, "fraud")])
    for name in ("reign", "attention", "veto", "gated", "untried", "'signs'", "'bad'", "'evidence'"):
        assert name not in text


def test_checks_go_on_from_the_history(store):
    state = ModelState.of(load_history(store, "fraud", START + 4 * DAY))
    assert (state.champion_bundle, state.previous, state.challenger) == (BUNDLE, None, "b" * 40)
    assert state.rolled_back("b" * 40) is None  # it was rolled back before it was started
    decided, end = START + 3 * DAY, START + 3 * DAY + timedelta(hours=1)
    key = "20260305t000000-2ef61a1c"
    assert state.retrainings == (Retraining(key=key, time=decided, bundle="b" * 40, brought="rejected", ended=end),)
    assert state.quarantined == (Window(start=START, end=START + DAY),)


def test_windows_marked_before_stay_out_and_new_ones_join_them(store):
    assert quarantined_windows(store, "fraud") == (Window(start=START, end=START + DAY),)
    quarantine(store, "fraud", Window(start=START + DAY, end=START + DAY + timedelta(hours=1)))
    assert quarantined_windows(store, "fraud") == (Window(start=START, end=START + DAY + timedelta(hours=1)),)


def test_a_bundle_opens_with_the_policy_in_it_and_predicts(store, tmp_path):
    opened = bundle.fetch(store, "fraud", BUNDLE, tmp_path / "cache")
    within = policy.parse(opened.manifest.policy)
    assert within.monitor.drift.min_drifted_importance == 0.3
    assert within.monitor.quarantine.max_out_of_range_share == 0.1
    predictor = opened.load_model()
    assert bundle.golden_difference(opened, lambda rows: predictor.score(opened.signature.encode_rows(rows))) == 0.0


def test_a_policy_means_the_same():
    read_back = policy.load(BEFORE / "policy.yaml")
    assert read_back.monitor.drift.min_drifted_importance == 0.3
    assert read_back.monitor.quarantine.max_null_increase == 0.3
    assert read_back.notify.states == ("rejected", "failed")
    assert policy.parse(read_back.to_dict()).hash == read_back.hash


def test_a_field_under_both_names_is_refused():
    plain = policy.load(BEFORE / "policy.yaml").to_dict()
    plain["monitor"]["drift"]["attention_share"] = 0.2
    with pytest.raises(PolicyError, match="attention_share is the earlier name of min_drifted_importance"):
        policy.parse(plain)


def test_a_route_of_before_is_read_and_written_under_todays_name():
    route = decode_route((BEFORE / "route.json").read_bytes(), "route.json")
    assert route.rollout.not_started
    written = encode_route(route)
    assert b"untried" not in written
    assert decode_route(written, "route.json") == route


def test_the_screen_shows_what_was_recorded(store):
    lines = "\n".join(screen(look("fraud", ModelState.of(read(store, "fraud")), None, None, START + 4 * DAY)))
    assert "action: retrain" in lines
    assert "attention" not in lines


@pytest.mark.parametrize("option", ["--most-spool-mb", "--most-body-kb=3", "--most-bulk-mb", "--most-connections"])
def test_an_option_of_before_says_its_name_of_today(option):
    command = [sys.executable, "-P", "-m", "kedge.collector", option, "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    name = option.partition("=")[0]
    assert (done.returncode, done.stderr) == (2, f"error: {name} is called {name.replace('most', 'max')} now\n")
