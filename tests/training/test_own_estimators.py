"""A team's own estimators: by import path, kept, served with the same bits, and refused where code is not allowed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from kedge import bundle
from kedge import policy as policies
from kedge.bundle.estimators import ESTIMATORS, merge, named
from kedge.bundle.predictor import softmax
from kedge.cli.policy import estimator_faults
from kedge.errors import BundleError, CodeNotAllowed, NotExplainable, PolicyError, TransformError, UsageError
from kedge.policy.train import ESTIMATORS as NAMES
from kedge.training.estimators import attempt, score
from tests.training import own_estimators, rows
from tests.training.test_estimators import encoded

OWN = "tests.training.own_estimators"


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")


FEW_TREES = {
    "forest": {"n_estimators": 20},
    "sklearn.ensemble:ExtraTrees": {"n_estimators": 20},
    "histogram": {"max_iter": 20},
    "catboost": {"iterations": 20},
}  # by how names begin: no claim here needs more


def kept(folder: Path, name: str, task: str = "binary", members: int = 2):
    """A bundle of an estimator's committee, its model, and rows."""
    signature, table = encoded(task)
    few = next((few for known, few in FEW_TREES.items() if name.startswith(known)), {})
    asked = rows.policy(task=task, train={"estimators": [name], "parameters": {name: few}})
    tried = attempt(name, asked, signature, table)
    models = [tried.fit(table[: 400 + 100 * place]) for place in range(members)]
    model = merge(models, [1 / members] * members, named(name))
    made = bundle.write(
        folder, model=model, judged=models[0], signature=signature, policy=asked, estimator=name,
        golden=rows.table(800, task=task), profile=b"{}", snapshot="0" * 40, commit="c0ffee",
    )  # fmt: skip
    return made, score(asked, model, signature, table.matrix), table.matrix


def test_the_policy_names_each_estimator_there_is():
    assert set(NAMES) == set(ESTIMATORS)


OBJECTIVES = ["binary", "multiclass", "regression", "absolute", "poisson", "quantile(0.8)"]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("task", OBJECTIVES)
@pytest.mark.parametrize("name", [*ESTIMATORS, "sklearn.ensemble:{}"])
def test_a_slot_gives_the_bits_of_training_for_one_row_and_for_many(tmp_path, name, task, members):
    if (name, task) == ("forest", "quantile(0.8)"):
        pytest.skip("a forest estimates no quantile")
    name = name.format("ExtraTreesClassifier" if task in ("binary", "multiclass") else "ExtraTreesRegressor")
    made, wanted, matrix = kept(tmp_path / "made", name, task, members)
    predictor = bundle.open_bundle(made.folder).load_model()
    seen = predictor.score(matrix)
    assert seen.shape == ((len(matrix), 3) if task == "multiclass" else (len(matrix),))
    if name == "linear":  # served as 64-bit terms, trained on 32-bit columns
        assert seen == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    else:
        assert (seen == wanted).all()
    alone = np.array([predictor.score_row(row.tobytes()) for row in matrix[:20]])
    # numpy sums a product of one row and of many in another order, where no terms stand in for the model
    assert (
        alone == pytest.approx(seen[:20], rel=1e-12)
        if (name, task) == ("linear", "poisson")
        else (alone == seen[:20]).all()
    )
    assert made.manifest.types == ()


@pytest.mark.parametrize("name", [*ESTIMATORS])
def test_the_same_rows_give_the_same_files(tmp_path, name):
    first, second = (kept(tmp_path / each, name)[0] for each in ("first", "second"))
    assert first.manifest.files == second.manifest.files


LINKS = {"binary": expit, "multiclass": softmax, "poisson": np.exp, "regression": np.asarray}


@pytest.mark.parametrize("task", LINKS)
@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost", "linear"])
def test_contributions_sum_to_the_raw_score(tmp_path, name, task):
    members = 1 if (name, task) == ("linear", "poisson") else 2  # whose means of several are no sum of terms
    made, _, matrix = kept(tmp_path / "made", name, task, members)
    predictor = made.load_model()
    raw = predictor.contributions(matrix[:50]).sum(axis=-1)
    assert LINKS[task](raw) == pytest.approx(predictor.score(matrix[:50]), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["forest", "histogram", "sklearn.ensemble:ExtraTreesClassifier"])
def test_what_has_no_contributions_says_so(tmp_path, name):
    made, _, matrix = kept(tmp_path / "made", name)
    with pytest.raises(NotExplainable, match="contributions of a"):
        made.load_model().contributions(matrix[:5])


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost", "forest", "histogram"])
def test_a_monotone_feature_never_turns(name):
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [name], "monotone": {"x1": "increasing", "x0": "increasing"}})
    table.matrix[:, 3] = 0  # a forest with constraints takes no missing values
    table.matrix[:, 4] = 0
    model = attempt(name, asked, signature, table).fit(table)
    grid = np.repeat(table.matrix[:1], 100, axis=0)
    grid[:, 1] = np.linspace(-3, 3, 100)  # the outcome falls again from 0 on
    assert (np.diff(score(asked, model, signature, grid)) >= -1e-6).all()


def test_balanced_classes_raise_the_scores_of_a_rare_one():
    signature, table = encoded()
    rare = table.label * (np.random.default_rng(0).random(len(table)) < 0.2)
    scores = {}
    for weight in (None, "balanced"):
        asked = rows.policy(train={"estimators": ["lightgbm"], "class_weight": weight})
        few = type(table)(table.matrix, rare, table.time)
        scores[weight] = score(asked, attempt("lightgbm", asked, signature, few).fit(few), signature, table.matrix)
    assert scores["balanced"].mean() > 2 * scores[None].mean()


@pytest.mark.parametrize(
    ("name", "parameter", "said"),
    [
        ("lightgbm", "num_leavs", "did you mean 'num_leaves'"),
        ("xgboost", "objective", "is no parameter of it, or one that kedge sets itself"),
        ("catboost", "dept", "did you mean 'depth'"),
        ("forest", "max_dept", "did you mean 'max_depth'"),
        ("linear", "c", "did you mean 'C'|or one that kedge sets itself"),
        ("sklearn.svm:SVC", "kernels", "did you mean 'kernel'"),
    ],
)
def test_an_unknown_parameter_is_named_with_a_likely_one(name, parameter, said):
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [name], "parameters": {name: {parameter: 3}}})
    with pytest.raises(UsageError, match=f"train.parameters.{name}.{parameter}: .*({said})"):
        attempt(name, asked, signature, table)


def test_a_value_that_the_library_refuses_is_said_with_its_place():
    signature, table = encoded()
    asked = rows.policy(train={"estimators": ["lightgbm"], "parameters": {"lightgbm": {"num_leaves": "many"}}})
    with pytest.raises(
        UsageError, match=r"train\.parameters\.lightgbm: lightgbm cannot be fitted with them: .*num_leaves"
    ):
        attempt("lightgbm", asked, signature, table).fit(table)


def test_what_a_library_refuses_of_the_policy_is_said():
    asked = rows.policy(task="quantile(0.9)", train={"estimators": ["lightgbm"], "monotone": {"x0": "increasing"}})
    signature, table = encoded("quantile(0.9)")
    with pytest.raises(UsageError, match=r"train\.estimators: lightgbm cannot be fitted .*monotone_constraints"):
        attempt("lightgbm", asked, signature, table).fit(table)


def test_whole_numbers_stay_what_they_are_on_the_way_through_a_pipeline():
    given = {"forest": {"max_features": 1.0, "max_depth": 7}}
    asked = rows.policy(train={"estimators": ["forest"], "parameters": given})
    floats = json.loads(json.dumps(asked.to_dict()), parse_int=float)
    received = policies.parse(floats)
    assert received == asked
    assert isinstance(received.train.parameters["forest"]["max_depth"], int)
    assert isinstance(received.train.parameters["forest"]["max_features"], float)


@pytest.mark.parametrize(
    ("name", "parameters", "trees"),
    [("lightgbm", {"num_leaves": 3, "n_estimators": 7}, 7), ("xgboost", {"n_estimators": 5, "max_depth": 2}, 5)],
)
def test_parameters_reach_the_library(name, parameters, trees):
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [name], "parameters": {name: parameters}})
    assert named(name).rounds(attempt(name, asked, signature, table).fit(table)) <= trees


def test_linear_refuses_a_constraint_that_it_cannot_hold():
    signature, table = encoded()
    asked = rows.policy(train={"estimators": ["linear"], "monotone": {"x0": "increasing"}})
    with pytest.raises(UsageError, match="linear cannot hold a constraint on x0"):
        attempt("linear", asked, signature, table)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"estimators": ["lightgmb"]}, "'lightgmb' is no estimator; there are xgboost, lightgbm"),
        ({"parameters": {"forest": {}}}, "'forest' is not among estimators: xgboost, linear"),
        ({"monotone": {"x9": "increasing"}}, "'x9' is no feature"),
        ({"monotone": {"country": "increasing"}}, "'country' is a category, which has no order"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_policy(train, said):
    with pytest.raises(PolicyError, match=said):
        rows.policy(train=train)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("name", ["build", "Majority"])
def test_a_teams_own_is_kept_with_its_types_and_gives_the_same_bits(tmp_path, name):
    made, wanted, matrix = kept(tmp_path / "made", f"{OWN}:{name}")
    predictor = bundle.open_bundle(made.folder).load_model()
    assert (predictor.score(matrix) == wanted).all()
    assert predictor.score_row(matrix[0].tobytes()) == wanted[0]
    assert made.manifest.types == ((f"{OWN}.Majority",) if name == "Majority" else ())


def test_code_is_refused_where_it_is_not_allowed(tmp_path, monkeypatch):
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [f"{OWN}:build"]})
    with pytest.raises(CodeNotAllowed, match=f"{OWN}:build: is code that this installation does not run"):
        attempt(f"{OWN}:build", asked, signature, table)
    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")
    made, _, _ = kept(tmp_path / "made", f"{OWN}:Majority")
    monkeypatch.delenv("KEDGE_ALLOW_CODE")
    with pytest.raises(
        BundleError, match=r"not trusted: tests\.training\.own_estimators\.Majority; .* KEDGE_ALLOW_CODE"
    ):
        bundle.open_bundle(made.folder).load_model()


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{OWN}:gone", "cannot be imported: .*gone"),
        ("nowhere.at_all:build", "needs 'nowhere', which is not there; build it into the images"),
        (f"{OWN}:NOTHING", "is a int; it must be a scikit-learn estimator"),
        ("sklearn.linear_model:LinearRegression", "has no predict_proba, which task binary needs"),
    ],
)
def test_a_path_that_leads_to_no_estimator_is_said(path, said):
    signature, table = encoded()
    with pytest.raises(UsageError, match=said):
        attempt(path, rows.policy(train={"estimators": [path]}), signature, table).fit(table)


ANSWERS = [
    (
        lambda count: np.ones((count, 5)) / 5,
        r"gives an array of shape \(800, 5\); it must give one probability of each",
    ),
    (lambda count: np.ones(count), r"gives an array of shape \(800,\)"),
    (lambda count: np.ones((3, 2)), "gives 3 rows for 800; it must give one for each"),
    (lambda count: np.full((count, 2), np.nan), "gives NaN or an infinite number"),
    (lambda count: np.full((count, 2), 7.0), "gives numbers below 0 or above 1; it must give probabilities"),
    (lambda count: [["a", "b"]] * count, "predict_proba of Majority raises ValueError, or gives no numbers"),
    (lambda count: sys.exit(5), "predict_proba of Majority raises SystemExit"),
]


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(("answer", "said"), ANSWERS)
def test_what_is_no_probability_of_each_class_is_refused(monkeypatch, answer, said):
    monkeypatch.setattr(own_estimators.Majority, "predict_proba", lambda _self, frame: answer(len(frame)))
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [f"{OWN}:Majority"]})
    fitted = attempt(f"{OWN}:Majority", asked, signature, table).fit(table)
    with pytest.raises(TransformError, match=rf"train\.estimators: .*{said}"):
        score(asked, fitted, signature, table.matrix)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("method", "does", "said"),
    [
        ("fit", lambda *_: {}["secret"], r"cannot be fitted: KeyError; it gets"),
        ("fit", lambda _self, frame, *_: frame.country.astype(float), r"cannot be fitted: ValueError; it gets"),
        ("fit", lambda *_: None, "its fit returns nothing; it must return the estimator"),
        ("__init__", lambda _self: {}["secret"], "cannot be made: KeyError; it is called without arguments"),
    ],
)
def test_an_estimator_that_cannot_be_made_or_fitted_is_said(monkeypatch, method, does, said):
    monkeypatch.setattr(own_estimators.Majority, method, does)
    signature, table = encoded()
    asked = rows.policy(train={"estimators": [f"{OWN}:Majority"]})
    with pytest.raises(UsageError, match=f"{OWN}:Majority:? {said}"):
        attempt(f"{OWN}:Majority", asked, signature, table).fit(table)


def test_an_estimator_that_takes_no_weights_is_said_where_rows_are_weighed():
    signature, table = encoded()
    path = "sklearn.neighbors:KNeighborsClassifier"
    asked = rows.policy(train={"estimators": [path], "class_weight": "balanced"})
    with pytest.raises(UsageError, match=r"takes no weights of rows; leave train\.half_life_seconds"):
        attempt(path, asked, signature, table).fit(table)


@pytest.mark.parametrize(("name", "ending"), [("lightgbm", "txt"), ("catboost", "cbm.zip")])
def test_a_damaged_file_is_named(tmp_path, name, ending):
    made, _, _ = kept(tmp_path / "made", name)
    (made.folder / f"model.{ending}").write_bytes(b"nothing that was trained")
    with pytest.raises(BundleError, match=f"model.{ending}: "):
        made.load_model()


def test_the_primary_metric_chooses_the_estimator():
    """Balanced classes rank as well, and their loss is higher."""
    signature, table = encoded()
    ranks = {}
    for primary in (False, True):
        values = rows.policy(train={"class_weight": "balanced"}).to_dict()
        asked = policies.parse({**values, "metrics": [{"name": "auc", "primary": primary}]})
        ranks[primary] = attempt("linear", asked, signature, table)
    assert ranks[False].rank == ranks[False].loss
    assert -1 < ranks[True].rank < -0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {"lightgbm": {"num_leafs": 3}}}, "train.parameters.lightgbm.num_leafs: is no parameter of it"),
        ({"parameters": {"xgboost": {"max_dept": 3}}}, "train.parameters.xgboost.max_dept: is no parameter of it"),
        ({"parameters": {"xgboost": {"max_depth": 3}}}, None),
        ({}, None),
    ],
)
def test_a_check_of_the_policy_knows_each_estimators_parameters(tmp_path, change, said) -> None:
    file = tmp_path / "policy.yaml"
    train = {"estimators": ["lightgbm", "xgboost"], **change}
    file.write_text(json.dumps({**rows.policy().to_dict(), "train": train}))
    faults = estimator_faults(file, policies.load(file))
    assert [said] * (said is not None) == [fault.partition("policy.yaml:1: ")[2][: len(said or "")] for fault in faults]


def test_an_estimator_whose_library_is_not_here_is_not_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    file = tmp_path / "policy.yaml"
    train = {"estimators": ["lightgbm"], "parameters": {"lightgbm": {"num_leafs": 3}}}
    file.write_text(json.dumps({**rows.policy().to_dict(), "train": train}))
    assert estimator_faults(file, policies.load(file)) == []
