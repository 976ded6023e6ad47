from __future__ import annotations

import posixpath
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from kedge import bundle, records
from kedge.errors import DataError
from kedge.evaluation import evaluate, measure, step
from kedge.evaluation.evaluation import metrics
from kedge.measure import losses
from kedge.store import Store, open_store
from kedge.tables import snapshot
from kedge.training import train
from tests.records.made import check, record
from tests.training import rows

RUN = "retrain-fraud-test"


class Made:
    """A snapshot and a model trained on it."""

    def __init__(self, store: Store, folder: Path, table: pa.Table, asked=None) -> None:
        self.asked = asked or rows.policy()
        self.store, self.table = store, table
        self.fingerprint = rows.taken(store, folder, table, self.asked)
        self.bundle = train.run(self.asked, store, self.fingerprint).id


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_store(folder / "store")


@pytest.fixture(scope="module")
def good(store, folder) -> Made:
    return Made(store, folder, rows.table())


@pytest.fixture(scope="module")
def stale(store, folder) -> Made:
    """A model of the opposite relation, of rows long before."""
    table = rows.table(600, seed=9, sign=-1)
    earlier = pa.array([time.replace(year=2025) for time in table.column("at").to_pylist()], table.schema.field(0).type)
    return Made(store, folder, table.set_column(0, "at", earlier))


@pytest.fixture(scope="module")
def before(store, folder, good) -> Made:
    """An equal model, that of the rows before the holdout."""
    return Made(store, folder, good.table.slice(0, 1200))


@pytest.fixture(autouse=True)
def _forgotten(store) -> None:
    """Each test writes its own records."""
    for kind in ("evaluated", "promoted", "run-finished"):
        for key in list(store.keys(f"records/fraud/{kind}")):
            store.delete(key)


def judged(made: Made, champion: str | None, asked=None, fingerprint: str | None = None):
    if champion is not None:
        records.append(made.store, record("promoted", f"{champion}-1", rows.START))
    return evaluate.run(asked or made.asked, made.store, RUN, fingerprint or made.fingerprint, made.bundle)


def test_the_first_challenger_passes_if_it_beats_the_constant(good) -> None:
    found = judged(good, None)
    assert found.passed
    assert found.measured.challenger_loss < found.measured.constant_loss
    (evaluated,) = records.read(good.store, "fraud", records.Evaluated)
    assert (evaluated.key, evaluated.data.passed, evaluated.data.champion) == (f"{good.bundle}-{RUN}", True, None)
    assert records.read(good.store, "fraud", records.RunFinished) == []


def test_the_page_leads_to_that_of_the_training(good) -> None:
    judged(good, None)
    folder = f"reports/{good.asked.name}"
    html = good.store.get(f"{folder}/evaluate-{good.bundle}.html").decode()
    (lead,) = re.findall(r'<a href="([^"]+)">its training</a>', html)
    assert good.store.get(posixpath.normpath(f"{folder}/{lead}")).startswith(b"<!doctype html>")


def test_a_better_challenger_passes_against_the_champion(good, stale) -> None:
    found = judged(good, stale.bundle)
    assert found.passed
    against = found.measured.against
    assert against.difference.improvement > 0.3
    assert against.decisions.only_champion_wrong > against.decisions.only_challenger_wrong


def test_the_judged_challenger_and_the_served_champion_are_scored_on_the_same_newest_rows(good, stale) -> None:
    found = judged(good, stale.bundle)
    newest = good.table.slice(1200)
    label = newest.column("y").to_numpy().astype(float)
    assert found.label.tolist() == label.tolist()
    for scored, made in ((found.challenger, good), (found.champion, stale)):
        opened = bundle.fetch(made.store, "fraud", made.bundle, Path("unused"))
        fit = opened.load_judged() if made is good else opened.load_model()
        score = fit.score(opened.signature.encode(newest))
        assert scored.score.tolist() == score.tolist()
        assert scored.loss.tolist() == losses("binary", label, score).tolist()


def test_the_shift_to_expect_is_of_the_fit_that_will_serve_which_knows_a_change_among_the_newest_rows(
    store, folder
) -> None:
    rng = np.random.default_rng(11)
    table = with_outcomes(rng.random(1500) < np.where(np.arange(1500) < 1100, 0.2, 0.7))
    champion = Made(store, folder, table.slice(0, 1100))
    found = judged(Made(store, folder, table), champion.bundle)
    judged_fit = float(np.mean(found.challenger.score - found.champion.score))
    (evaluated,) = records.read(store, "fraud", records.Evaluated)
    assert evaluated.data.metrics["score_shift"] > judged_fit + 0.05


def test_a_worse_challenger_ends_the_run_as_rejected_with_every_reason(store, folder, good, before) -> None:
    worse = Made(store, folder, rows.table(sign=-1))
    found = judged(worse, before.bundle, good.asked, good.fingerprint)
    assert not found.passed
    (finished,) = records.read(good.store, "fraud", records.RunFinished)
    assert (finished.data.state, finished.data.step) == ("rejected", "evaluate")
    assert finished.data.bundle == worse.bundle
    for part in ("the best constant guess", "higher than the champion's", "wrong decisions cost", "worst slice"):
        assert finished.data.reason.count(part) == 1


def test_an_equal_challenger_is_no_better(good, before) -> None:
    found = judged(good, before.bundle)
    assert [verdict.name for verdict in found.verdicts if not verdict.passed] == ["improvement"]


def test_rows_the_champion_was_trained_on_are_left_out(store, folder, good) -> None:
    """The champion's snapshot ends where half of the challenger's holdout is over; its served fit read all of it."""
    champion = Made(store, folder, good.table.slice(0, 1350))
    asked = rows.policy(gates={"min_rows": 100})
    found = judged(good, champion.bundle, asked)
    assert found.measured.rows.judged == found.measured.rows.unseen == 150
    assert found.note.startswith("150 held-out rows are left out")


def test_where_too_few_others_remain_nothing_is_decided_and_all_are_shown(store, folder, good) -> None:
    champion = Made(store, folder, good.table.slice(0, 1465))
    found = judged(good, champion.bundle)
    assert (found.outcome, found.rows_needed) == ("inconclusive", 200 - 35)
    assert found.measured.rows.judged == 300
    page = store.get(evaluate.report_key("fraud", good.bundle)).decode()
    assert "Not judged: the rows are too few to tell" in page
    assert "its figures flatter it" in page
    (evaluated,) = records.read(store, "fraud", records.Evaluated)
    assert (evaluated.data.outcome, evaluated.data.passed) == ("inconclusive", False)
    (finished,) = records.read(store, "fraud", records.RunFinished)
    assert (finished.data.state, finished.data.rows_needed) == ("inconclusive", 165)
    assert finished.data.reason == (
        "35 of the 300 judged rows are newer than those the champion was trained on, must be at least 200: 165 more "
        "are needed; nothing is decided: train again when about 165 more rows to judge on have their outcome, or lower "
        "the limit under gates"
    )


def test_a_champion_is_stale_by_the_age_of_its_newest_training_row(good, before) -> None:
    """The table's 30 days end at the run; the champion learned the first 24 of them."""
    champion = before.bundle
    for days, stale in ((5, True), (7, False)):
        for asked in (
            rows.policy(gates={"stale_after_seconds": days * 86_400}),
            rows.policy(monitor={"triggers": {"max_age_seconds": days * 86_400}}),
        ):
            assert judged(good, champion, asked).measured.stale is stale
    asked = rows.policy(gates={"stale_after_seconds": 86_400}, monitor={"triggers": {"max_age_seconds": 1e9}})
    assert judged(good, champion, asked).measured.stale
    assert not judged(good, champion).measured.stale


def test_a_stale_champion_is_followed_by_its_equal(good, before) -> None:
    found = judged(good, before.bundle)
    score = found.challenger.score
    assert measure(good.asked, found.label, score, score, stale=True).passed
    assert not measure(good.asked, found.label, score, score).passed


def test_a_later_challenger_of_one_rise_meets_a_sharper_level(good) -> None:
    regret = {"pending": True, "attempts": 3, "loss_only": False}
    records.append(good.store, check(rows.END, regret=regret))
    found = judged(good, None)
    assert "in attempt 3" in next(verdict.sentence for verdict in found.verdicts if verdict.name == "loss")


def with_outcomes(outcomes: np.ndarray) -> pa.Table:
    table = rows.table(len(outcomes))
    return table.set_column(table.schema.get_field_index("y"), "y", pa.array(outcomes.astype(np.int64)))


def test_a_table_sorted_by_its_outcome_is_inconclusive_and_said(store, folder) -> None:
    found = judged(Made(store, folder, with_outcomes(np.arange(1000) >= 600)), None)
    assert found.outcome == "inconclusive"
    assert "is the table sorted by its outcome instead of by time" in found.reasons[0]
    (finished,) = records.read(store, "fraud", records.RunFinished)
    assert finished.data.reason.endswith("say in data.time_column when each row happened, and train again")


def test_too_few_positives_to_judge_by_are_inconclusive(store, folder) -> None:
    positive = np.zeros(4000)
    positive[::130] = 1  # 31 of 4,000, 6 of the last 800
    found = judged(Made(store, folder, with_outcomes(positive)), None)
    assert found.outcome == "inconclusive"
    assert found.rows_needed == pytest.approx(14 * 4000 / 31, abs=1)


def test_a_regression_sorted_by_its_target_is_inconclusive_and_said(store, folder) -> None:
    table = rows.table(600, task="regression")
    ordered = table.set_column(table.schema.get_field_index("y"), "y", pa.array(np.arange(600.0)))
    found = judged(Made(store, folder, ordered, rows.policy(task="regression")), None, REGRESSION)
    assert found.outcome == "inconclusive"
    assert "lies beyond all earlier ones" in found.reasons[0]


def test_a_regression_whose_judged_rows_have_one_outcome_is_inconclusive(store, folder) -> None:
    table = rows.table(600, task="regression")
    outcomes = pa.array(np.maximum(400.0 - np.arange(600.0), 0))
    ordered = table.set_column(table.schema.get_field_index("y"), "y", outcomes)
    found = judged(Made(store, folder, ordered, rows.policy(task="regression")), None, REGRESSION)
    assert found.outcome == "inconclusive"
    assert "is the same number, and those of earlier rows are not" in found.reasons[0]


def test_slices_cover_every_value_and_the_missing_ones(good, stale) -> None:
    found = judged(good, stale.bundle)
    country = [each for each in found.measured.slices if each.feature == "country"]
    assert [each.value for each in country] == ["AT", "BE", "DE", "missing"]
    assert sum(each.rows for each in country) == 300
    mask = np.array([value == "BE" for value in good.table.slice(1200).column("country").to_pylist()])
    assert country[1].challenger_loss == pytest.approx(found.challenger.loss[mask].mean())
    assert [each.value for each in found.measured.slices if each.feature == "recurring"] == ["false", "true"]


def test_slices_go_by_columns_that_no_model_sees(store, folder) -> None:
    branch = np.arange(1500) % 2
    table = rows.table().append_column("branch", pa.array(branch))
    asked = rows.policy(model={"slices": ["branch"]}, data={"extra_columns": ["branch"]})
    made = Made(store, folder, table, asked)
    found = judged(made, made.bundle, asked)
    assert [(each.feature, each.value, each.rows) for each in found.measured.slices] == [
        ("branch", "0", 150),
        ("branch", "1", 150),
    ]
    opened = bundle.fetch(store, "fraud", made.bundle, Path("unused"))
    assert "branch" not in opened.signature.names
    assert "branch" not in opened.golden.column_names
    assert b"branch" not in opened.profile()


def test_a_slice_that_became_worse_is_refused_though_the_whole_is_better() -> None:
    rng = np.random.default_rng(0)
    rare = rng.random(4000) < 0.1
    label = (rng.random(4000) < 0.5).astype(float)
    champion = np.where(label > 0.5, 0.7, 0.3)
    challenger = np.where(rare, 0.5, np.where(label > 0.5, 0.8, 0.2)) + rng.normal(size=4000) * 0.01
    asked = rows.policy(model={"slices": ["country"]})
    table = pa.table({"country": np.where(rare, "AT", "BE")})
    found = measure(asked, label, challenger, champion, table=table)
    assert [verdict.name for verdict in found.verdicts if not verdict.passed] == ["decisions", "slices"]
    assert "worst slice country = AT" in found.reasons[-1]


def test_a_champion_that_needs_a_column_the_rows_lack_is_a_clear_error(store, folder, good) -> None:
    narrow = rows.policy(model={"features": {"x0": {"type": "number"}}, "slices": []})
    challenger = Made(store, folder, good.table.slice(0, 900), narrow)
    with pytest.raises(DataError, match=r"cannot be scored on this snapshot: feature 'x1': no such column"):
        judged(challenger, good.bundle)


def test_hardly_a_row_held_out_is_said(store, folder, good) -> None:
    made = Made(store, folder, good.table, rows.policy(train={"holdout_share": 0.002}))
    with pytest.raises(DataError, match="3 rows held out; 4 is the least"):
        judged(made, None)


@pytest.fixture(scope="module")
def regression(store, folder) -> Made:
    return Made(store, folder, rows.table(600, task="regression"), rows.policy(task="regression"))


REGRESSION = rows.policy(task="regression", gates={"min_rows": 100})


def test_a_regression_is_judged_by_squared_error_and_has_no_decisions(regression) -> None:
    found = judged(regression, None, REGRESSION)
    assert found.passed
    assert judged(regression, regression.bundle, REGRESSION).measured.against.decisions is None
    assert found.measured.challenger_loss == pytest.approx(((found.label - found.challenger.score) ** 2).mean())
    assert not {"roc_area", "wrong"} & set(metrics(REGRESSION, found))


def test_a_regressions_errors_are_scikit_learns_for_each_model_on_the_same_rows(store, folder, regression) -> None:
    champion = Made(store, folder, rows.table(500, seed=5, task="regression"), rows.policy(task="regression"))
    found = judged(regression, champion.bundle, REGRESSION)
    recorded = records.read(store, "fraud", records.Evaluated)[0].data.metrics
    constant = np.full(len(found.label), found.label.mean())
    scores = {"": found.challenger.score, "champion_": found.champion.score, "constant_": constant}
    for of, score in scores.items():
        assert recorded[f"{of}rmse"] == pytest.approx(reference.root_mean_squared_error(found.label, score))
        assert recorded[f"{of}mae"] == pytest.approx(reference.mean_absolute_error(found.label, score))
        assert recorded[f"{of}r_squared"] == pytest.approx(reference.r2_score(found.label, score))
    assert recorded["rmse"] == pytest.approx(recorded["loss"] ** 0.5)
    assert recorded["constant_r_squared"] == pytest.approx(0)
    page = store.get(evaluate.report_key("fraud", regression.bundle)).decode()
    for name, of in (
        ("challenger", ""),
        ("champion", "champion_"),
        ("the best constant guess for these rows", "constant_"),
    ):
        cells = "".join(
            f'<td class="number">{recorded[of + figure]:.4g}</td>' for figure in ("loss", "rmse", "mae", "r_squared")
        )
        assert f"<tr><td>{name}</td>{cells}</tr>" in page
    assert page.count("<svg") == 2
    assert "champion, mean" in page
    assert "rows are drawn" not in page  # all 120 are


def test_of_many_rows_some_are_drawn_and_the_page_says_which(regression, monkeypatch) -> None:
    monkeypatch.setattr("kedge.evaluation.page.MAX_DOTS", 50)
    judged(regression, None, REGRESSION)
    page = regression.store.get(evaluate.report_key("fraud", regression.bundle)).decode()
    assert "50 of 120 rows are drawn, at equal distances in time" in page
    assert page.count("h0") == 50


class Artefact:
    """A KFP artefact as a step sees it."""

    def __init__(self, path: Path) -> None:
        self.path, self.metrics, self.curve, self.matrix = str(path), {}, (), ()

    def log_metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def log_roc_curve(self, *columns: list[float]) -> None:
        self.curve = columns

    def log_confusion_matrix(self, *parts: list) -> None:
        self.matrix = parts


def test_the_step_hands_kfp_metrics_curve_and_page(good, tmp_path) -> None:
    parts = [Artefact(tmp_path / name) for name in ("metrics", "curve", "page.html")]
    passed = step.evaluate(good.asked.to_dict(), good.store.url, RUN, good.fingerprint, good.bundle, *parts)
    assert passed is True
    assert parts[0].metrics["rows"] == 300
    assert 0.7 < parts[0].metrics["roc_area"] <= 1
    assert parts[1].curve[0][0] == 0.0
    assert sum(map(sum, parts[1].matrix[1])) == 300
    page = (tmp_path / "page.html").read_text()
    assert "Passed every gate" in page
    assert "<script" not in page


def test_the_step_hands_kfp_the_errors_of_a_regression(regression, tmp_path) -> None:
    parts = [Artefact(tmp_path / name) for name in ("metrics", "curve", "page.html")]
    asked = REGRESSION.to_dict()
    assert step.evaluate(asked, regression.store.url, RUN, regression.fingerprint, regression.bundle, *parts)
    assert {"rmse", "mae", "r_squared", "constant_rmse", "constant_mae", "constant_r_squared"} <= set(parts[0].metrics)
    assert "champion_rmse" not in parts[0].metrics
    assert (parts[1].curve, parts[1].matrix) == ((), ())


def test_a_snapshot_that_is_not_there_leaves_a_record_of_the_failure(good, tmp_path) -> None:
    with pytest.raises(DataError, match="no snapshot"):
        step.evaluate(good.asked.to_dict(), good.store.url, RUN, "0" * 40, good.bundle, None, None, None)
    (finished,) = records.read(good.store, "fraud", records.RunFinished)
    assert (finished.data.state, finished.data.step, finished.data.exit_code) == ("failed", "evaluate", 2)
    assert "no snapshot" in finished.data.reason
    assert snapshot.load(good.store, "fraud", good.fingerprint).rows == 1500
