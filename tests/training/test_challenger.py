from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit

from kedge import policy as policies
from kedge.bundle import Signature
from kedge.bundle.estimators import XGBoost
from kedge.errors import DataError
from kedge.training import challenger as module
from kedge.training import estimators, fit_challenger
from kedge.training.challenger import WindowFits
from kedge.training.windows import member_weights
from tests.training import rows

START = datetime(2026, 1, 1, tzinfo=UTC)
CHANGE = 8000
"""Row from which on the relation is another one."""
CHANGED_AT = START + timedelta(minutes=CHANGE)


def old(x):
    return expit(2.2 * x[:, 0] - 1.6 * x[:, 1] + 1.2 * x[:, 2] * x[:, 3])


def new(x):
    return expit(-0.8 * x[:, 0] - 1.6 * x[:, 1] + 2.0 * x[:, 2] + 1.2 * x[:, 0] * x[:, 3])


def stream(count: int, *, seed: int = 0, change: int = CHANGE, task: str = "binary") -> pa.Table:
    """Five numbers, a row a minute; from ``change`` on the outcome follows another relation at once."""
    rng = np.random.default_rng(seed)
    x, chance = rng.normal(size=(count, 5)), rng.random(count)
    share = np.where(np.arange(count) < change, old(x), new(x))
    time = [START + timedelta(minutes=row) for row in range(count)]
    return pa.table(
        {
            **{f"x{place}": x[:, place] for place in range(5)},
            "y": (chance < share).astype(float) if task == "binary" else share + chance * 0.1,
            "_time": pa.array(time, pa.timestamp("us", tz="UTC")),
        }
    )


def policy(task: str = "binary", **train):
    features = {f"x{place}": {"type": "number"} for place in range(5)}
    return policies.parse(
        {
            "model": {"name": "m", "task": task, "target": "y", "features": features},
            "data": {"source": {"format": "csv", "location": "t.csv"}, "time_column": "t"},
            "train": {"threads": 1, "estimators": ["xgboost"], "xgboost": {"trees": 60}, **train},
        }
    )


def error(challenger, model, table) -> float:
    return float(np.mean((challenger.score(model, table) >= 0.5) != (table.column("y").to_numpy() > 0.5)))


@pytest.fixture(scope="module")
def followed():
    """A challenger of 2,000 rows after the change, and 4,000 later rows."""
    table = stream(CHANGE + 6000)
    return fit_challenger(policy(), table.slice(0, CHANGE + 2000), change_point=CHANGED_AT), table.slice(CHANGE + 2000)


@pytest.mark.parametrize("known", [True, False])
def test_after_a_change_it_is_nearly_a_model_of_the_newest_rows(followed, known: bool) -> None:
    challenger, later = followed
    if not known:
        challenger = fit_challenger(policy(), stream(CHANGE + 2000))
    alone = challenger.fits.model("xgboost", CHANGE, CHANGE + 2000)
    for model in (challenger.judged, challenger.final):
        assert error(challenger, model, later) <= error(challenger, alone, later) + 0.03


def test_at_most_half_of_the_rows_since_the_change_are_held_out_and_its_window_weighs_most(followed) -> None:
    challenger, _ = followed
    assert CHANGE + 1000 <= challenger.holdout_start <= CHANGE + 1500
    heaviest = max(challenger.windows, key=lambda window: window.weight)
    assert (heaviest.name, heaviest.rows) == ("since change", challenger.holdout_start - CHANGE)
    assert sum(window.weight for window in challenger.windows) == pytest.approx(1)


def test_where_no_change_is_known_the_weights_keep_the_holdout_from_swallowing_it() -> None:
    """A quarter of the 10,000 rows would leave none of the 2,000 since the change to learn from."""
    challenger = fit_challenger(policy(), stream(CHANGE + 2000))
    assert challenger.holdout_start >= CHANGE + 1000
    assert sum(window.weight for window in challenger.windows if window.rows <= 2000) > 0.9


def test_where_nothing_changed_all_rows_weigh_most_and_a_quarter_is_held_out() -> None:
    challenger = fit_challenger(policy(), stream(6000))
    assert challenger.holdout_start == 4500
    assert max(challenger.windows, key=lambda window: window.weight).name == "all"


def test_the_judged_fit_reads_no_outcome_that_was_not_due_when_the_holdout_began() -> None:
    delayed = policy().model_copy(update={"labels": policies.Labels(delay_seconds=400 * 60)})
    challenger = fit_challenger(delayed, stream(4000))
    assert max(window.rows for window in challenger.windows) == challenger.holdout_start - 399
    assert challenger.final is not challenger.judged


def test_the_served_fit_has_as_many_trees_as_the_judged_one() -> None:
    """Stopped anew it would be surer, or less sure, than the one that checks compare it with."""
    challenger = fit_challenger(policy(), stream(2000))
    assert challenger.final.num_boosted_rounds() == challenger.judged.num_boosted_rounds()


def test_rows_that_the_champion_was_trained_on_are_not_held_out() -> None:
    until = START + timedelta(minutes=5699)
    assert fit_challenger(policy(), stream(6000), champion_until=until).holdout_start == 5700


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("estimator", ["xgboost", "lightgbm", "catboost", "histogram", "linear"])
def test_both_fits_are_the_weighted_sum_of_members_that_end_where_they_should(task: str, estimator: str) -> None:
    table, asked = stream(3000, change=2000, task=task), policy(task, estimators=[estimator])
    challenger = fit_challenger(asked, table, change_point=START + timedelta(minutes=2000))
    start = challenger.holdout_start
    assert start == 2500
    weights = {window.name: weight for window, weight in challenger.weights.items()}
    for model, end in ((challenger.judged, start), (challenger.final, 3000)):
        starts = {"since change": 2000, "newest 500": end - 500, "newest 1000": end - 1000, "all": 0}
        raw = np.zeros(3000)
        for name, weight in weights.items():
            first = 2000 if starts[name] == 2000 else starts[name] - (end - start) * name.startswith("newest")
            member = challenger.fits.model(estimator, starts[name], end, (first, start))
            alone = challenger.fits.score(member, 0, 3000)
            raw += weight * (np.log(alone / (1 - alone)) if task == "binary" else alone)
        wanted = expit(raw) if task == "binary" else raw
        assert challenger.fits.score(model, 0, 3000) == pytest.approx(wanted, abs=1e-5)


def test_no_member_of_the_judged_fit_reads_the_holdout() -> None:
    """It only weighs them."""
    table = stream(2000)
    turned = table.column("y").to_numpy().copy()
    turned[1500:] = 1 - turned[1500:]
    first, second = (fit_challenger(policy(), each) for each in (table, table.set_column(5, "y", pa.array(turned))))
    assert first.holdout_start == second.holdout_start == 1500
    for start in (0, 1000):
        models = [each.fits.model("xgboost", start, 1500) for each in (first, second)]
        assert models[0].save_raw() == models[1].save_raw()
    assert first.weights != second.weights


def test_a_long_window_is_served_as_it_was_judged_and_a_short_one_is_fitted_through_the_newest_row(monkeypatch) -> None:
    monkeypatch.setattr(module, "LONG_WINDOW", 2000)
    monkeypatch.setattr(module, "LONG_SHARE", 4)
    made = fit_challenger(policy(estimators=["linear"]), stream(3000, change=3000))
    start = made.holdout_start
    assert {window.name for window in made.weights} == {"newest 500", "newest 1000", "all"}
    made.judged, made.final  # noqa: B018
    ends: dict[int, set[int]] = {}
    for first, last, *_ in made.fits._models:
        ends.setdefault(last - first, set()).add(last)
    assert ends[start] == {start}
    assert ends[1000] == {start, 2500, 3000}  # judged, weighed by the newest 500, served


@pytest.mark.parametrize(("half_life", "fits"), [(None, 1), (86_400.0, 2)])
def test_a_fit_that_few_rows_stopped_is_not_made_again_unless_the_newest_weigh_most(monkeypatch, half_life, fits):
    made = []
    fit = XGBoost.fit
    monkeypatch.setattr(XGBoost, "fit", lambda *given, **named: made.append(named) or fit(*given, **named))
    monkeypatch.setattr(estimators, "MAX_SELECTION_ROWS", 100)
    asked, table = policy(estimators=["xgboost"], half_life_seconds=half_life), stream(1500, change=2000)
    signature = Signature.of(asked.model, {})
    label, times = table["y"].to_numpy(), table["_time"].cast(pa.int64()).to_numpy()
    read = estimators.Rows(signature.encode(table), label, times)
    WindowFits(asked, signature, read, None).model("xgboost", 0, 1500)
    assert len(made) == fits
    made.clear()
    WindowFits(asked, signature, read, None).model("xgboost", 1, 1500)  # 100 are more than a fifteenth of these
    assert len(made) == 2


def test_the_same_rows_give_the_same_scores() -> None:
    table = stream(2000)
    first, second = (fit_challenger(policy(), table) for _ in range(2))
    assert first.weights == second.weights
    assert first.score(first.final, table).tolist() == second.score(second.final, table).tolist()


def test_fits_of_an_earlier_call_are_kept_and_change_nothing() -> None:
    cache: dict = {}
    table = stream(2500)
    fit_challenger(policy(), table.slice(0, 2000), cache=cache)
    kept = dict(cache)
    after, fresh = fit_challenger(policy(), table, cache=cache), fit_challenger(policy(), table)
    assert kept
    assert all(cache[key] is model for key, model in kept.items())
    assert after.score(after.judged, table).tolist() == fresh.score(fresh.judged, table).tolist()


def test_a_second_call_with_a_cache_fits_nothing(monkeypatch) -> None:
    cache: dict = {}
    table, asked = stream(2000), policy()
    first = fit_challenger(asked, table, cache=cache)
    scores = first.score(first.final, table), first.score(first.judged, table)
    monkeypatch.setattr(module, "attempt", None)
    again = fit_challenger(asked, table, cache=cache)
    assert (again.score(again.final, table) == scores[0]).all()
    assert (again.score(again.judged, table) == scores[1]).all()


def test_a_fit_is_of_its_own_categories() -> None:
    """A category that is new before others in the alphabet moves their codes."""
    table = rows.table(1200)
    country = table.column("country").to_pylist()
    country[1100:] = ["AA"] * 100
    newer = table.set_column(table.schema.get_field_index("country"), "country", pa.array(country))
    both = [each.append_column("_time", each.column("at")) for each in (table.slice(0, 1100), newer)]
    cache: dict = {}
    fit_challenger(rows.policy(), both[0], cache=cache)
    shared, fresh = (fit_challenger(rows.policy(), both[1], cache=each) for each in (cache, {}))
    assert shared.score(shared.judged, both[1]).tolist() == fresh.score(fresh.judged, both[1]).tolist()


def test_the_final_fit_is_made_when_it_is_asked_for() -> None:
    cache: dict = {}
    challenger = fit_challenger(policy(), stream(2000), cache=cache)
    assert challenger.judged is challenger.judged
    assert max(end for _, end, *_ in cache) == 1500
    assert challenger.final is challenger.final
    assert max(end for _, end, *_ in cache) == 2000


def test_a_window_with_one_class_is_left_out() -> None:
    table = stream(4000)
    label = table.column("y").to_numpy().copy()
    label[3000:3500] = 0.0  # those before the rows that weigh
    challenger = fit_challenger(policy(), table.set_column(5, "y", pa.array(label)))
    assert "newest 500" not in {window.name for window in challenger.weights}
    assert np.isfinite(challenger.score(challenger.final, table)).all()


def test_a_member_whose_window_has_one_class_in_one_fit_is_left_out_there() -> None:
    table = stream(4000)
    label = table.column("y").to_numpy().copy()
    label[2000:3300] = 0.0  # those before the holdout
    challenger = fit_challenger(policy(), table.set_column(5, "y", pa.array(label)))
    assert 2500 <= challenger.holdout_start <= 3300
    assert "newest 500" in {window.name for window in challenger.weights}
    assert "newest 500" not in {window.name for window in challenger.windows}
    assert sum(window.weight for window in challenger.windows) == pytest.approx(1)


def test_one_class_before_the_holdout_is_refused() -> None:
    table = stream(2000)
    label = np.where(np.arange(2000) < 1400, 1.0, 0.0)
    with pytest.raises(DataError, match="rows: one class only: all of the 1,200 oldest rows of 'y' are positive"):
        fit_challenger(policy(), table.set_column(5, "y", pa.array(label)))


@pytest.mark.parametrize("count", [8, 50, 200])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_tiny_table_has_one_member(count: int, task: str) -> None:
    table = stream(count, task=task, seed=3)
    challenger = fit_challenger(policy(task), table, change_point=START + timedelta(minutes=count - 5))
    assert [window.name for window in challenger.windows] == ["all"]
    assert challenger.holdout_start == count - count // 4
    for model in (challenger.judged, challenger.final):
        assert np.isfinite(challenger.score(model, table)).all()


def test_a_change_point_beyond_the_rows_is_no_window() -> None:
    for time in (START - timedelta(days=1), START + timedelta(days=365)):
        challenger = fit_challenger(policy(), stream(2000), change_point=time)
        assert "since change" not in {window.name for window in challenger.windows}


def test_weights_fall_by_a_factor_of_e_with_each_twenty_nats() -> None:
    weights = member_weights("binary", np.array([[30.0, 10.0], [40.0, 20.0], [500.0, 0.0]]))
    assert weights == pytest.approx([np.e / (np.e + 1), 1 / (np.e + 1), 0.0])


def test_weights_of_a_regression_are_in_units_of_the_best_members_error() -> None:
    """Mean squared errors 4 and 8 on two rows: 8 / 8 and 16 / 8 nats, 1 apart."""
    weights = member_weights("regression", np.array([[4.0, 4.0], [8.0, 8.0]]))
    assert weights == pytest.approx(np.array([1, np.exp(-0.05)]) / (1 + np.exp(-0.05)))
    assert member_weights("regression", np.array([[0.0, 0.0], [0.0, 0.0]])).tolist() == [0.5, 0.5]
    assert member_weights("regression", np.array([[0.0, 0.0], [0.0, 1.0]])).tolist() == [1.0, 0.0]


def test_the_fits_agree_where_nothing_changed_and_not_where_the_holdout_is_another_world() -> None:
    usual = fit_challenger(policy(), stream(4000)).agreement
    assert usual.difference < usual.bound == pytest.approx(0.25, abs=0.001)
    turned = stream(4000)
    label = turned.column("y").to_numpy().copy()
    label[3000:] = 1 - label[3000:]
    other = fit_challenger(policy(), turned.set_column(5, "y", pa.array(label))).agreement
    assert other.difference > usual.difference


def test_the_manifest_says_which_rows_both_fits_read(followed) -> None:
    challenger, _ = followed
    fits = challenger.rows_read()
    assert fits.holdout is not None
    start = challenger.holdout_start
    assert (fits.holdout.start, fits.holdout.rows) == (START + timedelta(minutes=start), CHANGE + 2000 - start)
    assert fits.trained_until == START + timedelta(minutes=CHANGE + 1999)
    assert fits.change_point == CHANGED_AT
    assert fits.windows == challenger.windows


@pytest.mark.parametrize("estimator", ["xgboost", "lightgbm"])
def test_fits_side_by_side_are_those_made_one_after_another(estimator: str) -> None:
    table = stream(2000)
    scores = []
    for threads in (1, 3):
        made = fit_challenger(policy(estimators=[estimator], threads=threads), table)
        scores.append(made.score(made.final, table).tolist())
    assert scores[0] == scores[1]
