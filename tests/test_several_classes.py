"""Several classes all the way: policy, log, collector, server, gates, estimate, replay, bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from kedge import bundle, evaluation, measure
from kedge import policy as policies
from kedge.bundle import mlmodel
from kedge.collector.declared import Declared
from kedge.collector.entries import decode
from kedge.collector.intake import Intake
from kedge.collector.kserve import response_scores
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.data import checks
from kedge.errors import DataError, PolicyError
from kedge.evaluation import evaluate
from kedge.monitoring.estimate import expect, recorded
from kedge.policy import Policy
from kedge.records import Reference
from kedge.replay import blocks as cut_blocks
from kedge.replay.policy_walk import PolicyWalk
from kedge.rollout import same_rows
from kedge.rollout.evidence import SPREADS
from kedge.serving import v1, v2
from kedge.serving.model import ServedModel
from kedge.store import open_store
from kedge.store.journal import frames
from kedge.tables import appending, coverage, log, scores
from kedge.tables.columns import convert
from kedge.tables.outcomes import outcome_of
from kedge.tensor import values_of
from kedge.training import train
from kedge.training.estimators import calibration
from tests.training import rows

NAMES = ["a", "b", "c"]


def policy(**sections: Any) -> Policy:
    """Of three classes, a number and a category."""
    values: dict[str, Any] = {
        "model": {
            "name": "m", "task": "multiclass", "target": "y", "classes": NAMES,
            "features": {"x": {"type": "number"}, "k": {"type": "category"}},
        },
        "data": {"source": {"format": "log"}},
    }  # fmt: skip
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return policies.parse(values)


def chances(count: int = 900, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are true where ``sharp`` is 1."""
    random = np.random.default_rng(seed)
    true = random.dirichlet([1, 1, 0.6], count)
    label = np.array([random.choice(3, p=row) for row in true]).astype(float)
    said = true**sharp
    return label, said / said.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"classes": ["a", "b"]}, "must be 3 to 100 values of the target, got 2: two are task binary"),
        ({"classes": list(range(1000))}, "must be 3 to 100 values of the target, got 1,000"),
        ({"classes": ["a", "b", "a"]}, "must be each once"),
        ({"classes": ["a", "b", 3]}, "must be all texts, in quotes, or all whole numbers"),
        ({"classes": []}, "must be 3 to 100"),
        ({"loss": "absolute"}, "loss belongs to task regression, not to multiclass"),
        ({"costs": {"matrix": [[0, 1], [1, 0]]}}, "a row and a column for each of the 3 classes"),
        ({"costs": {"matrix": [[1, 1, 1], [1, 0, 1], [1, 1, 0]]}}, "must have 0 where the decision is right"),
        ({"negative_label": 0}, "belongs to task binary, not to multiclass"),
        ({"task": "binary"}, "belong to task multiclass: leave them out"),
    ],
)
def test_what_classes_cannot_be_is_refused_with_the_policy(model: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        policy(model=model)


def test_a_policy_travels_as_plain_numbers() -> None:
    given = policy(model={"classes": [0, 1, 2]})
    plain: Any = orjson.loads(orjson.dumps(given.to_dict()))
    plain["model"]["classes"] = [0.0, 1.0, 2.0]  # Kubeflow's parameters know floats only
    assert policies.parse(plain) == given


@pytest.mark.parametrize(
    ("values", "classes", "places"),
    [
        (["b", "a", None, "", "d"], NAMES, [1.0, 0.0, None, None, None]),
        ([2, 0, None, 7], [0, 1, 2], [2.0, 0.0, None, None]),
        ([2.0, 1.0, float("nan")], [0, 1, 2], [2.0, 1.0, None]),
        (["2", "1.0", "NA", "x"], [0, 1, 2], [2.0, 1.0, None, None]),
    ],
)
def test_a_target_is_read_as_the_place_of_its_class(values: Any, classes: Any, places: Any) -> None:
    read = convert(pa.array(values), "class", classes=classes)
    assert read.values.to_pylist() == places
    unlisted = [value in ("d", 7, "x") for value in values]
    assert read.wrong.tolist() == unlisted
    if any(unlisted):
        assert read.reason.startswith("is none of model.classes")


def test_a_class_without_a_row_is_one_sentence() -> None:
    table = pa.table({"x": [1.0] * 4, "k": ["u"] * 4, "y": [0.0, 0.0, 1.0, 1.0]})
    (said,) = checks.check(table, policy().model).faults
    assert said == (
        "column 'y': not one of 4 good rows is of class 'c': wait for rows of it, or leave it out of model.classes"
    )


def test_the_log_keeps_all_probabilities_and_knows_which_are_missing(tmp_path) -> None:
    store, asked, now = open_store(str(tmp_path)), policy(), datetime.now(UTC)
    at = int(now.timestamp() * 1e6)
    values = [["i", "j"], [at, at], [at, at], ["v", "v"], ["", ""], [[0.1, 0.2, 0.7], None], [2.0, None], [1.0, 1.0]]
    table = appending.table_of(appending.columns_of(asked, "predictions"), [*values, [1.0, 2.0], ["u", None]])
    appending.append(store, asked, "predictions", table, writer="w", sequence=1)
    read = log.read_window(store, asked, now - timedelta(hours=1), now + timedelta(hours=1)).sort_by("_id")
    assert scores.of(read["_score"], 3).tolist()[0] == [0.1, 0.2, 0.7]
    assert scores.finite(scores.of(read["_score"], 3)).tolist() == [True, False]


def test_a_class_that_a_version_did_not_know_had_no_probability() -> None:
    column = pa.chunked_array([[[0.4, 0.6], [0.1, 0.2, 0.7]]])
    assert scores.of(column, 3).tolist() == [[0.4, 0.6, 0.0], [0.1, 0.2, 0.7]]


def event(**data: Any) -> dict[str, Any]:
    told = {
        "model": "m", "version": "v", "slot": "blue", "features": {"x": 1.5, "k": "u"}, "score": [0.2, 0.5, 0.3],
        "prediction": 1, "latency_ms": 1.0,
    }  # fmt: skip
    return {
        "specversion": "1.0", "id": "a", "source": "s", "type": "dev.kedge.prediction", "time": "2026-03-02T12:00:00Z",
        "data": told | data,
    }  # fmt: skip


def test_both_ways_through_the_collector_keep_the_same_row(tmp_path) -> None:
    declared = Declared(policy(), None)
    intake, now = Intake({"m": declared}, Settings(spool=tmp_path)), 1_772_452_800_000_000
    quick = intake.one(orjson.dumps(event()), now)
    (many,), faults = intake.batch(orjson.dumps([event(), event()]), now)
    assert quick is not None
    assert not faults
    slow = declared.row("a", event()["data"], quick.rows[0][1], now)
    assert quick.rows == (slow,)
    ((_, payload),) = frames(many.frame, lambda length: None)
    assert [column[0] for column in decode(payload).values] == list(slow)
    assert slow[5:7] == ([0.2, 0.5, 0.3], 1.0)


@pytest.mark.parametrize("score", [0.5, [0.5, 0.5], [0.2, 0.5, 1.3], [0.2, "b", 0.3], None])
def test_a_score_that_is_not_one_probability_a_class_is_refused(score: Any, tmp_path) -> None:
    declared = Declared(policy(), None)
    assert Intake({"m": declared}, Settings(spool=tmp_path)).one(orjson.dumps(event(score=score)), 0) is None
    with pytest.raises(RequestRejected, match="score must be a list of 3 probabilities, one a class in the order of"):
        declared.score(score)


def test_labels_are_places_and_one_never_seen_is_refused_by_name() -> None:
    assert [outcome_of(policy(), each) for each in NAMES] == [0.0, 1.0, 2.0]
    assert outcome_of(policy(model={"classes": [0, 1, 2]}), 2.0) == 2.0
    for label in ("d", 1, None, ["a"]):
        with pytest.raises(DataError, match="is none of the classes 'a', 'b', 'c'; a new class goes to the end"):
            outcome_of(policy(), label)


def test_a_count_below_zero_is_no_label_of_a_poisson_model() -> None:
    counts = policy(model={"task": "regression", "classes": [], "loss": "poisson"})
    assert outcome_of(counts, 3) == 3.0
    with pytest.raises(DataError, match="label must be a count, 0 or more"):
        outcome_of(counts, -1)


def test_an_adopted_servers_answers_are_read_as_lists_or_as_sure_classes() -> None:
    body = {"predictions": [[0.2, 0.5, 0.3]]}
    assert response_scores(Declared(policy(), None), body) == [[0.2, 0.5, 0.3]]
    sure = Declared(policy(model={"answer": {"label": True}}), None)
    assert response_scores(sure, {"predictions": ["c"]}) == [[0.0, 0.0, 1.0]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle that was trained on a snapshot, its store, table and policy."""
    folder = tmp_path_factory.mktemp("classes")
    asked = rows.policy(
        task="multiclass", train={"estimators": ["xgboost"]},
        model={"costs": {"matrix": [[0, 1, 5], [1, 0, 1], [5, 1, 0]]}},
    )  # fmt: skip
    store, table = open_store(str(folder / "store")), rows.table(1500, task="multiclass")
    fingerprint = rows.taken(store, folder, table, asked)
    made = train.run(asked, store, fingerprint)
    return bundle.fetch(store, asked.name, made.id, folder / "cache"), store, fingerprint, asked


def test_a_trained_bundle_passes_its_gates_and_says_so_by_class(made) -> None:
    found, store, fingerprint, asked = made
    judged = evaluate.run(asked, store, "run-1", fingerprint, found.id)
    assert judged.outcome == "passed"
    page = store.get(evaluate.report_key(asked.name, found.id)).decode()
    assert "said 2" in page
    assert "precision" in page
    assert judged.measured.challenger_loss < 0.9 * judged.measured.constant_loss


def test_a_bundle_of_moved_classes_is_not_judged(made) -> None:
    found, store, fingerprint, _ = made
    moved = rows.policy(task="multiclass", model={"classes": [2, 1, 0]})
    with pytest.raises(DataError, match=r"knows the classes 0, 1, 2, model.classes has 2, 1, 0: a new class goes to"):
        evaluate.run(moved, store, "run-2", fingerprint, found.id)


def test_a_server_says_all_probabilities_and_the_class_that_costs_decide_for(made) -> None:
    found = made[0]
    served = ServedModel(found, found.load_model(), "blue")
    served.warm_up()
    some = found.golden_rows()[:5]
    scored = served.score(some)
    wanted = found.golden["_score"].to_pylist()[:5]
    assert scored.scores == wanted
    assert [served.score([row]).scores[0] for row in some] == wanted
    answer = orjson.loads(v1.write(scored, served.classes))
    assert answer["predictions"] == wanted
    assert answer["classes"] == ["0", "1", "2"]
    assert answer["decisions"] == [str(int(each)) for each in scored.predictions]
    request = v2.Inference(some, None, binary=frozenset({"prediction"}))
    raw, length = v2.write(request, scored, served, "id")
    head = orjson.loads(raw[:length])
    assert [each["shape"] for each in head["outputs"]] == [[5, 3], [5]]
    assert values_of("BYTES", raw[length:]) == answer["decisions"]
    assert served.explain(some)[0].keys() == {"0", "1", "2"}


def test_mlflow_gets_the_served_probabilities(made) -> None:
    found = made[0]
    frame = found.golden.select(list(found.signature.names)).to_pandas()
    said = mlmodel.Loaded(found.signature, found.load_model()).predict(frame)
    assert said.tolist() == found.golden["_score"].to_pylist()


def test_a_rare_class_makes_the_judgement_inconclusive() -> None:
    label, score = chances()
    keep = (label != 2) | (np.cumsum(label == 2) <= 5)
    seen = evaluation.evaluation.measure(policy(), label[keep], score[keep], earlier_label=label)
    assert seen.outcome == "inconclusive"
    assert any("are c, must be at least 20 of each class" in each for each in seen.reasons)


def test_a_challenger_that_only_knows_the_shares_does_not_pass() -> None:
    label, _ = chances()
    shares = measure.repeated(measure.best_constant("multiclass", label, 3), len(label))
    assert evaluation.evaluation.measure(policy(), label, shares).outcome == "rejected"


def test_a_better_ranking_passes_against_an_over_confident_champion_and_a_worse_one_does_not() -> None:
    label, true = chances(4000)
    noisy = 0.6 * true + 0.4 / 3
    assert evaluation.evaluation.measure(policy(), label, true, noisy).outcome == "passed"
    assert evaluation.evaluation.measure(policy(), label, noisy, true).outcome == "rejected"


def test_the_loss_expected_without_labels_is_the_loss_where_it_was_fitted() -> None:
    label, said = chances(3000, sharp=1.8)  # too sure
    figures = calibration(label, said)
    assert figures["calibration_slope"] == pytest.approx(1 / 1.8, abs=0.05)
    loss = float(measure.losses("multiclass", label, said).mean())
    reference = Reference(loss=loss, rows=3000)
    options: dict[str, Any] = {"min_rows": 100, "level": 0.01, "min_increase": 0.05}
    found = expect(policy().model, said, recorded(figures), reference, **options)
    assert found is not None
    assert found.loss is not None
    assert found.loss.value == pytest.approx(loss, rel=0.01)
    assert not found.risen
    vague = 0.3 * said + 0.7 / 3
    risen = expect(policy().model, vague, recorded(figures), reference, **options)
    assert risen is not None
    assert risen.risen


def test_outcomes_that_lack_a_class_the_scores_expect_are_incomplete() -> None:
    label, said = chances()
    known = np.where(label == 2, np.nan, label)
    lacking = policy(labels={"min_coverage": 0.1})
    assert "is c, where the scores expect" in coverage.incomplete(lacking, said, known)
    assert coverage.incomplete(lacking, said, label) == ""


def test_a_shift_of_any_class_is_seen_on_the_same_rows() -> None:
    _, said = chances()
    moved = said + np.array([0.0, 0.3, -0.3])
    first, second, third = same_rows._shifts(moved, said, np.zeros(3))
    assert abs(first.mean) < 0.01
    assert second.mean > 0.2
    assert third.mean < -0.2


def test_a_class_that_is_hardly_told_apart_has_the_unit_of_the_others() -> None:
    """A hundredth more of a probability that is nearly the same for all rows changes no decision."""
    certain = np.linspace(0.1, 0.6, 400)
    said = np.column_stack([certain, 0.7 - certain, np.full(400, 0.3) + np.linspace(-0.01, 0.01, 400)])
    *_, vague = same_rows._shifts(said + np.array([-0.005, -0.005, 0.01]), said, np.zeros(3))
    assert vague.mean * SPREADS < 0.25


def test_a_history_of_classes_is_replayed() -> None:
    table = rows.table(1400, task="multiclass")
    changed = rows.table(1400, task="multiclass", sign=-1.0)
    times = table["at"].cast(pa.int64()).to_numpy()
    later = pa.array(times + 30 * 86_400_000_000, pa.timestamp("us", tz="UTC"))
    both = pa.concat_tables([table, changed.set_column(0, "at", later)])
    label = both["y"].cast(pa.float64())
    both = both.set_column(both.schema.get_field_index("y"), "y", label).rename_columns(
        ["_time", *both.column_names[1:]]
    )
    boolean = both.schema.get_field_index("recurring")
    both = both.set_column(boolean, "recurring", both["recurring"].cast(pa.int8()).cast(pa.float64()))
    asked = rows.policy(
        task="multiclass", train={"estimators": ["linear"], "min_rows": 100},
        gates={"min_rows": 60}, costs={"run": 1, "release": 1},
    )  # fmt: skip
    asked = replace_slices(asked)
    blocks = cut_blocks.cut(asked, both, block="350", start_rows=1400, label_delay_seconds=0)
    walk = PolicyWalk(blocks).walk()
    assert walk.runs >= 1
    assert walk.wrong < sum(walk.block_rows)


def replace_slices(asked: Policy) -> Policy:
    return asked.model_copy(update={"model": asked.model.model_copy(update={"slices": ()})})
