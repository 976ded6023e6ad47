"""What a user writes about one model: one strict YAML file, typed, every field documented."""

from kedge.policy.model import (
    Budget,
    Data,
    Feature,
    Gates,
    Labels,
    Model,
    Monitor,
    Policy,
    Release,
    RowTime,
    Source,
    Train,
)
from kedge.policy.parse import line_of, load, parse, read, schema

__all__ = [
    "Budget",
    "Data",
    "Feature",
    "Gates",
    "Labels",
    "Model",
    "Monitor",
    "Policy",
    "Release",
    "RowTime",
    "Source",
    "Train",
    "line_of",
    "load",
    "parse",
    "read",
    "schema",
]
