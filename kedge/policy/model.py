"""The fields of a policy. Units stand in the names; thresholds are inclusive."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from kedge.policy import cron
from kedge.policy.described import Described

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
COLUMN = re.compile(r"[^_\W]\w*( \w+)*")
MAX_CHARACTERS = 128
"""Of the name of a feature or a target."""
OBJECT = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
LABEL = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"

Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0)]
TableColumn = Annotated[str, Field(min_length=1, max_length=1000)]
NodeLabels = dict[Annotated[str, Field(pattern=LABEL)], Annotated[str, Field(pattern=LABEL_VALUE)]]


def _fault(field: tuple[str, ...], seen: object, said: str) -> InitErrorDetails:
    """The fault of a field below the one that is checked, so that it is named with its own line."""
    return InitErrorDetails(type="value_error", loc=field, input=seen, ctx={"error": ValueError(said)})


def may_name(name: str) -> bool:
    """Whether a feature or a target may be called so.

    >>> may_name("order total"), may_name("Umsatz.netto"), may_name("_id")
    (True, False, False)
    """
    return bool(COLUMN.fullmatch(name)) and len(name) <= MAX_CHARACTERS


def _fault_of_name(name: str, field: str) -> str | None:
    """What is wrong with the name of a feature or a target; ``field`` is where the table's own name belongs."""
    if may_name(name):
        return None
    return (
        f"column {name!r} must be letters, digits, _ and single spaces, must not start with _ "
        f"(reserved for kedge's own columns) and have at most {MAX_CHARACTERS} characters; call it otherwise here, "
        f"and write what the table calls it into {field}"
    )


class Section(Described, BaseModel):
    """A part of the policy: unknown fields are errors, nothing changes after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    EARLIER: ClassVar[Mapping[str, str]] = {}
    """Names that earlier versions had for fields -> their names today: a policy that holds them means the same."""
    MOVED: ClassVar[Mapping[str, str]] = {}
    """Fields that have a place in another section today."""

    @model_validator(mode="before")
    @classmethod
    def _under_names_of_today(cls, value: Any) -> Any:
        if not isinstance(value, dict) or cls.EARLIER.keys().isdisjoint(value):
            return value
        for earlier, name in cls.EARLIER.items():
            if earlier in value and name in value:
                raise ValueError(f"{earlier} is the earlier name of {name}; write one of them")
        return {cls.EARLIER.get(name, name): field for name, field in value.items()}


class Feature(Section):
    """One input column of the model."""

    type: Literal["number", "integer", "boolean", "category"]
    """How the column is read. A category is text; the other three reach the model as one float each."""
    min: float | None = None
    """Smallest value allowed, inclusive. Rows below it are invalid rows; null: no limit."""
    max: float | None = None
    """Largest value allowed, inclusive."""
    values: tuple[str, ...] | None = None
    """Categories allowed. Without it, those of the training rows; a category never seen is treated as missing."""
    nullable: bool = True
    """Whether a row may lack this value. If false, such a request gets 400 and such a training row is invalid."""
    privacy: Literal["keep", "drop", "hash", "mask", "bucket"] = "keep"
    """What the prediction log may hold: the value, nothing, a keyed hash, the mere fact that it was there, or only its
    bucket. Whatever is not `keep` never reaches a disk of the collector."""
    buckets: tuple[float, ...] | None = None
    """Ascending edges for `privacy: bucket`: a value is stored as the lower edge of its bucket."""
    column: TableColumn | None = None
    """What tables call it, where that is no name for a feature, such as `Umsatz.netto`; null: as the feature is called.
    Requests, the prediction log and reports know the feature by its own name only."""
    description: str = ""
    """For people."""

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        numeric = self.type in ("number", "integer")
        if not numeric and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max belong to number and integer, not to {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        if self.values is not None:
            if self.type != "category":
                raise ValueError(f"values belong to category, not to {self.type}")
            if not self.values or len(set(self.values)) != len(self.values):
                raise ValueError("values must be at least one category, each once")
            if "" in self.values:
                raise ValueError("values: an empty text is a missing value, which `nullable` allows; leave it out")
        if (self.privacy == "bucket") != (self.buckets is not None):
            raise ValueError("buckets and `privacy: bucket` belong together")
        if self.buckets is not None:
            if not numeric:
                raise ValueError(f"privacy: bucket needs a number or an integer, not {self.type}")
            if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
                raise ValueError("buckets must be at least one edge, ascending, each once")
        return self


class Costs(Section):
    """What a wrong decision costs, in any one unit; only the ratio counts."""

    false_positive: Annotated[float, Field(gt=0)] = 1.0
    """Cost of acting on a row that was negative."""
    false_negative: Annotated[float, Field(gt=0)] = 1.0
    """Cost of missing a row that was positive."""


class Model(Section):
    """What is predicted, from what."""

    name: str
    """Lower-case letters, digits and dashes, at most 40 characters: slots are `<name>-blue` and `<name>-green`."""
    task: Literal["binary", "regression"] = "binary"
    """`binary` predicts the probability of `positive_label`, `regression` a number."""
    target: str
    """Column of the training table that holds the outcome."""
    target_column: TableColumn | None = None
    """What the table calls it, as a feature's `column`."""
    positive_label: str | int | bool = 1
    """The value of `target` that counts as positive (binary only)."""
    negative_label: str | int | bool | None = None
    """The one other value of `target` (binary only): a label that is neither is an invalid row in training, and
    refused by the collector. Null: every value but `positive_label` counts as negative."""
    features: dict[str, Feature] = Field(min_length=1, max_length=2000)
    """The model's inputs by name; this order is the order of the columns the model sees."""
    slices: tuple[str, ...] = ()
    """Category or boolean features, or columns of `data.extra_columns`, whose groups are measured on their own."""
    costs: Costs = Costs()
    """Sets the decision threshold of a binary model: false_positive / (false_positive + false_negative)."""
    description: str = ""
    """For people."""

    @property
    def threshold(self) -> float:
        """Probability from which on acting is cheaper than not acting (C. Elkan, IJCAI 2001, eq. 2)."""
        return self.costs.false_positive / (self.costs.false_positive + self.costs.false_negative)

    @property
    def columns(self) -> dict[str, str]:
        """Features and target -> what tables call them."""
        found = {name: feature.column or name for name, feature in self.features.items()}
        return {**found, self.target: self.target_column or self.target}

    @field_validator("target")
    @classmethod
    def _called_plainly(cls, target: str) -> str:
        said = _fault_of_name(target, "target_column")
        if said is not None:
            raise ValueError(said)
        return target

    @field_validator("negative_label", mode="before")
    @classmethod
    def _other(cls, value: Any, seen: ValidationInfo) -> Any:
        """The negative label beside the positive one: of its kind, and another."""
        if value is None:
            return None
        if not isinstance(value, str | int) and not (isinstance(value, float) and value.is_integer()):
            raise ValueError(f"must be text, a whole number, true or false, got {value!r}")
        if seen.data.get("task") == "regression":
            raise ValueError("belongs to task binary, not to regression: leave it out")
        positive = seen.data.get("positive_label")  # None where it has a fault of its own
        if positive is None:
            return value
        if isinstance(value, str) != isinstance(positive, str):
            kind = "text, in quotes" if isinstance(positive, str) else "a number, true or false, without quotes"
            raise ValueError(f"must be {kind}, because positive_label is {positive!r}, got {value!r}")
        if isinstance(positive, bool) and value not in (0, 1):
            raise ValueError(f"must be true or false, because positive_label is {positive!r}, got {value!r}")
        if value == positive:
            raise ValueError(f"{value!r} is also the positive_label: name the other class, or leave it out")
        return value

    @field_validator("features", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Features as :meth:`Policy.to_dict` lists them, back as a mapping in that order."""
        if not isinstance(value, list):
            return value
        if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value):
            raise ValueError("a list of features needs a `name` in each")
        named = {item["name"]: {key: part for key, part in item.items() if key != "name"} for item in value}
        if len(named) != len(value):
            raise ValueError("a feature is given twice")
        return named

    @field_validator("features")
    @classmethod
    def _of_columns_of_their_own(cls, features: dict[str, Feature]) -> dict[str, Feature]:
        """Each feature has a plain name, and each column is one feature's."""
        first: dict[str, str] = {}
        faults = []
        for name, feature in features.items():
            said = _fault_of_name(name, "the field `column` of a feature")
            if said is not None:
                faults.append(_fault((name,), name, said))
            column = feature.column or name
            other = first.setdefault(column, name)
            if other != name:
                blamed, rival = (name, other) if feature.column is not None else (other, name)
                said = f"column {column!r} is also that of feature {rival!r}: a column is one feature's"
                faults.append(_fault((blamed, "column"), column, said))
        if faults:
            raise ValidationError.from_exception_data("features", faults)
        return features

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} must be 1 to 40 lower-case letters, digits and dashes, starting with a letter"
            )
        if self.target in self.features:
            raise ValueError(f"target {self.target!r} is also a feature: the model would be told the answer")
        for name, feature in self.features.items():
            if (feature.column or name) == (self.target_column or self.target):
                raise ValueError(
                    f"target_column {self.target_column or self.target!r} is also the column of feature {name!r}: "
                    "the model would be told the answer"
                )
        for name in self.slices:
            if name in self.features and self.features[name].type not in ("category", "boolean"):
                raise ValueError(f"slice {name!r} must be a category or boolean feature")
        return self


class RowTime(Section):
    """For tables without a time column: row k happened at start + k * step_seconds."""

    start: datetime
    """Time of the first row; without an offset it is UTC."""
    step_seconds: Annotated[float, Field(gt=0)]
    """Seconds from one row to the next."""


class Source(Section):
    """A table somewhere."""

    format: Literal["parquet", "csv", "delta", "sql", "log"]
    """`log` is the model's own prediction log joined with its labels: train on what was served."""
    location: str = ""
    """A file, a folder, a pattern, or s3://...; relative to the policy file. For `sql`, the name of the environment
    variable that holds the connection address, so that no password is ever in a policy."""
    query: str | None = None
    """For `sql`: one SELECT."""

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.format != "log" and not self.location:
            raise ValueError(f"a {self.format} source needs a location")
        if (self.format == "sql") != (self.query is not None):
            raise ValueError("query and `format: sql` belong together")
        return self


class LabelSource(Section):
    """Where outcomes arrive by themselves, when no one posts them to the collector."""

    source: Source
    """The table."""
    id_column: str = "id"
    """Column with the id the prediction was made under."""
    label_column: str = "label"
    """Column with the outcome."""
    observed_column: str = "observed_at"
    """Column with the time the outcome became known; read from there on next time."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelSource:
        if self.source.format == "log":
            raise ValueError("labels cannot come from the prediction log: they are what is joined to it")
        return self


class Data(Section):
    """The rows a model is trained on."""

    MOVED: ClassVar[Mapping[str, str]] = {"label_delay_seconds": "labels.delay_seconds"}

    source: Source
    """The training table, one row an event."""
    time_column: str | None = None
    """When the row happened. Needed unless `row_time` is given."""
    row_time: RowTime | None = None
    """Time by row number, for tables without a time column."""
    id_column: str | None = None
    """Unique per row; a duplicate is an invalid row. Null: rows have no id."""
    extra_columns: tuple[str, ...] = ()
    """Columns read as text and kept in the snapshot beside the features, which no model ever sees: `model.slices` may
    name them."""
    history_seconds: Annotated[float, Field(gt=0)] | None = None
    """Train on rows at most this old; null: on all."""
    max_bad_row_share: Share = 0.01
    """Invalid rows are left out and reported up to this share; above it the run stops."""
    labels: LabelSource | None = None
    """A table of outcomes to read labels from, besides the collector's API."""

    @model_validator(mode="after")
    def _consistent(self) -> Data:
        if self.source.format == "log":
            if self.time_column is not None or self.row_time is not None:
                raise ValueError("the prediction log has its own times: leave time_column and row_time out")
            if self.extra_columns:
                raise ValueError("the prediction log holds features alone: leave extra_columns out")
        elif (self.time_column is None) == (self.row_time is None):
            raise ValueError("give either time_column or row_time")
        return self


class Labels(Section):
    """When outcomes become known, whoever brings them. A prediction is *due* once its outcome should be known: only
    rows that are due are judged or trained on, because labels that come early are not those that come late."""

    delay_seconds: Seconds | None = None
    """How long after the event its outcome is known. Null: estimated from the prediction log by each check; a training
    table is then taken as it is."""
    complete_after_seconds: Seconds | None = None
    """After this time no more outcomes come, where that is later than `delay_seconds`, such as 30 days of charge-backs;
    rows are due from then on."""
    absent_means: Literal["unknown", "negative"] = "unknown"
    """What a row is that is due and has no outcome: `unknown` is left out, `negative` counts as the negative class,
    where only positives are ever told, such as frauds."""
    min_coverage: Share = 0.5
    """Least share of the rows due that must have an outcome, and about as large a share for low as for high scores;
    else the check says "labels incomplete" and does not judge. 0: judge whatever outcomes there are."""

    @property
    def due_seconds(self) -> float | None:
        """Age at which a row's outcome is due; None: not stated."""
        return self.delay_seconds if self.complete_after_seconds is None else self.complete_after_seconds

    @model_validator(mode="after")
    def _consistent(self) -> Labels:
        if self.complete_after_seconds is not None and self.complete_after_seconds < (self.delay_seconds or 0):
            raise ValueError(
                f"complete_after_seconds {self.complete_after_seconds:g} is below delay_seconds {self.delay_seconds:g}"
            )
        if self.absent_means == "negative" and self.due_seconds is None:
            raise ValueError(
                "absent_means: negative needs complete_after_seconds, the age from which a row without an outcome "
                "counts as negative"
            )
        return self


class XGBoost(Section):
    """Settings of the gradient-boosted trees."""

    trees: Annotated[int, Field(ge=1, le=5000)] = 200
    """Most trees grown; early stopping on the newest training rows may keep fewer."""
    depth: Annotated[int, Field(ge=1, le=12)] = 6
    """Deepest tree."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Weight of each new tree."""
    early_stopping_rounds: Annotated[int, Field(ge=1)] = 20
    """Stop when so many trees brought nothing on rows not trained on."""


class Train(Section):
    """How a challenger is made."""

    estimators: tuple[Literal["xgboost", "linear"], ...] = ("xgboost", "linear")
    """Tried in turn; the best on the newest training rows is the challenger. `linear` is the simple baseline."""
    xgboost: XGBoost = XGBoost()
    """Settings of the gradient-boosted trees."""
    half_life_seconds: Annotated[float, Field(gt=0)] | None = None
    """A row this much older than the newest one weighs half as much in training; null: all weigh the same."""
    holdout_share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Most of the rows, the newest ones, that are held out for the gates; a run takes as many as their power needs."""
    min_rows: Annotated[int, Field(ge=50)] = 500
    """Fewest rows a run may train on."""
    seed: int = 0
    """Makes a run repeatable."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the training step; null: as many as its container may use."""

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if not self.estimators or len(set(self.estimators)) != len(self.estimators):
            raise ValueError("estimators must be at least one, each once")
        return self


class Gates(Section):
    """What a challenger proves, on rows no training step has read, before it may be registered for release."""

    alpha: Probability = 0.05
    """Chance that a challenger that is no better gets through, over all challengers under one alarm: the k-th meets the
    one-sided level 6 alpha / (pi k)²."""
    min_improvement: Annotated[float, Field(ge=0)] = 0.0
    """Least mean improvement of the loss, in its unit: nats (binary, log loss) or squared units (regression)."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    """While the champion is stale it is enough to show that the loss is not higher by this share of the champion's."""
    stale_after_seconds: Annotated[float, Field(gt=0)] | None = None
    """The champion is stale when its newest training row is older than this. Null: `monitor.triggers.max_age_seconds`;
    where that is null too, it never is."""
    max_loss: Annotated[float, Field(gt=0)] | None = None
    """Highest mean loss allowed at all; null: no limit."""
    max_cost_increase: Annotated[float, Field(ge=0)] = 0.0025
    """A challenger whose wrong decisions are shown to cost more than the champion's by more than this share is refused
    (binary only)."""
    max_slice_loss_increase: Annotated[float, Field(ge=0)] = 0.1
    """Refused is a challenger whose mean loss is shown to be higher than the champion's in any slice of at least
    `min_slice_rows` rows, by more than this share of the champion's loss there."""
    min_slice_rows: Annotated[int, Field(ge=10)] = 100
    """Smaller slices are reported, not judged."""
    min_rows: Annotated[int, Field(ge=20)] = 200
    """Fewest holdout rows a judgement is made on, none of which the champion was trained on."""
    min_class_rows: Annotated[int, Field(ge=2)] = 20
    """Fewest of them of each class (binary): a mean over a handful of positives has no normal error, and one of them
    would decide."""


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


class RetrainingCosts(Section):
    """When a retraining pays. In any one unit; only the ratios count."""

    error: Annotated[float, Field(ge=0)] = 1.0
    """Cost of one wrong decision (a regression's: of a row whose loss is that of the best constant). 0: errors cost
    nothing, and none starts a retraining."""
    run: Annotated[float, Field(ge=0)] = 20.0
    """Cost of a retraining, whatever it brings: machines, and attention."""
    release: Annotated[float, Field(ge=0)] = 10.0
    """Cost of a release: its risk, and attention."""
    horizon_rows: Annotated[int, Field(ge=100)] = 2000
    """Labelled rows within which both must pay: a rise of the error that would not is left alone."""


class Drift(Section):
    """When inputs count as drifted."""

    EARLIER: ClassVar[Mapping[str, str]] = {"attention_share": "min_drifted_importance"}

    alpha: Probability = 0.05
    """False discovery rate over the features of one check (Benjamini-Hochberg)."""
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
    """What the risen error has cost by now would have paid for a run and a release, see `costs`."""
    growth: Annotated[float, Field(gt=1)] | None = 8.0
    """So many times the rows of the last training are there; null: rows alone start none."""
    drift_and_estimate: bool = False
    """Inputs drifted and the error estimated without labels rose too."""
    max_age_seconds: Annotated[float, Field(gt=0)] | None = None
    """The champion's training data are older than this."""
    new_labels: Annotated[int, Field(ge=1)] | None = None
    """So many labels arrived since the champion was trained."""


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
    period_seconds: Annotated[float, Field(gt=0)] = 30 * 86_400
    """The period of `max_retrains`."""
    approval: Literal["auto", "manual"] = "auto"
    """`manual`: a retraining that a check decided on waits for `kedge approve`."""


class Monitor(Section):
    """How the served model is watched."""

    EARLIER: ClassVar[Mapping[str, str]] = {"veto": "quarantine"}

    schedule: str = "0 * * * *"
    """When a check runs: the five fields of cron, UTC. Sunday is 0, as in Kubernetes."""
    window_seconds: Annotated[float, Field(gt=0)] = 86_400
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


class Toleration(Section):
    """A taint of nodes that a step may run on all the same."""

    key: Annotated[str, Field(pattern=LABEL)]
    """Key of the taint."""
    value: str | None = None
    """Its value; null: any."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Its effect; null: all."""


class Secret(Section):
    """A Secret beside the run, by its name: what it holds is in no policy, no pipeline and no run."""

    name: Annotated[str, Field(pattern=OBJECT)]
    """Name of the Secret."""
    keys: tuple[Annotated[str, Field(pattern=VARIABLE)], ...] = Field(min_length=1)
    """Its keys that become environment variables of the same names."""


class Volume(Section):
    """A PersistentVolumeClaim beside the run, by its name."""

    claim: Annotated[str, Field(pattern=OBJECT)]
    """Name of the claim."""
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]
    """Where its files are seen."""


class StepUse(Section):
    """What one step uses on a cluster; null: what the cluster gives by itself."""

    cpu: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    """Processor cores, asked for and at most."""
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(Mi|Gi|Ti|M|G|T)$")] | None = None
    """Memory such as 4Gi, asked for and at most: above it the step is killed."""
    max_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """A pod of this step still running after this time is ended; the step has failed."""
    node_selector: NodeLabels | None = None
    """Nodes for this step, instead of those for all."""
    tolerations: tuple[Toleration, ...] | None = None
    """Taints this step tolerates, instead of those for all."""


class Cluster(Section):
    """What the steps of a run use on a cluster. Nothing in here changes what is trained."""

    steps: dict[Literal["ingest", "validate", "train", "evaluate", "register", "deploy", "notify"], StepUse] = {}
    """Step by step; `deploy` is the one step of a release and lasts as long as it; `notify` is the last of both."""
    node_selector: NodeLabels = {}
    """Labels that nodes of every step have, such as those of a node pool."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that every step tolerates."""
    secrets: tuple[Secret, ...] = ()
    """Secrets that every step reads as environment variables: credentials of the store and of the data."""
    volumes: tuple[Volume, ...] = ()
    """Claims that every step mounts."""


def _state_of_today(value: object) -> object:
    return "rejected" if value == "gated" else value  # its earlier name


RunState = Annotated[
    Literal["succeeded", "rejected", "inconclusive", "failed"],
    BeforeValidator(_state_of_today),
    WithJsonSchema({"type": "string", "enum": ["succeeded", "rejected", "inconclusive", "failed", "gated"]}),
]


class Notify(Section):
    """Who is told how a run ended."""

    url_variable: Annotated[str, Field(pattern=VARIABLE)] | None = None
    """Name of the environment variable with the address to post to, so that no secret is in a policy: the incoming
    webhook of a chat, or anything that takes `{"text": "..."}`. On a cluster it comes from a Secret in
    `cluster.secrets`. Null: nobody."""
    states: tuple[RunState, ...] = ("succeeded", "rejected", "inconclusive", "failed")
    """Ends that are told; `rejected` is a candidate that did not pass or was rolled back, `inconclusive` one that there
    are too few rows to judge."""


class Policy(Section):
    """Everything kedge needs to know about one model."""

    version: Literal[1] = 1
    """Version of this format."""
    model: Model
    """What is predicted, from what."""
    data: Data
    """The rows it is trained on."""
    labels: Labels = Labels()
    """When their outcomes, and those of predictions, become known."""
    train: Train = Train()
    """How a challenger is made."""
    gates: Gates = Gates()
    """What a challenger proves offline."""
    release: Release = Release()
    """How it reaches traffic, and comes back."""
    monitor: Monitor = Monitor()
    """How the served model is watched."""
    costs: RetrainingCosts = RetrainingCosts()
    """When a retraining pays."""
    cluster: Cluster = Cluster()
    """What the steps of a run use on a cluster."""
    notify: Notify = Notify()
    """Who is told how a run ended."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def hash(self) -> str:
        """SHA-256 over the policy's canonical JSON, 64 hex digits: two runs with one hash were asked the same.

        The order of features is left out: Helm sorts the names in its values, and a bundle's signature says the order.
        """
        plain: dict[str, Any] = self.to_dict()
        plain["model"]["features"].sort(key=lambda feature: feature["name"])
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """The policy as plain JSON values: how it travels as the pipeline parameter ``policy: dict``.

        Features become a list, each with its name: KFP's API server keeps no order in a mapping, and theirs counts.
        The positive label is always there: ``true`` equals the default 1, and means another text in a table of text.
        """
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        features = plain["model"]["features"]
        plain["model"]["features"] = [{"name": name, **features[name]} for name in self.model.features]
        plain["model"]["positive_label"] = self.model.positive_label
        return plain

    @model_validator(mode="before")
    @classmethod
    def _delay_where_it_is_today(cls, value: Any) -> Any:
        """``data.label_delay_seconds`` was the delay's earlier place; 0 was its default there, and stated nothing."""
        data = value.get("data") if isinstance(value, dict) else None
        if not isinstance(data, dict) or "label_delay_seconds" not in data:
            return value
        field, seconds, labels = ("data", "label_delay_seconds"), data["label_delay_seconds"], value.get("labels") or {}
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
            fault = _fault(field, seconds, f"must be greater than or equal to 0, got {seconds!r}")
            raise ValidationError.from_exception_data("policy", [fault])
        if isinstance(labels, dict) and "delay_seconds" in labels:
            fault = _fault(field, seconds, "is the earlier name of labels.delay_seconds; write one of them")
            raise ValidationError.from_exception_data("policy", [fault])
        rest = {name: part for name, part in data.items() if name != "label_delay_seconds"}
        stated = {**labels, "delay_seconds": seconds} if seconds and isinstance(labels, dict) else labels
        return {**value, "data": rest, **({"labels": stated} if stated else {})}

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        columns = self.model.columns
        target = columns.pop(self.model.target)
        faults = []
        if self.labels.absent_means == "negative" and self.model.task != "binary":
            said = f"negative belongs to task binary, not to {self.model.task}"
            faults.append(_fault(("labels", "absent_means"), "negative", said))
        for field, column in (("time_column", self.data.time_column), ("id_column", self.data.id_column)):
            if column is not None and column in columns.values():
                said = f"{column!r} is also a feature: a model that learns it cannot generalise"
                faults.append(_fault(("data", field), column, said))
            if column is not None and column == target:
                faults.append(_fault(("data", field), column, f"{column!r} is also the target"))
        faults += [_fault(("data", "extra_columns"), name, said) for name, said in self._faults_of_extra_columns()]
        for name in self.model.slices:
            if name not in self.model.features and name not in self.data.extra_columns:
                said = f"slice {name!r} must be a category or boolean feature, or one of data.extra_columns"
                faults.append(_fault(("model", "slices"), name, said))
        if faults:
            raise ValidationError.from_exception_data("policy", faults)
        return self

    def _faults_of_extra_columns(self) -> Iterator[tuple[str, str]]:
        """Each extra column is plainly named and is nothing else: a name inside is one column's."""
        taken: dict[str | None, str] = {
            **dict.fromkeys((*self.model.features, *self.model.columns.values()), "a feature"),
            **dict.fromkeys((self.model.target, self.model.columns[self.model.target]), "the target"),
            self.data.time_column: "data.time_column",
            self.data.id_column: "data.id_column",
        }
        for index, name in enumerate(self.data.extra_columns):
            if not may_name(name):
                yield name, f"{_fault_of_name(name, 'a view or a copy of the table')}"
            elif name in taken:
                yield name, f"{name!r} is also {taken[name]}"
            elif name in self.data.extra_columns[:index]:
                yield name, f"{name!r} is given twice"
