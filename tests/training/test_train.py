from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from kedge import bundle
from kedge.drift import Profile
from kedge.errors import DataError, UsageError
from kedge.measure import strided
from kedge.store import open_store
from kedge.training import fit_challenger, step, train
from tests.training import rows


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The bundle of the usual 1,500 rows."""
    folder = tmp_path_factory.mktemp("usual")
    return trained(open_store(folder / "store"), folder, rows.table(), rows.policy())


def trained(store, tmp_path, table, asked):
    made = train.run(asked, store, rows.taken(store, tmp_path, table, asked))
    return bundle.fetch(store, asked.name, made.id, tmp_path / "cache")


def test_metrics_are_those_of_the_judged_fit_on_the_newest_rows(usual) -> None:
    table = rows.table()
    newest = table.slice(1200)
    score = usual.load_judged().score(usual.signature.encode(newest))
    label = newest.column("y").to_numpy().astype(float)
    metrics = usual.manifest.metrics
    assert metrics["rows"] == usual.manifest.holdout.rows == 300
    assert metrics["loss"] == pytest.approx(-np.log(np.where(label == 1, score, 1 - score)).mean(), rel=1e-6)
    assert metrics["wrong"] == pytest.approx(((score >= 0.5) != (label == 1)).mean())
    base = table.slice(0, 1200).column("y").to_numpy().mean()
    assert metrics["constant_score"] == pytest.approx(base)
    assert metrics["constant_loss"] == pytest.approx(-np.log(np.where(label == 1, base, 1 - base)).mean())


def test_the_served_model_is_the_same_recipe_through_the_newest_row(usual) -> None:
    table = rows.table().append_column("_time", rows.table().column("at"))
    wanted = fit_challenger(rows.policy(), table)
    assert usual.manifest.files.keys() >= {"model.ubj", "judged.ubj"}
    for predictor, model in ((usual.load_model(), wanted.final), (usual.load_judged(), wanted.judged)):
        score = predictor.score(usual.signature.encode(table))
        assert score.tolist() == wanted.score(model, table).tolist()
    assert usual.golden.column("_score").to_pylist() == pytest.approx(
        usual.load_model().score(usual.signature.encode(usual.golden)).tolist()
    )


def test_the_manifest_says_what_both_fits_read(usual) -> None:
    fits, times = usual.manifest, rows.table().column("at").to_pylist()
    assert (fits.holdout.start, fits.holdout.rows) == (times[1200], 300)
    assert fits.trained_until == times[-1]
    assert fits.change_point is None
    assert {window.name: window.rows for window in fits.windows}.items() <= {"newest 500": 500, "all": 1200}.items()
    assert 0 < fits.agreement.difference <= fits.agreement.bound


def test_a_change_point_is_in_the_manifest_and_on_the_page(store, tmp_path) -> None:
    table, asked = rows.table(), rows.policy()
    change = rows.START + timedelta(days=10)
    made = train.run(asked, store, rows.taken(store, tmp_path, table, asked), change_point=change)
    opened = bundle.fetch(store, asked.name, made.id, tmp_path / "cache")
    assert opened.manifest.change_point == change
    assert "since change" in {window.name for window in opened.manifest.windows}
    assert "2026-01-11 00:00 UTC" in (opened.folder / "report.html").read_text()


@pytest.mark.parametrize("estimator", ["xgboost", "linear"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_same_rows_and_policy_give_the_same_model(store, tmp_path, estimator: str, task: str) -> None:
    asked = rows.policy(task=task, train={"estimators": [estimator]})
    table = rows.table(600, task=task)
    first, second = (trained(store, tmp_path, table, asked) for _ in range(2))
    assert first.manifest.estimator == second.manifest.estimator == estimator
    scores = [made.load_model().score(made.signature.encode(table)).tolist() for made in (first, second)]
    assert scores[0] == scores[1]


def test_the_estimator_with_the_lower_loss_on_the_selection_rows_is_chosen(usual) -> None:
    metrics = usual.manifest.metrics
    losses = {name: metrics[f"selection_loss_of_{name}"] for name in ("xgboost", "linear")}
    assert usual.manifest.estimator == min(losses, key=losses.get) == "xgboost"
    assert metrics["loss_of_xgboost"] == metrics["loss"] != metrics["loss_of_linear"]


def test_the_reference_profile_has_features_of_all_rows_and_scores_of_unseen_ones(usual) -> None:
    profile = Profile.from_json(usual.profile())
    assert {name: column.rows for name, column in profile.columns.items() if name.startswith("_")} == {
        "_label": 300,
        "_score": 300,
    }
    assert {column.rows for name, column in profile.columns.items() if not name.startswith("_")} == {1500}


def test_golden_rows_are_spread_over_the_whole_time(usual) -> None:
    golden = usual.golden
    wanted = rows.table().column("x0").to_numpy()[np.linspace(0, 1499, 64).round().astype(int)]
    assert golden.column("x0").to_numpy().tolist() == wanted.tolist()


def test_the_step_passes_both_times_on_and_refuses_what_is_none(store, tmp_path) -> None:
    table, asked = rows.table(), rows.policy(gates={"min_rows": 100})
    fingerprint = rows.taken(store, tmp_path, table, asked)
    artefact = SimpleNamespace(path=str(tmp_path / "page.html"), log_metric=lambda name, value: None)
    change = (rows.START + timedelta(days=10)).isoformat()
    until = rows.START + timedelta(days=27)
    made = step.train(asked.to_dict(), store.url, fingerprint, change, until.isoformat(), artefact, artefact)
    opened = bundle.fetch(store, asked.name, made, tmp_path / "cache")
    assert opened.manifest.change_point == rows.START + timedelta(days=10)
    assert opened.manifest.holdout.start > until
    with pytest.raises(UsageError, match="change_point 'monday': not a time"):
        step.train(asked.to_dict(), store.url, fingerprint, "monday", "", artefact, artefact)


def test_the_bundle_page_names_estimator_and_losses(usual) -> None:
    page = (usual.folder / "report.html").read_text()
    assert "fraud: trained xgboost" in page
    assert "<td>newest 500</td>" in page
    assert f"features show no effect on loss on 300 rows held out: {', '.join(usual.manifest.permutation.idle)}" in page
    assert "the mean of its size is over 200 rows held out" in page
    assert f"{usual.manifest.metrics['loss_of_linear']:.4g}" in page


def test_the_bundle_page_tells_the_rows_before_the_label_delay_as_those_of_the_judged_fit(store, tmp_path) -> None:
    asked, table = rows.policy(labels={"delay_seconds": 86_400}), rows.table(600)
    page = (trained(store, tmp_path, table, asked).folder / "report.html").read_text()
    last = rows.START + timedelta(days=29) * 0.8
    assert f"<dt>until</dt><dd>{last - timedelta(days=1):%Y-%m-%d}" in page


def test_too_few_rows_are_refused_by_their_number(store, tmp_path) -> None:
    asked = rows.policy()
    with pytest.raises(DataError, match=r"499 rows; train\.min_rows is 500"):
        train.run(asked, store, rows.taken(store, tmp_path, rows.table(499), asked))


def test_one_class_among_the_older_rows_is_refused(store, tmp_path) -> None:
    table = rows.table(600)
    label = np.ones(600, dtype=np.int64)
    label[500:] = 0  # both classes in the table, one in the rows to learn from
    table = table.set_column(table.schema.get_field_index("y"), "y", pa.array(label))
    asked = rows.policy()
    with pytest.raises(DataError, match="one class only: all of the 384 oldest rows of 'y' are positive"):
        train.run(asked, store, rows.taken(store, tmp_path, table, asked))


def test_column_names_with_spaces_are_fine(store, tmp_path) -> None:
    features = {"x0": {"type": "number"}, "x 1": {"type": "number"}, "country": {"type": "category"}}
    asked = rows.policy(model={"features": features, "slices": []})
    table = rows.table(600).rename_columns({"x1": "x 1"})
    made = trained(store, tmp_path, table, asked)
    assert made.manifest.importance["x 1"] > 0.1


def test_a_category_seen_only_in_the_holdout_is_learned_by_the_served_fit(store, tmp_path) -> None:
    table = rows.table(600)
    country = table.column("country").to_pylist()
    country[-10:] = ["ZZ"] * 10
    table = table.set_column(table.schema.get_field_index("country"), "country", pa.array(country))
    made = trained(store, tmp_path, table, rows.policy())
    assert made.signature.inputs[4].categories == ("AT", "BE", "DE", "ZZ")
    assert np.isfinite(made.load_judged().score(made.signature.encode(table))).all()


@pytest.mark.parametrize("estimators", [["xgboost"], ["linear"]])
def test_the_same_rows_and_policy_give_the_same_bundle(tmp_path, estimators) -> None:
    asked, ids = rows.policy(train={"estimators": estimators}), []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        ids.append(trained(open_store(tmp_path / place / "store"), tmp_path / place, rows.table(), asked).id)
    assert ids[0] == ids[1]


PRIVACY = {"x0": {"privacy": "hash"}, "x2": {"privacy": "bucket", "buckets": [0.0]}, "recurring": {"privacy": "mask"}}


def test_no_private_value_of_a_row_leaves_training(store, tmp_path) -> None:
    plain = rows.policy()
    features = {name: each.model_dump() | PRIVACY.get(name, {}) for name, each in plain.model.features.items()}
    asked = rows.policy(model={"features": features})
    table = rows.table()
    made = trained(store, tmp_path, table, asked)
    usual = made.golden.select(["x1", "x3"]).to_pylist()
    assert usual == table.take(strided(table.num_rows, 64)).select(["x1", "x3"]).to_pylist()
    known = set(table["x0"].to_pylist()) | set(table["x2"].to_pylist())
    drawn = [*made.golden["x0"].to_pylist(), *made.golden["x2"].to_pylist()]
    assert len(set(drawn)) == 128
    assert not known & set(drawn)
    assert abs(np.mean(drawn)) < 0.5
    assert set(made.golden["recurring"].to_pylist()) == {0.0, 1.0}
    texts = {repr(value) for value in known}
    for name in ("profile.json", "report.html", "bundle.json"):
        words = set(re.split(r"[^0-9.e-]+", (made.folder / name).read_text()))
        assert not texts & words, name
    assert set(Profile.from_json(made.profile()).columns) == {"x1", "x3", "country", "_label", "_score"}
    predictor = made.load_model()
    assert bundle.golden_difference(made, lambda sent: predictor.score(made.signature.encode_rows(sent))) == 0


def test_a_model_of_private_features_alone_has_a_profile_of_its_scores(store, tmp_path) -> None:
    features = {
        "x0": {"type": "integer", "privacy": "drop", "min": 0},
        "country": {"type": "category", "privacy": "hash"},
    }
    asked = rows.policy(model={"features": features, "slices": []})
    table = rows.table()
    table = table.set_column(1, "x0", pa.array((table["x0"].to_numpy() * 100).clip(0).round()))
    made = trained(store, tmp_path, table, asked)
    profile = Profile.from_json(made.profile())
    assert (profile.rows, set(profile.columns)) == (1500, {"_label", "_score"})
    assert all(value >= 0 and value == round(value) for value in made.golden["x0"].to_pylist())
    assert {*made.golden["country"].to_pylist()} <= {"AT", "BE", "DE", None}
