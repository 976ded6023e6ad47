"""What was counted about the candidate and, in the same minutes, about the champion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kedge.rollout.model import Span
from kedge.rollout.sequential import GRID, POINTS

MAX_ROWS = 20_000
"""Rows since the release began that both bundles score, the first ones: a set that only grows, and ends."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Labelled predictions of one bundle in one span.

    The loss of a row is that of :func:`kedge.measure.bounded_losses`: of classes the Brier score.
    """

    rows: int = 0
    loss: float = 0.0
    """Sum over the rows."""
    squares: float = 0.0
    """Sum of the squared losses."""
    wrong: int = 0
    """Rows decided wrongly (classes): told, not judged."""

    @property
    def mean(self) -> float:
        """Mean loss; 0 without rows."""
        return self.loss / self.rows if self.rows else 0.0

    @property
    def variance(self) -> float:
        """Variance of the loss between rows (n - 1); 0 with fewer than two."""
        if self.rows < 2:
            return 0.0
        return max(0.0, (self.squares - self.loss * self.loss / self.rows) / (self.rows - 1))


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Candidate minus champion on the same rows, each between -1 and 1, counted on the grid of the bets.

    A value between two points counts at both in proportion to its nearness, so that the mean is kept exactly.

    >>> few = Differences.of([1.0, -0.99])
    >>> few.rows, round(few.mean, 4), [round(weight, 2) for weight in few.counts if weight]
    (2, 0.005, [0.8, 0.2, 1.0])
    """

    counts: tuple[float, ...] = (0.0,) * POINTS
    rows: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Differences:
        """Counted; what lies beyond -1 or 1 is taken to be there."""
        counts, rows, last = [0.0] * POINTS, 0, POINTS - 1
        for value in values:
            at = (min(max(value, -1.0), 1.0) + 1) * last / 2
            point = min(int(at), last - 1)
            counts[point] += 1 - (at - point)
            counts[point + 1] += at - point
            rows += 1
        return cls(counts=tuple(counts), rows=rows)

    @property
    def mean(self) -> float:
        """Mean difference; 0 without rows."""
        total = sum(count * point for count, point in zip(self.counts, GRID, strict=True))
        return total / self.rows if self.rows else 0.0

    def __add__(self, other: Differences) -> Differences:
        """Both together."""
        counts = tuple(map(float.__add__, self.counts, other.counts))
        return Differences(counts=counts, rows=self.rows + other.rows)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The policy's primary metric of both bundles on the same rows with an outcome."""

    candidate: float
    champion: float
    worse: float
    """How much worse the candidate is: of metrics that are at most 1 as they are, of others as a share of the
    champion's value."""
    error: float
    """Standard error of it: the same blocks of neighbouring rows drawn anew for both."""
    rows: int


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both bundles on the same logged rows, off the request path: what each answers, and how right that is."""

    decisions: Differences = field(default_factory=Differences)
    """Cost of the decision on a row with an outcome, as a share of that of the dearest mistake (classes)."""
    losses: Differences = field(default_factory=Differences)
    """Loss of a row with an outcome, of classes the Brier score; of a regression in units in which most lie below 1."""
    scores: Differences = field(default_factory=Differences)
    """Score on any row, beyond the shift its evaluation saw, in ``SPREADS`` standard deviations of the champion's (of
    several classes the root of their mean variance); of several classes that of the first."""
    other_scores: tuple[Differences, ...] = ()
    """The same of the other classes."""
    primary: Metrics | None = None
    """None: the policy names no primary metric, or it is not defined on these rows, or they are too few."""


SPREADS = 4.0
"""Standard deviations of the champion's scores that make a difference of 1: about the range of its scores."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Answers to mirrored requests beside the champion's answers to the same requests."""

    rows: int
    mean_difference: float
    """Mean absolute difference of the scores."""
    other_decisions: int
    """Rows that would have been decided otherwise (0 for regression)."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A span with the outcomes of the predictions made in it."""

    span: Span
    candidate: Outcomes = Outcomes()
    champion: Outcomes = Outcomes()
    agreement: Agreement | None = None
    """Of a shadow that ended; reported, not judged: a better model answers otherwise."""
    not_judged: str = ""
    """Why outcomes that are known are not judged, in words; empty: they are."""
    paired: Paired | None = None
    """Both bundles on the same rows since the release began; None: outcomes are compared slot by slot."""
    not_paired: str = ""
    """Why both were not asked about the same rows, in words; empty: they were, or nobody tried."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All spans of a rollout so far, the current one last."""

    observed: tuple[Observed, ...]
    seconds: float
    """Age of the current span."""
    batches: int = 0
    """Tables that both bundles scored, of a release by batches."""

    @property
    def current(self) -> Observed:
        """The span that runs."""
        return self.observed[-1]

    @property
    def paired(self) -> Paired | None:
        """Both bundles on the same rows, as the newest look found them."""
        return self.current.paired

    @property
    def labels(self) -> int:
        """Rows with an outcome that both were compared on, else labelled predictions of the candidate's own."""
        if self.paired is not None:
            return self.paired.losses.rows
        return sum(seen.candidate.rows for seen in self.observed)
