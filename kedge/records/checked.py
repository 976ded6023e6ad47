"""What is recorded of a check: whom it watched, what it measured, what it decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator

from kedge.records.cohort import Cohort

Action = Literal["none", "warn", "retrain", "quarantine"]
Cause = Literal["missing", "new categories", "out of range"]
PerformanceVerdict = Literal["measured", "too few labels", "labels incomplete", "labels not due", "no reference"]
Figure = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number; JSON has null for one that is not finite."""

SAME_LEVEL = 0.1
"""Shares of rows that differ by no more than this are one level."""
TRAINING = "training rows"
ADOPTED = "adopted"
"""Stands where a bundle's id stands for a champion that kedge did not train."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """``[start, end)`` of event time."""

    start: AwareDatetime
    end: AwareDatetime

    @classmethod
    def before(cls, now: datetime, seconds: float) -> Window:
        """The window that ends at ``now``, cut to the whole minute: a job that is started again looks at the same one.

        >>> Window.before(datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC), 3600).start.isoformat()
        '2026-03-02T11:00:00+00:00'
        """
        end = now.astimezone(UTC).replace(second=0, microsecond=0)
        return cls(start=end - timedelta(seconds=seconds), end=end)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The bundle that serves, and the record that made it so."""

    bundle: str
    since: AwareDatetime
    tenure_id: str
    """``promoted/<key>`` or ``rolled-back/<key>``: a bundle that comes back after a rollback begins a new tenure."""


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A limit of ``monitor.quarantine`` that a window breaks."""

    column: str
    cause: Cause
    share: Figure
    """Of the window's rows, 0 to 1."""
    sentence: str
    checks: int = 1
    """So many checks in a row, this one among them, saw it at this level."""

    def covers(self, other: Breach) -> bool:
        """Whether the other is of the same column and cause, at this level or below.

        >>> from dataclasses import replace
        >>> gone = Breach(column="age", cause="missing", share=0.6, sentence="")
        >>> [gone.covers(replace(gone, share=share)) for share in (0.3, 0.65, 0.9)]
        [True, True, False]
        """
        return (self.column, self.cause) == (other.column, other.cause) and other.share <= self.share + SAME_LEVEL

    def lasts(self, before: Breach) -> bool:
        """Whether it is the one of the check before, at the same level."""
        return self.covers(before) and before.covers(self)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over rows in time order, with its 95 % interval from block means."""

    value: Figure
    low: Figure
    high: Figure
    error: Figure
    """Standard error of the mean."""
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The champion's loss when it was made, on rows it was not trained on."""

    loss: Figure
    rows: int


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: Figure
    low: Figure
    high: Figure


@dataclass(frozen=True, kw_only=True)
class Performance:
    """The rows a check judged against the champion's reference."""

    verdict: PerformanceVerdict
    rows: int
    reference: Reference | None
    newest: AwareDatetime | None = None
    """When the newest of these labels became known: the same labels looked at twice are one piece of evidence."""
    loss: Mean | None = None
    wrong: Mean | None = None
    """Share of wrong decisions (binary only)."""
    naive_wrong: float | None = None
    """Share wrong of predicting each label by the one before it: what a model must beat on persistent series."""
    increase: float | None = None
    """(loss - reference) / reference."""
    p_value: float | None = None
    worse: bool | None = None
    """Whether the loss rose by more than the floor and more than chance; None: no verdict."""
    metrics: Mapping[str, Interval] = field(default_factory=dict)
    """Those of the policy, by name, over the newest judged rows of the tenure; one that is not defined on them is left
    out."""
    metric_rows: int = 0
    """Over so many rows."""
    broken_limits: tuple[str, ...] = ()
    """Limits on them that these rows show to be broken, in words."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the scores of a window let one expect. Holds while only the inputs shift, not the relation behind them."""

    verdict: Literal["estimated", "too few rows", "no reference"]
    rows: int
    calibrated: bool
    loss: Mean | None = None
    wrong: Mean | None = None
    """Expected share of wrong decisions."""
    increase: float | None = None
    p_value: float | None = None
    """Of a rise over the reference's loss, one-sided."""
    risen: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ChangedPair:
    """Two columns that move together otherwise than before, while neither drifted itself."""

    first: str
    second: str
    reference_correlation: Figure
    """Of rank scores, -1 to 1."""
    current_correlation: Figure


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Columns of the window against the reference's."""

    verdict: str
    """``compared`` or ``too few rows``, which is never "no drift"."""
    drifted: tuple[str, ...] = ()
    drifted_importance: Figure = 0.0
    """Share of the model's importance that drifted."""
    pairs: tuple[ChangedPair, ...] = ()
    """Of the features that matter most, the surest first."""
    against: str = TRAINING
    """What the window was compared with: those, or the same hours of earlier weeks."""
    design_effects: Mapping[str, Figure] = field(default_factory=dict)
    """Of rows that depend on each other, by column; empty: rows count as independent."""
    histograms: Mapping[str, tuple[Sequence[str], Sequence[float], Sequence[float]]] = field(default_factory=dict)
    """Of the drifted columns, the worst first: labels, reference, window."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Every number, by column."""


@dataclass(frozen=True, kw_only=True)
class GroupCounts:
    """Judged rows of one value of a protected column."""

    value: str
    counts: tuple[int, int, int, int]
    """Of negative outcomes those decided negatively, positively; of positive ones the same."""


@dataclass(frozen=True, kw_only=True)
class FairFigure:
    """How differently the groups of a protected column are decided about, by one figure."""

    column: str
    name: str
    value: Figure | None
    """None: too few rows of two groups."""
    low: Figure | None
    high: Figure | None
    """Interval that holds at all looks of the period at once."""
    limit: Figure
    verdict: Literal["kept", "exceeded", "inconclusive"]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """The champion's judged rows by the groups of ``gates.fairness``, summed up over the checks of a period."""

    since: AwareDatetime
    """Begin of the period."""
    figures: tuple[FairFigure, ...] = ()
    counts: Mapping[str, tuple[GroupCounts, ...]] = field(default_factory=dict)
    """By column, groups in the order in which they first appeared: what the next check starts from."""
    unwatched: Mapping[str, str] = field(default_factory=dict)
    """Columns that neither the log nor the table of outcomes holds: why, in words."""

    @property
    def exceeded(self) -> tuple[str, ...]:
        """Sentences of the figures that are shown to lie beyond their limit."""
        return tuple(each.sentence for each in self.figures if each.verdict == "exceeded")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What a check says of one signal to those after it."""

    breached: bool | None
    """None: no verdict."""
    labels: int
    evidence_id: str
    """What it was seen on: a second look at the same evidence counts for nothing."""


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one reading of the table of outcomes brought."""

    read: int
    """Rows of the source that were looked at."""
    appended: int
    """Labels that were not in the log before."""
    invalid: int
    """Rows left out: no id, no outcome, or a value that cannot be read."""
    faults: tuple[str, ...]
    """The first of them, with file, row and reason."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A monitoring check. Key: the window's end."""

    action: Action
    reasons: tuple[str, ...] = ()
    verdict: str = ""
    decision_key: str = ""
    approval_wanted: bool = False
    """The retraining begins when a person approves its decision."""
    window: Window
    rows: int = 0
    champion: Champion
    signals: Mapping[str, Signal] = field(default_factory=dict)
    corrupt: tuple[Breach, ...] = ()
    """Why the window was quarantined."""
    cohort: Cohort | None = None
    """The rows that became due since the last verdict, in sums; None: a version that judged by the label's time."""
    nan_scores: int = 0
    """The champion's rows of the window whose score is no finite number."""
    warnings: tuple[str, ...] = ()
    """What people should know of the labels and scores, in words; it changes no decision."""
    performance: Performance = Performance(verdict="too few labels", rows=0, reference=None)
    estimate: Estimate | None = None
    inputs: Drift = Drift(verdict="too few rows")
    scores: Drift = Drift(verdict="too few rows")
    outcomes: Drift = Drift(verdict="too few rows")
    """Of the judged rows, against those that the champion was judged on."""
    fairness: Fairness | None = None
    """None: the policy names no protected column."""
    trained_until: AwareDatetime | None = None
    new_labels: int | None = None
    label_source: Pulled | None = None
    change_point: AwareDatetime | None = None
    """Since when the relation is another; None: no change is known."""
    alarm: Mapping[str, Any] = field(default_factory=dict)
    regret: Mapping[str, Any] = field(default_factory=dict)
    """Numbers that the next check starts from, as those of ``alarm``."""
    policy: str = ""
    """Hash of the policy."""
    report: str = ""
    """The page's key in the store."""
