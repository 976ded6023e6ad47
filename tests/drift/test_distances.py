"""Distances against scipy on the values themselves, and what they are without drift."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from kedge import drift
from kedge.drift import distances

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(lambda counts: sum(counts) > 0)


def batch(values):
    return [pa.record_batch({"x": pa.array(values)})]


def measured(reference, current):
    known = drift.build(batch(reference))
    return known, drift.compare(known, drift.count(known, batch(current)), min_rows=1).features["x"]


@given(COUNTS, st.data())
def test_symmetric_distances_are_symmetric_zero_at_home_and_blind_to_the_order_of_cells(counts, data):
    other = data.draw(st.lists(st.integers(0, 1000), min_size=len(counts), max_size=len(counts)).filter(any))
    order = data.draw(st.permutations(range(len(counts))))
    for distance in (distances.psi, distances.jensen_shannon, distances.hellinger):
        assert distance(counts, counts) == pytest.approx(0, abs=1e-7)
        assert distance(counts, other) == pytest.approx(distance(other, counts), abs=1e-12)
        shuffled = distance([counts[k] for k in order], [other[k] for k in order])
        assert shuffled == pytest.approx(distance(counts, other), abs=1e-7)
    assert distances.kullback_leibler(counts, other) >= -1e-12


@given(COUNTS, st.data())
def test_jensen_shannon_and_kullback_leibler_are_scipys(counts, data):
    other = data.draw(st.lists(st.integers(0, 1000), min_size=len(counts), max_size=len(counts)).filter(any))
    r, c = np.array(counts), np.array(other)
    assert distances.jensen_shannon(r, c) == pytest.approx(np.nan_to_num(jensenshannon(r, c)), abs=1e-6)
    assert distances.kullback_leibler(r, c) == pytest.approx(stats.entropy(c + 0.5, r + 0.5), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
def test_ks_is_scipys_within_the_largest_bin(draw, shift):
    rng = np.random.default_rng(0)
    reference, current = getattr(rng, draw)(20_000), getattr(rng, draw)(8000) + shift
    known, feature = measured(reference, current)
    exact = stats.ks_2samp(reference, current).statistic
    edges = known.columns["x"].edges
    largest = max(np.histogram(current, [-np.inf, *edges, np.inf])[0].max() / 8000, 2 / 64)
    assert exact - largest <= feature.ks <= exact + 1e-12


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0, 3.0])
def test_wasserstein_is_scipys_within_a_tenth(shift):
    rng = np.random.default_rng(1)
    reference, current = rng.standard_normal(20_000), rng.standard_normal(8000) + shift
    _, feature = measured(reference, current)
    assert feature.wasserstein == pytest.approx(stats.wasserstein_distance(reference, current), rel=0.1, abs=0.02)


def test_wasserstein_of_few_values_is_exact():
    rng = np.random.default_rng(2)
    reference, current = rng.poisson(3, 5000), rng.poisson(4, 3000)
    current = np.minimum(current, reference.max())
    _, feature = measured(reference, current)
    assert feature.wasserstein == pytest.approx(stats.wasserstein_distance(reference, current), rel=1e-9)


def test_one_absurd_value_does_not_decide_the_wasserstein_distance():
    rng = np.random.default_rng(3)
    reference, current = rng.standard_normal(5000), rng.standard_normal(5000) + 0.5
    reference[7] = 1e12
    _, feature = measured(reference, current)
    assert 0.4 < feature.wasserstein < 0.8
    assert feature.drifted


def test_psi_of_a_tenth_of_a_deviation_is_a_hundredth():
    rng = np.random.default_rng(4)
    _, feature = measured(rng.standard_normal(200_000), rng.standard_normal(200_000) + 0.1)
    assert feature.psi_debiased == pytest.approx(0.01, abs=0.002)


def test_distances_without_drift_are_as_foretold():
    rng = np.random.default_rng(5)
    shares, m, n = np.full(16, 1 / 16), 4000, 1500
    drawn = [(rng.multinomial(m, shares), rng.multinomial(n, shares)) for _ in range(800)]
    for distance, foretold in (
        (distances.psi, distances.psi_without_drift(16, m, n)),
        (distances.kullback_leibler, distances.kullback_leibler_without_drift(16, m, n)),
        (distances.hellinger, distances.root_distance_without_drift(16, m, n)),
        (distances.jensen_shannon, distances.root_distance_without_drift(16, m, n)),
    ):
        found = np.array([distance(r, c) for r, c in drawn])
        assert found.mean() == pytest.approx(foretold.mean, rel=0.06)
        assert 0.92 < np.mean((found >= foretold.low) & (found <= foretold.high)) < 0.98
    debiased = [distances.debiased_psi(r, c)[0] for r, c in drawn]
    assert np.mean(debiased) == pytest.approx(0, abs=3 * np.std(debiased) / np.sqrt(800) + 2e-4)


def test_ks_without_drift_is_as_foretold():
    rng = np.random.default_rng(6)
    m, n, edges = 3000, 1000, np.linspace(0, 1, 65)
    ks = []
    for _ in range(400):
        r, c = (np.histogram(rng.random(size), edges)[0] for size in (m, n))
        ks.append(distances.kolmogorov_smirnov(r, c))
    foretold = distances.kolmogorov_smirnov_without_drift(m, n)
    assert np.mean(ks) == pytest.approx(foretold.mean, rel=0.1)
    assert np.mean(np.array(ks) <= foretold.high) > 0.96


@given(COUNTS)
def test_grouping_keeps_every_row(counts):
    r, c = distances.grouped(counts, counts[::-1])
    assert r.sum() == sum(counts)
    assert c.sum() == sum(counts)
    assert len(r) <= distances.MAX_GROUPS
