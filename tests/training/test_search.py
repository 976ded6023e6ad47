"""The search for a recipe: what it may read, when it gives up, how it goes on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from kedge import bundle
from kedge.bundle import Signature
from kedge.bundle.estimators import Rows
from kedge.policy import Metric
from kedge.store import open_store
from kedge.training import search as searching
from kedge.training import train
from kedge.training.challenger import fit_challenger
from kedge.training.search import Journal, Recipe, search
from kedge.training.windows import holdout_rows
from tests.training import rows

WEAK = {"xgboost": {"trees": 40, "depth": 1, "learning_rate": 0.02}, "estimators": ["xgboost"]}
"""A recipe that is easily bettered."""


def asked(sections=None, /, **words):
    """The policy of the small table with a search."""
    given = {"trials": 8, "seconds": 600, "folds": 2, **words}
    return rows.policy(**{"train": {**WEAK, "search": given}, **(sections or {})})


def encoded(policy, table):
    signature = Signature.of(policy.model, bundle.observed_categories(policy.model, table))
    label = table["y"].to_numpy().astype(float)
    return signature, Rows(signature.encode(table), label, table["at"].cast("int64").to_numpy())


def found(policy, table=None, **words):
    signature, known = encoded(policy, rows.table() if table is None else table)
    return search(policy, signature, known, **words)


def test_a_recipe_that_learns_better_is_found_and_its_gain_said():
    policy = asked()
    made = found(policy)
    assert made.recipe is not None
    assert made.figures["search_loss"] < made.figures["search_own_loss"]
    assert made.figures["search_gain"] > made.figures["search_gain_error"] > 0
    assert f"gains {made.figures['search_gain']:.3g}" in made.why
    assert len(made.trials) == 8
    assert [tried.own for tried in made.trials].count(True) == 1


def test_the_same_rows_and_policy_give_the_same_trials():
    assert found(asked()) == found(asked())


def test_a_search_that_was_killed_goes_on_where_it_stood(tmp_path, monkeypatch):
    policy, store = asked(), open_store(str(tmp_path))
    journal, kept = Journal.of(store, policy, "f"), Journal.keep
    fits = []
    fitted = searching._measured

    def killed(self, file):
        kept(self, file)
        if len(fits) > 8:
            raise KeyboardInterrupt

    def counted(*words):
        fits.append(words)
        return fitted(*words)

    monkeypatch.setattr(searching, "_measured", counted)
    whole = found(policy)
    of_all, half = len(fits), fits.clear()
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            found(policy, journal=journal)
    half = len(fits)
    assert found(policy, journal=journal) == whole
    assert half < of_all == len(fits)  # no fit was made twice
    fits.clear()
    assert found(policy, journal=journal) == whole
    assert fits == []


def test_the_holdout_is_never_read():
    policy, seen = asked(), []

    def spy(signature, known):
        seen.append(known)
        return search(policy, signature, known)

    table = rows.table().rename_columns({"at": "_time"})
    challenger = fit_challenger(policy, table, search=spy)
    (known,) = seen
    assert len(known) == table.num_rows - holdout_rows(table.num_rows, policy) <= challenger.holdout_start


def test_rows_whose_outcomes_were_not_due_teach_nothing_about_a_fold():
    delay = 3 * 86_400
    policy = asked({"labels": {"delay_seconds": delay}})
    _, known = encoded(policy, rows.table())
    folds = list(searching._folds(policy, known, 3))
    assert len(folds) == 3
    for fold in folds:
        assert known.time[fold.end - 1] < known.time[fold.start] - delay * 1e6
        assert known.time[fold.end] >= known.time[fold.start] - delay * 1e6


def test_each_fold_is_newer_than_what_is_learned_for_it_and_together_they_are_the_newer_half():
    _, known = encoded(asked(), rows.table(1000))
    folds = list(searching._folds(asked(), known, 4))
    assert [(fold.start, fold.stop) for fold in folds] == [(875, 1000), (750, 875), (625, 750), (500, 625)]
    assert all(fold.end == fold.start for fold in folds)


def test_a_search_without_time_keeps_the_policys_recipe_and_says_so():
    made = found(asked(seconds=1e-6))
    assert made.recipe is None
    assert "nothing was measured within its budget (1 trials); the policy's own recipe stays" in made.why


def test_a_primary_metric_that_is_defined_nowhere_chooses_nothing_and_is_said():
    """Precision, of a recipe that never decides for the rare class."""
    table = rows.table()
    rare = np.arange(len(table)) % 50 == 0
    table = table.set_column(table.schema.get_field_index("y"), "y", [rare.astype(np.int64)])
    policy = asked(trials=3).model_copy(update={"metrics": (Metric(name="precision", primary=True),)})
    made = found(policy, table)
    assert made.recipe is None
    assert "(3 trials): the primary metric is defined on no part of the folds; the policy's own" in made.why


def test_no_recipe_is_better_at_guessing_a_coin():
    table = rows.table()
    coin = np.random.default_rng(4).integers(0, 2, table.num_rows)
    table = table.set_column(table.schema.get_field_index("y"), "y", [coin])
    made = found(asked(), table)
    assert made.recipe is None
    assert "no recipe is shown to be better" in made.why


def test_too_few_rows_are_not_searched():
    made = found(asked(), rows.table(60))
    assert made.recipe is None
    assert made.why.startswith("no search: 60 of 60 rows make no fold")


def test_of_many_rows_one_in_so_many_is_tried_and_that_is_said():
    made = found(asked(max_rows=500, trials=2))
    assert "2 folds of 500 of 1,500 rows, one in 3" in made.why


def test_what_the_policy_gives_is_not_searched():
    policy = rows.policy(train={
        **WEAK, "parameters": {"xgboost": {"subsample": 0.7}}, "half_life_seconds": 86_400,
        "search": {"trials": 4, "folds": 2},
    })  # fmt: skip
    tried = [each.recipe for each in found(policy).trials if not each.own]
    assert {name for recipe in tried for name in recipe.parameters} == {
        "learning_rate", "depth", "min_child_weight", "colsample_bytree", "lambda"
    }  # fmt: skip
    assert {recipe.half_life for recipe in tried} == {0.0}
    applied = tried[0].applied(policy, 1.0).train
    assert applied.parameters["xgboost"]["subsample"] == 0.7
    assert applied.half_life_seconds == 86_400


def test_estimators_compete_and_each_ones_own_recipe_is_tried_first():
    policy = rows.policy(train={"search": {"trials": 6, "folds": 2}})
    made = found(policy)
    assert [(tried.recipe.estimator, tried.own) for tried in made.trials[:2]] == [("xgboost", True), ("linear", True)]


def test_of_a_teams_own_estimator_the_memory_is_searched():
    path = "sklearn.ensemble:ExtraTreesClassifier"
    policy = rows.policy(train={"estimators": [path], "search": {"trials": 3, "folds": 2}})
    tried = [each.recipe for each in found(policy).trials]
    assert {recipe.estimator for recipe in tried} == {path}
    assert {tuple(recipe.parameters) for recipe in tried} == {()}


def test_after_a_change_a_shorter_memory_is_found():
    older, newer = rows.table(1200, sign=-1.0), rows.table(1200, seed=1)
    table = rows.table(2400)
    for name in table.column_names[1:]:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, [[*older[name].to_pylist(), *newer[name].to_pylist()]])
    recipe = found(asked(trials=20), table).recipe
    assert recipe is not None
    assert recipe.window < 1 or recipe.half_life > 0


def test_the_bundle_says_what_was_tried_and_the_policy_in_it_stays_as_it_was(tmp_path):
    policy, store = asked(), open_store(str(tmp_path / "store"))
    made = train.run(policy, store, rows.taken(store, tmp_path, rows.table(), policy))
    assert made.manifest.metrics["search_gain"] > 0
    assert made.manifest.policy == policy.to_dict()
    page = store.get(f"{made.address}/report.html").decode()
    assert "<h2>Search</h2>" in page
    assert "the policy's own" in page.replace("&#39;", "'")
    assert list(store.keys(f"searches/{policy.name}")) != []
    again = train.run(policy, store, rows.taken(store, tmp_path, rows.table(), policy))
    assert again.id == made.id


def test_the_longest_window_that_was_found_is_the_longest_that_is_fitted():
    policy = asked()
    table = rows.table(2000).rename_columns({"at": "_time"})
    recipe = Recipe(estimator="xgboost", window=0.5)
    made = searching.Found(recipe=recipe, why="", trials=(), figures={})
    challenger = fit_challenger(policy, table, search=lambda *_: made)
    longest = max(window.start(challenger.holdout_start) for window in challenger.weights)
    assert min(window.start(challenger.holdout_start) for window in challenger.weights) >= 0.4 * longest > 0
    assert partial(fit_challenger, policy, table)().judged is not None
