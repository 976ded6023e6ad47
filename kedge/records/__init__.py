"""Immutable records of what happened to a model: the only state, from which status and decisions are computed."""

from kedge.records.record import KINDS, Kind, Record, append, evaluation_key, find, in_order, latest, newest, read
from kedge.records.vetoed import veto, vetoed_windows, window_of

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
    "read",
    "veto",
    "vetoed_windows",
    "window_of",
]
