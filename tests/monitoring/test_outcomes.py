"""Labels as they arrive: which rows a check judges, each once, with what was known at its end."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from kedge import records
from kedge.monitoring import outcomes, run
from kedge.monitoring.outcomes import LastVerdict, last_verdict
from kedge.tables import appending, delays, log
from tests.monitoring.world import DAY, START, rows
from tests.records import made
from tests.records.made import record

HOUR = timedelta(hours=1)
DAILY = {"delay_seconds": 86_400}
AT_ONCE = {"delay_seconds": 0}


def check(world, end, labels=None, **monitor):
    """Data of the check at a time."""
    return run.run(world.rules(labels, **monitor), world.store, now=end).record.data


def cohorts(world):
    """Those of all checks, in order."""
    return [item.data.cohort for item in records.read(world.store, "fraud", records.Checked)]


def seconds(span):
    return span.total_seconds()


def test_overlapping_windows_judge_each_row_once(world):
    """Three checks an hour apart look at the same day: each judges its own hour."""
    world.serve(rows(3600, START, 1))  # 150 an hour
    for hour in (3, 4, 5):
        check(world, START + hour * HOUR, AT_ONCE)
    assert [seen.rows for seen in cohorts(world)] == [450, 150, 150]
    assert cohorts(world)[2].start == cohorts(world)[1].end == START + 4 * HOUR


def test_a_slice_that_is_no_feature_is_left_out_as_the_log_does_not_hold_it(world):
    world.serve(rows(3600, START, 1))
    rules = world.rules(AT_ONCE)
    beside = rules.model_copy(update={"model": rules.model.model_copy(update={"slices": ("origin",)})})
    seen = run.run(beside, world.store, now=START + 3 * HOUR).record.data.cohort
    assert (seen.verdict, seen.rows, "origin" in seen.groups) == ("judged", 450, False)


def test_too_few_labels_wait_until_there_are_enough(world):
    world.serve(rows(960, START, 1))  # 40 an hour, 100 are needed
    verdicts = [check(world, START + hour * HOUR, AT_ONCE).cohort for hour in range(1, 6)]
    assert [(seen.verdict, seen.labelled) for seen in verdicts] == [
        ("too few labels", 40),
        ("too few labels", 80),
        ("judged", 120),
        ("too few labels", 40),
        ("too few labels", 80),
    ]


def test_a_week_without_checks_is_judged_by_the_next_one(world):
    for day in range(9):
        world.serve(rows(200, START + day * DAY, day))
    assert check(world, START + DAY, AT_ONCE).cohort.rows == 200
    assert check(world, START + 9 * DAY, AT_ONCE).cohort.rows == 1600


def test_rows_that_waited_for_a_month_of_windows_get_no_verdict_and_that_is_said(world):
    world.serve(rows(50, START, 1))
    check(world, START + DAY, AT_ONCE)
    world.serve(rows(200, START + 40 * DAY, 2))
    data = check(world, START + 41 * DAY, AT_ONCE)
    assert data.cohort.rows == 200
    assert data.warnings == (
        "predictions of 2026-03-02 00:00 UTC to 2026-03-13 00:00 UTC waited too long for a verdict, and get none",
    )


def test_of_very_many_rows_no_more_than_a_window_waits(world, monkeypatch):
    monkeypatch.setattr(outcomes, "MAX_ROWS", 700)
    for day in range(6):
        world.serve(rows(300, START + day * DAY, day))
    check(world, START + DAY, AT_ONCE)
    data = check(world, START + 6 * DAY, AT_ONCE)
    assert (data.cohort.start, data.cohort.rows) == (START + 4 * DAY, 600)


def test_rows_are_judged_when_their_outcomes_are_due(world):
    for day in range(3):
        world.serve(rows(300, START + day * DAY, day), labels_after=DAY)
    first, second = (check(world, START + day * DAY, DAILY) for day in (1, 2))
    assert (first.cohort.verdict, first.performance.verdict) == ("not due", "labels not due")
    assert "labels not due: 0" in first.reasons[0]
    assert (second.cohort.verdict, second.cohort.rows) == ("judged", 300)
    assert second.cohort.end == START + DAY


def test_a_history_shorter_than_the_delay_is_never_judged_early(world):
    """Positives are known at once and rise the loss of whoever judges what there is."""
    world.serve(rows(600, START, 1), labels_after={1: timedelta(0), 0: 5 * DAY})
    data = check(world, START + 2 * DAY, {"complete_after_seconds": 5 * 86_400})
    assert (data.performance.verdict, data.performance.worse, data.action) == (
        "labels not due",
        None,
        "none",
    )


def test_outcomes_observed_after_the_end_are_not_known(world):
    world.serve(rows(600, START, 1), labels_after=2 * DAY)
    late = check(world, START + DAY, AT_ONCE)  # made late, or by a replay: the log holds all labels
    assert (late.cohort.predicted, late.cohort.labelled) == (600, 0)
    assert late.verdict == "labels incomplete"
    assert "0 of 600 rows that are due have an outcome (0.0%)" in late.reasons[0]


def test_a_correction_observed_after_the_end_is_not_known(world):
    table = rows(600, START, 1)
    world.serve(table)
    world.label([(f"1-{k}", 1 - label, START + 2 * DAY) for k, label in enumerate(table["fraud"].to_pylist())])
    assert check(world, START + DAY, AT_ONCE).performance.worse is False


def test_corrections_of_judged_rows_are_counted_and_not_judged_again(world):
    told = rows(600, START, 1)
    world.serve(told)
    check(world, START + DAY, AT_ONCE)
    outcomes = told["fraud"].to_pylist()
    world.label([(f"1-{k}", 1 - outcomes[k], START + 1.5 * DAY) for k in range(20)])
    world.label([(f"1-{k}", outcomes[k], START + 1.5 * DAY) for k in range(20, 50)])  # told again: no correction
    world.serve(rows(600, START + DAY, 2))
    seen = check(world, START + 2 * DAY, AT_ONCE).cohort
    assert (seen.rows, seen.late, seen.corrected) == (600, 0, 20)


def test_labels_that_come_after_the_verdict_are_judged_by_a_later_check(world):
    table = rows(600, START, 1)
    world.serve(table, labels_after=None)
    outcomes = [(f"1-{k}", label, time) for k, (label, time) in enumerate(zip(*pair(table), strict=True))]
    world.label(outcomes[:400])
    world.label([(key, label, START + 1.5 * DAY) for key, label, _ in outcomes[400:]])
    world.serve(rows(300, START + DAY, 2))
    first, second = (check(world, START + day * DAY, AT_ONCE).cohort for day in (1, 2))
    assert (first.verdict, first.rows) == ("judged", 400)
    assert (second.predicted, second.late, second.rows) == (300, 200, 500)


def test_labels_delivered_after_the_verdict_are_judged_by_a_later_check_whatever_time_they_bear(world):
    """As a nightly file of outcomes that bear the times of the day."""
    table = rows(600, START, 1)
    world.serve(table, labels_after=None)
    outcomes = [(f"1-{k}", label, time) for k, (label, time) in enumerate(zip(*pair(table), strict=True))]
    world.label(outcomes[:400])
    first = check(world, START + DAY, AT_ONCE).cohort
    world.label(outcomes[380:])  # 20 of them are told again
    world.label([(key, 1 - label, time) for key, label, time in outcomes[:10]])  # of the same moment, told later: right
    world.serve(rows(300, START + DAY, 2))
    second, third = (check(world, START + day * DAY, AT_ONCE).cohort for day in (2, 3))
    assert (first.verdict, first.rows) == ("judged", 400)
    assert (second.predicted, second.late, second.corrected, second.rows) == (300, 200, 10, 500)
    assert (third.late, third.corrected, third.rows) == (0, 0, 0)


def test_a_check_made_late_and_the_next_one_judge_no_row_twice(world):
    """All labels were received before both."""
    for day in range(2):
        world.serve(rows(300, START + day * DAY, day))
    seen = [check(world, START + day * DAY, AT_ONCE).cohort for day in (1, 2)]
    assert [(each.rows, each.late) for each in seen] == [(300, 0), (300, 0)]


def pair(table):
    return table["fraud"].to_pylist(), table["at"].to_pylist()


def test_days_without_labels_are_judged_when_the_feed_is_back(world):
    """Nothing is told for two days, then all at once."""
    for day in range(4):
        world.serve(rows(300, START + day * DAY, day), labels_after=None)
    for day in range(4):
        labels, times = pair(rows(300, START + day * DAY, day))
        known = [max(time, START + 2.5 * DAY) if day else time for time in times]
        world.label([(f"{day + 1}-{k}", label, known[k]) for k, label in enumerate(labels)])
    seen = [check(world, START + day * DAY, AT_ONCE).cohort for day in (1, 2, 3, 4)]
    assert [each.verdict for each in seen] == ["judged", "labels incomplete", "judged", "judged"]
    assert [each.rows for each in seen] == [300, 0, 600, 300]


def test_a_prediction_that_reaches_the_log_after_its_label_is_judged(world):
    world.label([(f"2-{k}", label, START) for k, label in enumerate(rows(300, START, 1)["fraud"].to_pylist())])
    world.serve(rows(300, START, 1), labels_after=None)
    assert check(world, START + DAY, AT_ONCE).cohort.rows == 300


def test_a_clock_that_goes_back_sees_what_was_there_then(world):
    for day in range(3):
        world.serve(rows(300, START + day * DAY, day))
    ahead = check(world, START + 2 * DAY, AT_ONCE).cohort
    back = check(world, START + DAY, AT_ONCE).cohort
    after = check(world, START + 3 * DAY, AT_ONCE).cohort
    assert (back.start, back.rows) == (START, 300)
    assert after.start == ahead.end
    assert after.rows == 300


def test_a_delay_that_grew_between_checks_judges_nothing_twice(world):
    for day in range(4):
        world.serve(rows(300, START + day * DAY, day))
    seen = [
        check(world, START + 2 * DAY, AT_ONCE),
        check(world, START + 2.5 * DAY, DAILY),
        check(world, START + 4 * DAY, DAILY),
        check(world, START + 4.5 * DAY, AT_ONCE),
    ]
    assert [data.cohort.verdict for data in seen] == ["judged", "not due", "judged", "judged"]
    assert [data.cohort.rows for data in seen] == [300, 0, 300, 300]


def test_a_new_tenure_is_judged_by_its_own_rows(world):
    world.serve(rows(600, START, 1))
    check(world, START + DAY, AT_ONCE)
    for kind in ("promoted", "rolled-back"):
        records.append(world.store, record(kind, "x", START + 1.5 * DAY, bundle="d" * 40))
    world.serve(rows(600, START + DAY, 2))
    seen = check(world, START + 2 * DAY, AT_ONCE).cohort
    assert (seen.start, seen.since, seen.rows) == (START + 1.5 * DAY, None, 300)


def test_after_a_check_of_an_older_version_the_rows_that_became_due_since_are_judged():
    older = made.check(START)
    assert last_verdict([older], made.CHAMPION["tenure_id"]) == LastVerdict(at=START)
    assert last_verdict([older], "promoted/y") is None


def test_only_positives_are_told_and_the_others_are_negative(world):
    labels = {"complete_after_seconds": 86_400, "absent_means": "negative"}
    for day in range(3):
        world.serve(rows(300, START + day * DAY, day), labels_after={1: 6 * HOUR})
    data = check(world, START + 2 * DAY, labels)
    assert (data.cohort.rows, data.performance.worse) == (300, False)
    assert data.cohort.labelled == sum(rows(300, START, 0)["fraud"].to_pylist())
    negative = [k for k, outcome in enumerate(rows(300, START, 0)["fraud"].to_pylist()) if not outcome]
    world.label([(f"1-{k}", 1.0, START + 2.5 * DAY) for k in negative[:5]])  # after they counted as negative
    after = check(world, START + 3 * DAY, labels).cohort
    assert (after.rows, after.late, after.corrected) == (300, 0, 5)


def test_without_a_stated_delay_it_is_estimated_by_class_and_classes_that_differ_are_warned_of(world):
    for day in range(6):
        world.serve(rows(300, START + day * DAY, day), labels_after={1: 6 * HOUR, 0: 2 * DAY})
    early, late = check(world, START + DAY), check(world, START + 5 * DAY)
    assert early.cohort.verdict == "labels incomplete"  # positives alone
    assert early.performance.worse is None
    assert late.cohort.delay_seconds == 2 * 86_400
    assert (late.cohort.verdict, late.performance.worse) == ("judged", False)
    assert late.cohort.rows == 900  # those that were incomplete then, too
    assert late.warnings == (
        "outcomes are known at different times, negative after 2 days (90 % after 2 days); positive after 6 h (90 % "
        "after 6 h): write `labels: {complete_after_seconds: 172800}`",
    )
    page = world.store.get(late.report).decode()
    assert "complete_after_seconds: 172800" in page
    assert "estimated from the log" in page


def test_positives_alone_are_never_judged_and_the_line_to_write_is_named(world):
    for day in range(4):
        world.serve(rows(300, START + day * DAY, day), labels_after={1: 6 * HOUR})
    seen = [check(world, START + day * DAY) for day in (1, 2, 3, 4)]
    assert {data.performance.worse for data in seen} == {None}
    assert {data.action for data in seen} == {"none"}
    assert "write `labels: {complete_after_seconds: 21600, absent_means: negative}`" in seen[-1].warnings[-1]


@pytest.mark.parametrize(
    ("after", "advice"),
    [
        ({1: 2 * DAY, 0: 2 * DAY}, "outcomes take longer than stated, negative after 2 days (90 % after 2 days); posi"),
        ({1: 6 * HOUR, 0: 2 * DAY}, "outcomes are known at different times, negative after 2 days (90 % after 2 days)"),
    ],
)
def test_a_stated_delay_that_is_too_short_is_told_with_what_the_log_shows(world, after, advice):
    for day in range(5):
        world.serve(rows(300, START + day * DAY, day), labels_after=after)
    data = check(world, START + 5 * DAY, DAILY)
    assert data.cohort.verdict == "labels incomplete"
    assert data.warnings[1].startswith(advice)
    assert "172800}`" in data.warnings[1]


def test_seconds_beyond_a_stated_delay_are_not_told(world):
    for day in range(5):
        world.serve(rows(300, START + day * DAY, day), labels_after=timedelta(seconds=5))
    assert check(world, START + 5 * DAY, {"delay_seconds": 0}).warnings == ()


def test_an_estimate_of_the_last_day_is_used_again(world, monkeypatch):
    asked = []
    estimate = delays.estimate
    monkeypatch.setattr(delays, "estimate", lambda *given: asked.append(given[2]) or estimate(*given))
    for day in range(2):
        world.serve(rows(600, START + day * DAY, day))
    for hour in (6, 12, 18, 30, 36):
        check(world, START + hour * HOUR)
    assert asked == [START + 6 * HOUR, START + 30 * HOUR]


def test_scores_that_are_no_numbers_are_warned_of(world):
    table = rows(600, START, 1)
    world.serve(table)
    lost = {"_id": ["n1", "n2"], "_time": [START, START], "_version": [world.champion] * 2, "_score": [np.nan, np.inf]}
    appending.append(world.store, world.policy, "predictions", pa.table(lost), writer="other", sequence=1)
    world.label([("n1", 1.0, START), ("n2", 0.0, START)])
    data = check(world, START + DAY, AT_ONCE)
    assert (data.nan_scores, data.cohort.nan_scores, data.cohort.rows) == (2, 2, 600)
    assert data.action == "warn"
    assert data.reasons == ("2 scores of the champion are no finite number",)


def test_arrays_and_the_log_are_judged_alike(world):
    """Labels after half a day or two days, by class; two tables of a day; checks every seven hours."""
    labels = {"delay_seconds": 43_200, "min_coverage": 0.2}
    after = {1: DAY / 2, 0: DAY * 2}
    for day in range(3):
        world.serve(rows(400, START + day * DAY, day), labels_after=after)
    policy = world.rules(labels)
    everything = log.read_window(world.store, policy, START, START + 9 * DAY, columns=["_time", "_score"])
    arrays = {
        "scores": everything["_score"].to_numpy(),
        "labels": everything["_label"].to_numpy(),
        "times": everything["_time"].to_numpy().astype("datetime64[us]"),
        "observed": everything["_observed"].to_numpy().astype("datetime64[us]"),
    }
    last, verdicts = None, set()
    for step in range(1, 15):
        end = START + step * 7 * HOUR
        kept = check(world, end, labels).cohort
        where = outcomes.span(policy, START, last, end, 43_200)
        seen = outcomes.select(policy, where, end, **arrays, delay=43_200).judge(policy)
        last = LastVerdict.after(seen, end)
        verdicts.add(seen.verdict)
        assert seen == replace(kept, delays=None, received=None)  # the log also tells what the policy should say
    assert verdicts == {"not due", "too few labels", "labels incomplete", "judged"}
    assert any(item.late for item in cohorts(world))


@pytest.mark.parametrize("delay", [0, 86_400])
def test_rows_of_a_corrupt_window_are_not_judged_in_its_own_check(world, delay):
    world.serve(rows(600, START, 1), labels_after=timedelta(seconds=delay))
    table = rows(600, START + DAY, 2)
    lost = np.random.default_rng(2).random(600) < 0.7
    broken = table.set_column(1, "amount", pa.array(table["amount"].to_numpy(), mask=lost))
    world.serve(broken, labels_after=timedelta(seconds=delay))
    labels = {"delay_seconds": delay}
    check(world, START + DAY, labels)
    data = check(world, START + 2 * DAY, labels)
    assert data.action == "quarantine"
    assert data.cohort.rows == (600 if delay else 0)
