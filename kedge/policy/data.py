"""Sections `data` and `labels`: the rows, and when their outcomes are due."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from kedge.clouds import CLOUDS, cloud_of
from kedge.policy.section import Seconds, Section, Share, Span

FILED = ("parquet", "csv", "delta")
"""Formats of tables that lie in files or in object storage."""


class RowTime(Section):
    """For tables without a time column: row k happened at start + k * step_seconds."""

    start: datetime
    """Time of the first row; without an offset it is UTC."""
    step_seconds: Span
    """Seconds from one row to the next."""
    order: Literal["file", "drawn"] = "file"
    """`drawn`: rows are dealt at random, always alike, where their order in the file is none of time, such as in a
    table sorted by class: else the newest rows, which a challenger is judged on, are all of one kind."""


class Source(Section):
    """A table somewhere."""

    format: Literal["parquet", "csv", "delta", "sql", "log"]
    """`log` is the model's own prediction log joined with its labels: train on what was served."""
    location: str = ""
    """A file, a folder, a pattern, or s3://..., gs://... or abfss://...; relative to the policy file. For `sql`, the
    name of the environment variable that holds the connection address, so that no password is ever in a policy."""
    query: str | None = None
    """For `sql`: one SELECT."""

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.format in FILED and "://" in self.location and cloud_of(self.location) is None:
            raise ValueError(
                f"location {self.location.partition(':')[0]}:// cannot be read as {self.format}: a file or folder, "
                f"{', '.join(f'{each}://' for each in CLOUDS)}; copy the table there, or query it by SQL"
            )
        if self.format != "log" and not self.location:
            raise ValueError(f"a {self.format} source needs a location")
        if (self.format == "sql") != (self.query is not None):
            raise ValueError("query and `format: sql` belong together")
        if self.format == "sql" and not re.fullmatch(r"[\w.-]+", self.location):
            raise ValueError(
                "location of a sql source names the environment variable that holds the address, such as BANK_DB; no "
                "address or password is written into a policy"
            )
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
    time_format: (
        Annotated[str, Field(pattern="%|^unix_(seconds|milliseconds|microseconds|nanoseconds)$|^excel_days$")] | None
    ) = None
    """How the table writes times, where that is not ISO 8601, such as `%d.%m.%Y`: C's `strptime`, in UTC, and `%S.%f`
    with fractions of a second. For numbers the unit since 1970: `unix_seconds`, `unix_milliseconds`,
    `unix_microseconds` or `unix_nanoseconds`; `excel_days` for the days of a sheet, such as 46082.5."""
    row_time: RowTime | None = None
    """Time by row number, for tables without a time column."""
    id_column: str | None = None
    """Unique per row; a duplicate is an invalid row. Null: rows have no id."""
    extra_columns: tuple[str, ...] = ()
    """Columns read as text and kept in the snapshot beside the features, which no model ever sees: `model.slices` may
    name them."""
    history_seconds: Span | None = None
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
        if self.time_format is not None and self.time_column is None:
            raise ValueError("time_format belongs to time_column, which is not given")
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
