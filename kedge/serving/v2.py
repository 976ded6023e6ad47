"""The Open Inference Protocol (v2): one input tensor a feature, JSON or the binary tensor extension.

Each input is named like a feature and has shape [n] or [n, 1]; categories are BYTES. A single input of shape
[n, features], whatever it is called, holds the features in the order of the metadata. Outputs are ``score`` and
``prediction``, FP64 of shape [n]; of several classes ``score`` has the probability of each, FP64 of shape [n, classes],
and ``prediction`` names the class decided for, BYTES of shape [n]. A missing value is null in JSON and NaN in a binary
tensor of floats.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from kedge import tensor as tensors
from kedge.errors import DataError
from kedge.serving.model import Row, Scored, ServedModel
from kedge.serving.rejection import RequestRejected
from kedge.serving.v1 import parse

OUTPUTS = ("score", "prediction")


@dataclass(frozen=True, slots=True)
class Inference:
    """A v2 request read: its rows, its id if it brought one, and the outputs wanted."""

    rows: list[Row]
    id: object
    outputs: tuple[str, ...] = OUTPUTS
    binary: frozenset[str] = frozenset()
    """Outputs wanted as binary tensors."""


def read(body: bytes, json_length: int | None, names: tuple[str, ...]) -> Inference:
    """Read a request; with binary tensors ``json_length`` says where its JSON ends.

    Raises:
        RequestRejected: 400, naming the input.
    """
    if json_length is not None and not 0 < json_length <= len(body):
        raise RequestRejected(
            400, f"inference-header-content-length: {json_length} bytes of JSON in a body of {len(body)}"
        )
    value = parse(body if json_length is None else body[:json_length])
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestRejected(400, '"inputs": must be a list of tensors, one a feature')
    outputs, binary = _wanted(value)
    tail = body[json_length:] if json_length is not None else b""
    return Inference(rows(inputs, tail, names), value.get("id"), outputs, binary)


def rows(inputs: list[Any], tail: bytes, names: tuple[str, ...]) -> list[Row]:
    """The rows of input tensors; ``tail`` holds the binary ones' bytes, one after the other.

    Raises:
        RequestRejected: 400, naming the input.
    """
    columns = _columns(inputs, tail, names)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write(request: Inference, scored: Scored, model: ServedModel, request_id: str) -> tuple[bytes, int | None]:
    """The answer, and where its JSON ends if it has binary tensors."""
    outputs, tail = [], b""
    for name in request.outputs:
        datatype, shape, values = tensor(name, scored, model.classes)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if name in request.binary:
            raw = packed(values) if datatype == "BYTES" else np.asarray(values, dtype="<f8").tobytes()
            output["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            output["data"] = values
        outputs.append(output)
    answer = {"model_name": model.name, "model_version": model.version, "id": request_id, "outputs": outputs}
    head = orjson.dumps(answer)
    return (head + tail, len(head)) if request.binary else (head, None)


def tensor(name: str, scored: Scored, classes: Sequence[str]) -> tuple[str, list[int], list[Any]]:
    """Type, shape and values, one after the other, of an output."""
    rows = len(scored.predictions)
    if not classes:
        return "FP64", [rows], scored.scores if name == "score" else scored.predictions
    if name == "score":
        return "FP64", [rows, len(classes)], [chance for score in scored.scores for chance in score]
    return "BYTES", [rows], [classes[int(place)] for place in scored.predictions]


def packed(texts: Sequence[str]) -> bytes:
    """Texts as a raw tensor: each after its length in 4 bytes, little endian."""
    raw = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in raw)


def _columns(inputs: list[Any], tail: bytes, names: tuple[str, ...]) -> dict[str, list[Any]]:
    if len(inputs) == 1 and len(names) > 1 and (matrix := _matrix(inputs[0], tail, names)) is not None:
        return matrix
    columns: dict[str, list[Any]] = {}
    place, rows = 0, None
    for tensor in inputs:
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise RequestRejected(400, '"inputs": each must be an object with a "name"')
        if name not in names or name in columns:
            raise RequestRejected(400, f"input {name[:60]!r}: {'given twice' if name in columns else 'not a feature'}")
        count = _count(name, tensor.get("shape"))
        if rows is not None and count != rows:
            raise RequestRejected(400, f"input {name!r}: {count} rows, the inputs before have {rows}")
        rows = count
        columns[name], size = _values(name, tensor, tail[place:], count)
        place += size
    if place != len(tail):
        raise RequestRejected(400, f"{len(tail) - place} bytes of binary data belong to no input")
    if not rows:
        raise RequestRejected(400, '"inputs": at least one row')
    missing = [name for name in names if name not in columns]
    if missing:
        raise RequestRejected(
            400, f"feature {missing[0]!r}: missing; send an input with nulls where the value is unknown"
        )
    return columns


def _matrix(tensor: Any, tail: bytes, names: tuple[str, ...]) -> dict[str, list[Any]] | None:
    """The columns of one tensor [rows, features], in the order of the metadata; None if it is not such a tensor."""
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        return None
    rows, width = shape
    name = str(tensor.get("name"))[:60]
    if width != len(names):
        if name in names or width == 1:
            return None
        raise RequestRejected(
            400, f"input {name!r}: rows of {width} values; the model has {len(names)} features, see its metadata"
        )
    values, size = _values(name, tensor, tail, rows * width)
    if size != len(tail):
        raise RequestRejected(400, f"{len(tail) - size} bytes of binary data belong to no input")
    return {column: values[place::width] for place, column in enumerate(names)}


def _values(name: str, tensor: dict[str, Any], tail: bytes, count: int) -> tuple[list[Any], int]:
    """One input's values, and how many bytes of the tail they took."""
    try:
        return tensors.values_in(tensor, tail, count)
    except DataError as exc:
        raise RequestRejected(400, f"input {name!r}: {exc}") from None


def _count(name: str, shape: object) -> int:
    if isinstance(shape, list) and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        count = shape[0]
        if type(count) is int and count >= 0:
            return count
    raise RequestRejected(400, f"input {name!r}: shape must be [rows] or [rows, 1]")


def _wanted(value: dict[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    every = _flag(value.get("parameters"), "binary_data_output")
    wanted = value.get("outputs")
    if wanted is None:
        return OUTPUTS, frozenset(OUTPUTS if every else ())
    names, binary = [], set()
    for output in wanted if isinstance(wanted, list) else [None]:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(output, dict) or name not in OUTPUTS:
            raise RequestRejected(400, '"outputs": each must be an object whose name is "score" or "prediction"')
        names.append(name)
        if _flag(output.get("parameters"), "binary_data", every):
            binary.add(name)
    return tuple(dict.fromkeys(names)) or OUTPUTS, frozenset(binary)


def _flag(parameters: object, name: str, default: bool = False) -> bool:
    value = parameters.get(name, default) if isinstance(parameters, dict) else default
    return value is True
