"""KServe's v1 protocol: ``{"instances": [{feature: value}]}`` in, ``{"predictions": [score]}`` out."""

from __future__ import annotations

from typing import Any

import orjson

from components.serve.refusal import Refusal


def read(body: bytes) -> list[Any]:
    """The rows of a request.

    Raises:
        Refusal: 400, saying where the JSON breaks or what is missing.
    """
    value = parse(body)
    rows = value.get("instances")
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, '"instances": must be a list of at least one object of features by name')
    return rows


def write(scores: list[float]) -> bytes:
    """The answer."""
    return orjson.dumps({"predictions": scores})


def parse(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Refusal: it is none; NaN and Infinity are no JSON either.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Refusal(400, f"the body is not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be a JSON object")
    return value
