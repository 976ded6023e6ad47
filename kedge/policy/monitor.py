"""Section `monitor`: how the served model is watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from kedge.policy import cron
from kedge.policy.section import Probability, Seconds, Section, Share, Span


class Drift(Section):
    """When inputs count as drifted."""

    EARLIER: ClassVar[Mapping[str, str]] = {"attention_share": "min_drifted_importance"}

    alpha: Probability = 0.05
    """Chance that 30 days of checks call any drift, or a risen estimate, where there is none."""
    min_psi: Annotated[float, Field(ge=0)] = 0.02
    """Effect floor: debiased population stability index, in nats. 0.02 is a shift of about 0.15 standard deviations."""
    min_drifted_importance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A check warns when features with at least this share of the model's importance drift."""
    seasonal_weeks: Annotated[int, Field(ge=0, le=52)] = 0
    """Compare with the same weekday and hours of so many weeks before; 0: with the champion's training rows."""
    past_windows: Annotated[int, Field(ge=0, le=200)] = 0
    """Learn from so many windows before (at least 8) how much dependent rows vary; 0: rows count as independent."""

    @field_validator("past_windows")
    @classmethod
    def _enough(cls, windows: int) -> int:
        if 0 < windows < 8:
            raise ValueError(f"{windows} windows are too few to see how much they vary: 0, or at least 8")
        return windows


class Performance(Section):
    """When labelled error counts as risen."""

    alpha: Probability = 0.01
    """One-sided level of the test that the window's loss is above the reference's."""
    min_labels: Annotated[int, Field(ge=20)] = 100
    """Fewer labels in the window give no verdict on performance."""
    min_increase: Annotated[float, Field(ge=0)] = 0.1
    """Effect floor: increase of the mean loss as a share of the reference loss."""


class Quarantine(Section):
    """What counts as a corrupt feed: the check is marked, and nothing is trained on it."""

    max_null_increase: Share = 0.2
    """A feature's share of missing values above its reference by more than this."""
    max_new_category_share: Share = 0.2
    """Rows with a category the reference did not know."""
    max_out_of_range_share: Share = 0.05
    """Rows outside the policy's min and max, or infinite."""
    ask_after_checks: Annotated[int, Field(ge=1)] = 3
    """Checks in a row with the same reason at the same level after which a check asks whether the feed changed for
    good."""


class Triggers(Section):
    """What may start a retraining. Each can be switched off; a corrupt window is quarantined and starts none."""

    labelled_error: bool = True
    """A retraining would by now have saved what a run and a release cost, see `costs`."""
    growth: Annotated[float, Field(gt=1)] | None = 8.0
    """So many times the rows of the last training are there; null: rows alone start none."""
    drift_and_estimate: bool = False
    """Inputs drifted and the error estimated without labels rose too."""
    max_age_seconds: Span | None = None
    """The champion's training data are older than this."""
    new_labels: Annotated[int, Field(ge=1)] | None = None
    """So many labels arrived since the champion was trained."""
    metrics: bool = False
    """A limit under `metrics` is shown to be broken by live labels; `false`: the check warns."""


class Budget(Section):
    """How often retraining may happen."""

    consecutive_checks: Annotated[int, Field(ge=1)] = 2
    """Checks in a row that must see inputs drifted and the estimated error risen (`drift_and_estimate`)."""
    cooldown_seconds: Seconds = 3600
    """Least time between two retrainings."""
    min_labels_after_rise: Annotated[int, Field(ge=0)] = 200
    """Labels that must have become known since the labelled error rose: before, a run would learn the old relation."""
    max_retrains: Annotated[int, Field(ge=1)] = 30
    """Most retrainings within `period_seconds`."""
    period_seconds: Span = 30 * 86_400
    """The period of `max_retrains`."""
    approval: Literal["auto", "manual"] = "auto"
    """`manual`: a retraining that a check decided on waits for `kedge approve`."""


class Monitor(Section):
    """How the served model is watched."""

    EARLIER: ClassVar[Mapping[str, str]] = {"veto": "quarantine"}

    schedule: str = "0 * * * *"
    """When a check runs: the five fields of cron, UTC. Sunday is 0, as in Kubernetes."""
    window_seconds: Span = 86_400
    """Length of the window a check looks at."""
    min_rows: Annotated[int, Field(ge=20)] = 200
    """Fewer rows in the window: the verdict is "too few rows", never "no drift"."""
    drift: Drift = Drift()
    """When inputs count as drifted."""
    performance: Performance = Performance()
    """When labelled error counts as risen."""
    quarantine: Quarantine = Quarantine()
    """What counts as a corrupt feed."""
    triggers: Triggers = Triggers()
    """What may start a retraining."""
    budget: Budget = Budget()
    """How often retraining may happen."""

    @field_validator("schedule")
    @classmethod
    def _of_cron(cls, schedule: str) -> str:
        said = cron.fault(schedule)
        if said is not None:
            raise ValueError(f"{said}, got {schedule!r}")
        return schedule
