"""The e-processes against values worked by hand and by scipy, and against the promise: valid over all looks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from kedge.rollout import sequential
from kedge.rollout.evidence import Differences
from kedge.rollout.sequential import (
    EFFECT,
    GRID,
    STAKES,
    Events,
    above,
    average,
    mean_above,
    mean_below,
    rate,
    rate_ratio,
    slower,
    two_means,
)

ALPHA = 0.1
LIMIT = math.log(1 / ALPHA)


def max_false_alarms(runs: int) -> int:
    """More than so many of the runs would refute a false alarm rate of ALPHA at the 0.1 % level."""
    return int(stats.binom.ppf(0.999, runs, ALPHA))


def events(count, requests, champion_count, champion_requests):
    return Events(count=count, requests=requests, champion_count=champion_count, champion_requests=champion_requests)


def test_failures_are_the_binomial_likelihood_ratio_given_their_sum_multiplied_over_spans():
    spans, null, ratios = [events(3, 50, 7, 950), events(4, 250, 5, 750)], 1.5, (3.0, 8.0)

    def share(ratio, span):
        return ratio * span.requests / (ratio * span.requests + span.champion_requests)

    def likelihood(ratio):
        return math.prod(
            stats.binom.pmf(each.count, each.count + each.champion_count, share(ratio, each)) for each in spans
        )

    expected = sum(likelihood(ratio) for ratio in ratios) / 2 / likelihood(null)
    assert rate_ratio(spans, null, ratios) == pytest.approx(math.log(expected))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 400), st.integers(0, 400), st.integers(2, 50))
def test_a_worse_minute_for_both_does_not_speak_against_the_candidate(good, bad, champion_good, champion_bad, times):
    """Only the candidate's share among the failures counts: each side fails ``times`` as often among its requests."""
    requests, champion_requests = (good + bad) * 50, (champion_good + champion_bad) * 50
    expected = champion_bad * requests / champion_requests
    worse = rate_ratio([events(bad * times, requests, champion_bad * times, champion_requests)], 1.0, [2.0, 5.0])
    assert worse <= 1e-9 or bad > expected


@given(st.integers(0, 50), st.integers(51, 500), st.floats(0.01, 0.9))
def test_a_rate_at_or_below_the_null_never_speaks_against_it(count, requests, null):
    if count / requests > null:
        return
    assert rate(count, requests, null, [min(null * times, 0.99) for times in (1.5, 3, 10)]) <= 1e-9


def test_a_rate_against_its_bound_by_hand():
    # likelihoods: 0.3^2 0.7^8 / (0.1^2 0.9^8)
    assert math.exp(rate(2, 10, 0.1, [0.3])) == pytest.approx(0.09 * 0.7**8 / (0.01 * 0.9**8))
    assert rate(1, 10, 0.1, [0.0]) == -math.inf


def counted(*values):
    return Differences.of(values).counts


def test_bets_by_hand():
    # each stake: 1.06, 1.25, 1.8 for a row that went wrong, 0.94, 0.75, 0.2 for one that went right
    expected = 0.15 * 1.06**2 * 0.94 + 0.65 * 1.25**2 * 0.75 + 0.2 * 1.8**2 * 0.2
    assert math.exp(mean_above(counted(1.0, 1.0, -1.0), 0.0)) == pytest.approx(expected)
    assert mean_below(counted(-1.0, -1.0, 1.0), 0.0) == pytest.approx(math.log(expected))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(-0.5, 0.5))
def test_counting_on_the_grid_keeps_the_mean_and_never_adds_evidence(values, margin):
    assert Differences.of(values).mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    exact = math.log(
        sum(
            weight * math.prod(1 + min(stake, 0.9 / (1 + margin)) * (value - margin) for value in values)
            for stake, weight in STAKES.items()
        )
    )
    assert mean_above(counted(*values), margin) <= exact + 1e-9


def test_nothing_counted_is_no_evidence():
    nothing = [
        rate_ratio([], 1.0, [2.0]),
        rate_ratio([events(5, 5, 0, 0)], 1.0, [2.0]),
        rate(0, 0, 0.1, [0.3]),
        mean_above(counted(), 0.0),
        slower([], 1.5),
        slower([({}, {1.0: 5, 2.0: 0})], 1.5),
        two_means([], 0.0),
        two_means([losses(0, 0, 0, 0, 0, 0)], 0.0),
    ]
    assert nothing == pytest.approx([0.0] * len(nothing))


def test_slower_answers_are_judged_at_the_next_edge_beyond_what_is_tolerated():
    champion = {1.0: 900, 2.0: 90, 4.0: 10, 8.0: 0, 16.0: 0}
    twice = {1.0: 0, 2.0: 90, 4.0: 10, 8.0: 0, 16.0: 0}
    slow = {1.0: 0, 2.0: 0, 4.0: 0, 8.0: 50, 16.0: 50}
    assert slower([(twice, champion)], 2.0) < 0
    assert slower([(slow, champion)], 2.0) > LIMIT
    assert slower([(slow, champion)], 16.0) <= 0
    assert slower([(slow, slow)], 1.0) < 0


def test_slowness_of_both_in_the_same_minutes_is_no_evidence():
    """Pooled, three in four of the candidate's answers are slow against one in four of the champion's."""
    quiet = ({1.0: 250, 2.0: 0, 4.0: 0}, {1.0: 750, 2.0: 0, 4.0: 0})
    rough = ({1.0: 0, 2.0: 0, 4.0: 750}, {1.0: 0, 2.0: 0, 4.0: 250})
    assert slower([quiet, rough], 1.5) <= 0


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


def test_an_estimate_follows_the_same_mixture_and_no_effect_is_evidence_for_none():
    expected = integrate.quad(
        lambda m: stats.norm.pdf(0.1, m, 0.02) / stats.norm.pdf(0.1, 0, 0.02) * 2 * stats.norm.pdf(m, 0, EFFECT),
        *(0, 0.3),
    )[0]
    assert above(0.1, 0.02) == pytest.approx(math.log(expected), rel=1e-3)
    assert above(0.0, 0.02) < 0 < above(0.1, 0.02)


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


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_equal_rates_are_told_apart_in_at_most_alpha_of_runs_over_all_looks(share):
    """The common rate wanders between 1 % and 60 %, and the share of the traffic doubles half way."""
    random = np.random.default_rng(1)
    runs, alarms = 250, 0
    for _ in range(runs):
        ended = []
        for span_share in (share, 2 * share - 0.001):
            counts = np.zeros(4, dtype=int)
            for _look in range(30):
                mine, failing = random.binomial(40, span_share), random.choice([0.01, 0.05, 0.6])
                counts += [random.binomial(mine, failing), mine, random.binomial(40 - mine, failing), 40 - mine]
                if rate_ratio([*ended, events(*counts.tolist())], 1.0, [1.6, 4.0, 16.0]) >= LIMIT:
                    break
            else:
                ended.append(events(*counts.tolist()))
                continue
            alarms += 1
            break
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
            slower([(dict(zip(edges, a.tolist(), strict=True)), dict(zip(edges, b.tolist(), strict=True)))], 1.0)
            >= LIMIT
            for a, b in zip(candidate, champion, strict=True)
        )
    assert alarms <= max_false_alarms(runs)


def test_equal_decisions_are_told_apart_in_at_most_alpha_of_runs_over_all_looks():
    random = np.random.default_rng(4)
    runs, alarms = 300, 0
    for _ in range(runs):
        rows = np.cumsum(random.multinomial(20, [0.05, 0.05, 0.9], size=80), axis=0)
        alarms += any(
            max(mean_above(three(*row), 0.0), mean_below(three(*row), 0.0)) >= LIMIT + math.log(2)
            for row in rows.tolist()
        )
    assert alarms <= max_false_alarms(runs)


def three(worse, better, alike):
    counts = [0.0] * len(GRID)
    counts[0], counts[len(GRID) // 2], counts[-1] = float(better), float(alike), float(worse)
    return counts


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
