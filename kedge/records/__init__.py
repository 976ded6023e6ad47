"""Immutable records of what happened to a model: the only state, from which status and decisions are computed."""

from kedge.records.quarantined import quarantine, quarantined_windows, window_of
from kedge.records.record import KINDS, Kind, Record, append, evaluation_key, find, in_order, latest, newest, read

__all__ = [
    "KINDS",
    "Kind",
    "Record",
    "append",
    "evaluation_key",
    "find",
    "in_order",
    "latest",
    "newest",
    "quarantine",
    "quarantined_windows",
    "read",
    "window_of",
]
