from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.monitoring.check import Check
from kedge.monitoring.decide import Decision, decide
from kedge.monitoring.run import to_record
from kedge.policy import Policy, parse
from kedge.records import Breach, Champion, ChangedPair, Drift, Estimate, ModelState, Performance, Record
from kedge.records.cohort import Cohort
from tests.records.made import record

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
A, B = "a" * 40, "b" * 40
LEVEL, RISEN = 0.2, 0.6
"""Share of wrong decisions on the reference, and on a bad day: 500 rows of it pay for a retraining three times over."""
NOTHING = ModelState.of([])
MISSING = Breach(column="x", cause="missing", share=0.6, sentence="x: 60 % missing, 2 % when trained")
TENURE = Champion(bundle=A, since=START, tenure_id="promoted/a")


def policy(**monitor) -> Policy:
    return parse(
        {
            "model": {  # what is hashed cannot be learned from the log: no check probes, the best level held says
                "name": "fraud",
                "target": "y",
                "features": {"x": {"type": "number"}, "who": {"type": "category", "privacy": "hash"}},
            },
            "data": {"source": {"format": "log"}},
            "monitor": {"budget": {"cooldown_seconds": 0, "min_labels_after_rise": 0}, **monitor},
        }
    )


def budget(**fields) -> dict[str, object]:
    return {"cooldown_seconds": 0, "min_labels_after_rise": 0, **fields}


def check(
    day: int,
    worse: bool | None = False,
    *,
    drift: bool = False,
    risen: bool | None = False,
    corrupt: bool = False,
    labels: int = 500,
    champion: Champion = TENURE,
    **more,
) -> Check:
    end = START + (day + 1) * DAY
    cost = labels * (RISEN if worse else LEVEL)
    judged = Cohort(verdict="judged", end=end, rows=labels, cost=cost, cost_square=cost)
    return Check(
        model="fraud",
        champion=champion,
        start=end - DAY,
        end=end,
        rows=1000,
        inputs=Drift(verdict="compared", drifted=("x",) if drift else (), drifted_importance=1.0 if drift else 0.0),
        scores=Drift(verdict="compared"),
        corrupt=(MISSING,) if corrupt else (),
        performance=Performance(
            verdict="measured" if worse is not None else "too few labels",
            rows=labels,
            reference=None,
            worse=worse,
            newest=end - timedelta(seconds=1),
        ),
        cohort=Cohort(verdict="too few labels") if worse is None else judged,
        reference_cost=LEVEL,
        reference_rows=500,
        estimate=Estimate(verdict="estimated", rows=1000, calibrated=True, risen=risen),
        **more,
    )


def live(rules: Policy, checks: list[Check], others: list[Record] = ()) -> list[Decision]:
    """Check after check, each decision joining the history as the monitor records it."""
    history, made = list(others), []
    for one in checks:
        made.append(decide(rules, ModelState.of(history, until=one.end), one, one.end))
        history.append(to_record(rules, one, made[-1]))
    return made


def actions(rules: Policy, checks: list[Check], others: list[Record] = ()) -> list[str]:
    return [one.action for one in live(rules, checks, others)]


def started(day: float, key: str, pipeline: str = "retrain", **more) -> Record:
    return record("run-started", key, START + day * DAY, pipeline=pipeline, **more)


FIRST = record("promoted", "a", START - DAY, run="release-fraud-a", bundle="a" * 40, version="1")
"""A model serves since before the checks."""


def finished(day: float, key: str, state: str = "rejected", **more) -> Record:
    return record("run-finished", key, START + day * DAY, state=state, **more)


def retrainings(history: list[Record], until: datetime):
    return ModelState.of(history, until=until).retrainings


def test_retrains_when_the_risen_error_has_paid_for_it_and_says_why():
    first, second = live(policy(), [check(0, True, labels=80), check(1, True, labels=80)])
    assert first.action == "warn"  # 31 wrong decisions above the level are not yet 30 and a standard error
    assert second.action == "retrain"
    assert "the risen error has cost 62 wrong decisions above the best level held (0.2 a row)" in second.reasons[0]
    assert "in the next 2,000 rows" in second.reasons[0]


def test_a_regressions_error_is_told_in_rows_as_bad_as_the_best_constant():
    rules = policy()
    rules = rules.model_copy(update={"model": rules.model.model_copy(update={"task": "regression"})})
    reasons = [each.reasons[0] for each in live(rules, [check(day, True, labels=400) for day in range(2)])]
    assert any("rows as bad as the best constant above the best level held" in each for each in reasons)


def test_what_was_paid_for_is_gone_and_adds_up_again():
    assert actions(policy(), [check(day, True, labels=80) for day in range(4)])[1::2] == ["retrain", "retrain"]


def test_a_check_without_a_verdict_changes_nothing():
    assert actions(policy(), [check(0, True, labels=80), check(1, None), check(2, True, labels=80)])[2] == "retrain"


def test_a_clear_rise_is_told_before_it_pays():
    dear = policy()
    dear = dear.model_copy(update={"costs": dear.costs.model_copy(update={"run": 1000.0})})
    made = live(dear, [check(0, True)])[0]
    assert made.action == "warn"
    assert "the error rose from 0.2 to 0.6 a row" in made.reasons[0]


def test_the_change_point_is_the_end_of_the_last_good_check():
    made = live(policy(), [check(0), check(1), check(2, True)])
    assert [one.change_point for one in made] == [None, None, START + 2 * DAY]


def rejected(decision: Decision, day: float) -> list[Record]:
    return [started(day, f"r{day}", decision_key=decision.key), finished(day + 0.1, f"r{day}")]


def test_an_attempt_that_brought_nothing_makes_the_next_one_dearer():
    rules, history = policy(), []
    for day in range(4):
        one = check(day, True, labels=200)
        made = decide(rules, ModelState.of(history), one, one.end)
        history.append(to_record(rules, one, made))
        if made.action == "retrain":
            history += rejected(made, day + 1.1)
    assert made.regret.floor == 270
    assert [item.data.action for item in history if item.kind == "check"] == ["retrain", "warn", "retrain", "warn"]
    assert made.regret.attempts == 2


def test_a_level_that_a_champion_held_is_the_yardstick_of_the_next():
    promoted = Champion(bundle=B, since=START + 5 * DAY, tenure_id="promoted/b")
    good = [check(day) for day in range(5)]
    poor = replace(check(5, True, champion=promoted), reference_cost=RISEN)
    assert actions(policy(), [*good, poor])[-1] == "retrain"


def test_cooldown_holds_a_retraining_back_and_the_retry_comes_when_it_ends():
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=3 * 86_400))
    made = live(rules, [check(day, True) for day in range(5)])
    assert [one.action for one in made] == ["retrain", "warn", "warn", "retrain", "warn"]
    assert "cooldown after the retraining of 2026-03-03 00:00 UTC until 2026-03-06 00:00 UTC" in made[1].reasons[-1]


def test_a_run_started_by_hand_counts_for_cooldown_and_budget():
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=86_400))
    by_hand = [FIRST, started(0.5, "by-hand"), finished(0.6, "by-hand")]
    assert actions(rules, [check(0, True)], by_hand) == ["warn"]
    release = [started(0.5, "a-release", "release"), finished(0.6, "a-release")]
    assert actions(rules, [check(0, True)], release) == ["retrain"]


def test_a_first_training_by_hand_costs_no_budget():
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=86_400 * 7))
    by_hand = [started(-1.5, "by-hand"), finished(-1.4, "by-hand"), FIRST]
    assert actions(rules, [check(0, True)], by_hand) == ["retrain"]


REFUSED = {"step": None, "reason": "not submitted: nobody answers", "submitted": False}


@pytest.mark.parametrize(
    ("ended", "counts"),
    [
        (REFUSED, False),
        ({"step": "ingest", "exit_code": 2}, False),
        ({"step": "validate"}, False),
        ({"step": "train"}, True),
        ({"step": "evaluate"}, True),
        ({"step": None, "reason": "interrupted"}, True),
    ],
)
def test_a_run_by_hand_counts_only_if_its_training_may_have_begun(ended, counts):
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=86_400))
    by_hand = [FIRST, started(0.5, "by-hand"), finished(0.6, "by-hand", "failed", **ended)]
    assert len(retrainings(by_hand, START + DAY)) == counts
    assert len(retrainings(by_hand, START + 0.55 * DAY)) == 1  # then it was still going
    assert actions(rules, [check(0, True)], by_hand) == ["warn" if counts else "retrain"]
    once = policy(budget=budget(consecutive_checks=1, max_retrains=1))
    assert actions(once, [check(0, True)], by_hand) == ["warn" if counts else "retrain"]


def test_a_run_by_hand_that_trained_at_its_second_try_counts_from_there():
    tries = [started(0.1, "r"), finished(0.2, "r", "failed", step="ingest"), started(0.5, "r.2", run="r")]
    assert [one.time for one in retrainings(tries, START + DAY)] == [START + 0.5 * DAY]


def tried(decision: Decision, check: Check, number: int, **ended) -> list[Record]:
    """A run that a check asked for, and how it failed."""
    run = f"retrain-fraud-{decision.key}"
    key = run if number == 1 else f"{run}.{number}"
    begun = record("run-started", key, check.end, run=run, decision_key=decision.key)
    return [begun, record("run-finished", key, check.end, run=run, state="failed", **ended)]


def failing(rules: Policy, days: int, **ended) -> list[str]:
    """Bad checks day after day, each retraining of which fails three times."""
    history, made = [], []
    for seen in (check(day, True) for day in range(days)):
        made.append(decide(rules, ModelState.of(history), seen, seen.end))
        history.append(to_record(rules, seen, made[-1]))
        if made[-1].action == "retrain":
            history += [item for number in (1, 2, 3) for item in tried(made[-1], seen, number, **ended)]
    return [one.action for one in made]


def test_a_retraining_of_a_check_that_fails_in_ingest_is_not_tried_with_every_check():
    rules = policy(budget=budget(consecutive_checks=1, max_retrains=2, cooldown_seconds=2 * 86_400))
    assert failing(rules, 7, step="ingest") == ["retrain", "warn"] * 2 + ["warn"] * 3
    assert failing(rules, 7, step="train") == ["retrain", "warn"] * 2 + ["warn"] * 3


def test_a_retraining_of_a_check_that_nobody_took_waits_a_cooldown_and_leaves_the_budget():
    rules = policy(budget=budget(consecutive_checks=1, max_retrains=1, cooldown_seconds=2 * 86_400))
    assert failing(rules, 7, **REFUSED) == ["retrain", "warn"] * 3 + ["retrain"]
    one, seen = live(rules, [check(0, True)])[0], check(0, True)
    history = [to_record(rules, seen, one), *tried(one, seen, 1, **REFUSED), *tried(one, seen, 2, step="ingest")]
    assert not retrainings(history, START + DAY)[0].refused


def test_a_decision_and_the_run_it_started_are_one_retraining():
    rules = policy(budget=budget(consecutive_checks=1, max_retrains=2))
    first = live(rules, [check(0, True)])[0]
    run = started(1, "fraud-1", decision_key=first.key)
    history = [to_record(rules, check(0, True), first), run]
    assert len(retrainings(history, START + 9 * DAY)) == 1


def test_the_budget_holds_back_until_the_period_has_passed():
    rules = policy(budget=budget(consecutive_checks=1, max_retrains=2, period_seconds=4 * 86_400))
    made = live(rules, [check(day, True) for day in range(6)])
    assert [one.action for one in made] == ["retrain", "retrain", "warn", "warn", "retrain", "retrain"]
    assert "budget spent: 2 retrainings within 4 days, at most 2" in made[2].reasons[-1]


def test_a_run_that_is_going_holds_back_and_one_that_never_ended_blocks_for_a_day_only():
    rules = policy(budget=budget(consecutive_checks=1))
    going = live(rules, [check(0, True)], [started(0.9, "r1")])[0]
    assert going.action == "warn"
    assert "run r1 is still going" in going.reasons
    assert actions(rules, [check(1, True)], [started(0.9, "r1")]) == ["retrain"]


def test_a_challenger_that_passed_is_released_before_another_is_trained():
    rules = policy(budget=budget(consecutive_checks=1))
    asked = live(rules, [check(0, True)])[0]
    trained = started(1.1, "r1", decision_key=asked.key)
    passed = finished(1.2, "r1", "succeeded", bundle=B)
    waits = live(rules, [check(0, True), check(1, True)], [trained, passed])[1]
    assert waits.action == "warn"
    assert f"bundle {B[:12]} passed its gates; its release comes first" in waits.reasons
    release, refused = started(1.3, "r2", "release", bundle=B), finished(1.4, "r2", "rejected")
    assert actions(rules, [check(0, True), check(1, True)], [trained, passed, release, refused])[1] == "retrain"


def test_a_release_that_the_platform_failed_is_tried_again_before_another_challenger_is_trained():
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=3 * 86_400))
    failed = [started(0.1, "r1", "release", bundle=B), finished(0.2, "r1", "failed")]
    waits = live(rules, [check(0, True)], failed)[0]
    assert waits.action == "warn"
    assert waits.reasons[-1] == (
        f"the release of bundle {B[:12]} failed by no fault of its own; it is tried again first"
    )
    for number in (2, 3):
        failed.append(started(0.1 * number, f"r1.{number}", "release", run="r1", bundle=B))
        failed.append(finished(0.1 * number, f"r1.{number}", "failed", run="r1"))
    assert actions(rules, [check(0, True)], failed) == ["retrain"]  # in its cooldown it holds nobody back


def test_waits_until_enough_labels_are_known_since_the_change():
    rules = policy(budget=budget(min_labels_after_rise=250))
    assert actions(rules, [check(day, True, labels=100) for day in range(3)])[-1] == "retrain"
    assert "retrain" not in actions(rules, [check(day, True, labels=100) for day in range(2)])


def test_drift_alone_only_warns_however_often():
    made = live(policy(), [check(day, drift=True) for day in range(10)])
    assert {one.action for one in made} == {"warn"}
    assert made[1].reasons == ("inputs drifted: x (100 % of the model's importance)",)


def test_inputs_that_drift_in_a_champions_first_check_may_be_computed_otherwise():
    first, later = live(policy(), [check(0, drift=True), check(1, drift=True)])
    assert "are they computed as they were for training?" in first.reasons[0]
    assert "training?" not in later.reasons[0]


def test_scores_that_drift_alone_raise_nothing_and_with_inputs_are_told():
    moved = Drift(verdict="compared", drifted=("_score",), detail={"features": {"_score": {"psi_debiased": 0.25}}})
    alone, both = live(policy(), [replace(check(0), scores=moved), replace(check(1, drift=True), scores=moved)])
    assert alone.action == "none"
    assert "the champion's scores drifted (PSI 0.25)" in both.reasons


def test_pairs_that_drift_are_told_in_figures():
    pair = ChangedPair(first="a", second="b", reference_correlation=0.1, current_correlation=-0.4)
    changed = replace(check(0), inputs=Drift(verdict="compared", pairs=(pair,)))
    (made,) = live(policy(), [changed])
    assert made.action == "warn"
    assert made.reasons == ("rank correlation changed: a and b (0.10 to -0.40)",)
    assert to_record(policy(), changed, made).data.verdict == "pairs of inputs drifted"


def test_outcomes_that_drift_alone_raise_nothing_and_with_the_error_are_told():
    rules = parse({**policy().to_dict(), "costs": {"run": 10_000}})
    base_rate = Drift(verdict="compared", drifted=("_label",), histograms={"_label": (["0", "1"], [90, 10], [60, 40])})
    alone, both = live(rules, [replace(check(day, worse=day > 0), outcomes=base_rate) for day in range(2)])
    assert alone.action == "none"
    assert "outcomes drifted: 40.0% of the judged rows are positive, 10.0% when the champion was judged" in both.reasons


def test_scores_that_are_no_numbers_are_an_alarm():
    broken = replace(check(0), nan_scores=3)
    (made,) = live(policy(), [broken])
    assert made.action == "warn"
    assert made.reasons == ("3 scores of the champion are no finite number",)
    assert to_record(policy(), broken, made).data.verdict == "scores missing"


def test_a_risen_estimate_alone_only_warns():
    assert actions(policy(), [check(day, risen=True) for day in range(5)]) == ["warn"] * 5


def test_drift_and_a_risen_estimate_retrain_only_where_the_policy_says_so():
    both = [check(day, drift=True, risen=True) for day in range(2)]
    assert actions(policy(), both) == ["warn", "warn"]
    switched = policy(triggers={"drift_and_estimate": True})
    assert actions(switched, both) == ["warn", "retrain"]
    assert actions(switched, [check(0, drift=True), check(1, drift=True)])[1] == "warn"


def test_drift_of_features_that_hardly_matter_does_not_warn():
    one = check(0, drift=True)
    unimportant = replace(one, inputs=replace(one.inputs, drifted_importance=0.05))
    decision = decide(policy(), NOTHING, unimportant, one.end)
    assert decision.action == "none"
    assert "no feature that matters drifted" in decision.reasons[0]


def test_labelled_error_switched_off_is_still_told():
    rules = policy(triggers={"labelled_error": False})
    made = live(rules, [check(0, True), check(1, True)])
    assert [one.action for one in made] == ["warn", "warn"]
    assert "does not retrain on it" in made[1].reasons[0]


def test_old_training_rows_retrain_when_the_policy_has_a_limit():
    old = check(0, trained_until=START - 40 * DAY)
    assert actions(policy(), [old]) == ["none"]
    aged = policy(triggers={"max_age_seconds": 30 * 86_400})
    made = live(aged, [old])[0]
    assert made.action == "retrain"
    assert made.reasons == ("the champion's training rows end 41 days ago; at most 30 days allowed",)


def test_new_labels_retrain_when_there_are_enough():
    rules = policy(triggers={"new_labels": 5000})
    assert actions(rules, [check(0, new_labels=4999)]) == ["none"]
    assert actions(rules, [check(0, new_labels=5000)]) == ["retrain"]


def test_too_few_rows_are_never_called_no_drift():
    one = check(0, None)
    empty = replace(one, rows=0, inputs=Drift(verdict="too few rows"), performance=replace(one.performance, rows=0))
    decision = decide(policy(), NOTHING, empty, one.end)
    assert decision.action == "none"
    assert "too few rows" in decision.reasons[0]
    assert "no feature" not in decision.reasons[0]


def test_a_corrupt_window_is_quarantined_though_it_would_have_been_a_retraining():
    rules = policy(budget=budget(consecutive_checks=1), triggers={"max_age_seconds": 1.0, "new_labels": 1})
    one = check(0, True, corrupt=True, drift=True, risen=True, trained_until=START - DAY, new_labels=10**6)
    decision = decide(rules, NOTHING, one, one.end)
    assert decision.action == "quarantine"
    assert decision.reasons == ("x: 60 % missing, 2 % when trained",)


def test_excess_of_the_champion_before_does_not_count_for_the_next():
    promoted = Champion(bundle=B, since=START + DAY, tenure_id="promoted/b")
    before, after = check(0, True, labels=80), check(1, True, labels=80, champion=promoted)
    assert actions(policy(), [before, after])[1] != "retrain"


def test_a_champion_that_came_back_begins_a_new_tenure():
    other = Champion(bundle=B, since=START + DAY, tenure_id="promoted/b")
    back = Champion(bundle=A, since=START + 2 * DAY, tenure_id="rolled-back/b")
    first, last = check(0, True, labels=80), check(2, True, labels=80, champion=back)
    assert actions(policy(), [first, check(1, champion=other), last])[2] != "retrain"
    assert actions(policy(), [first, last])[1] != "retrain"


def test_what_happened_after_the_check_is_not_looked_at():
    rules = policy(budget=budget(consecutive_checks=1, cooldown_seconds=9 * 86_400))
    later = to_record(rules, check(5, True), decide(rules, NOTHING, check(5, True), START + 6 * DAY))
    assert decide(rules, ModelState.of([later], until=START + DAY), check(0, True), START + DAY).action == "retrain"


@pytest.mark.parametrize("trigger", ["labelled_error", "drift_and_estimate", "age", "volume"])
def test_each_trigger_can_be_switched_off(trigger):
    off = policy(budget=budget(consecutive_checks=1), triggers={"labelled_error": False})
    one = {
        "labelled_error": check(0, True),
        "drift_and_estimate": check(0, drift=True, risen=True),
        "age": check(0, trained_until=START - 1000 * DAY),
        "volume": check(0, new_labels=10**9),
    }[trigger]
    assert decide(off, NOTHING, one, one.end).action != "retrain"


days = st.lists(
    st.builds(
        dict,
        worse=st.sampled_from([True, False, None]),
        drift=st.booleans(),
        risen=st.sampled_from([True, False, None]),
        corrupt=st.booleans(),
        labels=st.integers(0, 400),
        new_labels=st.sampled_from([None, 0, 10**6]),
        tenure_id=st.integers(0, 1),
    ),
    min_size=1,
    max_size=25,
)
rules_of = st.builds(
    lambda needed, cooldown, most, period, both, volume: policy(
        budget=budget(
            consecutive_checks=needed,
            cooldown_seconds=cooldown * 86_400,
            max_retrains=most,
            period_seconds=period * 86_400,
        ),
        triggers={"drift_and_estimate": both, "new_labels": volume},
    ),
    needed=st.integers(1, 3),
    cooldown=st.integers(0, 4),
    most=st.integers(1, 3),
    period=st.integers(1, 10),
    both=st.booleans(),
    volume=st.sampled_from([None, 1000]),
)


def story(lived: list[dict]) -> list[Check]:
    tenures = (TENURE, Champion(bundle=B, since=START, tenure_id="promoted/b"))
    made = []
    for day, facts in enumerate(lived):
        facts = dict(facts)
        made.append(check(day, facts.pop("worse"), champion=tenures[facts.pop("tenure_id")], **facts))
    return made


@settings(max_examples=150, deadline=None)
@given(rules_of, days)
def test_never_more_than_the_budget_never_within_the_cooldown_never_after_a_quarantine(rules, lived):
    checks = story(lived)
    made = live(rules, checks)
    times = [one.end for one, decision in zip(checks, made, strict=True) if decision.action == "retrain"]
    limits = rules.monitor.budget
    for time in times:
        within = [other for other in times if time - timedelta(seconds=limits.period_seconds) < other <= time]
        assert len(within) <= limits.max_retrains
    for first, second in pairwise(times):
        assert (second - first).total_seconds() >= limits.cooldown_seconds
    for one, decision in zip(checks, made, strict=True):
        assert (decision.action == "quarantine") == bool(one.corrupt)


def brought(decision: Decision, day: int, end: str) -> list[Record]:
    """What became of a retraining that the check of a day asked for, and of its release, by the next day."""
    run, bundle = f"retrain-fraud-{decision.key}", f"{day:040x}"
    begun = started(day + 1.1, run, run=run, decision_key=decision.key)
    if end == "lost":
        return []
    if end == "running":
        return [begun]
    if end == "not submitted":
        return [begun, finished(day + 1.2, run, "failed", run=run, **REFUSED)]
    if end not in ("promoted", "rolled back"):
        return [begun, finished(day + 1.2, run, end, run=run, bundle=bundle, step="train")]
    judged = {"saved": float(day % 3 - 1), "saved_error": 0.5}
    after = [
        begun,
        finished(day + 1.2, run, "succeeded", run=run, bundle=bundle),
        record("evaluated", f"{bundle}-{run}", START + (day + 1.2) * DAY, passed=True, metrics=judged),
        record("registered", bundle, START + (day + 1.2) * DAY),
        started(day + 1.3, f"release-{day}", "release", bundle=bundle),
        record("promoted", f"{bundle}-1", START + (day + 1.4) * DAY),
        finished(day + 1.4, f"release-{day}", "succeeded", bundle=bundle),
    ]
    return after if end == "promoted" else [*after, record("rolled-back", f"{bundle}-1", START + (day + 1.5) * DAY)]


ENDS = ("lost", "running", "not submitted", "failed", "rejected", "inconclusive", "promoted", "rolled back")


@settings(max_examples=150, deadline=None)
@given(rules_of, days, st.lists(st.sampled_from(ENDS), min_size=25, max_size=25))
def test_whatever_becomes_of_runs_budget_cooldown_price_and_level_hold(rules, lived, ends):
    history, asked, spent, running, before = [FIRST], [], [], None, None
    for day, facts in enumerate(lived):
        given = {name: value for name, value in facts.items() if name != "tenure_id"}
        serving = ModelState.of(history, until=START + (day + 1) * DAY).champion
        one = check(day, given.pop("worse"), champion=serving, **given)
        made = decide(rules, ModelState.of(history, until=one.end), one, one.end)
        assert made.regret.price >= made.regret.floor * (1 - 1e-9) >= made.regret.cheapest * (1 - 2e-9)
        assert made.regret.attempts >= 0
        assert before is None or made.regret.level <= before.level
        history.append(to_record(rules, one, made))
        before = made.regret
        if made.action != "retrain":
            continue
        limits, end = rules.monitor.budget, ends[day]
        assert not asked or (one.end - asked[-1]).total_seconds() >= limits.cooldown_seconds
        assert running is None or one.end - running >= DAY
        since = one.end - timedelta(seconds=limits.period_seconds)
        assert sum(time > since for time in spent) < limits.max_retrains
        asked.append(one.end)
        spent += [] if end == "not submitted" else [one.end]
        running = one.end if end == "running" else None
        history += brought(made, day, end)


@settings(max_examples=100, deadline=None)
@given(rules_of, days)
def test_a_quiet_check_never_acts_whatever_came_before(rules, lived):
    quiet = check(len(lived), False, risen=False, new_labels=0)
    history = []
    for one in story(lived):
        decision = decide(rules, ModelState.of(history), one, one.end)
        history.append(to_record(rules, one, decision))
    assert decide(rules, ModelState.of(history), quiet, quiet.end).action in ("none", "warn")  # an alarm may be open


@settings(max_examples=50, deadline=None)
@given(rules_of, days)
def test_the_same_inputs_give_the_same_decision_and_different_windows_different_keys(rules, lived):
    made = live(rules, story(lived))
    assert made == live(rules, story(lived))
    assert len({one.key for one in made}) == len(made)
    assert all(one.reasons and all(one.reasons) for one in made)


def test_a_price_follows_the_costs_of_a_policy_that_was_changed_between_checks():
    cheap, dear = policy(), parse({**policy().to_dict(), "costs": {"run": 200, "release": 100}})
    assert live(cheap, [check(0), check(1, worse=True)])[1].action == "retrain"
    first = live(cheap, [check(0)])[0]
    history = [to_record(cheap, check(0), first)]
    held = decide(dear, ModelState.of(history), check(1, worse=True), check(1).end)
    assert held.regret.price == 300
    assert held.action == "warn"
    again = [*history, to_record(dear, check(1, worse=True), held)]
    assert decide(cheap, ModelState.of(again), check(2, worse=True), check(2).end).action == "retrain"


def test_a_check_of_the_past_counts_no_row_twice():
    """A clock that went back: that check starts from the one before it, and the next from the newest."""
    history = []
    for day in (0, 2, 1, 3):
        made = decide(policy(), ModelState.of(history, until=check(day).end), check(day, labels=250), check(day).end)
        history.append(to_record(policy(), check(day, labels=250), made))
    assert [item.data.regret["judged_rows"] for item in history] == [250, 500, 500, 750]


def test_costs_of_zero_start_nothing_for_errors_and_wait_for_certainty_alone_for_runs():
    free = parse({**policy().to_dict(), "costs": {"error": 0, "run": 0, "release": 0}})
    made = live(free, [check(day, worse=day > 0) for day in range(6)])
    assert made[-1].alarm.open
    assert "retrain" not in {one.action for one in made}
    unpriced = parse({**policy().to_dict(), "costs": {"run": 0, "release": 0}})
    assert actions(unpriced, [check(0), check(1, worse=True)]) == ["none", "retrain"]


def test_states_of_an_earlier_version_are_read_and_go_on():
    first = live(policy(), [check(0)])[0]
    item = to_record(policy(), check(0), first)
    earlier = {name: value for name, value in item.data.regret.items() if name != "cheapest"}
    old = replace(item, data=replace(item.data, regret=earlier))
    again = decide(policy(), ModelState.of([old]), check(1), check(1).end)
    assert again.regret == decide(policy(), ModelState.of([item]), check(1), check(1).end).regret


def test_a_broken_limit_on_a_metric_warns_and_where_the_policy_says_so_retrains():
    seen = check(1)
    seen = replace(seen, performance=replace(seen.performance, broken_limits=("f1 0.7, must be at least 0.85",)))
    warned = decide(policy(), NOTHING, seen, seen.end)
    assert (warned.action, warned.reasons) == ("warn", ("f1 0.7, must be at least 0.85",))
    asked = {"triggers": {"metrics": True, "labelled_error": False}}
    retrained = decide(policy(**asked), NOTHING, seen, seen.end)
    assert (retrained.action, retrained.reasons) == ("retrain", warned.reasons)
    waits = policy(**asked, budget=budget(min_labels_after_rise=501))
    assert decide(waits, NOTHING, seen, seen.end).action == "warn"
