"""History for notebooks: what `kedge history` prints, as values."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kedge
from kedge.errors import UsageError
from kedge.store import open_store
from kedge.store.identity import begin

STORE = Path(__file__).parents[1] / "fixtures" / "before_renames" / "store"


@pytest.fixture
def history(tmp_path):
    return kedge.read_history(shutil.copytree(STORE, tmp_path / "store"), "fraud")


def test_records_come_oldest_first_and_tell_the_champion(history):
    times = [record.time for record in history]
    assert len(history) == len(times) > 5
    assert repr(history) == f"<History of fraud: {len(times)} records>"
    assert times == sorted(times)
    assert history.champion.bundle == kedge.open_bundle(history.location(history.champion.bundle)).id


def test_lines_are_those_of_the_command(history):
    assert "rolled back" in [line[1] for line in history.lines()]
    assert history.newest(3, every=True).lines() == history.lines()[-3:]


def test_a_notebook_shows_the_newest_and_says_how_many_there_are(history, monkeypatch):
    assert "promoted" in history._repr_html_()
    monkeypatch.setattr("kedge.api.history.SHOWN", 2)
    shown = history._repr_html_()
    assert shown.count("<tr>") == 3
    assert f"The last 2 of {len(history)} records." in shown


def test_an_unknown_model_is_refused_with_those_there_are(history):
    with pytest.raises(UsageError, match="no records of a model 'frued'; it has fraud"):
        kedge.read_history(history.store.url, "frued")


def test_a_store_without_models_says_so(tmp_path):
    begin(open_store(tmp_path))
    with pytest.raises(UsageError, match="it has none"):
        kedge.read_history(tmp_path, "fraud")
