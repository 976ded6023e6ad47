"""Section `release`: how a challenger reaches traffic, and comes back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kedge.policy.section import Probability, Seconds, Section, Share


class Step(Section):
    """One step of the canary."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Share of the traffic the candidate gets."""
    min_seconds: Seconds = 300
    """Shortest time at this step."""
    min_requests: Annotated[int, Field(ge=0)] = 100
    """Requests the candidate itself must have answered at this step."""
    min_labels: Annotated[int, Field(ge=0)] = 0
    """Labelled outcomes of the candidate's own predictions, counted since the release began."""


class Analysis(Section):
    """How a canary is judged: always against the champion of the same minutes."""

    alpha: Probability = 0.01
    """Chance, over the whole release and all looks at it, to roll back a candidate that is no worse."""
    max_error_rate_increase: Share = 0.01
    """Failed requests (5xx, time-outs): increase over the champion's rate that is tolerated."""
    max_latency_ratio: Annotated[float, Field(ge=1)] = 2.0
    """Candidate's 95th percentile latency over the champion's that is tolerated."""
    max_loss_increase: Annotated[float, Field(ge=0)] = 0.0
    """Labelled rows: increase of the mean squared error, of a probability the Brier score, over the champion's that is
    tolerated."""


class Release(Section):
    """How a registered challenger reaches traffic, and comes back."""

    approval: Literal["auto", "manual"] = "auto"
    """`manual` waits for `kedge approve` before any traffic moves."""
    steps: tuple[Step, ...] = (Step(percent=5), Step(percent=25), Step(percent=50))
    """Ascending shares; after the last one the candidate is promoted to all traffic."""
    max_step_seconds: Annotated[float, Field(gt=0)] = 86_400
    """A step without enough evidence after this time is rolled back, with that reason."""
    bake_seconds: Seconds = 3600
    """How long the old champion stays warm after promotion, judged on; a rollback in that time is one weight change."""
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of requests mirrored to the candidate before its first step; its answers are compared, never returned."""
    shadow_requests: Annotated[int, Field(ge=0)] = 100
    """Mirrored requests to see before the first step, when `shadow_percent` is above 0."""
    ready_seconds: Annotated[float, Field(gt=0)] = 600
    """A slot that is not ready after this time fails the release."""
    smoke_tolerance: Annotated[float, Field(ge=0)] = 1e-6
    """Largest difference allowed between a golden row's prediction at training and in the slot."""
    interval_seconds: Annotated[float, Field(gt=0)] = 30
    """How often evidence is looked at."""
    analysis: Analysis = Analysis()
    """How evidence is judged."""

    @model_validator(mode="after")
    def _consistent(self) -> Release:
        percents = [step.percent for step in self.steps]
        if not percents or percents != sorted(set(percents)):
            raise ValueError(f"steps must ascend in percent, at least one; got {percents}")
        return self
