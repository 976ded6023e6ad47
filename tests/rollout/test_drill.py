"""A drill: a copy of the champion that is counted as failing goes the real way and comes back."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from kedge import bundle as bundles
from kedge import records
from kedge.errors import UsageError
from kedge.policy.release import Freeze
from kedge.rollout import drill as drills
from kedge.rollout.drill import drill
from kedge.rollout.model import Route
from kedge.rollout.rollback import rollback
from tests.records.made import record
from tests.rollout.conftest import START, Killed, Platform
from tests.rollout.published import published


@dataclass
class Serving(Platform):
    """The platform in memory, whose slots answer with the bundle that lies in the store."""

    store: object = None

    def predict(self, slot, rows):
        bundle = bundles.fetch(self.store, "fraud", self.slots[slot][0], Path("unused"))
        return bundle.load_model().score(bundle.signature.encode(pa.Table.from_pylist(rows))).tolist()


@pytest.fixture
def champion(store, policy, tmp_path):
    return published(store, policy, tmp_path)


@pytest.fixture
def serving(store, champion):
    made = Serving(store=store)
    made.slots["blue"] = (champion, START - timedelta(days=1))
    made.current_route = Route(weights={"blue": 100}, revision=1)
    records.append(
        store, record("promoted", f"{champion}-1", START - timedelta(days=1), bundle=champion, reason="first")
    )
    return made


def drilled(release, serving, tmp_path, **fields):
    asked = release(serving, bundle=None, **fields)
    return drill(asked, tmp_path / "copy", max_seconds=300)


def weights(serving):
    return [route.weights.get("green", 0) for route in serving.routes]


def test_it_gets_traffic_is_found_out_and_comes_back_with_its_times(release, serving, champion, tmp_path):
    found = drilled(release, serving, tmp_path)
    assert found.passed
    assert found.reason.startswith("failed requests at 10 %: ")
    assert max(weights(serving)) == 10
    assert serving.current_route.weights == {"blue": 100}
    assert serving.current_route.rollout is None
    assert serving.slots == {"blue": serving.slots["blue"]}
    assert 0 < found.traffic_seconds < found.verdict_seconds <= found.empty_seconds < 60
    assert 5 < found.requests < 100
    assert "drill passed: rolled-back: failed requests" in found.lines()[0]


def test_it_leaves_no_record_no_attempt_and_no_bundle(release, serving, store, champion, tmp_path):
    before = store.get(f"bundles/fraud/{champion}/bundle.json")
    drilled(release, serving, tmp_path)
    state = records.read_state(store, "fraud")
    assert [item.kind for item in records.read(store, "fraud")] == ["promoted"]
    assert (state.champion_bundle, state.rolled_back(champion)) == (champion, None)
    assert {key.split("/")[2] for key in store.keys("bundles/fraud")} == {champion}
    assert store.get(f"bundles/fraud/{champion}/bundle.json") == before
    assert drilled(release, serving, tmp_path / "again").passed, "it can be drilled again"


def test_a_judge_that_finds_nothing_fails_the_drill_and_promotes_nothing(release, serving, change, tmp_path):
    blind = change(analysis=change().release.analysis.model_copy(update={"min_failure_rate": 0.9}))
    found = drilled(release, serving, tmp_path, policy=blind)
    assert (found.passed, found.result) == (False, "not-judged")
    assert serving.current_route == Route(weights={"blue": 100}, revision=serving.current_route.revision)


def test_without_traffic_it_ends_in_time_and_says_so(release, serving, tmp_path):
    serving.rate = 0.0
    found = drilled(release, serving, tmp_path)
    assert (found.passed, found.requests) == (False, 0)
    assert found.verdict_seconds <= 310


def test_a_dead_champion_in_a_drill_never_makes_its_copy_the_champion(release, serving, champion, tmp_path):
    serving.unready["blue"] = [(10, 400)]
    serving.crashed.add("blue")
    found = drilled(release, serving, tmp_path)
    assert found.result in ("rolled-back", "not-judged")
    assert serving.current_route.weights == {"blue": 100}
    assert records.read_state(serving.store, "fraud").champion_bundle == champion


def killed(release, serving, tmp_path):
    serving.kill_at = serving.calls + 12
    with pytest.raises(Killed):
        drilled(release, serving, tmp_path)


def test_one_that_fails_midway_is_rolled_back_at_once(release, serving, tmp_path):
    killed(release, serving, tmp_path)
    assert max(weights(serving)) == 10
    assert (serving.current_route.weights, serving.current_route.rollout) == ({"blue": 100}, None)


@pytest.mark.parametrize("by", ["drill", "rollback"])
def test_one_whose_process_was_killed_is_rolled_back_later(release, serving, tmp_path, by, monkeypatch):
    with monkeypatch.context() as dead:
        dead.setattr(drills, "rollback", lambda *_args, **_more: None)
        killed(release, serving, tmp_path)
    assert (serving.current_route.weights["green"], serving.current_route.rollout.drill) == (10, True)
    if by == "drill":
        assert drilled(release, serving, tmp_path / "next").passed
    else:
        assert rollback(release(serving, bundle=None), reason="by hand").result == "rolled-back"
    assert (serving.current_route.weights, serving.current_route.rollout) == ({"blue": 100}, None)
    assert [item.kind for item in records.read(serving.store, "fraud")] == ["promoted"]


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (lambda serving, policy: serving.slots.update(green=("c" * 40, START)), "keeps bundle cccccccccccc"),
        (lambda serving, policy: setattr(serving, "current_route", Route(revision=1)), "nothing to drill"),
    ],
)
def test_it_is_refused_where_it_would_do_harm(release, serving, policy, tmp_path, arrange, said):
    arrange(serving, policy)
    with pytest.raises(UsageError, match=said):
        drilled(release, serving, tmp_path)


def test_it_is_refused_in_a_freeze_and_while_suspended(release, serving, change, tmp_path):
    for fields, said in (
        ({"freeze": (Freeze(weekdays=("mon",)),)}, "no traffic moves now: freeze on mon"),
        ({"suspend": True}, "release.suspend"),
    ):
        with pytest.raises(UsageError, match=said):
            drilled(release, serving, tmp_path, policy=change(**fields))
