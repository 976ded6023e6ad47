"""The registry of metrics: the same numbers as scikit-learn's, honest intervals, and limits as gates."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from kedge import decision, evaluation, metrics
from kedge import policy as policies
from kedge.errors import CodeNotAllowed, PolicyError, UsageError
from kedge.policy import Metric, Model

MODEL = Model(
    name="m", target="y", features={"x": {"type": "number"}}, costs={"false_positive": 3, "false_negative": 7}
)  # type: ignore[arg-type]
AMOUNT = MODEL.model_copy(update={"task": "regression"})


def drawn(count: int = 600, seed: int = 0, skill: float = 1.0):
    """Labels, and rounded scores that know them somewhat."""
    random = np.random.default_rng(seed)
    odds = random.normal(size=count) * 2
    label = (random.random(count) < 1 / (1 + np.exp(-odds))).astype(float)
    seen = skill * odds + (1 - skill) * random.normal(size=count) * 2
    return label, (1 / (1 + np.exp(-seen))).round(2)


BINARY = {
    "log_loss": sk.log_loss,
    "brier": sk.brier_score_loss,
    "auc": sk.roc_auc_score,
    "pr_auc": sk.average_precision_score,
}
DECIDED = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
    "f1_macro": lambda label, said: sk.f1_score(label, said, average="macro"),
    "f1_weighted": lambda label, said: sk.f1_score(label, said, average="weighted"),
    "mcc": sk.matthews_corrcoef,
    "cost": lambda label, said: np.mean(3 * ((said == 1) & (label == 0)) + 7 * ((said == 0) & (label == 1))),
}
REGRESSION = {
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "mape": sk.mean_absolute_percentage_error,
    "r2": sk.r2_score,
    "poisson_deviance": sk.mean_poisson_deviance,
    "pinball": lambda label, score: sk.mean_pinball_loss(label, score, alpha=0.8),
}


@pytest.mark.parametrize("name", [*BINARY, *DECIDED])
def test_a_binary_metric_is_scikit_learns(name):
    label, score = drawn()
    wanted = BINARY[name](label, score) if name in BINARY else DECIDED[name](label, (score >= MODEL.threshold) * 1.0)
    found = metrics.figure(Metric(name=name), MODEL, label, score)
    assert found.value == pytest.approx(wanted, abs=1e-12)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("name", [*REGRESSION])
def test_a_metric_of_a_regression_is_scikit_learns(name):
    random = np.random.default_rng(1)
    score = random.lognormal(size=500)
    label = score * random.lognormal(size=500)
    found = metrics.figure(Metric(name=name, at=0.8), AMOUNT, label, score)
    assert found.value == pytest.approx(REGRESSION[name](label, score), rel=1e-12)


SEVERAL = Model(
    name="m", target="y", task="multiclass", classes=("a", "b", "c"), features={"x": {"type": "number"}},
    costs={"matrix": [[0, 1, 4], [1, 0, 1], [6, 1, 0]]},
)  # type: ignore[arg-type]  # fmt: skip
OF_CLASSES = {
    "log_loss": sk.log_loss,
    "brier": lambda label, score: sk.brier_score_loss(label, score, scale_by_half=True),
    "auc_macro": lambda label, score: sk.roc_auc_score(label, score, multi_class="ovr"),
}
DECIDED_CLASSES = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "precision_macro": lambda label, said: sk.precision_score(label, said, average="macro", zero_division=0),
    "recall_macro": lambda label, said: sk.recall_score(label, said, average="macro"),
    "f1_macro": lambda label, said: sk.f1_score(label, said, average="macro"),
    "f1_weighted": lambda label, said: sk.f1_score(label, said, average="weighted"),
    "mcc": sk.matthews_corrcoef,
    "cost": lambda label, said: np.array(SEVERAL.costs.matrix)[label.astype(int), said.astype(int)].mean(),
}


def chances(count: int = 600):
    random = np.random.default_rng(3)
    score = random.dirichlet([1, 1, 0.5], count)
    return np.array([random.choice(3, p=row) for row in score]).astype(float), score


@pytest.mark.parametrize("name", [*OF_CLASSES, *DECIDED_CLASSES])
def test_a_metric_of_several_classes_is_scikit_learns(name):
    label, score = chances()
    said = decision.decide(SEVERAL, score)
    wanted = OF_CLASSES[name](label, score) if name in OF_CLASSES else DECIDED_CLASSES[name](label, said)
    found = metrics.figure(Metric(name=name), SEVERAL, label, score)
    assert found.value == pytest.approx(wanted, abs=1e-9)
    assert found.low < found.value < found.high


def test_a_class_without_a_row_leaves_its_auc_undefined():
    label, score = chances()
    label[label == 2] = 0
    assert metrics.figure(Metric(name="auc_macro"), SEVERAL, label, score).value is None
    assert metrics.figure(Metric(name="balanced_accuracy"), SEVERAL, label, score).value is not None


def test_every_metric_of_the_policy_is_in_the_registry_and_every_one_is_compared_here():
    compared = {*BINARY, *DECIDED, *REGRESSION, *OF_CLASSES, *DECIDED_CLASSES, "recall_at_precision"}
    assert set(policies.metrics.KNOWN) == set(metrics.METRICS) == compared
    assert set(policies.metrics.MULTICLASS) == {*OF_CLASSES, *DECIDED_CLASSES}


def test_recall_at_a_precision_is_the_best_that_any_threshold_gives():
    label, score = drawn()
    precision, recall, _ = sk.precision_recall_curve(label, score)
    found = metrics.figure(Metric(name="recall_at_precision", at=0.9), MODEL, label, score)
    assert found.value == pytest.approx(recall[:-1][precision[:-1] >= 0.9].max())
    assert found.name == "recall_at_precision_0.9"


@pytest.mark.parametrize(
    ("name", "label", "score"),
    [("precision", [0, 1], [0, 0]), ("recall", [0, 0], [0, 1]), ("auc", [1, 1], [0, 1]), ("pr_auc", [0, 0], [0, 1])],
)
def test_what_is_not_defined_has_no_figure(name, label, score):
    found = metrics.figure(Metric(name=name), MODEL, np.array(label, float), np.array(score, float))
    assert (found.value, found.low, found.high) == (None, None, None)


@pytest.mark.parametrize("name", ["f1", "auc"])
def test_nineteen_in_twenty_intervals_hold_the_truth(name):
    truth = metrics.figure(Metric(name=name), MODEL, *drawn(200_000, seed=99)).value
    held = 0
    for seed in range(60):
        found = metrics.figure(Metric(name=name), MODEL, *drawn(900, seed=seed))
        held += found.low <= truth <= found.high
    assert held >= 52


def policy(*entries, task="binary"):
    return policies.parse(
        {
            "model": {"name": "m", "task": task, "target": "y", "features": {"x": {"type": "number"}}},
            "data": {"source": {"format": "log"}},
            "metrics": list(entries),
        }
    )


def verdicts(found):
    return {each.name: each.outcome for each in found.verdicts}


def test_a_limit_is_a_gate_of_its_metrics_name():
    label, score = drawn(2000)
    wanted = policy({"name": "f1", "min": 0.99}, {"name": "auc", "min": 0.6, "max": 0.99})
    found = evaluation.measure(wanted, label, score)
    assert verdicts(found)["f1"] == "rejected"
    assert verdicts(found)["auc"] == "passed"
    assert any("f1 0." in each and "must be at least 0.99" in each for each in found.reasons)


@pytest.mark.parametrize(("allowed", "outcome"), [(0.02, "rejected"), (0.5, "passed")])
def test_a_drop_against_the_champion_is_refused_where_it_is_shown(allowed, outcome):
    label, champion = drawn(3000)
    worse = drawn(3000, skill=0.3)[1]
    found = evaluation.measure(policy({"name": "auc", "max_drop": allowed}), label, worse, champion)
    assert verdicts(found)["auc"] == outcome


def test_an_equal_challenger_is_no_drop():
    label, score = drawn(3000)
    found = evaluation.measure(policy({"name": "auc", "max_drop": 0}), label, score, score)
    assert verdicts(found)["auc"] == "passed"


def squeezed(score):
    """Scores of a model trained on undersampled negatives: it ranks as well and is far too high."""
    held = np.clip(score, 0.01, 0.99)
    odds = np.log(held / (1 - held)) + 3
    return 1 / (1 + np.exp(-odds))


def test_a_weaker_ranker_does_not_replace_an_uncalibrated_champion_where_ranking_is_primary():
    promoted = {"loss": 0, "auc": 0}
    for seed in range(15):  # 400 in benchmarks/gates.py
        label, score = drawn(2000, seed=seed)
        weaker = drawn(2000, seed=seed, skill=0.85)[1]
        for name, wanted in (("loss", policy()), ("auc", policy({"name": "auc", "primary": True}))):
            found = evaluation.measure(wanted, label, np.clip(weaker, 0.01, 0.99), squeezed(score))
            promoted[name] += verdicts(found)["improvement"] == "passed"
    assert promoted["loss"] == 15
    assert promoted["auc"] <= 1


def test_a_better_ranker_passes_by_the_primary_metric_though_its_loss_is_higher():
    label, score = drawn(3000)
    champion = drawn(3000, skill=0.4)[1]
    found = evaluation.measure(policy({"name": "auc", "primary": True}), label, squeezed(score), champion)
    assert found.measured.challenger_loss > found.measured.against.champion_loss
    assert verdicts(found)["primary"] == verdicts(found)["improvement"] == "passed"
    assert "loss" not in verdicts(found)


@pytest.mark.parametrize(("skill", "outcome"), [(1.0, "passed"), (0.0, "rejected")])
def test_a_first_model_must_beat_the_constant_by_the_primary_metric(skill, outcome):
    label, score = drawn(2000, skill=skill, seed=3)
    if skill == 0.0:
        score = np.random.default_rng(5).random(2000)
    found = evaluation.measure(policy({"name": "auc", "primary": True}), label, score)
    assert verdicts(found)["primary"] == outcome


def test_while_the_champion_is_stale_an_equal_is_enough():
    label, score = drawn(3000)
    wanted = policy({"name": "auc", "primary": True})
    fresh, stale = (evaluation.measure(wanted, label, score, score, stale=each) for each in (False, True))
    assert verdicts(fresh)["improvement"] == "rejected"
    assert verdicts(stale)["improvement"] == "passed"


def test_figures_and_intervals_reach_the_run():
    label, score = drawn(2000)
    wanted = policy({"name": "f1"}, {"name": "recall_at_precision", "at": 0.9})
    shown = evaluation.evaluation.metrics(wanted, evaluation.measure(wanted, label, score, score))
    assert {"f1", "f1_low", "f1_high", "champion_f1", "recall_at_precision_0.9"} <= set(shown)
    assert shown["f1"] == shown["champion_f1"]


@pytest.mark.parametrize(
    ("entries", "task", "said"),
    [
        ([{"name": "f2"}], "binary", "'f2' is no metric; there are log_loss"),
        ([{"name": "mae"}], "binary", "mae is none of task binary; there are log_loss"),
        ([{"name": "auc"}], "regression", "auc is none of task regression; there are mse"),
        ([{"name": "f1"}, {"name": "f1", "min": 0.5}], "binary", "f1 is given twice"),
        ([{"name": "f1", "min": 0.9, "max": 0.5}], "binary", "min 0.9 is above max 0.5"),
        (
            [{"name": "f1", "primary": True}, {"name": "auc", "primary": True}],
            "binary",
            "at most one metric is primary",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_policy(entries, task, said):
    with pytest.raises(PolicyError, match=said):
        policy(*entries, task=task)


def net_gain(label, score):
    return float(np.mean(label * score))


def test_a_teams_own_metric_counts_where_code_is_allowed(monkeypatch):
    own = Metric(name="tests.test_metrics_by_name:net_gain")
    label, score = drawn()
    with pytest.raises(CodeNotAllowed, match=r"metrics: tests\.test_metrics_by_name:net_gain"):
        metrics.figure(own, MODEL, label, score)
    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")
    found = metrics.figure(own, MODEL, label, score)
    assert (found.name, found.value) == ("net_gain", np.mean(label * score))
    with pytest.raises(UsageError, match="cannot be imported"):
        metrics.figure(Metric(name="tests.test_metrics_by_name:gone"), MODEL, label, score)


@pytest.mark.parametrize("says", [lambda *_: {}["secret"], lambda *_: "good", lambda *_: np.ones(3), lambda _: 1.0])
def test_a_teams_own_metric_that_gives_no_number_is_said(monkeypatch, says):
    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")
    monkeypatch.setattr(sys.modules[__name__], "net_gain", says)
    own = Metric(name="tests.test_metrics_by_name:net_gain")
    with pytest.raises(UsageError, match=r"net_gain raises \w+Error, or returns no number: it gets labels and scores"):
        metrics.figure(own, MODEL, *drawn())


def test_a_policy_without_metrics_is_the_one_it_was():
    assert "metrics" not in policy().to_dict()
