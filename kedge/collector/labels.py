"""Labels as they arrive: JSON, or a file of JSON lines, CSV or Parquet with the columns id, label, observed_at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from kedge.body import json_of, shown
from kedge.collector.declared import Declared, identity_of, time_of
from kedge.collector.payloads import Label, Labels
from kedge.collector.rejection import invalid, malformed
from kedge.policy import Policy
from kedge.tables import confined, rowwise
from kedge.tables.rowwise import Rows

COLUMNS = Label.__struct_fields__
REQUIRED = 2
"""Of the columns."""


def from_json(body: bytes, model: str | None) -> tuple[str, Callable[[], Rows]]:
    """Model of, and what reads the labels of, ``{"model": ..., "labels": [{"id", "label", "observed_at"}]}``.

    Raises:
        RequestRejected, UnreadableBody: malformed.
    """
    value = json_of(body)
    if type(value) is not dict or type(value.get("labels")) is not list:
        raise malformed('labels are sent as {"model": ..., "labels": [{"id", "label", "observed_at"}]}')
    unknown = value.keys() - set(Labels.__struct_fields__)
    if unknown:
        raise malformed(f"unknown fields {shown(', '.join(sorted(unknown)))}; model and labels are allowed")
    name = value.get("model", model)
    if type(name) is not str:
        raise malformed(f"model must be the name of a model, got {shown(name)}")
    return name, lambda: ((f"labels[{place}]", label) for place, label in enumerate(value["labels"]))


def _from_lines(path: Path, _: Policy, __: int) -> Rows:
    return rowwise.from_lines(path)


def _from_csv(path: Path, policy: Policy, _: int) -> Rows:
    """Ids are text, whatever they look like; labels are if the policy's are, else numbers, true or false."""
    model = policy.model
    wanted = model.classes[0] if model.classes else model.positive_label
    texts = model.task != "regression" and isinstance(wanted, str)
    for place, cells in rowwise.from_csv(path, COLUMNS, REQUIRED):
        label = {name: cell or None for name, cell in cells.items()}
        if not texts and label["label"] is not None:
            label["label"] = _number(label["label"])
        yield place, label


def _from_parquet(path: Path, _: Policy, max_bytes: int) -> Rows:
    return confined.from_parquet(path, COLUMNS, REQUIRED, 2 * max_bytes)  # JSON is longer


FILES: dict[bytes, Callable[[Path, Policy, int], Rows]] = {
    b"application/x-ndjson": _from_lines,
    b"application/jsonl": _from_lines,
    b"text/csv": _from_csv,
    b"application/vnd.apache.parquet": _from_parquet,
}
"""Readers of a file of labels by its content type; it may have so many bytes when it is unpacked."""


def read(model: Declared, label: Any) -> tuple[str, float, int | None]:
    """A label's id, its outcome, and when it was observed in microseconds since 1970 if it says so.

    Raises:
        RequestRejected: not an object, or a field is missing, unknown or of the wrong type.
    """
    if type(label) is not dict:
        raise invalid(f"a label is an object with id and label, got {shown(label)}")
    unknown = label.keys() - set(COLUMNS)
    if unknown:
        raise invalid(f"label: unknown fields {shown(', '.join(sorted(unknown)))}; allowed are {', '.join(COLUMNS)}")
    observed = label.get("observed_at")
    time = None if observed is None else time_of(observed, "observed_at")
    return identity_of(label.get("id")), model.outcome(label.get("label")), time


def _number(text: str) -> Any:
    """A number, true or false as JSON has it; else the text, for the fault to show."""
    try:
        return orjson.loads(text.strip().lower())
    except orjson.JSONDecodeError:
        return text
