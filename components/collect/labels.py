"""Labels as they arrive: JSON, JSON lines, or a Parquet or CSV file with the columns id, label, observed_at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from components.collect.declared import identity_of, time_of
from components.collect.events import json_of
from components.collect.refusal import Refused, shown
from components.policy import Policy

COLUMNS = ("id", "label", "observed_at")
MOST_ROWS = 5_000_000


def value_of(policy: Policy, label: Any) -> float:
    """The outcome as the log holds it: 1.0 if it is the positive label and 0.0 if not; of a regression the number.

    Raises:
        Refused: null, not a plain value, or of another type than the policy's positive label.
    """
    model = policy.model
    if model.task == "regression":
        if type(label) in (int, float):
            return float(label)
        raise Refused("invalid", f"model {policy.name}: label must be a number, got {shown(label)}")
    if not _same_kind(label, model.positive_label):
        raise Refused(
            "invalid",
            f"model {policy.name}: label must be of the kind of the positive label {model.positive_label!r}, "
            f"got {shown(label)}",
        )
    return float(label == model.positive_label)


def from_json(body: bytes, model: str | None) -> tuple[str, list[Mapping[str, Any]]]:
    """Model and labels of ``{"model": ..., "labels": [{"id", "label", "observed_at"}]}``.

    Raises:
        Refused: malformed.
    """
    value = json_of(body)
    if type(value) is not dict or type(value.get("labels")) is not list:
        raise Refused("malformed", 'labels are sent as {"model": ..., "labels": [{"id", "label", "observed_at"}]}')
    unknown = value.keys() - {"model", "labels"}
    if unknown:
        raise Refused("malformed", f"unknown fields {shown(sorted(unknown))}; model and labels are allowed")
    return _model(value.get("model", model)), value["labels"]


def from_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Labels of a file of JSON lines."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                yield orjson.loads(raw)
            except orjson.JSONDecodeError as exc:
                raise Refused("malformed", f"line {number} is not JSON: {exc}") from None


def from_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    """Labels of a Parquet file; other columns are not read."""
    try:
        with pq.ParquetFile(path) as file:
            _named(file.schema_arrow.names)
            if file.metadata.num_rows > MOST_ROWS:
                raise Refused("too-large", f"{file.metadata.num_rows:,} rows; send at most {MOST_ROWS:,} at once")
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=8192, columns=columns):
                yield from _plain(batch)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise Refused("malformed", f"not a Parquet file with the columns {', '.join(COLUMNS)}: {exc}") from None


def from_csv(path: Path, policy: Policy) -> Iterator[Mapping[str, Any]]:
    """Labels of a CSV file with a header; ids are text, whatever they look like, labels are if the policy's are."""
    types = {"id": pa.string(), "observed_at": pa.string()}
    if isinstance(policy.model.positive_label, str) and policy.model.task == "binary":
        types["label"] = pa.string()
    try:
        convert = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        with pa.csv.open_csv(path, convert_options=convert) as file:
            _named(file.schema.names)
            for batch in file:
                yield from _plain(batch)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise Refused("malformed", f"not a CSV file with the columns {', '.join(COLUMNS)}: {exc}") from None


def row(policy: Policy, label: Any) -> tuple[dict[str, Any], int | None]:
    """A label's columns, and when it was observed in microseconds since 1970 if it says so.

    Raises:
        Refused: not an object, or a field is missing, unknown or of the wrong type.
    """
    if type(label) is not dict:
        raise Refused("invalid", f"a label is an object with id and label, got {shown(label)}")
    unknown = label.keys() - set(COLUMNS)
    if unknown:
        raise Refused("invalid", f"label: unknown fields {shown(sorted(unknown))}; allowed are {', '.join(COLUMNS)}")
    identity = identity_of(label.get("id"))
    observed = label.get("observed_at")
    columns = {"_id": identity, "_label": value_of(policy, label.get("label"))}
    return columns, None if observed is None else time_of(observed, "observed_at")


def _same_kind(label: Any, positive: str | int | bool) -> bool:
    """Whether the label is of the positive one's kind; true and false may stand for 1 and 0 and the other way round."""
    if isinstance(positive, str):
        return type(label) is str
    if type(label) in (int, float, bool):
        return bool(label in (0, 1)) if isinstance(positive, bool) else bool(label == label)
    return False


def _plain(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = {name: batch.column(name) for name in COLUMNS if name in batch.schema.names}
    if "observed_at" in columns and pa.types.is_timestamp(columns["observed_at"].type):
        columns["observed_at"] = _with_offset(columns["observed_at"])
    if not pa.types.is_string(columns["id"].type):
        columns["id"] = columns["id"].cast(pa.string())
    lists = [column.to_pylist() for column in columns.values()]
    for values in zip(*lists, strict=True):
        yield dict(zip(columns, values, strict=True))


def _with_offset(times: pa.Array) -> pa.Array:
    if times.type.tz is None:
        raise Refused("invalid", "observed_at has no time zone; use timestamps with UTC")
    utc = times.cast(pa.timestamp("us", tz="UTC"))
    return pa.array([None if time is None else time.isoformat() for time in utc.to_pylist()], pa.string())


def _named(names: list[str]) -> None:
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing:
        raise Refused("malformed", f"columns {missing} are missing; the file has {shown(names)}")


def _model(value: Any) -> str:
    if type(value) is str:
        return value
    raise Refused("malformed", f"model must be the name of a model, got {shown(value)}")
