from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kedge import records
from kedge.cli import build
from kedge.errors import UsageError
from kedge.records import Accepted, Window
from kedge.store import open_store
from tests.records import made

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = """
model: {name: fraud, target: y, features: {amount: {type: number, min: 0, max: 10}}}
data: {source: {format: log}}
"""
OUTSIDE = {
    "column": "amount", "cause": "out of range", "share": 0.4,
    "sentence": "amount: 40 % of rows outside 0 to 10 or infinite (at most 5 % allowed)",
}  # fmt: skip
MISSING = {"column": "age", "cause": "missing", "share": 1.0, "sentence": "age: 100 % missing"}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three quarantined hours, the second for another reason too."""
    (tmp_path / "fraud.yaml").write_text(POLICY)
    clock = tmp_path / "clock"
    clock.write_text((START + 4 * HOUR).isoformat())
    monkeypatch.setenv("KEDGE_CLOCK", str(clock))
    monkeypatch.setenv("KEDGE_ACTOR", "ada")
    opened = open_store(tmp_path / "store")
    for hour in (1, 2, 3):
        corrupt = [OUTSIDE, MISSING] if hour == 2 else [OUTSIDE]
        end = START + hour * HOUR
        records.append(opened, made.check(end, "quarantine", corrupt=corrupt, inputs={"verdict": "compared"}))
        records.quarantine(opened, "fraud", Window(start=end - HOUR, end=end))
    return opened


def kedge(store, *words: str | Path):
    return CliRunner().invoke(build(), [*map(str, words), "--store", store.url])


def test_it_says_what_was_accepted_and_which_rows_count_again(store):
    done = kedge(store, "accept", "fraud", "--reason", "amounts are in cents now")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "fraud: accepted by ada: amounts are in cents now",
        f"  {OUTSIDE['sentence']}",
        "rows that count again: 2026-03-02 00:00 to 2026-03-02 01:00; 2026-03-02 02:00 to 2026-03-02 03:00 UTC",
        "still quarantined: 1 spans of time, for other reasons",
        "training leaves rows out of range out until the policy's min and max allow them: amount",
    ]
    (item,) = records.read(store, "fraud", Accepted)
    assert (item.actor, item.time, item.data.reason) == ("ada", START + 4 * HOUR, "amounts are in cents now")


def test_the_model_is_named_by_itself_by_its_policy_or_by_both_alike(store, tmp_path):
    policy = ("--policy", tmp_path / "fraud.yaml")
    for named in (("fraud",), policy, ("--model", "fraud"), ("fraud", *policy)):
        assert kedge(store, "accept", *named, "--reason", "in cents now").exit_code == 0
    for named in ((), ("freud", *policy)):
        refused = kedge(store, "accept", *named, "--reason", "in cents now").exception
        assert isinstance(refused, UsageError)
        assert "give the name of one model" in str(refused)


def test_it_needs_a_reason(store):
    done = kedge(store, "accept", "fraud")
    assert done.exit_code == 2
    assert "--reason" in done.output


def test_history_shows_who_accepted_what_and_why(store):
    kedge(store, "accept", "fraud", "--reason", "amounts are in cents now")
    line = kedge(store, "history", "--model", "fraud").output.splitlines()[-1]
    assert line.split()[:4] == ["2026-03-02", "04:00", "accepted", "ada"]
    assert "amounts are in cents now (amount: 40 % of rows outside 0 to 10" in line


def test_a_mark_of_a_window_is_no_line_of_its_own_in_the_history(store):
    assert "quarantined" not in kedge(store, "history", "--model", "fraud").output
