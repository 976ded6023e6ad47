"""What checks make of labels that arrive late, or never, when nothing changes and when the error rises.

    python benchmarks/labels.py              20 streams a case, about half an hour on one core
    python benchmarks/labels.py --quick      2 short streams a case, a minute

A calibrated model scores rows of which few are positive; from one day on, where the error rises, a share of the
outcomes no longer depends on the score. Each check judges what a check of the running parts judges (`outcomes.span`,
`outcomes.select`, `cohort.judge`, `performance.judge`), and beside it what a check judged that took whatever labels
became known in its window. Both call the loss worse at the policy's defaults. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import measure, policy
from kedge.monitoring import performance
from kedge.monitoring.cohort import in_time_order
from kedge.monitoring.outcomes import LastVerdict, select, span
from kedge.monitoring.performance import Reference
from kedge.policy import Policy
from kedge.tables import delays

Floats = NDArray[np.float64]
START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 86_400.0
NEVER = np.inf
POSITIVE_SHARE = 0.12
ROWS, REFERENCE_ROWS = 1_000, 4_000
NEAR = 80.0
"""Days that a check can reach back."""
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
CASES = (
    Case("all at once", at_once, {"delay_seconds": 0}),
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


@dataclass(frozen=True)
class Look:
    """What one check said."""

    end: float
    worse: bool | None
    ratio: float
    """Loss over the reference's; NaN without a verdict."""
    rows: int


def looks(case: Case, stream: Stream, reference: Reference, days: int, every: float) -> Iterator[Look]:
    """One check after another, as they judge now."""
    rules = policy_of(case)
    times, observed = stream.instants
    last: LastVerdict | None = None
    delay, estimated = rules.labels.due_seconds, -np.inf
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
        if judged.verdict != "judged":
            yield Look(float(end_days), None, np.nan, 0)
            continue
        scores, labels = in_time_order(rules, due.scores, due.labels, due.times, due.late)
        yield verdict(rules, scores, labels, reference, float(end_days))


def looks_before(case: Case, stream: Stream, reference: Reference, days: int, every: float) -> Iterator[Look]:
    """One check after another, as they judged by the time of the label, in a window of a day."""
    rules = policy_of(case)
    order = np.argsort(stream.observed, kind="stable")
    observed = stream.observed[order]
    for end in np.arange(every, days + every / 2, every):
        chosen = np.sort(order[np.searchsorted(observed, end - 1) : np.searchsorted(observed, end)])
        yield verdict(rules, stream.scores[chosen], stream.labels[chosen], reference, float(end))


def verdict(rules: Policy, scores: Floats, labels: Floats, reference: Reference, end: float) -> Look:
    seen = performance.judge(rules.model, scores, labels, reference, rules.monitor.performance)
    ratio = seen.loss.value / reference.loss if seen.loss is not None else np.nan
    return Look(end, seen.worse, ratio, seen.rows)


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


def reference_of(rng: np.random.Generator) -> Reference:
    stream = draw(CASES[0], rng, REFERENCE_ROWS, 1)
    losses = measure.losses("binary", stream.labels, stream.scores)
    return Reference(loss=float(losses.mean()), rows=len(losses))


def alarm(seen: list[Look]) -> float | None:
    """End of the second check in a row that was worse; checks without a verdict count neither way."""
    verdicts = [look for look in seen if look.worse is not None]
    return next((second.end for first, second in pairwise(verdicts) if first.worse and second.worse), None)


def quiet(streams: int, days: int, rows: int) -> None:
    print(f"\nQuiet: {streams} streams of {days} daily checks, {rows} rows a day.\n")
    print("| outcomes | judged | loss over reference, days 1-30; later | called worse | alarm | before: the same |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        now: list[list[Look]] = []
        before: list[list[Look]] = []
        for seed in range(streams):
            rng = np.random.default_rng([seed, 1])
            reference, stream = reference_of(rng), draw(case, rng, rows, days)
            now.append(list(looks(case, stream, reference, days, 1)))
            before.append(list(looks_before(case, stream, reference, days, 1)))
        print(
            f"| {case.name} | {_judged(now, rows * days)} | {_figures(now)} | {_figures(before).replace(' | ', '; ')} |"
        )


def _judged(seen: list[list[Look]], rows: int) -> str:
    return f"{np.mean([sum(look.rows for look in stream) / rows for stream in seen]):.0%}"


def _figures(seen: list[list[Look]]) -> str:
    every = [look for stream in seen for look in stream if look.worse is not None]
    early, late = ([look.ratio for look in every if (look.end <= 30) == first] for first in (True, False))
    worse = np.mean([bool(look.worse) for look in every]) if every else np.nan
    alarms = sum(alarm(stream) is not None for stream in seen)
    return f"{_mean(early)}; {_mean(late)} | {'-' if np.isnan(worse) else f'{worse:.1%}'} | {alarms} of {len(seen)}"


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "-"


def hourly(streams: int, days: int) -> None:
    print(f"\nQuiet, hourly checks of a day's window, {streams} months of {days} days; all outcomes at once.\n")
    print("| rows a day | looks with a verdict a month | called worse | alarm | before: looks, worse, alarm |")
    print("|---|---|---|---|---|")
    for rows in (240, 1_000, 5_000):
        case, now, before = CASES[0], [], []
        for seed in range(streams):
            rng = np.random.default_rng([seed, 2, rows])
            reference, stream = reference_of(rng), draw(case, rng, rows, days)
            now.append(list(looks(case, stream, reference, days, 1 / 24)))
            before.append(list(looks_before(case, stream, reference, days, 1 / 24)))
        print(f"| {rows:,} | {' | '.join(_hourly(now))} | {', '.join(_hourly(before))} |")


def _hourly(seen: list[list[Look]]) -> tuple[str, str, str]:
    every = [look for stream in seen for look in stream if look.worse is not None]
    alarms = sum(alarm(stream) is not None for stream in seen)
    worse = np.mean([bool(look.worse) for look in every])
    return f"{len(every) / len(seen):.0f}", f"{worse:.2%}", f"{alarms} of {len(seen)}"


def rising(streams: int, rows: int, rise: int) -> None:
    days = rise + 60
    print(f"\nThe error rises on day {rise}: {streams} streams of {days} daily checks, {rows} rows a day.\n")
    print("| outcomes | seen in | days from the rise to the alarm, median | less the delay until they are due |")
    print("|---|---|---|---|")
    for case in CASES:
        due = policy_of(case).labels.due_seconds
        found = []
        for seed in range(streams):
            rng = np.random.default_rng([seed, 3])
            reference, stream = reference_of(rng), draw(case, rng, rows, days, rise)
            end = alarm([look for look in looks(case, stream, reference, days, 1) if look.end > rise])
            if end is not None:
                found.append(end - rise)
        median = f"{np.median(found):.0f}" if found else "-"
        less = f"{np.median(found) - due / DAY:.0f}" if found and due is not None else "-"
        print(f"| {case.name} | {len(found)} of {streams} | {median} | {less} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few streams, for CI")
    parser.add_argument("--streams", type=int, default=0, help="streams a case; 0: 20, or 2 if quick")
    options = parser.parse_args()
    streams = options.streams or (2 if options.quick else 20)
    quiet(streams, 45 if options.quick else 200, ROWS)
    hourly(streams if options.quick else 2 * streams, 7 if options.quick else 30)
    rising(streams, ROWS, 10 if options.quick else 60)


if __name__ == "__main__":
    main()
