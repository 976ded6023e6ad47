"""Labels as they arrive: JSON, JSON lines, or a Parquet or CSV file with the columns id, label, observed_at."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from arro3.core import DataType, RecordBatch
from deltalake import DeltaTable, QueryBuilder, convert_to_deltalake

from kedge.body import UnreadableBody, shown
from kedge.collector.declared import identity_of, time_of
from kedge.collector.payloads import Label, Labels
from kedge.collector.reading import json_of
from kedge.collector.rejection import RequestRejected
from kedge.policy import Policy
from kedge.tables import footer

COLUMNS = Label.__struct_fields__
MAX_NAMED = 10
"""Classes named in a message."""
MAX_ROWS = 5_000_000
MAX_LINE_BYTES = MAX_TEXT_BYTES = 64 << 10


def value_of(policy: Policy, label: Any) -> float:
    """The outcome as the log holds it: 1.0 if it is the positive label and 0.0 if not, of several classes the place, of
    a regression the number.

    Raises:
        RequestRejected: null, not a plain value, of another type than the policy's positive label; neither it nor the
            negative label or, where the policy has none, almost spelt like the positive one.
    """
    model = policy.model
    if model.task == "regression":
        if type(label) not in (int, float):
            raise RequestRejected("invalid", f"model {policy.name}: label must be a number, got {shown(label)}")
        if model.loss == "poisson" and label < 0:
            raise RequestRejected(
                "invalid",
                f"model {policy.name}: label must be a count, 0 or more (model.loss is poisson), got {shown(label)}",
            )
        return float(label)
    if model.classes:
        return _place(policy, label)
    if not _same_kind(label, model.positive_label):
        raise RequestRejected(
            "invalid",
            f"model {policy.name}: label must be of the kind of the positive label {model.positive_label!r}, "
            f"got {shown(label)}",
        )
    if model.negative_label is not None:
        if label in (model.positive_label, model.negative_label):
            return float(label == model.positive_label)
        raise RequestRejected(
            "invalid",
            f"model {policy.name}: label {shown(label)} is neither the positive label {model.positive_label!r} nor the "
            f"negative label {model.negative_label!r}",
        )
    if label != model.positive_label and str(label).strip().casefold() == str(model.positive_label).casefold():
        raise RequestRejected(
            "invalid",
            f"model {policy.name}: label {shown(label)} would count as negative; the positive label is spelt "
            f"{model.positive_label!r}",
        )
    return float(label == model.positive_label)


def _place(policy: Policy, label: Any) -> float:
    """The place of a class; whole numbers may come as floats."""
    classes = policy.model.classes
    if isinstance(label, str) == isinstance(classes[0], str) and type(label) in (str, int, float) and label in classes:
        return float(classes.index(label))  # 1.0 is the class 1
    names = ", ".join(map(repr, classes[:MAX_NAMED])) + (", ..." if len(classes) > MAX_NAMED else "")
    raise RequestRejected(
        "invalid",
        f"model {policy.name}: label {shown(label)} is none of the classes {names}; a new class goes to the end of "
        "model.classes",
    )


def from_json(body: bytes, model: str | None) -> tuple[str, list[Mapping[str, Any]]]:
    """Model and labels of ``{"model": ..., "labels": [{"id", "label", "observed_at"}]}``.

    Raises:
        RequestRejected: malformed.
    """
    value = json_of(body)
    if type(value) is not dict or type(value.get("labels")) is not list:
        raise RequestRejected(
            "malformed", 'labels are sent as {"model": ..., "labels": [{"id", "label", "observed_at"}]}'
        )
    unknown = value.keys() - set(Labels.__struct_fields__)
    if unknown:
        raise RequestRejected("malformed", f"unknown fields {shown(sorted(unknown))}; model and labels are allowed")
    return _model(value.get("model", model)), value["labels"]


def from_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Where it stands and each label of a file of JSON lines."""
    for number, line in _lines(path):
        if line.strip():
            try:
                yield f"line {number}", orjson.loads(line)
            except orjson.JSONDecodeError as exc:
                raise RequestRejected("malformed", f"line {number} is not JSON: {exc}") from None


def from_csv(path: Path, policy: Policy) -> Iterator[tuple[str, Any]]:
    """Where it stands and each label of a CSV file with a header.

    Ids are text, whatever they look like; labels are if the policy's are, else numbers, true or false.
    """
    model = policy.model
    wanted = model.classes[0] if model.classes else model.positive_label
    texts = model.task != "regression" and isinstance(wanted, str)
    reader = csv.reader((_decoded(number, line) for number, line in _lines(path)), strict=True)
    try:
        names = next(reader, [])
        _named(names)
        for values in reader:
            if values:
                yield f"line {reader.line_num}", _of_texts(dict(zip(names, values, strict=True)), texts)
    except (csv.Error, ValueError) as exc:
        place = f"line {reader.line_num}"
        raise RequestRejected(
            "malformed", f"not a CSV file with the columns {', '.join(COLUMNS)}: {place}: {exc}"
        ) from None


def from_parquet(path: Path, most: int) -> Iterator[tuple[str, Any]]:
    """The id and each label of a Parquet file of at most so many bytes unpacked, in no given order; other columns are
    not read.

    The file has to lie in a folder of its own, ending in ``.parquet``: Delta Lake, the one reader of Parquet here,
    writes down there what it found.
    """
    try:
        if not DeltaTable.is_deltatable(str(path.parent)):
            footer.refuse_large(path, most)
            convert_to_deltalake(path.parent)
        table = DeltaTable(path.parent)
        names = [field.name for field in table.schema().fields]
        _named(names)
        _refuse_long(table, [field.name for field in table.schema().fields if field.type.type in ("string", "binary")])
        rows = table.count()
        if rows > MAX_ROWS:
            raise RequestRejected("too-large", f"{rows:,} rows; send at most {MAX_ROWS:,} at once")
        for batch in table.scan(columns=[name for name in COLUMNS if name in names]):
            for label in _plain(batch):
                yield f"id {shown(label['id'])}", label
    except RequestRejected:
        raise
    except UnreadableBody as exc:
        raise RequestRejected(exc.reason, str(exc)) from None
    except Exception as exc:  # noqa: BLE001  (Delta Lake and the Arrow below it have no exception in common)
        first = str(exc).strip().partition("\n")[0]
        raise RequestRejected(
            "malformed", f"not a Parquet file with the columns {', '.join(COLUMNS)}: {first}"
        ) from None


def _refuse_long(table: DeltaTable, texts: list[str]) -> None:
    """A text that repeats is in a file once; each row that is read would have its own."""
    for name in [name for name in COLUMNS if name in texts]:
        query = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("labels", table)
        found = query.execute(f"SELECT max(octet_length({name})) AS length FROM labels").read_all()  # noqa: S608
        longest = found["length"].to_pylist()[0] or 0
        if longest > MAX_TEXT_BYTES:
            raise RequestRejected("too-large", f"column {name!r} has a text of {longest:,} bytes")


def row(policy: Policy, label: Any) -> tuple[dict[str, Any], int | None]:
    """A label's columns, and when it was observed in microseconds since 1970 if it says so.

    Raises:
        RequestRejected: not an object, or a field is missing, unknown or of the wrong type.
    """
    if type(label) is not dict:
        raise RequestRejected("invalid", f"a label is an object with id and label, got {shown(label)}")
    unknown = label.keys() - set(COLUMNS)
    if unknown:
        raise RequestRejected(
            "invalid", f"label: unknown fields {shown(sorted(unknown))}; allowed are {', '.join(COLUMNS)}"
        )
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


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, each of bounded length."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise RequestRejected(
                    "too-large", f"line {number} has more than {MAX_LINE_BYTES:,} bytes; a label needs fewer"
                )
            yield number, line


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as exc:
        raise RequestRejected("malformed", f"line {number} is not UTF-8: {exc.reason}") from None


def _of_texts(values: dict[str, str], texts: bool) -> dict[str, Any]:
    """A label from its cells; an empty one is missing, other columns are left out."""
    label: dict[str, Any] = {name: values[name] or None for name in COLUMNS if name in values}
    if not texts and label["label"] is not None:
        label["label"] = _number(label["label"])
    return label


def _number(text: str) -> Any:
    """A number, true or false as JSON has it; else the text, for the fault to show."""
    try:
        return orjson.loads(text.strip().lower())
    except orjson.JSONDecodeError:
        return text


def _plain(batch: RecordBatch) -> Iterator[dict[str, Any]]:
    columns = {name: batch[name] for name in COLUMNS if name in batch.column_names}
    if not DataType.is_string_view(columns["id"].type):
        columns["id"] = columns["id"].cast(DataType.string())
    lists = [column.to_pylist() for column in columns.values()]
    for values in zip(*lists, strict=True):
        label = dict(zip(columns, values, strict=True))
        observed = label.get("observed_at")
        if isinstance(observed, datetime):
            if observed.tzinfo is None:
                raise RequestRejected("invalid", "observed_at has no time zone; use timestamps with UTC")
            label["observed_at"] = observed.isoformat()
        yield label


def _named(names: list[str]) -> None:
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing:
        raise RequestRejected("malformed", f"columns {missing} are missing; the file has {shown(names)}")


def _model(value: Any) -> str:
    if type(value) is str:
        return value
    raise RequestRejected("malformed", f"model must be the name of a model, got {shown(value)}")
