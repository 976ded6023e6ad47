"""Releases on simulated traffic, judged by the rollout's own judge: what a policy finds, how soon, and at what price.

Requests of both slots fail, and take their time, independently of each other; the share of failures may wander and both
may fail together while the candidate bakes. Both models answer the same rows: one in ten they decide differently.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist, median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.rollout.evidence import SPREADS, Differences, Evidence, Observed, Paired
from kedge.rollout.judge import Decision, judge
from kedge.rollout.model import Span, State, Traffic
from kedge.rollout.sequential import POINTS

Result = Literal["rolled back", "promoted", "held"]
Judge = Callable[[Evidence, Policy], Decision]

START = datetime(2026, 1, 1, tzinfo=UTC)
DIFFERING = 0.1
"""Share of the rows that two equal models decide differently."""
NOISE = 0.3
"""Standard deviation of the difference of two equal models' scores, in standard deviations of the scores."""
MEDIAN_MS, SPREAD = 20.0, 0.5
"""Latency of the champion: log-normal, with this median and this standard deviation of its logarithm."""
EDGES = tuple(round(10 ** (tenth / 10), 1) for tenth in range(3, 34))
"""Upper edges of the latency buckets in ms: ten a decade, as the model server's."""
OUTAGE = 0.5
"""Share of the requests of both that fail in an outage."""
WANDERING_SECONDS = 600.0
"""How long the wandering rate of failures remembers where it was."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The traffic of one service, and how its candidate differs from its champion."""

    rps: float
    """Requests a second, of both together."""
    base_error: float = 0.0
    """Share of the champion's requests that fail."""
    candidate_error: float = 0.0
    """Share of the candidate's requests that fail."""
    latency_ratio: float = 1.0
    """Times the champion's latency that the candidate's is."""
    accuracy_loss: float = 0.0
    """By how much the candidate's share of wrong decisions is above the champion's."""
    score_shift: float = 0.0
    """By how many standard deviations the candidate's scores lie above the champion's."""
    bake_outage: float = 0.0
    """Seconds in the middle of the bake in which half of the requests of both fail."""
    wander: float = 0.0
    """Standard deviation of the logarithm of a factor on both rates of failures, which wanders."""
    label_delay: float | None = 0.0
    """Seconds from a request to its outcome; None: there are none."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One simulated release."""

    result: Result
    seconds: float
    requests: int
    """Of the candidate."""
    bad_answers: int
    """Of the candidate: failed requests."""
    rows: int
    """With an outcome, that both were compared on."""
    steps: tuple[float, ...]
    """Seconds that each step took that was passed."""
    reason: str


class Service:
    """Simulated traffic of both slots, look by look."""

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        self.scenario = scenario
        self._random = random
        self._slow = [_bucket_shares(MEDIAN_MS * ratio) for ratio in (scenario.latency_ratio, 1.0)]
        self._scores = _score_shares(scenario.score_shift)
        self._wander = random.normal()

    def look(self, seconds: float, percent: float, failing: float = 0.0) -> tuple[Traffic, Traffic]:
        """What candidate and champion answered; ``failing``: the share of the time in which both fail together."""
        scenario, random = self.scenario, self._random
        if scenario.wander:
            kept = math.exp(-seconds / WANDERING_SECONDS)
            self._wander = kept * self._wander + math.sqrt(1 - kept * kept) * random.normal()
        factor = math.exp(scenario.wander * self._wander - scenario.wander**2 / 2)
        total = int(random.poisson(scenario.rps * seconds))
        mine = int(random.binomial(total, percent / 100))
        sides = (mine, scenario.candidate_error, self._slow[0]), (total - mine, scenario.base_error, self._slow[1])
        candidate, champion = (
            Traffic(
                requests=requests,
                errors=int(random.binomial(requests, min(rate * factor * (1 - failing) + OUTAGE * failing, 1.0))),
                latency=dict(zip(EDGES, random.multinomial(requests, shares).tolist(), strict=True)),
            )
            for requests, rate, shares in sides
        )
        return candidate, champion

    def decisions(self, rows: int) -> NDArray[np.int64]:
        """Of rows with an outcome: decided wrongly by the candidate alone, by the champion alone, alike."""
        loss = self.scenario.accuracy_loss
        differing = max(DIFFERING, abs(loss))
        worse = (differing + loss) / 2
        return np.asarray(self._random.multinomial(rows, [worse, differing - worse, 1 - differing]))

    def scores(self, rows: int) -> NDArray[np.int64]:
        """Differences of the scores of rows, counted on the grid of the bets."""
        return np.asarray(self._random.multinomial(rows, self._scores))


def release(policy: Policy, scenario: Scenario, random: np.random.Generator, judged: Judge = judge) -> Ended:
    """Simulate one release from its first state with traffic to its end.

    Looks come every ``interval_seconds``, or as a request comes where those are rarer: without one nothing changes but
    the clock.
    """
    return _Run(policy, scenario, random, judged).end()


class _Run:
    """A simulated release under way."""

    def __init__(self, policy: Policy, scenario: Scenario, random: np.random.Generator, judged: Judge) -> None:
        self._policy, self._judged = policy, judged
        self._service = Service(scenario, random)
        interval = policy.release.interval_seconds
        self._interval = interval * max(1, math.ceil(1 / (scenario.rps * interval)))
        self._clock = 0.0
        self._undue: deque[tuple[float, int]] = deque()
        self._decided = np.zeros(3, dtype=np.int64)
        self._shifts = np.zeros(POINTS, dtype=np.int64)
        self._spans: tuple[Observed, ...] = ()
        self._steps: tuple[float, ...] = ()

    def end(self) -> Ended:
        """Span after span until one does not go on."""
        result: Result = "promoted"
        decision = None
        for state, percent in planned_spans(self._policy):
            decision = self._span(state, percent)
            if decision.action != "advance":
                result = "rolled back" if decision.action == "roll back" else "held"
                break
        traffic = [seen.span.candidate for seen in self._spans]
        return Ended(
            result=result,
            seconds=self._clock,
            requests=sum(each.requests for each in traffic),
            bad_answers=sum(each.errors for each in traffic),
            rows=int(self._decided.sum()),
            steps=self._steps,
            reason="; ".join(decision.reasons) if decision else "",
        )

    def _span(self, state: State, percent: int) -> Decision:
        """Look until the span ends."""
        release, began = self._policy.release, self._clock
        candidate = champion = Traffic(latency=dict.fromkeys(EDGES, 0))
        while True:
            failing = self._failing(state, self._clock - began)
            more, champion_more = self._service.look(self._interval, percent, failing)
            self._clock += self._interval
            candidate, champion = _sum(candidate, more), _sum(champion, champion_more)
            self._score(more.requests + (0 if state == "shadow" else champion_more.requests))
            span = Span(state=state, percent=percent, began=START, candidate=candidate, champion=champion)
            seen = Observed(span=span, paired=self._paired())
            spans, lasted = (*self._spans, seen), self._clock - began
            decision = self._judged(Evidence(observed=spans, seconds=lasted), self._policy)
            late = state != "bake" and lasted >= release.max_step_seconds
            if decision.action != "hold" or late:
                self._spans = spans
                self._steps += (lasted,) if decision.action == "advance" else ()
                return decision

    def _failing(self, state: State, lasted: float) -> float:
        """Share of the next look in which both fail together: an outage in the middle of the bake."""
        length = self._service.scenario.bake_outage
        if state != "bake" or not length:
            return 0.0
        start = max(self._policy.release.bake_seconds - length, 0.0) / 2
        overlap = min(lasted + self._interval, start + length) - max(lasted, start)
        return min(max(overlap, 0.0) / self._interval, 1.0)

    def _score(self, requests: int) -> None:
        """Have both score new rows, and compare those whose outcomes are due by now."""
        self._shifts += self._service.scores(requests)
        delay = self._service.scenario.label_delay
        if delay is None:
            return
        self._undue.append((self._clock + delay, requests))
        while self._undue and self._undue[0][0] <= self._clock:
            self._decided += self._service.decisions(self._undue.popleft()[1])

    def _paired(self) -> Paired:
        worse, better, alike = self._decided.tolist()
        counts = [0.0] * POINTS
        counts[0], counts[POINTS // 2], counts[-1] = float(better), float(alike), float(worse)
        decided = Differences(counts=tuple(counts), rows=worse + better + alike)
        shifts = self._shifts.tolist()
        return Paired(decisions=decided, losses=decided, scores=Differences(counts=tuple(shifts), rows=sum(shifts)))


def planned_spans(policy: Policy) -> Iterator[tuple[State, int]]:
    """States with traffic, and the candidate's share in each."""
    release = policy.release
    if release.shadow_percent > 0:
        yield "shadow", release.shadow_percent
    for step in release.steps:
        yield "canary", step.percent
    yield "bake", 100 - release.bake_champion_percent


def _sum(left: Traffic, right: Traffic) -> Traffic:
    latency = {edge: count + right.latency[edge] for edge, count in left.latency.items()}
    return Traffic(requests=left.requests + right.requests, errors=left.errors + right.errors, latency=latency)


def _bucket_shares(middle: float) -> NDArray[np.float64]:
    """Shares of a log-normal latency in the buckets."""
    below = [0.5 * math.erfc(-math.log(edge / middle) / SPREAD / math.sqrt(2)) for edge in EDGES[:-1]]
    return np.diff([0.0, *below, 1.0])


def _score_shares(shift: float) -> NDArray[np.float64]:
    """Shares of differences of the scores at the points of the grid, of a normal difference."""
    quantiles = [NormalDist(shift, NOISE).inv_cdf((step + 0.5) / 2001) / SPREADS for step in range(2001)]
    return np.asarray(Differences.of(quantiles).counts) / len(quantiles)


def simulate(policy: Policy, scenario: Scenario, *, rollouts: int, seed: int) -> Iterator[Ended]:
    """Independent releases, each with random numbers of its own: of more of them, the first stay what they were."""
    streams = np.random.SeedSequence(seed).spawn(rollouts)
    for stream in streams:
        yield release(policy, scenario, np.random.default_rng(stream))


def summary(ended: Sequence[Ended]) -> dict[str, float | None]:
    """Shares of the releases by their end, and medians over those rolled back (None: there are none).

    >>> from dataclasses import replace
    >>> one = Ended(result="promoted", seconds=5.0, requests=9, bad_answers=0, rows=0, steps=(), reason="")
    >>> summary([one, replace(one, result="rolled back")])["rolled_back"]
    0.5
    """
    taken = [each for each in ended if each.result == "rolled back"]

    def share(result: Result) -> float:
        return sum(each.result == result for each in ended) / len(ended)

    return {
        "rollouts": len(ended),
        "rolled_back": share("rolled back"),
        "promoted": share("promoted"),
        "held": share("held"),
        "median_candidate_requests": median(each.requests for each in taken) if taken else None,
        "median_bad_answers": median(each.bad_answers for each in taken) if taken else None,
        "median_seconds": median(each.seconds for each in taken) if taken else None,
    }
