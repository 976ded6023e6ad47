"""Section `release`: how a challenger reaches traffic, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, field_validator, model_validator

from kedge.policy.section import Probability, Seconds, Section, Span


class Step(Section):
    """One step of the canary. It ends on evidence; what stands here is waited for beside that."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Share of the traffic the candidate gets."""
    min_seconds: Seconds = 60
    """Shortest time at this step."""
    min_requests: Annotated[int, Field(ge=0)] = 0
    """Requests the candidate itself must have answered at this step."""
    min_labels: Annotated[int, Field(ge=0)] = 0
    """Rows with an outcome that both bundles were compared on, counted since the release began."""
    approval: Literal["auto", "manual"] = "auto"
    """`manual` waits for `kedge approve BUNDLE --step NAME` before this step."""
    name: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]{0,39})?$")] = ""
    """What people call the step; empty: its percent."""

    @property
    def label(self) -> str:
        """Its name, or its percent."""
        return self.name or str(self.percent)


class Freeze(Section):
    """Times, in UTC, in which no share of a candidate rises: all that is given must hold."""

    since: AwareDatetime | None = None
    """From this moment on."""
    until: AwareDatetime | None = None
    """Before this moment."""
    weekdays: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """On these days; empty: on all."""
    hours: tuple[Annotated[int, Field(ge=0, le=24)], Annotated[int, Field(ge=0, le=24)]] | None = None
    """From the first hour of the day up to the second, which may lie after the midnight that ends it."""

    @field_validator("since", "until")
    @classmethod
    def _in_utc(cls, value: AwareDatetime | None) -> AwareDatetime | None:
        try:
            return value.astimezone(UTC) if value is not None else None
        except OverflowError:
            raise ValueError(f"{value} is before the year 1 or after 9999 in UTC") from None

    @model_validator(mode="after")
    def _names_a_time(self) -> Freeze:
        if self.since is None and self.until is None and not self.weekdays and self.hours is None:
            raise ValueError("give since, until, weekdays or hours: a freeze without any would never end")
        if self.hours == (24, 0):
            raise ValueError("hours [24, 0] are none; all of a day's are [0, 24]")
        return self


class Harm(Section):
    """The harm to the whole service that must be ruled out before the candidate's share rises. A candidate with a share
    s may be 1/s times as bad. Each counts beyond what is tolerated."""

    failure_ratio: Annotated[float, Field(gt=1)] = 2.0
    """Failed requests: times the champion's tolerated rate (`max_failure_ratio`)."""
    failure_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Failed requests: no harm is a rate this little above `min_failure_rate`, whatever the champion's is."""
    loss: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Rows with an outcome: increase of the loss (as `max_loss_increase`), and of the cost of decisions as a share of
    that of the dearest mistake. Waited for where both bundles are compared on outcomes."""


class Analysis(Section):
    """How a canary is judged: always against the champion of the same minutes, or on the same rows."""

    EARLIER: ClassVar[Mapping[str, str]] = {"max_error_rate_increase": "min_failure_rate"}

    alpha: Probability = 0.01
    """Chance, over the whole release and all looks at it, to roll back a candidate that is no worse."""
    miss: Probability = 0.05
    """Chance, at each rise of its share, to take a candidate that does the `harm` for one that does not."""
    max_failure_ratio: Annotated[float, Field(ge=1)] = 1.25
    """Failed requests (5xx, time-outs): times the champion's rate that is tolerated."""
    min_failure_rate: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Failed requests: a candidate that fails at most so often is never rolled back for it."""
    max_latency_ratio: Annotated[float, Field(ge=1)] = 1.5
    """Latency of the candidate at any quantile over the champion's that is tolerated."""
    max_loss_increase: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Rows with an outcome: mean increase over the champion's that is tolerated. Of the squared error (of a probability
    the Brier score) and, binary, of the cost of decisions as a share of that of the dearest mistake; of a regression as
    a share of what most of the champion's squared errors lie below. A primary metric stands in the place of the squared
    error: one that is at most 1 as it is, others in shares of the champion's value."""
    max_score_shift: Annotated[float, Field(ge=0)] = 0.25
    """Scores of both on the same rows: shift of the mean, beyond the one its evaluation saw, that is tolerated, in
    standard deviations of the champion's scores."""
    on_score_shift: Literal["tell", "hold", "roll back"] = "roll back"
    """What a larger shift does: `hold` lets no share rise until outcomes rule out the harm."""
    harm: Harm = Harm()
    """What must be ruled out before a share rises."""


class Capacity(Section):
    """What a candidate's server may need, looked at when its golden rows agree, before it has any traffic. A figure
    without a limit is not looked at; one that is shown to be above its limit ends the release."""

    requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Requests of one row that are sent, whether answers come or not."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """For how long."""
    max_p95_ms: Annotated[float, Field(gt=0)] | None = None
    """95th percentile of the latency under that load, from the moment at which a request was due; null: no limit."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Memory of the server's process after that load, in 10^6 bytes; null: no limit."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """All files of the bundle, in 10^6 bytes; null: no limit."""
    max_start_seconds: Span | None = None
    """From the order for the bundle to a server that is ready; null: `ready_seconds` alone."""

    @property
    def limited(self) -> bool:
        """Whether anything is."""
        limits = (self.max_p95_ms, self.max_memory_mb, self.max_size_mb, self.max_start_seconds)
        return any(limit is not None for limit in limits)


class Guard(Section):
    """Absolute limits: of a champion after its release, and of a candidate whose champion is dead.

    A limit counts as exceeded when chance alone would show so many requests beyond it less than once in a thousand.
    """

    max_error_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of failed requests (5xx, time-outs) that is tolerated."""
    max_latency_ms: Annotated[float | None, Field(gt=0)] = None
    """Latency in milliseconds that at most one in twenty requests may exceed; without it latency is not looked at."""
    min_requests: Annotated[int, Field(ge=1)] = 50
    """Requests within one look below which nothing is said."""
    keep_seconds: Seconds = 86_400
    """How long after a promotion the champion before stays deployed, so that a rollback is one change of weights; 0: it
    goes with the bake."""


class Batch(Section):
    """What a candidate proves beside the champion where both score tables (`mode: batch`)."""

    min_labels: Annotated[int, Field(ge=0)] = 200
    """Rows of these tables with an outcome that both were compared on, before the candidate may be promoted."""
    min_batches: Annotated[int, Field(ge=1)] = 1
    """Tables that both must have scored."""


class Release(Section):
    """How a registered challenger reaches traffic, and comes back."""

    mode: Literal["served", "batch"] = "served"
    """`served`: requests reach the candidate in steps. `batch`: no server; `kedge score` has the candidate score the
    next tables beside the champion, whose answers count until the candidate is promoted."""
    batch: Batch = Batch()
    """With `mode: batch`: when the candidate is promoted; of what follows `steps`, shadow, bake and guard say nothing
    then."""
    approval: Literal["auto", "manual"] = "auto"
    """`manual` waits for `kedge approve` before any traffic moves."""
    steps: tuple[Step, ...] = (Step(percent=5), Step(percent=25), Step(percent=50))
    """Ascending shares; after the last one the candidate is promoted to all traffic."""
    expected_step_seconds: Span = 10_800
    """Within this time a step ends when `analysis.harm` is ruled out. Of one that lasts k times as long the k-fold harm
    must be ruled out, ten times at most: what little traffic can show."""
    max_step_seconds: Span = 259_200
    """A step that could not rule it out by then ends without a verdict: nobody is promoted, nobody is condemned."""
    bake_seconds: Seconds = 3600
    """How long the candidate has almost all traffic, judged on, before it is promoted."""
    bake_champion_percent: Annotated[int, Field(ge=0, le=50)] = 5
    """Share of the traffic that the old champion keeps while the candidate bakes, to compare the same minutes; 0: none,
    and the candidate is compared with the champion of the first step."""
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of requests mirrored to the candidate before its first step; its answers are compared, never returned."""
    shadow_requests: Annotated[int, Field(ge=0)] = 100
    """Mirrored requests to see before the first step, when `shadow_percent` is above 0."""
    ready_seconds: Span = 600
    """A slot that is not ready after this time ends the release; a candidate that lost its server has as long to come
    back."""
    smoke_tolerance: Annotated[float, Field(ge=0)] = 1e-6
    """Largest difference allowed between a golden row's prediction at training and in the slot."""
    interval_seconds: Span = 15
    """How often evidence is looked at."""
    suspend: bool = False
    """True: no share of any candidate rises; one that is worse is rolled back all the same."""
    freeze: tuple[Freeze, ...] = ()
    """Times in which no share of a candidate rises."""
    analysis: Analysis = Analysis()
    """How evidence is judged."""
    capacity: Capacity = Capacity()
    """What the candidate's server may need, before any traffic."""
    guard: Guard = Guard()
    """What holds at all times, whoever serves."""

    @property
    def max_rollout_seconds(self) -> float:
        """From the first step to the promotion, each step to its limit."""
        return len(self.steps) * self.max_step_seconds + self.bake_seconds

    @model_validator(mode="after")
    def _consistent(self) -> Release:
        percents = [step.percent for step in self.steps]
        if not percents or percents != sorted(set(percents)):
            raise ValueError(f"steps must ascend in percent, at least one; got {percents}")
        names = [step.label for step in self.steps]
        if len(set(names)) < len(names):
            raise ValueError(f"names of steps must differ; got {names}")
        return self
