"""How often the alarm opens without cause, how soon with one, and how labels that arrive late change that.

    python benchmarks/alarm.py              about half an hour on one core
    python benchmarks/alarm.py --quick      a minute, for CI
    python benchmarks/alarm.py --parts quiet delays months labels rise signals expected

Everything is judged by the functions of a check (`outcomes.span`, `outcomes.select`, `cohort.judge`, `alarm.observe`)
at the policy's defaults; `signals` by the whole `check.observe`, and `expected` by `estimate.expect`. `quiet` and
`delays` draw the wrong decisions of each look alone; `months`, `labels` and `rise` draw rows with scores, outcomes and
times: a calibrated model scores rows of which few are positive, and where the error rises half of the outcomes no
longer depend on the score. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import drift, policy
from kedge.measure import losses
from kedge.monitoring import alarm, check, cohort
from kedge.monitoring.alarm import Alarm, Span
from kedge.monitoring.check import ChampionReference, Rows
from kedge.monitoring.decide import drifted, largest_cost
from kedge.monitoring.estimate import Calibration, expect, recorded
from kedge.monitoring.outcomes import LastVerdict, select, span
from kedge.monitoring.window import summarized
from kedge.policy import Policy
from kedge.records import Champion, Reference, Window
from kedge.tables import delays
from kedge.training.estimators import calibration

Floats = NDArray[np.float64]
START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 86_400.0
NEVER = np.inf
POSITIVE_SHARE = 0.12
ROWS, REFERENCE_ROWS = 1_000, 4_000
NEAR = 45.0
"""Days that a check looks back: the longest delay, a window and the days in which late labels are judged."""
UNRELATED = 0.5
"""Share of outcomes that no longer depend on the score, where the error rises."""


@dataclass(frozen=True)
class Case:
    """How outcomes arrive, and what the policy says of it."""

    name: str
    arrive: Callable[[np.random.Generator, NDArray[np.bool_]], Floats]
    """From which rows are positive to the days until each outcome is known."""
    labels: dict[str, Any]


def split(positive: Floats, negative: Floats | float, which: NDArray[np.bool_]) -> Floats:
    return np.where(which, positive, negative)


def fraud(rng: np.random.Generator, positive: NDArray[np.bool_]) -> Floats:
    """Positives after 3 days on average, negatives on day 30."""
    return split(rng.exponential(3.0, len(positive)), 30.0, positive)


def told_frauds(rng: np.random.Generator, positive: NDArray[np.bool_]) -> Floats:
    """Positives after 3 days on average, negatives never."""
    return split(rng.exponential(3.0, len(positive)), NEVER, positive)


def at_once(rng: np.random.Generator, positive: NDArray[np.bool_]) -> Floats:
    return np.zeros(len(positive))


def scattered(rng: np.random.Generator, positive: NDArray[np.bool_]) -> Floats:
    """Within three days, whatever the outcome."""
    return rng.uniform(0, 3.0, len(positive))


def sampled(rng: np.random.Generator, positive: NDArray[np.bool_]) -> Floats:
    """One row in ten is looked at by people, within a day."""
    return np.where(rng.random(len(positive)) < 0.1, rng.uniform(0, 1.0, len(positive)), NEVER)


MONTH = {"complete_after_seconds": 30 * DAY}
AT_ONCE = Case("all at once", at_once, {"delay_seconds": 0})
CASES = (
    AT_ONCE,
    Case("positives after 3 days, negatives on day 30; stated", fraud, MONTH),
    Case("the same, nothing stated", fraud, {}),
    Case("the same, a week stated", fraud, {"delay_seconds": 7 * DAY}),
    Case("only positives; stated, absent means negative", told_frauds, {**MONTH, "absent_means": "negative"}),
    Case("only positives, nothing stated", told_frauds, {}),
    Case("within three days, nothing stated", scattered, {}),
    Case("a tenth is looked at; min_coverage 0.05", sampled, {"delay_seconds": DAY, "min_coverage": 0.05}),
)


@dataclass(frozen=True)
class Stream:
    """Rows in time order; times in days since the start."""

    days: Floats
    scores: Floats
    labels: Floats
    observed: Floats
    """When each outcome became known; infinite: never."""

    @property
    def instants(self) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
        """When each row was predicted and its outcome known."""
        known = np.isfinite(self.observed)
        observed = np.full(len(known), np.datetime64("NaT"), "datetime64[us]")
        observed[known] = instants(self.observed[known])
        return instants(self.days), observed


def instants(days: Floats) -> NDArray[np.datetime64]:
    return np.datetime64(START.replace(tzinfo=None), "us") + (days * DAY * 1e6).astype("timedelta64[us]")


def draw(case: Case, rng: np.random.Generator, rows: int, days: int, rise: float = np.inf) -> Stream:
    times = np.sort(rng.uniform(0, days, rows * days))
    scores = rng.beta(0.4, 0.4 * (1 - POSITIVE_SHARE) / POSITIVE_SHARE, len(times))
    scores = np.clip(scores, 1e-4, 1 - 1e-4)
    unrelated = (times >= rise) & (rng.random(len(times)) < UNRELATED)
    chance = np.where(unrelated, POSITIVE_SHARE, scores)
    positive = rng.random(len(times)) < chance
    return Stream(times, scores, positive.astype(float), times + case.arrive(rng, positive))


def policy_of(case: Case, window: float = DAY) -> Policy:
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    rules = {"model": model, "data": {"source": {"format": "log"}}, "labels": case.labels}
    return policy.parse({**rules, "monitor": {"window_seconds": window}})


def looks(case: Case, stream: Stream, reference: Span, days: int, every: float) -> Iterator[tuple[float, int, Alarm]]:
    """Check after check: its end in days, the rows it judged, and the alarm after it."""
    rules = policy_of(case)
    times, observed = stream.instants
    last: LastVerdict | None = None
    state, delay, estimated = Alarm(baseline=reference), rules.labels.due_seconds, -np.inf
    for end_days in np.arange(every, days + every / 2, every):
        end = START + timedelta(days=float(end_days))
        if rules.labels.due_seconds is None and end_days - estimated >= 1:
            delay = estimate(rules, stream, float(end_days)) or 0.0
            estimated = end_days
        where = span(rules, START, last, end, delay or 0.0)
        near = slice(*np.searchsorted(times, instants(np.array([end_days - NEAR, end_days]))))
        due = select(
            rules,
            where,
            end,
            scores=stream.scores[near],
            labels=stream.labels[near],
            times=times[near],
            observed=observed[near],
            delay=delay or 0.0,
        )
        judged = due.judge(rules)
        last = LastVerdict.after(judged, end)
        state = observe(state, Span(rows=judged.rows, total=judged.cost, square=judged.cost_square, end=end), rules)
        yield float(end_days), judged.rows, state


def observe(state: Alarm, look: Span, rules: Policy) -> Alarm:
    limits = rules.monitor.performance
    return alarm.observe(state, look, bound=largest_cost(rules.model), min_increase=limits.min_increase)


def estimate(rules: Policy, stream: Stream, end: float) -> float | None:
    """The delay as a check estimates it from the log."""
    recent = (stream.days < end) & (stream.days >= end - delays.MAX_AGE.days)
    known = stream.observed[recent] <= end
    times, observed = (values[recent] for values in stream.instants)
    table = pa.table(
        {
            "_time": times,
            "_observed": np.where(known, observed, np.datetime64("NaT")),
            "_label": pa.array(stream.labels[recent], mask=~known),
        }
    )
    return delays.of(rules, table, START + timedelta(days=end)).due_seconds


def reference_of(rng: np.random.Generator) -> Span:
    """The champion's holdout."""
    stream = draw(AT_ONCE, rng, REFERENCE_ROWS, 1)
    wrong = cohort.costs(policy_of(AT_ONCE).model, stream.scores, stream.labels)
    return Span(rows=len(wrong), total=float(wrong.sum()), square=float(wrong @ wrong), end=START)


def opened(seen: Iterator[tuple[float, int, Alarm]], after: float = 0.0) -> float | None:
    """End of the first check that found the alarm open, in days; what opened before is no answer."""
    return next((end for end, _, state in seen if state.open and end > after), None)


def counted(rng: np.random.Generator, rows: int, rates: NDArray[np.float64], reference_rows: int) -> Iterator[Alarm]:
    """The alarm look by look, each of so many rows, wrong at these rates; the reference is drawn at the first."""
    limits = policy_of(AT_ONCE)
    wrong = int(rng.binomial(reference_rows, rates[0]))
    state = Alarm(baseline=Span(rows=reference_rows, total=wrong, square=wrong, end=START))
    for number, wrong in enumerate(rng.binomial(rows, rates).tolist(), 1):
        look = Span(rows=rows, total=wrong, square=wrong, end=START + timedelta(hours=number))
        state = observe(state, look, limits)
        yield state


def quiet(streams: int) -> None:
    """Looks at counts alone: the level of the test itself."""
    print(f"\nQuiet: {streams} streams a cell; share in which the alarm ever opened.\n")
    print("| rows a look | wrong | reference rows | within 200 looks | within 720 looks |\n|---|---|---|---|---|")
    for rows in (100, 1_000):
        for rate in (0.02, 0.1, 0.35):
            for reference_rows in (500, 4_000):
                first = [
                    next((k for k, state in enumerate(one, 1) if state.open), math.inf)
                    for one in (
                        counted(np.random.default_rng([seed, 4, rows]), rows, np.full(720, rate), reference_rows)
                        for seed in range(streams)
                    )
                ]
                shares = " | ".join(_share(sum(k <= looks for k in first), streams) for looks in (200, 720))
                print(f"| {rows:,} | {rate:.0%} | {reference_rows:,} | {shares} |", flush=True)


BEFORE, AFTER = (0.10, 0.15)
QUIET_LOOKS, LOOKS = 50, 200


def delay_of(streams: int) -> None:
    """Against Page's CUSUM that is told both rates, at the false-alarm rate of the alarm within 200 looks."""
    print(f"\nError {BEFORE:.0%} to {AFTER:.0%} after {QUIET_LOOKS} quiet looks; {streams} streams a line.\n")
    print(
        "| labels a check | reference rows | false alarms in 200 looks | checks until seen | CUSUM | ratio of means |"
    )
    print("|---|---|---|---|---|---|")
    for rows in (100, 250, 1_000):
        for reference_rows in (500, 4_000):
            alarms, found = 0, []
            for seed in range(streams):
                rng = np.random.default_rng([seed, 5, rows])
                alarms += any(state.open for state in counted(rng, rows, np.full(LOOKS, BEFORE), reference_rows))
                rates = np.repeat([BEFORE, AFTER], [QUIET_LOOKS, LOOKS])
                states = list(counted(rng, rows, rates, reference_rows))
                if not states[QUIET_LOOKS - 1].open:
                    found.append(next(k for k, state in enumerate(states[QUIET_LOOKS:], 1) if state.open))
            known = cusum_delays(np.random.default_rng([6, rows]), rows, max(alarms, 1) / streams)
            print(
                f"| {rows:,} | {reference_rows:,} | {_share(alarms, streams)} | {_delay(found)} | {_delay(known)} | "
                f"{np.mean(found) / np.mean(known):.2f} |",
                flush=True,
            )


def cusum_delays(rng: np.random.Generator, rows: int, false_alarms: float, streams: int = 4_000) -> list[int]:
    """Looks until a CUSUM sees the change, of the streams in which it was silent before (E. S. Page, 1954)."""

    def walk(rates: NDArray[np.float64]) -> NDArray[np.float64]:
        wrong = rng.binomial(rows, rates, (streams, len(rates)))
        gain = wrong * math.log(AFTER / BEFORE) + (rows - wrong) * math.log((1 - AFTER) / (1 - BEFORE))
        walked = np.zeros_like(gain)
        for look in range(len(rates)):
            walked[:, look] = np.maximum(0.0, (walked[:, look - 1] if look else 0.0) + gain[:, look])
        return walked

    threshold = np.quantile(walk(np.full(LOOKS, BEFORE)).max(axis=1), 1 - false_alarms)
    above = walk(np.repeat([BEFORE, AFTER], [QUIET_LOOKS, LOOKS])) > threshold
    silent = ~above[:, :QUIET_LOOKS].any(axis=1)
    return (above[silent, QUIET_LOOKS:].argmax(axis=1) + 1).tolist()


def months(streams: int, days: int) -> None:
    """Hourly checks of a day's window."""
    print(f"\nQuiet, hourly checks of a day's window, {streams} months of {days} days; all outcomes at once.\n")
    print("| rows a day | looks with a verdict a month | months with an alarm |\n|---|---|---|")
    for rows in (240, 1_000, 5_000):
        alarms, verdicts = 0, 0
        for seed in range(streams):
            rng = np.random.default_rng([seed, 2, rows])
            reference, stream = reference_of(rng), draw(AT_ONCE, rng, rows, days)
            seen = list(looks(AT_ONCE, stream, reference, days, 1 / 24))
            alarms += opened(iter(seen)) is not None
            verdicts += sum(judged > 0 for _, judged, _ in seen)
        print(f"| {rows:,} | {verdicts / streams:.0f} | {_share(alarms, streams)} |", flush=True)


def late(streams: int, days: int) -> None:
    """Daily checks of labels that arrive in several ways, when nothing changes."""
    print(f"\nQuiet: {streams} streams of {days} daily checks, {ROWS} rows a day.\n")
    print("| outcomes | rows judged | streams with an alarm |\n|---|---|---|")
    for case in CASES:
        alarms, judged = 0, 0
        for seed in range(streams):
            rng = np.random.default_rng([seed, 1])
            seen = list(looks(case, draw(case, rng, ROWS, days), reference_of(rng), days, 1))
            alarms += opened(iter(seen)) is not None
            judged += sum(rows for _, rows, _ in seen)
        share = judged / (streams * days * ROWS)
        print(f"| {case.name} | {share:.0%} | {_share(alarms, streams)} |", flush=True)


def rise(streams: int, day: int) -> None:
    """Daily checks of the same, when the error rises on a day."""
    days = day + 60
    print(f"\nThe error rises on day {day}: {streams} streams of {days} daily checks, {ROWS} rows a day.\n")
    print("| outcomes | seen in | checks from the rise, median | less the delay until they are due |")
    print("|---|---|---|---|")
    for case in CASES:
        due, found = policy_of(case).labels.due_seconds, []
        for seed in range(streams):
            rng = np.random.default_rng([seed, 3])
            stream = draw(case, rng, ROWS, days, day)
            end = opened(looks(case, stream, reference_of(rng), days, 1), day)
            found += [end - day] if end is not None else []
        median = f"{np.median(found):.0f}" if found else "-"
        less = f"{np.median(found) - due / DAY:.0f}" if found and due is not None else "-"
        print(f"| {case.name} | {len(found)} of {streams} | {median} | {less} |", flush=True)


def signals(streams: int, days: int) -> None:
    """Hourly checks of a day's window by a whole check: what warns without the labelled error."""
    print(f"\nQuiet, hourly checks of a day's window: {streams} months of {days} days; months in which was called\n")
    print(f"| rows a day | {' | '.join(CALLED)} | any of what warns |\n|---|{'---|' * (len(CALLED) + 1)}")
    for rows in (240, 1_000, 5_000):
        months = [month(np.random.default_rng([seed, 7, rows]), rows, days) for seed in range(streams)]
        counts = [_share(sum(name in seen for seen in months), streams) for name in CALLED]
        any_of = _share(sum(bool(seen - {"scores", "outcomes"}) for seen in months), streams)
        print(f"| {rows:,} | {' | '.join(counts)} | {any_of} |", flush=True)


CALLED = ("columns", "pairs", "scores", "outcomes", "estimate")
FEATURES = ("a", "b", "c", "d", "e")
SERVED = policy.parse(
    {
        "model": {"name": "m", "target": "y", "features": {name: {"type": "number"} for name in FEATURES}},
        "data": {"source": {"format": "log"}},
        "labels": {"delay_seconds": 0},
    }
)


def served(rng: np.random.Generator, rows: int) -> tuple[dict[str, Floats], Floats]:
    """Five features of which two belong together, the scores of a model that is right about them, and outcomes."""
    columns = {name: rng.standard_normal(rows) for name in FEATURES}
    columns["b"] += columns["a"]
    scores = 1 / (1 + np.exp(2 - 1.5 * columns["a"] + columns["c"]))
    return {**columns, "_score": scores}, (rng.random(rows) < scores).astype(float)


def month(rng: np.random.Generator, rows: int, days: int) -> set[str]:
    columns, labels = served(rng, REFERENCE_ROWS)
    profile = drift.build(pa.table({**columns, "_label": labels}).to_batches(), dependence=FEATURES)
    metrics = calibration(labels, columns["_score"])
    loss = float(losses("binary", labels, columns["_score"]).mean())
    reference = ChampionReference(
        profile=profile, loss=Reference(loss=loss, rows=REFERENCE_ROWS), calibration=recorded(metrics)
    )
    champion = Champion(bundle="a" * 40, since=START, tenure_id="promoted/a")
    columns, labels = served(rng, rows * days)
    times = instants(np.sort(rng.uniform(0, days, rows * days)))
    table = pa.table({"_time": times, "_version": pa.array([champion.bundle] * len(times)), **columns})
    called: set[str] = set()
    last: LastVerdict | None = None
    for hour in range(24, 24 * days + 1):
        end = START + timedelta(hours=hour)
        first, stop = np.searchsorted(times, instants(np.array([hour / 24 - 1, hour / 24])))
        where = span(SERVED, START, last, end, 0.0)
        due = select(
            SERVED, where, end, scores=columns["_score"], labels=labels, times=times, observed=times, delay=0.0
        )
        window = Window(start=end - timedelta(days=1), end=end)
        rows_seen = Rows(
            champion=champion,
            window=window,
            served=summarized(SERVED, profile, [table.slice(first, stop - first)], champion.bundle),
            outcomes=due,
        )
        seen = check.observe(SERVED, reference, rows_seen)
        last = LastVerdict.after(seen.cohort, end)
        found = (
            drifted(SERVED, seen),
            bool(seen.inputs.pairs),
            bool(seen.scores.drifted),
            bool(seen.outcomes.drifted),
            seen.estimate is not None and bool(seen.estimate.risen),
        )
        called |= {name for name, yes in zip(CALLED, found, strict=True) if yes}
    return called


def expected(streams: int) -> None:
    """The interval of the loss expected without labels, and how often it is called risen where it is not."""
    print(f"\nLoss expected without labels, {streams} draws a line; the model is too sure (slope 0.7).\n")
    print("| reference rows | window rows | window | loss | 95 % interval covers | called risen at 5 %; 1 % |")
    print("|---|---|---|---|---|---|")
    for reference_rows, rows in ((500, 1_000), (500, 5_000), (4_000, 1_000)):
        for name, centre, spread in WINDOWS:
            rng = np.random.default_rng([8, reference_rows, rows])
            truth, covered, p_values = (
                mean_loss(too_sure(np.random.default_rng(0), 2_000_000, centre, spread)[0]),
                0,
                [],
            )
            for _ in range(streams):
                scores, labels = too_sure(rng, reference_rows, *WINDOWS[0][1:])
                reference = Reference(loss=float(losses("binary", labels, scores).mean()), rows=reference_rows)
                seen = expect(
                    SERVED.model,
                    too_sure(rng, rows, centre, spread)[0],
                    recorded(calibration(labels, scores)),
                    reference,
                    min_rows=20,
                    level=0.01,
                    min_increase=0.0,
                )
                assert seen is not None
                assert seen.loss is not None
                assert seen.p_value is not None
                covered += seen.loss.low <= truth <= seen.loss.high
                p_values.append(seen.p_value)
            calls = "; ".join(f"{np.mean(np.array(p_values) <= level):.1%}" for level in (0.05, 0.01))
            share = f"{covered / streams:.1%}"
            print(f"| {reference_rows:,} | {rows:,} | {name} | {truth:.3f} | {share} | {calls} |", flush=True)


WINDOWS = (("as the reference", -2.0, 1.5), ("other rows, same loss", -1.3, 1.9688), ("harder rows", -1.0, 1.5))
"""Mean and standard deviation of the log-odds."""
TOO_SURE = Calibration(intercept=0.3, slope=0.7)


def too_sure(rng: np.random.Generator, rows: int, centre: float, spread: float) -> tuple[Floats, Floats]:
    scores = 1 / (1 + np.exp(-rng.normal(centre, spread, rows)))
    return scores, (rng.random(rows) < TOO_SURE.apply(scores)).astype(float)


def mean_loss(scores: Floats) -> float:
    """What these scores cost on average, in nats."""
    return float(losses("binary", TOO_SURE.apply(scores), scores).mean())


def _share(count: int, streams: int) -> str:
    return f"{count} of {streams}"


def _delay(checks: list[int]) -> str:
    return f"{np.median(checks):.0f} (mean {np.mean(checks):.1f})"


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few streams, for CI")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    quick = options.quick
    parts: dict[str, Callable[[], None]] = {
        "quiet": lambda: quiet(3 if quick else 100),
        "delays": lambda: delay_of(10 if quick else 200),
        "months": lambda: months(1 if quick else 60, 7 if quick else 30),
        "labels": lambda: late(1 if quick else 40, 60 if quick else 200),
        "rise": lambda: rise(1 if quick else 20, 10 if quick else 30),
        "signals": lambda: signals(1 if quick else 5, 2 if quick else 30),
        "expected": lambda: expected(10 if quick else 1_000),
    }
    for name in options.parts:
        parts[name]()


PARTS = ("quiet", "delays", "months", "labels", "rise", "signals", "expected")

if __name__ == "__main__":
    main()
