"""Immutable records of what happened to a model: the only state, from which status and decisions are computed."""

from components.record.record import Kind, Record, append, latest, read

__all__ = ["Kind", "Record", "append", "latest", "read"]
