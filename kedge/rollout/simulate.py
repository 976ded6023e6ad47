"""Releases on simulated traffic, judged by the rollout's own judge: what a policy finds, how soon, and at what price.

Requests of both slots fail, and take their time, independently of each other; the share of failures may wander and both
may fail together while the candidate bakes. Both models answer the same rows: one in ten they decide differently.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from statistics import NormalDist, median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kedge.errors import UsageError
from kedge.policy import Policy
from kedge.rollout import states
from kedge.rollout.evidence import MAX_ROWS, SPREADS, Differences, Evidence, Observed, Outcomes, Paired
from kedge.rollout.judge import Decision, judge
from kedge.rollout.model import Span, State, Traffic
from kedge.rollout.sequential import POINTS

Result = Literal["rolled back", "promoted", "held"]
Judge = Callable[[Evidence, Policy], Decision]

START = datetime(2026, 1, 1, tzinfo=UTC)
DIFFERING = 0.1
"""Share of the rows that two equal models decide differently."""
WRONG = 0.1
"""Share of the champion's decisions that are wrong; counts only where both are not asked about the same rows."""
NOISE = 0.3
"""Standard deviation of the difference of two equal models' scores, in standard deviations of the scores."""
MEDIAN_MS, SPREAD = 20.0, 0.5
"""Latency of the champion: log-normal, with this median and this standard deviation of its logarithm."""
EDGES = tuple(round(10 ** (tenth / 10), 1) for tenth in range(3, 34))
"""Upper edges of the latency buckets in ms: ten a decade, as the model server's."""
OUTAGE = 0.5
"""Share of the requests of both that fail in an outage."""
LOOKS = 100
"""A look is at most this part of the age of its span: a release ends at most one in a hundred later for it."""
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
    """Of the candidate, copies among them."""
    bad_answers: int
    """Of the candidate: failed requests; copies are nobody's."""
    rows: int
    """With an outcome, that both were compared on; of the candidate's own where features are private."""
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

    def look(
        self, seconds: float, percent: float, failing: float = 0.0, *, copies: bool = False
    ) -> tuple[Traffic, Traffic]:
        """What candidate and champion answered.

        Args:
            seconds: Length of the look.
            percent: Of the requests that reach the candidate.
            failing: Share of the time in which both fail together.
            copies: Whether the candidate gets copies, and the champion all requests.
        """
        scenario, random = self.scenario, self._random
        if scenario.wander:
            kept = math.exp(-seconds / WANDERING_SECONDS)
            self._wander = kept * self._wander + math.sqrt(1 - kept * kept) * random.normal()
        factor = math.exp(scenario.wander * self._wander - scenario.wander**2 / 2)
        total = int(random.poisson(scenario.rps * seconds))
        mine = int(random.binomial(total, percent / 100))
        sides = (
            (mine, scenario.candidate_error, self._slow[0]),
            (total if copies else total - mine, scenario.base_error, self._slow[1]),
        )
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

    def wrong(self, rows: int, champion_rows: int) -> tuple[int, int]:
        """Of rows with an outcome that only one of them answered: decided wrongly by the candidate, by the champion."""
        share = min(max(WRONG + self.scenario.accuracy_loss, 0.0), 1.0)
        return int(self._random.binomial(rows, share)), int(self._random.binomial(champion_rows, WRONG))

    def scores(self, rows: int) -> NDArray[np.int64]:
        """Differences of the scores of rows, counted on the grid of the bets."""
        return np.asarray(self._random.multinomial(rows, self._scores))


def release(policy: Policy, scenario: Scenario, random: np.random.Generator, judged: Judge = judge) -> Ended:
    """Simulate one release from its first state with traffic to its end.

    Looks come every ``interval_seconds``, or as a request comes where those are rarer: without one nothing changes but
    the clock. In a span that lasts they are a hundredth of its age apart. People's will (approvals, freezes,
    ``suspend``) holds nothing up.
    """
    return _Run(policy, scenario, random, judged).end()


class _Run:
    """A simulated release under way."""

    def __init__(self, policy: Policy, scenario: Scenario, random: np.random.Generator, judged: Judge) -> None:
        self._policy, self._judged = policy, judged
        self._service = Service(scenario, random)
        interval = policy.release.interval_seconds
        self._interval = interval * max(1, math.ceil(1 / (scenario.rps * interval)))
        self._rows = _Rows(policy, self._service)
        self._clock = 0.0
        self._spans: tuple[Span, ...] = ()
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
        return Ended(
            result=result,
            seconds=self._clock,
            requests=sum(span.candidate.requests for span in self._spans),
            bad_answers=sum(span.candidate.errors for span in self._spans if span.state != "shadow"),
            rows=self._rows.compared,
            steps=self._steps,
            reason="; ".join(decision.reasons) if decision else "",
        )

    def _span(self, state: State, percent: int) -> Decision:
        """Look until the span ends."""
        release, began = self._policy.release, self._clock
        needed = states.needs(release, state, percent).get("seconds", 0.0)
        candidate = champion = Traffic(latency=dict.fromkeys(EDGES, 0))
        while True:
            lasted = self._clock - began
            seconds = self._interval * max(1, int(lasted / LOOKS / self._interval))
            seconds = min([seconds, *(end - lasted for end in (needed, release.max_step_seconds) if end > lasted)])
            failing = self._failing(state, lasted, seconds)
            more, champion_more = self._service.look(seconds, percent, failing, copies=state == "shadow")
            self._clock += seconds
            lasted += seconds
            candidate, champion = _sum(candidate, more), _sum(champion, champion_more)
            self._rows.answered(self._clock, len(self._spans), state, more.requests, champion_more.requests)
            span = Span(state=state, percent=percent, began=START, candidate=candidate, champion=champion)
            if percent == 100 and state != "shadow":  # as the release does: no champion answers in these minutes
                span = replace(span, champion=next((each.champion for each in self._spans), champion))
            spans = (*self._spans, span)
            decision = self._judged(Evidence(observed=self._rows.observed(spans), seconds=lasted), self._policy)
            late = state != "bake" and lasted >= release.max_step_seconds
            if decision.action != "hold" or late:
                self._spans = spans
                self._steps += (lasted,) if decision.action == "advance" else ()
                return decision

    def _failing(self, state: State, lasted: float, seconds: float) -> float:
        """Share of the next look in which both fail together: an outage in the middle of the bake."""
        length = self._service.scenario.bake_outage
        if state != "bake" or not length:
            return 0.0
        start = max(self._policy.release.bake_seconds - length, 0.0) / 2
        overlap = min(lasted + seconds, start + length) - max(lasted, start)
        return min(max(overlap, 0.0) / seconds, 1.0)


class _Rows:
    """What the log of a simulated release holds by now: rows that both score, or each its own where features are
    private, and the outcomes that are due."""

    def __init__(self, policy: Policy, service: Service) -> None:
        self._service = service
        private = any(feature.privacy != "keep" for feature in policy.model.features.values())
        self._pairs: Literal["all", "copies", "none"] = "all"
        if private:
            self._pairs = "copies" if policy.release.shadow_percent > 0 else "none"
        self._undue: deque[tuple[float, int, int, int]] = deque()
        self._scored = self.compared = 0
        self._decided = np.zeros(3, dtype=np.int64)
        self._shifts = np.zeros(POINTS, dtype=np.int64)
        self._outcomes: list[tuple[Outcomes, Outcomes]] = []

    def answered(self, clock: float, span: int, state: State, candidate: int, champion: int) -> None:
        """Take in the requests of one look, and the outcomes that are due by now."""
        if self._pairs == "none":
            new = candidate, champion
        else:
            copies = state == "shadow"
            pairs = (champion if copies else candidate + champion) if self._pairs == "all" else candidate * copies
            new = min(pairs, MAX_ROWS - self._scored), 0
            self._scored += new[0]
            self._shifts += self._service.scores(new[0])
        delay = self._service.scenario.label_delay
        if delay is None:
            return
        self._undue.append((clock + delay, span, *new))
        while self._undue and self._undue[0][0] <= clock:
            self._due(*self._undue.popleft()[1:])

    def _due(self, span: int, rows: int, champion_rows: int) -> None:
        """Outcomes of rows of a span are known now."""
        self.compared += rows
        if self._pairs != "none":
            self._decided += self._service.decisions(rows)
            return
        wrong = self._service.wrong(rows, champion_rows)
        while len(self._outcomes) <= span:
            self._outcomes.append((Outcomes(), Outcomes()))
        mine, others = self._outcomes[span]
        self._outcomes[span] = _more(mine, rows, wrong[0]), _more(others, champion_rows, wrong[1])

    def observed(self, spans: Sequence[Span]) -> tuple[Observed, ...]:
        """Spans with what the log says of them."""
        nothing = Outcomes(), Outcomes()
        found = [self._outcomes[place] if place < len(self._outcomes) else nothing for place in range(len(spans))]
        return tuple(
            Observed(span=span, candidate=mine, champion=others, paired=self._paired() if span is spans[-1] else None)
            for span, (mine, others) in zip(spans, found, strict=True)
        )

    def _paired(self) -> Paired | None:
        if self._pairs == "none":
            return None
        worse, better, alike = self._decided.tolist()
        counts = [0.0] * POINTS
        counts[0], counts[POINTS // 2], counts[-1] = float(better), float(alike), float(worse)
        decided = Differences(counts=tuple(counts), rows=worse + better + alike)
        shifts = self._shifts.tolist()
        return Paired(decisions=decided, losses=decided, scores=Differences(counts=tuple(shifts), rows=sum(shifts)))


def _more(outcomes: Outcomes, rows: int, wrong: int) -> Outcomes:
    """Outcomes of more rows, each of loss 0 or 1."""
    wrong += outcomes.wrong
    return Outcomes(rows=outcomes.rows + rows, loss=float(wrong), squares=float(wrong), wrong=wrong)


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


def simulate(policy: Policy, scenario: Scenario, *, rollouts: int, seed: int, processes: int = 1) -> Iterator[Ended]:
    """Independent releases, each with random numbers of its own: of more of them, the first stay what they were.

    Args:
        policy: Of a model that a server answers for.
        scenario: Its traffic, and how the candidate differs.
        rollouts: How many.
        seed: Of their random numbers.
        processes: How many share the work; the releases are the same with any number of them.

    Raises:
        UsageError: the policy releases by tables, which have no requests.
    """
    if policy.release.mode == "batch":
        raise UsageError(
            f"{policy.name}: release.mode is batch: no requests are shared out, so there are none to simulate; "
            "release.batch says how many tables and outcomes a promotion needs"
        )
    streams = np.random.SeedSequence(seed).spawn(rollouts)
    one = partial(_of_stream, policy, scenario)
    if processes <= 1:
        yield from map(one, streams)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, streams, chunksize=max(1, min(rollouts // processes // 4, 20)))


def _of_stream(policy: Policy, scenario: Scenario, stream: np.random.SeedSequence) -> Ended:
    return release(policy, scenario, np.random.default_rng(stream))


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
