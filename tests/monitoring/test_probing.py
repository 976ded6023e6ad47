"""Probes: whether a retraining would help, asked before one is paid for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from kedge import policy
from kedge.monitoring import probing, regret, run
from kedge.monitoring.probing import Probe
from kedge.monitoring.regret import Regret
from kedge.policy.costs import RetrainingCosts
from kedge.store import open_store
from kedge.tables import log
from kedge.training.probe import probe
from tests.monitoring.world import DAY, RULES, START, World, rows

COSTS = RetrainingCosts()


def open_rules() -> policy.Policy:
    """The world's policy, with nothing left out of the log."""
    features = {name: kind for name, kind in RULES["model"]["features"].items() if name != "secret"}
    return policy.parse({**RULES, "model": {**RULES["model"], "features": features}})


def check(world: World, day: int, by: Probe | None = probe) -> dict:
    """The decision of a day's check, and its cohort."""
    found = run.run(open_rules(), world.store, now=START + (day + 1) * DAY, probe=by)
    data = found.record.data
    return {"action": data.action, "cohort": data.cohort, "regret": Regret.from_dict(data.regret), "why": data.reasons}


def noisy(count, start, seed):
    table = rows(count, start, seed)
    drawn = np.random.default_rng(seed).integers(0, 2, count)
    return table.set_column(table.column_names.index("fraud"), "fraud", pa.array(drawn))


def test_a_probe_learns_what_changed(world):
    for day in range(3):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
    first, second = check(world, 0), check(world, 1)
    assert first["action"] != "retrain"
    assert first["cohort"].probe_cost is None, "the error was not known to be risen yet"
    assert second["cohort"].probe_cost < second["cohort"].cost / 2
    assert second["action"] == "retrain"
    assert "would have saved" in second["why"][0]


def test_where_nothing_can_be_learned_nothing_is_paid_for(world):
    for day in range(5):
        world.serve(noisy(600, START + day * DAY, 20 + day))
    actions = [check(world, day)["action"] for day in range(5)]
    assert actions == ["warn"] * 5


def test_a_probe_that_cannot_be_fitted_leaves_the_level_to_say(world):
    for day in range(2):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
    actions = [check(world, day, by=lambda *_: None)["action"] for day in range(2)]
    assert actions == ["warn", "retrain"]


def test_a_probe_reads_what_was_known_before_its_rows(world):
    seen = []

    def noting(rules, earlier, parts, since):
        due = sum(rows.num_rows for rows in parts)
        seen.append((pc.max(earlier["_time"]).as_py(), earlier.num_rows, due, since))
        return np.full(due, 0.5)

    for day in range(2):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
        check(world, day, by=noting)
    ((newest, earlier, due, since),) = seen
    assert newest < START + DAY
    assert (earlier, due) == (7 * 400 + 600, 600), "the log is young: the champion's training rows come before it"
    assert since == START


def test_a_check_says_the_same_however_many_rows_it_reads_at_a_time(world, monkeypatch):
    for day in range(2):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
    other = World(world.folder, world.policy, open_store(world.folder / "other"), world.champion, world.sequence)
    shutil.copytree(world.folder / "store", world.folder / "other")
    whole = [check(world, day) for day in range(2)]
    monkeypatch.setattr(log, "PART_VALUES", 500)
    parts = [check(other, day) for day in range(2)]
    assert whole[1]["cohort"].probe_cost is not None
    assert parts == whole


def test_only_a_whole_log_can_be_learned_from():
    assert probing.possible(open_rules())
    assert not probing.possible(policy.parse(RULES))


def test_checks_probe_while_the_error_is_risen():
    state = Regret.start(COSTS, level=0.2, tenure_id="t", trained_rows=100, since=START)
    risen = regret.observe(state, COSTS, rows=300, cost=100, square=100, end=START + DAY, by_level=False)
    assert probing.due(open_rules(), risen)
    assert not probing.due(open_rules(), replace(risen, rows_since_change=199)), "too few rows to learn from"
    assert not probing.due(open_rules(), replace(risen, drift=14.9))
    assert not probing.due(open_rules(), None)


def test_what_probes_save_is_the_excess():
    state = Regret.start(COSTS, level=0.2, tenure_id="t", trained_rows=100, since=START)
    state = regret.observe(state, COSTS, rows=300, cost=100, square=100, end=START + DAY, by_level=False)
    assert (state.excess, state.drift) == (0.0, pytest.approx(100 - 300 * 0.215))
    state = regret.observe(state, COSTS, rows=300, cost=100, square=100, end=START + 2 * DAY, probe_cost=70)
    assert state.excess == pytest.approx(100 - 70 - 300 * 0.015)
    gone = regret.observe(state, COSTS, rows=3000, cost=0, square=0, end=START + timedelta(days=3), by_level=False)
    assert (gone.excess, gone.drift) == (0.0, 0.0)
