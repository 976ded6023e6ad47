"""What the collector is sent and what it answers, as types: its decoders and its OpenAPI description are made of them.

Types say what can be right; whether a model is declared and an outcome is one of its labels, the policies say.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_ID = 256
"""Characters."""
MAX_NAME = 128
"""Characters of a version or a slot."""
MAX_BATCH = 10_000
"""Events of a batch."""
MAX_FIGURES = 64
"""Figures of a check."""
FIGURE = "[a-z][a-z0-9_]{0,63}"
PredictionType = Literal["dev.kedge.prediction"]
PREDICTION: PredictionType = "dev.kedge.prediction"

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Whole | float  # finite, as any number in JSON
Identity = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
Name = Annotated[str, Meta(max_length=MAX_NAME)]
Given = Annotated[str, Meta(min_length=1)]
Moment = Annotated[datetime, Meta(tz=True)]


class PredictionData(Struct, kw_only=True):
    """What a model was asked and what it said."""

    model: str
    version: Name | None = None
    """The bundle's id."""
    slot: Name | None = None
    features: dict[str, Number | bool | str | None]
    score: Number | list[Number]
    """A probability (binary), one of each class in the policy's order (multiclass), or the value (regression)."""
    prediction: Number | bool | None = None
    """The decision, 0 or 1, the place of the class, or the value; missing: by the policy's costs."""
    latency_ms: Number | bool | None = None


class Prediction(Struct, kw_only=True):
    """A CloudEvent with one prediction."""

    specversion: Literal["1.0"]
    id: Identity
    source: Given
    type: PredictionType
    time: Moment | None = None
    """When it was asked for; missing: when it was received."""
    data: PredictionData


class Label(Struct, forbid_unknown_fields=True):
    """The outcome of one prediction."""

    id: Identity
    label: Number | bool | str
    observed_at: Moment | None = None


class Labels(Struct, forbid_unknown_fields=True):
    """Outcomes of one model."""

    model: str
    labels: list[Label]


class Check(Struct):
    """Figures of a model's newest monitoring check."""

    model: str
    figures: Annotated[
        dict[Annotated[str, Meta(pattern=f"^{FIGURE}$")], Number | bool], Meta(min_length=1, max_length=MAX_FIGURES)
    ]


class Accepted(Struct):
    """What is durable now."""

    accepted: int


class Flushed(Struct):
    """What a flush found."""

    appended: int
    """Rows appended by it, to all tables."""


class Readiness(Struct):
    """Whether events can be acknowledged, and what is wrong."""

    ready: bool
    faults: dict[str, str]
