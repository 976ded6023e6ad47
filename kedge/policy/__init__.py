"""What a user writes about one model: one strict YAML file, typed, every field documented."""

from kedge.policy.data import Data, Labels, RowTime, Source
from kedge.policy.gates import Gates
from kedge.policy.metrics import Metric
from kedge.policy.model import Feature, Model
from kedge.policy.monitor import Budget, Monitor
from kedge.policy.parse import line_of, load, parse, read, schema
from kedge.policy.policy import Policy
from kedge.policy.release import Release
from kedge.policy.retention import Retention
from kedge.policy.train import Train

__all__ = [
    "Budget",
    "Data",
    "Feature",
    "Gates",
    "Labels",
    "Metric",
    "Model",
    "Monitor",
    "Policy",
    "Release",
    "Retention",
    "RowTime",
    "Source",
    "Train",
    "line_of",
    "load",
    "parse",
    "read",
    "schema",
]
