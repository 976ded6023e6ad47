"""What was counted about the candidate and, in the same minutes, about the champion."""

from __future__ import annotations

from dataclasses import dataclass

from kedge.rollout.model import Span


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Labelled predictions of one bundle in one span.

    The loss of a row is the squared error of its score: for a binary model that of the probability (Brier 1950).
    """

    rows: int = 0
    loss: float = 0.0
    """Sum over the rows."""
    squares: float = 0.0
    """Sum of the squared losses."""
    wrong: int = 0
    """Rows decided wrongly (binary): told, not judged."""

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
class Agreement:
    """Answers to mirrored requests beside the champion's answers to the same requests."""

    rows: int
    mean_difference: float
    """Mean absolute difference of the scores."""
    other_decisions: int
    """Rows that would have been decided otherwise (binary; 0 for regression)."""


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


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All spans of a rollout so far, the current one last."""

    observed: tuple[Observed, ...]
    seconds: float
    """Age of the current span."""

    @property
    def current(self) -> Observed:
        """The span that runs."""
        return self.observed[-1]

    @property
    def labels(self) -> int:
        """Labelled outcomes of the candidate's own predictions since the release began."""
        return sum(seen.candidate.rows for seen in self.observed)
