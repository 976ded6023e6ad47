"""Immutable records of what happened to a model: the only state, from which status and decisions are computed."""

from components.record.record import Kind, Record, append, latest, read
from components.record.vetoed import vetoed_windows, window_of

__all__ = ["Kind", "Record", "append", "latest", "read", "vetoed_windows", "window_of"]
