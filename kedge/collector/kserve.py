"""What KServe's payload logger sends: the raw request and the raw answer of any model server, as two events.

v1: ``{"instances": [...]}`` and ``{"predictions": [...]}``. v2 (Open Inference Protocol): ``inputs`` and ``outputs``
tensors in JSON or in its binary extension. The logger loses the header that says where the JSON of a binary body ends;
the JSON itself says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import orjson

from kedge.body import json_of, packing, shown, unpacked
from kedge.collector.declared import Declared, Score, text
from kedge.collector.rejection import RequestRejected, invalid, malformed
from kedge.errors import DataError
from kedge.tables.privacy import Logged
from kedge.tensor import values_in

MAX_ROWS = 100_000
MAX_UNPACKED = 32 << 20
"""Bytes of a payload that a client or the server had compressed."""
SLOTS = ("blue", "green")
PREFERRED = ("score", "predict_proba")
"""Outputs that hold the score where several do."""


def service(attributes: Mapping[str, Any], declared: Mapping[str, Declared]) -> tuple[str, str]:
    """Model and slot of an event: an InferenceService is called as its model, or as its model and slot."""
    name = text(attributes.get("inferenceservicename"), "ce-inferenceservicename")
    model, _, slot = name.rpartition("-")
    if name not in declared and slot in SLOTS:
        return model, slot
    return name, ""


def version(attributes: Mapping[str, Any], annotation: str) -> str:
    """The model version, where the logger is told to send that annotation of the InferenceService along."""
    raw = attributes.get("annotations")
    try:
        found = orjson.loads(raw) if isinstance(raw, str) and raw else raw
    except orjson.JSONDecodeError:
        return ""
    return text(found.get(annotation), annotation) if isinstance(found, dict) else ""


def request_rows(model: Declared, data: Any) -> list[tuple[Logged, ...]] | None:
    """The features of each row of a v1 or v2 request, as they may be logged; None of anything else, which is none.

    Raises:
        RequestRejected: its rows do not fit the policy's features.
    """
    body, tail = _parsed(data)
    inputs, instances = body.get("inputs"), body.get("instances")
    if isinstance(inputs, list) and inputs and not all(isinstance(one, dict) and "shape" in one for one in inputs):
        instances = inputs  # KServe's own servers read v1 under both names
    if isinstance(instances, list):
        return [_named(model, row) for row in _bounded(instances)]
    return _rows(model, _tensors(inputs, tail)) if isinstance(inputs, list) else None


def response_scores(model: Declared, data: Any) -> list[Score] | None:
    """The score of each row of a v1 or v2 answer; None of anything else: an error, an explanation, no content.

    Which value is the score, the policy's ``model.answer`` says where there are several.

    Raises:
        RequestRejected: a score is not a number.
    """
    body, tail = _parsed(data)
    if isinstance(body.get("predictions"), list):
        return [_score(model, value) for value in _bounded(body["predictions"])]
    if not isinstance(body.get("outputs"), list):
        return None
    tensors, wanted = _tensors(body["outputs"], tail), model.policy.model.answer.output
    name = (
        wanted if wanted is not None else next((name for name in PREFERRED if name in tensors), next(iter(tensors), ""))
    )
    if name not in tensors:
        names = shown(", ".join(sorted(tensors)))
        raise _undecided(model, f"no output {shown(name)}, it has {names}", "output", "says which is the score")
    return [_score(model, value) for value in tensors[name]]


def _score(model: Declared, value: Any) -> Score:
    """One row of an answer as the score that the policy says it holds."""
    answer = model.policy.model.answer
    for key in answer.field.split(".") if answer.field else ():
        value = value.get(key) if isinstance(value, dict) else None
    if model.classes and answer.label:
        place = model.outcome(value)
        return [float(place == each) for each in range(model.classes)]
    if isinstance(value, list) and not model.classes:
        if answer.index is None and len(value) > 2:
            raise _undecided(model, f"{len(value)} values a row", "index", "says which is the positive class's chance")
        place = -1 if answer.index is None else answer.index
        value = value[place] if place < len(value) and value else None
    if answer.label:
        return float(value == model.policy.model.positive_label)
    if isinstance(value, dict):
        raise _undecided(
            model, f"a row is an object with {shown(', '.join(value))}", "field", "says which is the score"
        )
    if isinstance(value, str):
        raise _undecided(model, "a row is text", "label: true", "says that the server answers classes")
    return model.score(value)


def _undecided(model: Declared, seen: str, setting: str, says: str) -> RequestRejected:
    return invalid(f"answer of {model.name}: {seen}; `model.answer.{setting}` of the policy {says}")


def _parsed(data: Any) -> tuple[dict[str, Any], bytes]:
    """The JSON object of a payload, empty if it is none, and the bytes behind it."""
    body: Any = data
    tail = b""
    if isinstance(data, bytes):
        data = unpacked(data, packing(data), MAX_UNPACKED)  # the logger loses the header that says it
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            body, tail = _split(data)
    return body if isinstance(body, dict) else {}, tail


def _split(data: bytes) -> tuple[Any, bytes]:
    """A JSON value and what follows it; None of what begins with none: a page of HTML, no content.

    Raises:
        UnreadableBody: only Python takes it for JSON, as an answer with NaN.
    """
    try:
        head = data.decode("latin-1")  # one character a byte, so that the end is an offset into the bytes
        _, end = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return None, b""
    return json_of(data[:end]), data[end:]


def _bounded(rows: list[Any]) -> list[Any]:
    if not 0 < len(rows) <= MAX_ROWS:
        raise invalid(f"a payload holds 1 to {MAX_ROWS:,} rows, got {len(rows):,}")
    return rows


def _named(model: Declared, row: Any) -> tuple[Logged, ...]:
    names = list(model.policy.model.features)
    if isinstance(row, dict):
        values: dict[str, Any] = {_own(model, name): value for name, value in row.items()}
    elif isinstance(row, list) and len(row) == len(names):
        values = dict(zip(names, row, strict=True))
    else:
        raise invalid(f"request of {model.name}: a row is an object or a list of {len(names)} values, got {shown(row)}")
    return model.logged(values)


def _own(model: Declared, name: str) -> str:
    """The feature that a request calls so: a service that kedge did not train may know the names of tables only."""
    return model.called.get(name, name)


def _rows(model: Declared, tensors: dict[str, list[Any]]) -> list[tuple[Logged, ...]]:
    """One tensor a feature, or a single tensor of rows."""
    tensors = {_own(model, name): values for name, values in tensors.items()}
    if len(tensors) == 1:
        (rows,), width = tensors.values(), len(model.features.names)
        if tensors.keys().isdisjoint(model.features.names) or (isinstance(rows[0], list) and len(rows[0]) == width > 1):
            return [_named(model, row) for row in rows]
    lengths = {len(column) for column in tensors.values()}
    if len(lengths) != 1:
        raise invalid(f"request of {model.name}: inputs of different lengths {sorted(lengths)}")
    columns = (map(_single, column) for column in tensors.values())
    return [model.logged(dict(zip(tensors, values, strict=True))) for values in zip(*columns, strict=True)]


def _single(value: Any) -> Any:
    """The value of a row of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _tensors(described: Sequence[Any], tail: bytes) -> dict[str, list[Any]]:
    """Values of each tensor by name: a list of rows, each a value or a list of values."""
    found: dict[str, list[Any]] = {}
    for tensor in described:
        if not isinstance(tensor, dict):
            raise malformed(f"a tensor is an object, got {shown(tensor)}")
        name, shape = text(tensor.get("name"), "tensor name"), _shape(tensor.get("shape"))
        try:
            values, size = values_in(tensor, tail, prod(shape))
        except DataError as exc:
            raise malformed(f"tensor {shown(name)}: {exc}") from None
        tail, width = tail[size:], prod(shape[1:])
        found[name] = values if len(shape) < 2 else [values[k : k + width] for k in range(0, len(values), width)]
    return found


def _shape(shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 4:
        raise malformed("a tensor's shape is a list of at most 4 sizes, whole numbers from 0 on")
    if not prod(shape) or max(shape[:1], default=1) > MAX_ROWS:
        raise invalid(f"a payload holds 1 to {MAX_ROWS:,} rows of values, got the shape {shape}")
    return shape


def row_identity(identity: str, row: int, rows: int) -> str:
    """The id of one row of a request: the request's own if it has one row.

    >>> row_identity("a7", 0, 1), row_identity("a7", 1, 2)
    ('a7', 'a7-1')
    """
    return identity if rows == 1 else f"{identity}-{row}"
