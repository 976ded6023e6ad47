"""The rows a check judged, in sums, and what is known of how long their outcomes take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Verdict = Literal["judged", "not due", "too few labels", "labels incomplete"]


@dataclass(frozen=True, kw_only=True)
class Delay:
    """Seconds from a prediction to its outcome, of one class: quantiles of those that come at all."""

    rows: int
    """Labelled predictions it was told from."""
    share: float
    """Of all predictions, those that will have such an outcome."""
    median: float
    q90: float
    due: float
    """After which so many of them as make a class due are known."""


@dataclass(frozen=True, kw_only=True)
class Delays:
    """What the log tells about delays."""

    rows: int = 0
    """Predictions looked at, labelled or not."""
    seconds: float = 0.0
    """Age up to which it can tell anything."""
    classes: Mapping[str, Delay] = field(default_factory=dict)
    """By class, or the empty text for a regression; a class that was never observed is absent."""
    at: datetime | None = None
    """Outcomes observed later were not known."""

    @property
    def due_seconds(self) -> float | None:
        """When the slowest class is due; None: no outcome is known yet."""
        return max((delay.due for delay in self.classes.values()), default=None)

    def differ(self, floor: float) -> bool:
        """Whether one class takes twice as long as another, in the middle or at its 90 % quantile, and ``floor``
        seconds longer."""
        if len(self.classes) < 2:
            return False
        spans = [[each.median for each in self.classes.values()], [each.q90 for each in self.classes.values()]]
        return any(max(span) >= 2 * min(span) and max(span) - min(span) > floor for span in spans)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many rows of a group have an outcome."""

    predicted: int
    labelled: int

    @property
    def share(self) -> float:
        """Of the group's rows, 0 to 1."""
        return self.labelled / self.predicted if self.predicted else 0.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """Judged rows that follow each other in time, and the sums over them."""

    rows: int
    cost: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What one check judged, as sums over its rows; or why it judged none.

    A row's loss is log loss, or that of the regression. Its cost is in wrong decisions: 0 where the decision was right,
    else what the mistake costs over the mean cost of all mistakes that there are; of a regression its loss over the
    best constant's.
    """

    verdict: Verdict
    start: datetime | None = None
    """The cohort was predicted from then on; None: nothing says since when."""
    end: datetime | None = None
    """And before then."""
    since: datetime | None = None
    """When the last verdict before was given; None: there was none in this tenure."""
    received: datetime | None = None
    """When the newest of the labels in the log was received by the last verdict, this one if it is one: those received
    later are judged by a later check. None: an earlier version's check did not say."""
    delay_seconds: float = 0.0
    """Age from which rows were due."""
    delays: Delays | None = None
    """What the log tells of delays, where the policy states none or outcomes are missing; None: nobody looked."""
    predicted: int = 0
    """Rows of the cohort with a score."""
    labelled: int = 0
    """Of them, those whose outcome is known."""
    coverage: float | None = None
    """The share of them; None without rows."""
    absent: int = 0
    """Rows without an outcome that count as negative, where the policy says so."""
    late: int = 0
    """Rows predicted before the cohort whose outcome became known since the last verdict; judged with it."""
    corrected: int = 0
    """Outcomes that changed after their row was judged: told, not judged again."""
    nan_scores: int = 0
    """Rows whose score is no finite number; nothing is known of them."""
    groups: Mapping[str, Mapping[str, Coverage]] = field(default_factory=dict)
    """Coverage by ``decision``, by ``score`` and by each slice."""
    reason: str = ""
    """Why labels are incomplete, in words."""
    rows: int = 0
    """Judged rows, late ones among them; 0 unless the verdict is ``judged``."""
    cost: float = 0.0
    cost_square: float = 0.0
    """Sum of the squared costs."""
    probe_cost: float | None = None
    """Cost of the same rows by what a retraining at the check before would have made; None: nobody asked."""
    loss: float = 0.0
    blocks: tuple[Block, ...] = ()
    """At most ten, of rows that follow each other in time: neighbours may depend on each other."""
