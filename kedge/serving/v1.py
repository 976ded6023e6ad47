"""KServe's v1 protocol: ``{"instances": [{feature: value}]}`` in, ``{"predictions": [score]}`` out.

Of several classes a prediction is the list of their probabilities; ``classes`` beside it names them in this order, and
``decisions`` says which class is decided for in each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from kedge.body import json_fault
from kedge.serving.model import Scored
from kedge.serving.rejection import RequestRejected


def read(body: bytes, names: Sequence[str]) -> list[Any]:
    """The rows of a request; a list of values is a row of the features in this order, ``names``.

    Raises:
        RequestRejected: 400, saying where the JSON breaks or what is missing.
    """
    value = parse(body)
    rows = value.get("instances", value.get("inputs"))  # KServe's own servers read both names
    if not isinstance(rows, list) or not rows:
        raise RequestRejected(400, '"instances": must be a list of at least one object of features by name')
    if list in map(type, rows):
        return [_named(row, place, names) if type(row) is list else row for place, row in enumerate(rows)]
    return rows


def _named(values: list[Any], place: int, names: Sequence[str]) -> dict[str, Any]:
    if len(values) != len(names):
        text = ", ".join(names)
        text = text if len(text) <= 400 else text[:397] + "..."
        raise RequestRejected(400, f"row {place}: {len(values)} values for the {len(names)} features {text}")
    return dict(zip(names, values, strict=True))


def write(scored: Scored, classes: Sequence[str]) -> bytes:
    """The answer."""
    if not classes:
        return orjson.dumps({"predictions": scored.scores})
    decisions = [classes[int(place)] for place in scored.predictions]
    return orjson.dumps({"predictions": scored.scores, "classes": classes, "decisions": decisions})


def parse(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestRejected: it is none; NaN and Infinity are no JSON either.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestRejected(400, json_fault(body, exc)) from None
    if not isinstance(value, dict):
        raise RequestRejected(400, "the body must be a JSON object")
    return value
