"""The e-processes against values worked by hand and by scipy, and against the promise: valid over all looks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from kedge.rollout import sequential
from kedge.rollout.sequential import average, two_means, two_quantiles, two_rates

ALPHA = 0.1
LIMIT = math.log(1 / ALPHA)


def max_false_alarms(runs: int) -> int:
    """More than so many of the runs would refute a false alarm rate of ALPHA at the 0.1 % level."""
    return int(stats.binom.ppf(0.999, runs, ALPHA))


def likelihood(p, bad, rows):
    return p**bad * (1 - p) ** (rows - bad)


def test_rates_are_the_mixture_likelihood_over_the_largest_under_the_null():
    bad, rows, champion_bad, champion_rows, margin = 6, 12, 3, 20, 0.05
    prior = stats.beta(0.5, 0.5)
    mixtures = [
        integrate.quad(lambda p, b=b, n=n: likelihood(p, b, n) * prior.pdf(p), 0, 1)[0]
        for b, n in ((bad, rows), (champion_bad, champion_rows))
    ]

    def null(q):
        return -likelihood(q + margin, bad, rows) * likelihood(q, champion_bad, champion_rows)

    largest = -optimize.minimize_scalar(null, bounds=(0, 1 - margin), method="bounded").fun
    expected = math.log(mixtures[0] * mixtures[1] / largest)
    assert two_rates(bad, rows, champion_bad, champion_rows, margin) == pytest.approx(expected, rel=1e-5)


def test_one_failure_of_one_request_by_hand():
    # KT(1 of 1) = 1/2, KT(0 of 1) = 1/2; the likeliest equal rate is 1/2, with likelihood 1/4
    assert two_rates(1, 1, 0, 1, 0.0) == pytest.approx(math.log((1 / 2) * (1 / 2) / (1 / 4)))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 500), st.integers(0, 500), st.floats(0, 0.5))
def test_rates_within_the_margin_never_speak_against_the_candidate(bad, good, champion_bad, champion_good, margin):
    rows, champion_rows = bad + good, champion_bad + champion_good
    if rows and champion_rows and bad / rows > champion_bad / champion_rows + margin:
        return
    assert two_rates(bad, rows, champion_bad, champion_rows, margin) <= 1e-9


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.floats(0, 0.3))
def test_a_wider_margin_is_never_harder_on_the_candidate(bad, good, champion_bad, champion_good, margin):
    counts = bad, bad + good, champion_bad, champion_bad + champion_good
    assert two_rates(*counts, margin + 0.1) <= two_rates(*counts, margin) + 1e-6


def test_nothing_counted_is_no_evidence():
    assert (
        two_rates(0, 0, 0, 0, 0.0)
        == two_quantiles({}, {}, 2.0)
        == two_means([], 0.0)
        == two_means([losses(0, 0, 0, 0, 0, 0)], 0.0)
        == 0.0
    )
    assert two_rates(50, 50, 0, 0, 0.0) == 0.0


def test_quantile_is_judged_at_the_champions_own_tail():
    champion = {1.0: 900, 2.0: 90, 4.0: 10, 8.0: 0, 16.0: 0}
    twice = {1.0: 0, 2.0: 90, 4.0: 10, 8.0: 0, 16.0: 0}
    slow = {1.0: 0, 2.0: 0, 4.0: 0, 8.0: 50, 16.0: 50}
    assert two_quantiles(twice, champion, 2.0) < 0
    assert two_quantiles(slow, champion, 2.0) > LIMIT
    assert two_quantiles(slow, champion, 8.0) < 0
    assert two_quantiles(slow, slow, 1.0) < 0


def losses(rows, mean, variance, champion_rows, champion_mean, champion_variance):
    return sequential.Losses(
        rows=rows,
        mean=mean,
        variance=variance,
        champion_rows=champion_rows,
        champion_mean=champion_mean,
        champion_variance=champion_variance,
    )


def test_means_follow_the_half_normal_mixture():
    rows, champion_rows, mean, champion_mean, variance = 200, 400, 1.5, 1.0, 2.0
    spread, prior = variance / rows + variance / champion_rows, math.sqrt(variance) / 2

    def ratio(effect):
        d = mean - champion_mean
        return stats.norm.pdf(d, effect, math.sqrt(spread)) / stats.norm.pdf(d, 0, math.sqrt(spread))

    expected = integrate.quad(lambda m: ratio(m) * 2 * stats.norm.pdf(m, 0, prior), 0, 10 * prior)[0]
    seen = two_means([losses(rows, mean, variance, champion_rows, champion_mean, variance)], 0.0)
    assert seen == pytest.approx(math.log(expected), rel=1e-6)


def test_means_far_on_the_good_side_do_not_overflow():
    assert two_means([losses(10_000, 0.0, 1.0, 10_000, 100.0, 1.0)], 0.0) < 0


def test_few_labels_give_no_verdict_on_a_mean():
    assert two_means([losses(sequential.FEWEST - 1, 100.0, 1.0, 1000, 0.0, 1.0)], 0.0) == 0.0


def test_spans_of_the_same_difference_count_like_one_of_all_their_rows():
    whole = two_means([losses(400, 0.3, 0.2, 400, 0.2, 0.2)], 0.0)
    assert two_means([losses(200, 0.3, 0.2, 200, 0.2, 0.2)] * 2, 0.0) == pytest.approx(whole)


def test_a_split_that_changes_with_time_does_not_look_like_harm():
    """Both lose 0.1 in the quiet span and 0.5 in the rough one; the candidate sees more of the rough one."""
    quiet, rough = losses(100, 0.1, 0.09, 900, 0.1, 0.09), losses(500, 0.5, 0.25, 500, 0.5, 0.25)
    assert two_means([quiet, rough], 0.0) < 0


def test_average_of_e_values():
    assert average([math.log(3), math.log(5)]) == pytest.approx(math.log(4))
    assert average([800.0, 0.0]) == pytest.approx(800 - math.log(2))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_equal_rates_are_told_apart_in_at_most_alpha_of_runs_over_all_looks(share):
    random = np.random.default_rng(1)
    runs, looks, alarms = 200, 40, 0
    for _ in range(runs):
        mine = random.random((looks, 20)) < share
        bad = np.cumsum((random.random((looks, 20)) < 0.2)[:, :] * mine, axis=0).sum(axis=1)
        rows = np.cumsum(mine, axis=0).sum(axis=1)
        champion_rows = 20 * np.arange(1, looks + 1) - rows
        champion_bad = np.cumsum(random.binomial(np.diff(champion_rows, prepend=0), 0.2))
        seen = zip(bad.tolist(), rows.tolist(), champion_bad.tolist(), champion_rows.tolist(), strict=True)
        alarms += any(two_rates(*counts, 0.0) >= LIMIT for counts in seen)
    assert alarms <= max_false_alarms(runs)


def test_equal_latencies_are_told_apart_in_at_most_alpha_of_runs_over_all_looks():
    random = np.random.default_rng(2)
    edges = np.round(1.3 ** np.arange(1, 30), 1)
    runs, looks, alarms = 120, 30, 0
    for _ in range(runs):
        candidate, champion = (
            np.cumsum([np.histogram(np.exp(random.normal(2, 0.7, n)), [0, *edges])[0] for _ in range(looks)], axis=0)
            for n in (5, 20)
        )
        alarms += any(
            two_quantiles(dict(zip(edges, a.tolist(), strict=True)), dict(zip(edges, b.tolist(), strict=True)), 1.0)
            >= LIMIT
            for a, b in zip(candidate, champion, strict=True)
        )
    assert alarms <= max_false_alarms(runs)


def test_equal_squared_errors_are_told_apart_in_at_most_alpha_of_runs_over_all_looks():
    random = np.random.default_rng(3)
    runs, looks, alarms = 300, 60, 0

    def sides(rows_a_look):
        """Rows, mean and variance at each look."""
        loss = random.normal(0, 1, looks * rows_a_look) ** 2
        rows = rows_a_look * np.arange(1, looks + 1)
        total, squares = (np.cumsum(values)[rows - 1] for values in (loss, loss**2))
        return zip(
            rows.tolist(), (total / rows).tolist(), ((squares - total**2 / rows) / (rows - 1)).tolist(), strict=True
        )

    for _ in range(runs):
        both = zip(sides(10), sides(40), strict=True)
        alarms += any(two_means([losses(*candidate, *champion)], 0.0) >= LIMIT for candidate, champion in both)
    assert alarms <= max_false_alarms(runs)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10_000), st.floats(0, 1))
def test_mixture_is_a_probability_of_sequences(rows, share):
    """KT never gives a sequence more than its likeliest rate does, and loses at most log(2 sqrt(rows)) against it."""
    bad = round(rows * share)
    best = two_rates(bad, rows, bad, rows, 0.0)  # both sides at their likeliest rate
    assert -2 * math.log(2 * math.sqrt(rows)) - 1e-9 <= best <= 0
