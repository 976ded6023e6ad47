"""What is called drift and what is not; what bad input gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import drift
from kedge.drift import Feature
from kedge.drift.compare import drifted_importance
from kedge.drift.html_view import drift_page, worst_first
from kedge.errors import DataError

N = 5000


def table(rng, n=N, **changed):
    """Rows without drift, with some columns replaced."""
    start = datetime(2026, 1, 5, tzinfo=UTC)
    minutes = rng.integers(0, 14, n) * 1440 + rng.normal(14 * 60, 120, n).clip(0, 1439).astype(int)
    columns = {
        "number": rng.standard_normal(n),
        "heavy": rng.standard_cauchy(n),
        "flag": rng.random(n) < 0.3,
        "text": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
        "time": [start + timedelta(minutes=int(m)) for m in minutes],
        "same": np.full(n, 7.0),
    }
    return pa.record_batch({name: pa.array(values) for name, values in {**columns, **changed}.items()})


@pytest.fixture(scope="module")
def reference():
    return drift.build([table(np.random.default_rng(0), 20_000)], dependence=True)


def against(reference, batch, **options):
    return drift.compare(reference, drift.count(reference, [batch]), **options)


def test_quiet_windows_are_quiet(reference):
    rng = np.random.default_rng(1)
    alarms = sum(bool(against(reference, table(rng)).drifted) for _ in range(30))
    assert alarms <= 5  # 1.5 expected at alpha 0.05; six or more would come once in 300 runs of this seed's like


def test_a_shift_of_a_tenth_of_a_deviation_is_found(reference):
    rng = np.random.default_rng(2)
    found = sum(
        "number" in against(reference, table(rng, number=rng.standard_normal(N) + 0.1)).drifted for _ in range(20)
    )
    assert found >= 19


def test_a_sure_but_trivial_shift_is_not_called():
    rng = np.random.default_rng(3)
    known = drift.build([pa.record_batch({"x": rng.standard_normal(400_000)})])
    feature = against(known, pa.record_batch({"x": rng.standard_normal(400_000) + 0.015})).features["x"]
    assert feature.q_value < 0.05
    assert not feature.drifted


def test_only_the_spread_changing_is_found(reference):
    rng = np.random.default_rng(4)
    assert against(reference, table(rng, number=1.3 * rng.standard_normal(N))).drifted == ["number"]


def test_new_missing_values_are_called_by_that_name(reference):
    rng = np.random.default_rng(5)
    values = pa.array(rng.standard_normal(N), mask=rng.random(N) < 0.3)
    feature = against(reference, table(rng, number=values)).features["number"]
    assert feature.reasons == ("missing values",)
    assert feature.null_rate == pytest.approx(0.3, abs=0.03)


def test_a_new_category_at_two_percent_is_named(reference):
    rng = np.random.default_rng(6)
    texts = np.where(rng.random(N) < 0.02, "zz", rng.choice(["a", "b", "c"], N, p=[0.6, 0.3, 0.1]))
    feature = against(reference, table(rng, text=texts)).features["text"]
    assert "new categories" in feature.reasons
    assert feature.new_category_share == pytest.approx(0.02, abs=0.01)
    assert "'zz'" in feature.note


def test_an_outlier_in_the_reference_hides_nothing():
    rng = np.random.default_rng(7)
    values = rng.standard_normal(N)
    values[3] = 1e12
    known = drift.build([pa.record_batch({"x": values})])
    assert against(known, pa.record_batch({"x": rng.standard_normal(N)})).drifted == []
    assert against(known, pa.record_batch({"x": rng.standard_normal(N) + 0.5})).drifted == ["x"]


def test_infinities_are_called_when_they_are_many(reference):
    rng = np.random.default_rng(8)
    values = np.where(rng.random(N) < 0.02, np.inf, rng.standard_normal(N))
    comparison = against(reference, table(rng, number=values))
    assert comparison.features["number"].reasons == ("infinities",)
    assert comparison.features["number"].infinite_share == pytest.approx(0.02, abs=0.01)


def test_a_constant_column_passes_while_constant_and_is_called_when_it_moves(reference):
    rng = np.random.default_rng(9)
    assert "same" not in against(reference, table(rng)).drifted
    moved = against(reference, table(rng, same=np.full(N, 8.0))).features["same"]
    assert moved.drifted
    assert "range" in moved.reasons


def test_a_column_all_missing_now_is_called_and_one_always_missing_passes(reference):
    rng = np.random.default_rng(10)
    assert against(reference, table(rng, number=pa.nulls(N, pa.float64()))).features["number"].reasons == (
        "missing values",
    )
    empty = drift.build([pa.record_batch({"x": pa.nulls(500, pa.float64())})])
    assert against(empty, pa.record_batch({"x": pa.nulls(500, pa.float64())})).drifted == []
    assert against(empty, pa.record_batch({"x": rng.standard_normal(500)})).drifted == ["x"]


def test_times_passed_on_by_a_time_zone_are_called_and_later_weeks_are_not(reference):
    rng = np.random.default_rng(11)
    quiet = table(rng)
    times = np.array(quiet.column("time").to_pylist())
    assert "time" in against(reference, table(rng, time=times + timedelta(hours=5))).drifted
    later = against(reference, table(rng, time=times + timedelta(weeks=4)))
    assert "time" not in later.drifted
    seen = later.features["time"]  # what is shown is what was tested
    assert abs(seen.psi_debiased) < 0.05
    assert (seen.ks, seen.out_of_range_share) == (None, None)
    assert "another period" in seen.note


def test_the_same_instants_in_another_zone_are_no_drift_but_noted(reference):
    rng = np.random.default_rng(12)
    moved = table(rng).column("time").cast(pa.timestamp("us", tz="Asia/Tokyo"))
    feature = against(reference, table(rng, time=moved)).features["time"]
    assert not feature.drifted
    assert "Asia/Tokyo" in feature.note


def test_a_changed_type_is_called_by_name_never_counted_as_nothing(reference):
    rng = np.random.default_rng(13)
    feature = against(reference, table(rng, number=[str(k) for k in range(N)])).features["number"]
    assert feature.verdict == "type changed"
    assert feature.drifted
    assert feature.note == "was double, is string"


def test_wider_numbers_are_no_change_of_type(reference):
    rng = np.random.default_rng(14)
    feature = against(reference, table(rng, number=rng.standard_normal(N).astype(np.float32))).features["number"]
    assert not feature.drifted


def test_a_missing_column_is_called_and_its_likely_new_name_said(reference):
    batch = table(np.random.default_rng(15))
    renamed = batch.rename_columns(["Number_" if name == "number" else name for name in batch.schema.names])
    comparison = against(reference, renamed)
    assert comparison.features["number"].verdict == "missing"
    assert comparison.features["number"].drifted
    assert comparison.features["number"].note == "renamed to 'Number_'?"
    assert dict(comparison.extra) == {"Number_": "double"}


def test_mixed_schemas_over_files_are_a_verdict(reference):
    rng = np.random.default_rng(16)
    whole, part = table(rng), table(rng, 1000).drop_columns(["number"])
    odd = table(rng, 1000, heavy=["x"] * 1000)
    comparison = drift.compare(reference, drift.count(reference, [whole, part, odd]))
    assert comparison.features["number"].verdict == "missing in some rows"
    assert comparison.features["number"].note == "1,000 of 7,000 rows come from files without it"
    assert comparison.features["heavy"].verdict == "type changed"


def test_too_few_rows_is_not_no_drift(reference):
    rng = np.random.default_rng(17)
    comparison = against(reference, table(rng, 100, number=rng.standard_normal(100) + 9))
    assert comparison.verdict == "too few rows"
    assert comparison.drifted == []
    assert against(reference, table(rng, 100, number=rng.standard_normal(100) + 9), min_rows=50).drifted == ["number"]


def test_an_empty_window_is_too_few_rows_and_every_number_is_json(reference):
    comparison = drift.compare(reference, drift.count(reference, []))
    assert comparison.verdict == "too few rows"
    assert comparison.rows == 0
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_json_has_the_promised_keys(reference):
    body = against(reference, table(np.random.default_rng(18))).to_dict()
    assert {"rows", "drifted", "features"} <= set(body)
    tests = ["drifted", "p_value", "q_value", "null_rate", "new_category_share"]
    promised = {*tests, "psi", "psi_debiased", "ks", "js", "wasserstein"}
    assert all(promised <= set(feature) for feature in body["features"].values())
    json.dumps(body, allow_nan=False)


def test_monotone_transforms_of_both_samples_change_no_test_and_no_share():
    rng = np.random.default_rng(19)
    first, second = rng.standard_normal(4096), rng.standard_normal(3000) + 0.1
    found = []
    for transform in (lambda x: x, lambda x: 8 * x, np.exp, lambda x: x**3):
        known = drift.build([pa.record_batch({"x": transform(first)})])
        found.append(against(known, pa.record_batch({"x": transform(second)})).features["x"])
    for feature in found[1:]:
        assert feature.ks == pytest.approx(found[0].ks, abs=0.01)
        assert feature.psi == pytest.approx(found[0].psi, rel=0.2)
        assert np.log10(feature.p_value) == pytest.approx(np.log10(found[0].p_value), abs=1)


def test_a_changed_correlation_with_the_same_marginals_is_found_only_by_pairs():
    rng = np.random.default_rng(20)

    def normal(n, correlation):
        x, y, z = rng.standard_normal((3, n))
        return pa.record_batch({"x": x, "y": correlation * x + np.sqrt(1 - correlation**2) * y, "z": z})

    known = drift.build([normal(20_000, 0.6)], dependence=True)
    changed = against(known, normal(N, 0.3))
    assert changed.drifted == []
    assert [(pair.first, pair.second) for pair in changed.pairs] == [("x", "y")]
    assert changed.pairs[0].reference_correlation == pytest.approx(0.58, abs=0.05)
    quiet = sum(bool(against(known, normal(N, 0.6)).pairs) for _ in range(40))
    assert quiet <= 5


def test_pairs_of_chosen_columns_alone_are_compared_and_dependent_rows_count_for_less():
    rng = np.random.default_rng(26)

    def normal(n, tied):
        x, y, z = rng.standard_normal((3, n))
        y, z = (tied * x + np.sqrt(1 - tied**2) * other for other in (y, z))
        return pa.record_batch({"x": x, "y": y, "z": z})

    known = drift.build([normal(10_000, 0.6)], dependence=True).select(["z", "x"])
    window = normal(N, 0.3)
    assert [(pair.first, pair.second) for pair in against(known, window).pairs] == [("x", "z")]
    assert against(known, window, design_effects={"x": 1000.0}).pairs == ()
    assert known.select(["x"]).dependence is None


def test_pairs_of_a_number_and_a_category_are_compared():
    rng = np.random.default_rng(21)

    def draw(n, tied):
        codes = rng.integers(0, 3, n)
        other = codes if tied else rng.integers(0, 3, n)
        return pa.record_batch({"x": rng.standard_normal(n) + codes, "c": pa.array([f"v{k}" for k in other])})

    known = drift.build([draw(10_000, tied=True)], dependence=True)
    assert against(known, draw(N, tied=True)).pairs == ()
    assert [(pair.first, pair.second) for pair in against(known, draw(N, tied=False)).pairs] == [("x", "c")]


def test_drifted_importance_is_the_share_of_importance_that_drifted(reference):
    rng = np.random.default_rng(22)
    drifted = table(rng, number=rng.standard_normal(N) + 1)
    importance = {"number": 0.01, "heavy": 0.99}
    assert against(reference, drifted, importance=importance).drifted_importance == pytest.approx(0.01)
    assert against(reference, drifted).drifted_importance == pytest.approx(1 / 6)
    assert drifted_importance({"_score": Feature(kind="number", drifted=True)}, None) == 0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_importance_must_be_a_weight(weight):
    with pytest.raises(DataError, match="finite and not negative"):
        drifted_importance({"x": Feature(kind="number")}, {"x": weight})


def test_a_profile_not_counted_on_the_reference_is_refused(reference):
    other = drift.build([table(np.random.default_rng(23))])
    with pytest.raises(DataError, match="not counted on this reference"):
        drift.compare(reference, other)


def test_the_page_shows_every_column_worst_first(reference):
    rng = np.random.default_rng(25)
    current = drift.count(reference, [table(rng, number=rng.standard_normal(N) + 1)])
    comparison = drift.compare(reference, current)
    page = drift_page(comparison, reference, current)
    assert worst_first(comparison)[0] == "number"
    assert page.index("<b>number</b>") < page.index("<b>heavy</b>")
    assert page.count("<b>") == len(reference.columns)


def test_a_page_of_two_hundred_columns_stays_below_two_megabytes():
    rng = np.random.default_rng(26)
    wide = pa.record_batch({f"column {k}": rng.standard_normal(300) for k in range(200)})
    known = drift.build([wide])
    counted = drift.count(known, [wide])
    assert len(drift_page(drift.compare(known, counted), known, counted)) < 2_000_000


def test_the_page_draws_every_column_before_it_lists_them_the_drifted_first():
    rng = np.random.default_rng(8)
    quiet = {f"c{k}": rng.standard_normal(1000) for k in range(200)}
    known = drift.build([pa.record_batch(quiet)])
    counted = drift.count(known, [pa.record_batch({**quiet, "c77": quiet["c77"] + 1})])
    page = drift_page(drift.compare(known, counted), known, counted)
    assert page.count("<figure") == 200
    assert page.index("<b>c77</b>") < page.index("<b>c0</b>") < page.index("<h2>Columns</h2>")
    assert "PSI -0.000" not in page


def test_a_page_of_many_columns_folds_the_quiet_ones_and_names_categories_and_units():
    rng = np.random.default_rng(9)
    quiet = {f"c{k}": rng.standard_normal(1000) for k in range(200)}
    lasted = pa.array(rng.integers(0, 5000, 1000), pa.duration("ms"))
    known = drift.build([pa.record_batch({**quiet, "land": ["at", "de"] * 500, "lasted": lasted})])
    counted = drift.count(known, [pa.record_batch({**quiet, "land": ["at", "at", "at", "de"] * 250, "lasted": lasted})])
    page = drift_page(drift.compare(known, counted), known, counted)
    shown, _, folded = page.partition("<details>")
    assert "at 50% → 75%, de 50% → 25%" in shown
    assert "<b>c0</b>" not in shown
    assert "201 columns did not drift" in folded
    assert "<b>lasted</b>" in folded
    assert "seconds" in folded
    assert "<details>" not in drift_page(drift.compare(known.select(["c0"]), counted.select(["c0"])), known, counted)


def test_the_page_names_no_category_of_less_than_a_percent():
    ids = [f"order-{k}" for k in range(1000)]
    known = drift.build([pa.record_batch({"id": ids})])
    counted = drift.count(known, [pa.record_batch({"id": ids[:900] + ["other"] * 100})])
    page = drift_page(drift.compare(known, counted), known, counted)
    caption = page[page.index("<b>id</b>") :].partition("</figcaption>")[0]
    assert "order-" not in caption
    assert "(others)" in caption
