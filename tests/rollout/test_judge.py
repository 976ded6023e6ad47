"""The decision about a canary: what it waits for, what it proves, and how seldom it is wrong."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from kedge import policy as policies
from kedge.policy.release import Analysis
from kedge.rollout.evidence import Differences, Evidence, Observed, Outcomes, Paired
from kedge.rollout.judge import SHARES, judge, margin, scarcity
from kedge.rollout.model import Span, Traffic

START = datetime(2026, 3, 2, tzinfo=UTC)


def traffic(requests=0, errors=0, slow=0):
    return Traffic(requests=requests, errors=errors, latency={2.0: requests - slow, 4.0: 0, 8.0: slow, 16.0: 0})


def seen(candidate, champion, *, percent=10, state="canary", labelled=(), champion_labelled=()):
    span = Span(state=state, percent=percent, began=START, candidate=candidate, champion=champion)
    return Observed(span=span, candidate=outcomes(*labelled), champion=outcomes(*champion_labelled))


def outcomes(rows=0, wrong=0):
    """Of scores that are exactly 0 or 1, so that the squared error counts wrong decisions."""
    return Outcomes(rows=rows, loss=float(wrong), squares=float(wrong), wrong=wrong)


def decide(policy, *observed, seconds=599.0, paired=None):
    newest = replace(observed[-1], paired=paired)
    return judge(Evidence(observed=(*observed[:-1], newest), seconds=seconds), policy)


def same_rows(worse=0, better=0, alike=0, *, shift=0.0):
    """Both on the same rows: decided wrongly by one of them alone, and the shift of the scores in four deviations."""
    differences = Differences.of([1.0] * worse + [-1.0] * better + [0.0] * alike)
    rows = worse + better + alike
    return Paired(decisions=differences, losses=differences, scores=Differences.of([shift] * rows))


@pytest.fixture
def strict(change):
    steps = change().release.steps
    return change(steps=(steps[0].model_copy(update={"min_labels": 30}), steps[1]))


def test_complete_evidence_without_harm_advances(policy):
    decision = decide(policy, seen(traffic(400), traffic(3600)))
    assert decision.action == "advance"


def test_every_need_that_is_open_is_named(strict):
    decision = decide(strict, seen(traffic(40), traffic(900), labelled=(7, 0)), seconds=30)
    assert decision.action == "hold"
    assert decision.reasons == (
        "30 of 60 seconds",
        "40 of 50 requests of the candidate",
        "7 of 30 labelled outcomes of the candidate",
        "not ruled out yet: failed requests more than 3.75 times the champion's and above 2.10%",
    )


def test_labels_count_from_the_beginning_of_the_release(strict):
    first = seen(traffic(400), traffic(3600), labelled=(25, 2), champion_labelled=(200, 20))
    second = seen(traffic(400), traffic(3600), labelled=(5, 0))
    assert decide(strict, first, second).action == "advance"


def test_a_candidate_is_not_good_because_there_was_nobody_to_compare_it_with(policy):
    decision = decide(policy, seen(traffic(1000, errors=500), traffic(0)))
    assert (decision.action, decision.reasons[0]) == ("hold", "0 of 20 requests of the champion")
    assert decide(policy, seen(traffic(1000, errors=500), traffic(1000))).action == "roll back"


def test_requests_of_the_champion_never_count_for_the_candidate(policy):
    assert decide(policy, seen(traffic(0), traffic(100_000))).action == "hold"


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (seen(traffic(100, errors=30), traffic(900)), "failed requests at 10 %: 30 of 100 (30.0%) against 0 of 900"),
        (seen(traffic(100, slow=90), traffic(900)), "latency at 10 %: 95th percentile 8 ms against 2 ms"),
        (
            seen(traffic(100), traffic(900), labelled=(100, 40), champion_labelled=(900, 90)),
            "mean squared error at 10 %: 0.4 over 100 labelled rows, 40.0% decided wrongly against 0.1 over 900",
        ),
    ],
)
def test_proven_harm_is_rolled_back_in_words(policy, observed, reason):
    decision = decide(policy, observed)
    assert decision.action == "roll back"
    assert decision.reasons[0].startswith(reason)


def test_a_share_rises_only_where_the_harm_is_ruled_out_that_the_larger_share_could_do(policy):
    """At half of the traffic a candidate that always fails does half of the harm that it does at all of it."""
    few = seen(traffic(300), traffic(2700))
    assert decide(policy, few).action == "advance"
    last = seen(traffic(300), traffic(300), percent=50)
    decision = decide(policy, last)
    assert (decision.action, decision.reasons[-1]) == (
        "hold",
        "not ruled out yet: failed requests more than 2.5 times the champion's and above 1.10%",
    )


def test_harm_is_ruled_out_by_the_ratio_where_both_fail_often(policy):
    quiet = seen(traffic(2000, errors=100), traffic(2000, errors=100), percent=50)
    assert decide(policy, quiet).action == "advance"
    assert decide(policy, replace(quiet, span=replace(quiet.span, candidate=traffic(2000, 190)))).action != "advance"


@pytest.mark.parametrize(
    ("worse", "seconds", "state", "action"),
    [
        (30, 3600, "canary", "roll back"),  # 1,200 requests in three hours
        (30, 36_000, "canary", "hold"),
        (24, 36_000, "canary", "hold"),  # by less than alpha takes
        (30, 36_000, "shadow", "hold"),
        (30, 36_000, "bake", "give up"),
        (30, 36_000, "batch", "roll back"),  # of tables
        (60, 36_000, "canary", "roll back"),
        (60, 36_000, "bake", "roll back"),
    ],
)
def test_few_requests_condemn_nobody_but_who_is_surely_worse(policy, worse, seconds, state, action):
    scarce = seen(traffic(40), traffic(360), state=state)
    decision = decide(policy, scarce, seconds=seconds, paired=same_rows(worse=worse, better=5, alike=100))
    assert decision.action == action
    assert decision.reasons[0].startswith("looks worse, on too few requests") == (action in ("hold", "give up"))


@pytest.mark.parametrize(
    ("state", "percent", "requests", "champion", "times"),
    [("canary", 10, 0, 0, 10), ("canary", 10, 5, 95, 5), ("bake", 100, 100, 9999, 5), ("shadow", 50, 900, 100, 5),
     ("canary", 10, 100, 900, 1)],
)  # fmt: skip
def test_requests_are_few_as_clients_sent_them(policy, state, percent, requests, champion, times):
    few = seen(traffic(requests), traffic(champion), state=state, percent=percent)
    assert scarcity(Evidence(observed=(few,), seconds=10_800), policy) == times


@pytest.mark.parametrize(("seconds", "times"), [(1.0, 2.0), (10_800.0, 2.0), (32_400.0, 6.0), (1e6, 20.0)])
def test_a_step_that_lasts_rules_out_more_harm_up_to_ten_times_as_much(policy, seconds, times):
    evidence = Evidence(observed=(seen(traffic(), traffic()),), seconds=seconds)
    assert margin(evidence, policy).times == times


def test_a_bake_ends_by_its_time_alone(policy):
    baking = seen(traffic(10), traffic(90), state="bake", percent=95)
    assert decide(policy, baking, seconds=119).reasons == ("119 of 120 seconds",)
    assert decide(policy, baking, seconds=120).action == "advance"


def test_failing_so_seldom_that_nobody_minds_is_never_rolled_back(policy, change):
    observed = seen(traffic(30_000, errors=30), traffic(270_000))
    assert decide(policy, observed).action == "advance"
    analysis = policy.release.analysis.model_copy(update={"min_failure_rate": 0.0})
    assert decide(change(analysis=analysis), observed).action == "roll back"


def test_worse_decisions_on_the_same_rows_are_found(policy):
    live = seen(traffic(300), traffic(2700))
    decision = decide(policy, live, paired=same_rows(130, 70, 1800))
    assert decision.action == "roll back"
    assert decision.reasons[0].startswith(
        "cost of decisions on the same rows: +0.0300 against the champion's over 2,000 rows with an outcome; "
    )
    assert decide(policy, live, paired=same_rows(100, 100, 1800)).action == "advance"


def test_outcomes_that_are_known_are_waited_for(policy):
    live = seen(traffic(300), traffic(2700))
    decision = decide(policy, live, paired=same_rows(2, 2, 16))
    assert decision.reasons == (
        "not ruled out yet: cost of decisions on the same rows: +0.06 against the champion's",
        "not ruled out yet: squared error on the same rows: +0.06 against the champion's",
    )
    assert decide(policy, live, paired=Paired()).action == "advance"


@pytest.mark.parametrize("shift", [0.125, -0.125])
def test_scores_that_moved_do_what_the_policy_says(policy, change, shift):
    live, moved = seen(traffic(300), traffic(2700)), Paired(scores=Differences.of([shift] * 300))
    decision = decide(policy, live, paired=moved)
    assert decision.action == "roll back"
    assert decision.reasons[0].startswith(f"scores on the same rows: {4 * shift:+.2f} standard deviations of the")

    def under(**fields):
        return decide(
            change(analysis=policy.release.analysis.model_copy(update=fields)), live, paired=moved
        ).action  # fmt: skip

    assert under(on_score_shift="hold") == "hold"
    assert under(on_score_shift="tell") == under(max_score_shift=0.75) == "advance"


def test_held_scores_go_on_once_outcomes_rule_out_harm(policy, change):
    live, held = (
        seen(traffic(300), traffic(2700)),
        policy.release.analysis.model_copy(update={"on_score_shift": "hold"}),
    )
    known, few = (same_rows(worse, worse, 18 * worse, shift=0.2) for worse in (150, 5))
    assert [decide(change(analysis=held), live, paired=paired).action for paired in (known, few)] == ["advance", "hold"]
    assert decide(policy, live, paired=known).action == "roll back"


def test_the_tests_spend_alpha_once():
    assert sum(SHARES.values()) == pytest.approx(1)


def test_harm_seen_at_an_earlier_step_still_counts_when_its_labels_arrive_late(policy):
    late = seen(traffic(100), traffic(900), labelled=(100, 40), champion_labelled=(900, 90))
    baking = seen(traffic(50), traffic(900), state="bake", percent=100)
    assert decide(policy, late, baking).action == "roll back"


def test_minutes_in_which_both_fail_alike_do_not_count_against_the_candidate(policy):
    """Pooled over both spans the candidate would look far worse: 105 of 200 against 100 of 990."""
    quiet = seen(traffic(100, errors=5), traffic(900, errors=45))
    outage = seen(traffic(900, errors=810), traffic(100, errors=90), percent=50)
    assert decide(policy, quiet, outage).action != "roll back"


def test_tolerated_differences_are_tolerated(change):
    analysis = change().release.analysis.model_copy(
        update={"min_failure_rate": 0.3, "max_latency_ratio": 8.0, "max_loss_increase": 0.4}
    )
    worse = seen(traffic(1000, 250, 900), traffic(9000), labelled=(1000, 400), champion_labelled=(9000, 900))
    assert decide(change(analysis=analysis), worse, worse, worse).action == "advance"


def test_confident_mistakes_are_found_where_the_decisions_alone_prove_nothing(policy):
    """As many wrong decisions a row in 300 labels, 35 % against 30 %: one side says 0.99, the other 0.65."""
    confident = Outcomes(rows=300, loss=105 * 0.99**2, squares=105 * 0.99**4, wrong=105)
    cautious = Outcomes(rows=300, loss=90 * 0.65**2 + 210 * 0.35**2, squares=90 * 0.65**4 + 210 * 0.35**4, wrong=90)
    base = seen(traffic(300), traffic(300), percent=50)
    assert decide(policy, replace(base, candidate=confident, champion=cautious)).action == "roll back"
    decisions = seen(traffic(300), traffic(300), percent=50, labelled=(300, 105), champion_labelled=(300, 90))
    assert decide(policy, decisions).action != "roll back"


def test_a_sure_candidate_that_is_always_wrong_is_found_though_its_loss_never_varies(policy):
    observed = seen(traffic(100), traffic(900), labelled=(100, 100), champion_labelled=(900, 90))
    assert decide(policy, observed).action == "roll back"


def test_regression_is_judged_by_its_squared_error(policy):
    model = policy.model.model_copy(update={"task": "regression"})
    regression = policy.model_copy(update={"model": model})
    champion = Outcomes(rows=900, loss=900.0, squares=2700.0)  # as normal errors of variance 1 give
    worse = Outcomes(rows=300, loss=600.0, squares=3600.0)
    base = seen(traffic(400), traffic(3600))
    assert judge(
        Evidence(observed=(replace(base, candidate=worse, champion=champion),), seconds=99), regression
    ).action == ("roll back")
    same = Outcomes(rows=300, loss=300.0, squares=900.0)
    assert judge(
        Evidence(observed=(replace(base, candidate=same, champion=champion),), seconds=99), regression
    ).action == ("advance")


def test_step_that_lacks_requests_is_held_however_late_and_a_bake_ends_by_its_seconds(policy):
    late = judge(Evidence(observed=(seen(traffic(10), traffic(90)),), seconds=6000), policy)
    assert late.action == "hold"
    assert "10 of 50 requests of the candidate" in late.reasons[0]
    baking = judge(Evidence(observed=(seen(traffic(10), traffic(90), state="bake", percent=100),), seconds=600), policy)
    assert baking.action == "advance"


def releases(policy, runs, *, candidate, champion, seed):
    """Of each release rolled back, the candidate's requests by then. Both sides' rates: failing, slow, wrong.

    Two steps of 20 looks with 40 requests each, every request labelled.
    """
    random = np.random.default_rng(seed)
    requests_at = []
    for _ in range(runs):
        spans, total, taken = [], 0, False
        for percent, share in ((10, 0.1), (50, 0.5)):
            sides = np.zeros((2, 4), dtype=int)  # requests, errors, slow, wrong of candidate and champion
            for _look in range(20):
                n = random.binomial(40, share)
                for side, count, rates in ((0, n, candidate), (1, 40 - n, champion)):
                    sides[side] += [count, *random.binomial(count, rates)]
                observed = seen(
                    traffic(*sides[0][:3].tolist()), traffic(*sides[1][:3].tolist()), percent=percent,
                    labelled=sides[0][[0, 3]].tolist(), champion_labelled=sides[1][[0, 3]].tolist(),
                )  # fmt: skip
                if decide(policy, *spans, observed).action == "roll back":
                    requests_at.append(total + int(sides[0][0]))
                    taken = True
                    break
            if taken:
                break
            spans.append(observed)
            total += int(sides[0][0])
    return requests_at


@pytest.fixture
def exact(change):
    """No tolerance at all, so that an equal candidate lies on the edge of each null; a large alpha."""
    analysis = change().release.analysis.model_copy(
        update={"alpha": 0.2, "max_failure_ratio": 1.0, "min_failure_rate": 0.0, "max_latency_ratio": 1.0}
    )
    return change(analysis=analysis)


def test_equal_candidates_are_rolled_back_in_at_most_alpha_of_releases_over_all_looks(exact):
    runs = 150
    taken = releases(exact, runs, candidate=(0.05, 0.04, 0.2), champion=(0.05, 0.04, 0.2), seed=5)
    assert len(taken) <= stats.binom.ppf(0.999, runs, 0.2)


@pytest.mark.parametrize("candidate", [(0.35, 0.0, 0.2), (0.05, 0.5, 0.2), (0.05, 0.0, 0.6)])
def test_bad_candidates_are_found_within_two_hundred_of_their_own_requests(policy, candidate):
    taken = releases(policy, 30, candidate=candidate, champion=(0.05, 0.0, 0.2), seed=6)
    assert len(taken) == 30
    assert np.median(taken) <= 200


def test_policy_defaults_are_those_the_documentation_states():
    analysis = policies.Release().analysis
    assert (analysis.alpha, analysis.max_failure_ratio, analysis.max_latency_ratio) == (0.01, 1.25, 1.5)


def test_a_policy_of_before_keeps_the_rate_that_it_tolerated():
    assert Analysis(max_error_rate_increase=0.02).min_failure_rate == 0.02
