"""How a release's end becomes the verdict of its run."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kedge import policy, records
from kedge.errors import SlotNotReady
from kedge.rollout import rollout, step
from kedge.rollout.release import Outcome
from kedge.store import open_store

BUNDLE = "b" * 40
RULES = {
    "model": {"name": "fraud", "target": "y", "features": {"x": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
}


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Have a release end in a way, and read what its run's record says."""

    def end(outcome: Outcome) -> records.Record[records.RunFinished]:
        monkeypatch.setattr(step.bundles, "fetch", lambda *_: None)
        monkeypatch.setattr(rollout, "run", lambda _: outcome)
        policies = policy.parse(RULES).to_dict()
        try:
            step.deploy(
                policies,
                str(tmp_path),
                "sqlite:///none.db",
                str(tmp_path / "platform"),
                BUNDLE,
                "r",
                SimpleNamespace(path=str(tmp_path / "page.html")),
            )
        finally:
            found = records.find(open_store(tmp_path), "fraud", records.RunFinished, "r")
        assert found is not None
        assert found.time <= datetime.now(UTC)
        return found

    return end


def test_candidate_that_was_rolled_back_is_a_run_that_did_its_work(released):
    found = released(Outcome(result="rolled-back", reason="worse"))
    assert (found.data.state, found.data.outcome, found.data.reason) == ("rejected", "rolled-back", "worse")


def test_candidate_that_was_not_tried_is_a_run_that_failed_and_may_be_tried_again(released, tmp_path):
    with pytest.raises(SlotNotReady, match="no controller; the bundle was not tried"):
        released(Outcome(result="rolled-back", reason="no controller", not_started=True))
    found = records.find(open_store(tmp_path), "fraud", records.RunFinished, "r")
    assert (found.data.state, found.data.step, found.data.exit_code) == ("failed", "deploy", 1)
