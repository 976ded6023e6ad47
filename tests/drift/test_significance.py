"""Tests of significance against scipy, values worked by hand, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kedge.drift import significance

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(st.floats(0, 2000), st.integers(1, 400))
def test_chi_square_tail_is_scipys(statistic, degrees):
    assert significance.chi_square_tail(statistic, degrees) == pytest.approx(
        stats.chi2.sf(statistic, degrees), rel=1e-8, abs=1e-290
    )


@given(COUNTS)
def test_scores_are_orthonormal_under_the_counts(counts):
    counts = np.array(counts, float) + 1
    degree = min(4, len(counts) - 1)
    scores = significance.orthonormal_scores(counts, degree)
    share = counts / counts.sum()
    assert share @ scores == pytest.approx(np.zeros(degree), abs=1e-9)
    assert scores.T @ (scores * share[:, None]) == pytest.approx(np.eye(degree), abs=1e-9)


def test_smooth_test_of_two_bins_is_the_chi_square_of_the_table():
    expected = stats.chi2_contingency([[50, 50], [35, 65]], correction=False).statistic * 199 / 200
    assert significance.smooth_test([50, 50], [35, 65]) == pytest.approx(stats.chi2.sf(expected, 1))


@given(COUNTS, st.data())
def test_smooth_test_does_not_care_which_sample_is_which_nor_which_way_bins_run(counts, data):
    other = data.draw(st.lists(st.integers(0, 500), min_size=len(counts), max_size=len(counts)))
    p = significance.smooth_test(counts, other)
    swapped = significance.smooth_test(other, counts)
    mirrored = significance.smooth_test(counts[::-1], other[::-1])
    if p is None:
        assert swapped is None
        assert mirrored is None
    else:
        assert swapped == pytest.approx(p, rel=1e-6, abs=1e-12)
        assert mirrored == pytest.approx(p, rel=1e-6, abs=1e-12)


def test_smooth_test_keeps_its_level_and_wastes_little_of_it_when_both_samples_are_random():
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    p = np.array(
        [significance.smooth_test(rng.multinomial(300, shares), rng.multinomial(900, shares)) for _ in range(4000)]
    )
    for level in (0.01, 0.05, 0.2):
        assert 0.6 * level < np.mean(p <= level) < level + 2 * math.sqrt(level / 4000)


def test_smooth_test_is_twice_the_smaller_of_the_rank_sum_test_and_four_components():
    counts, other = np.full(8, 50), np.array([62, 60, 55, 52, 48, 45, 40, 38])
    ranks = np.repeat(np.arange(8), counts), np.repeat(np.arange(8), other)
    rank_sum = stats.mannwhitneyu(*ranks, use_continuity=False, method="asymptotic").pvalue
    assert significance.smooth_test(counts, other) == pytest.approx(2 * rank_sum, rel=1e-6)
    assert significance.smooth_test(counts, [80, 50, 35, 35, 35, 35, 50, 80]) < 0.001  # same mean rank, wider


def test_homogeneity_is_scipys_but_for_the_exact_mean():
    table = [[50, 30, 20], [30, 30, 60]]
    expected = stats.chi2_contingency(table).statistic * 219 / 220
    assert significance.homogeneity_test(*table) == pytest.approx(stats.chi2.sf(expected, 2))


@pytest.mark.parametrize("test", [significance.smooth_test, significance.homogeneity_test])
@pytest.mark.parametrize(("reference", "current"), [([0, 0], [1, 2]), ([5, 0], [3, 0]), ([1, 2], [0, 0])])
def test_nothing_to_compare_gives_no_p_value(test, reference, current):
    assert test(reference, current) is None


def test_a_design_effect_of_two_halves_the_statistic():
    p = significance.smooth_test([50, 50], [35, 65], design_effect=2)
    statistic = stats.chi2.isf(significance.smooth_test([50, 50], [35, 65]), 1)
    assert p == pytest.approx(stats.chi2.sf(statistic / 2, 1))


def test_sparse_categories_are_pooled_with_the_rest():
    r, c = significance.pooled_cells([1000, 5, 4], [1000, 3, 6], (2, 1))
    assert r.tolist() == [1000, 11]
    assert c.tolist() == [1000, 10]


def test_categories_named_by_a_lucky_reference_count_are_pooled():
    """1,000 of 20,000 equally rare values named for their reference count: their current counts regress."""
    rng = np.random.default_rng(0)
    r, c = rng.poisson(10, 20_000), rng.poisson(10, 20_000)
    named = np.argsort(-r)[:1000]
    rest = int(r.sum() - r[named].sum()), int(c.sum() - c[named].sum())
    naive = significance.homogeneity_test(*significance.pooled_cells(r[named], c[named], rest))
    floor = significance.safe_floor(int(r[named].min()), int(r.sum()), int(c.sum()))
    safe = significance.homogeneity_test(*significance.pooled_cells(r[named], c[named], rest, floor=floor))
    assert naive < 1e-10
    assert safe is None or safe > 0.01


@given(st.integers(0, 30), st.integers(0, 30), st.integers(30, 200), st.integers(30, 200))
def test_share_increase_is_fishers_exact_test(k, j, m, n):
    found = significance.share_increase_test(k, m, j, n)
    if k + j == 0:
        assert found is None
    else:
        expected = stats.fisher_exact([[j, n - j], [k, m - k]], alternative="greater").pvalue
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_share_increase_of_many_rows_is_close_to_the_exact_test():
    found = significance.share_increase_test(5000, 50_000, 5200, 50_000)
    assert found == pytest.approx(stats.hypergeom.sf(5199, 100_000, 10_200, 50_000), rel=0.02)


def test_outside_test_is_the_chance_that_the_top_rows_are_all_current():
    assert significance.outside_test(100, 3, 50) == pytest.approx(stats.hypergeom.pmf(3, 150, 3, 50))
    assert significance.outside_test(1000, 40, 500) == pytest.approx(stats.hypergeom.pmf(40, 1500, 40, 500))
    assert significance.outside_test(100, 0, 50) == 1


def test_outside_test_keeps_its_level_for_any_distribution():
    rng = np.random.default_rng(2)
    p = []
    for _ in range(2000):
        reference, current = rng.standard_cauchy(200), rng.standard_cauchy(100)
        p.append(significance.outside_test(200, int((current > reference.max()).sum()), 100))
    assert np.mean(np.array(p) <= 0.05) <= 0.06


def test_values_never_seen_are_expected_where_the_reference_has_many_seen_once():
    assert significance.unseen_test(singletons=500, m=1000, new=480, n=1000) > 0.3
    assert significance.unseen_test(singletons=5, m=1000, new=480, n=1000) < 1e-12
    assert significance.unseen_test(singletons=0, m=1000, new=0, n=1000) is None


def test_unseen_test_keeps_its_level_on_zipf_values():
    rng = np.random.default_rng(3)
    shares = 1 / np.arange(1, 3001)
    cumulative = np.cumsum(shares / shares.sum())
    below = 0
    for _ in range(400):
        r = np.bincount(np.searchsorted(cumulative, rng.random(2000)), minlength=3001)
        c = np.bincount(np.searchsorted(cumulative, rng.random(1000)), minlength=3001)
        p = significance.unseen_test(int((r == 1).sum()), 2000, int(c[r == 0].sum()), 1000)
        below += p <= 0.05
    assert below / 400 <= 0.08


def test_q_values_are_scipys():
    p = [0.001, 0.2, 0.03, 0.9, 0.04, 0.04]
    assert significance.false_discovery_q_values(p) == pytest.approx(stats.false_discovery_control(p).tolist())


@given(st.lists(st.floats(0, 1), max_size=30))
def test_q_values_are_no_smaller_than_p_values_and_keep_their_order(p):
    q = significance.false_discovery_q_values(p)
    assert all(a >= b * (1 - 1e-12) for a, b in zip(q, p, strict=True))
    order = np.argsort(p)
    assert (np.diff(np.array(q)[order]) >= -1e-12).all()
