"""kedge's own events, as long as nothing in them needs a look of its own.

A decoder made for the declared models reads and checks them in one go, in half of the time of reading JSON values and
checking those. What it does not take is read value by value, to name the fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import astuple

from kedge.collector.declared import EARLIEST, LATEST, Declared, Row, Values, microseconds
from kedge.collector.payloads import MAX_BATCH, Given, Identity, Moment, Name, Number, PredictionType

FEATURES: dict[str, Any] = {
    "number": Number | bool | None,
    "integer": Number | bool | None,
    "boolean": bool | None,
    "category": str | None,
}
"""What a feature of a type may be; of a boolean feature, numbers need a look at each value."""
Never = Annotated[str, msgspec.Meta(min_length=1, max_length=0)]
NOBODYS: Any = msgspec.defstruct("Nobodys", [("never", Never)], tag_field="model", tag="")
"""What no data can be: of a single type, msgspec takes data that do not name their model."""


class OwnEvents:
    """Reads events of type ``dev.kedge.prediction`` of the declared models."""

    def __init__(self, declared: Mapping[str, Declared]) -> None:
        kinds = {_data(model): model for model in declared.values()}
        fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [
            ("specversion", Literal["1.0"]),
            ("id", Identity),
            ("source", Given),
            ("type", PredictionType),
            ("time", Moment),
            ("data", reduce(or_, (NOBODYS, *kinds))),
            ("data_base64", Any, msgspec.UNSET),
        ]
        event: Any = msgspec.defstruct("Event", fields, gc=False)
        self._models: dict[type, Declared] = kinds
        self._one = msgspec.json.Decoder(event)
        self._many = msgspec.json.Decoder(Annotated[list[event], msgspec.Meta(max_length=MAX_BATCH)])

    def row(self, body: bytes, received: int) -> tuple[Declared, Row] | None:
        """The prediction in an event, with its model; None of any but a whole and right one.

        Args:
            received: Microseconds since 1970.
        """
        event = _decoded(self._one, body)
        if event is None:
            return None
        _, identity, _, _, time, data, encoded = astuple(event)
        bundle, slot, features, *answer = astuple(data)
        if encoded is not msgspec.UNSET or not f"{identity}{bundle}{slot}".isprintable() or not _timely(time, time):
            return None
        model = self._models[type(data)]
        own = (identity, microseconds(time), received, bundle, slot, *answer)
        return model, (*own, *model.features.private_row(astuple(features)))

    def columns(self, body: bytes, received: int) -> tuple[Declared, Values] | None:
        """The predictions of a batch whose events are all of one model, whole and right, by column; None of any other.

        Args:
            received: Microseconds since 1970.
        """
        events = _decoded(self._many, body)
        if not events:
            return None
        _, ids, _, _, times, data, encoded = zip(*map(astuple, events), strict=True)
        bundles, slots, features, *answers = zip(*map(astuple, data), strict=True)
        kinds, printable = set(map(type, data)), "".join((*ids, *set(bundles), *set(slots))).isprintable()
        if len(kinds) > 1 or set(encoded) != {msgspec.UNSET} or not printable or not _timely(min(times), max(times)):
            return None
        model = self._models[kinds.pop()]
        own = (ids, tuple(map(microseconds, times)), (received,) * len(ids), bundles, slots, *answers)
        return model, [*own, *model.features.private(zip(*map(astuple, features), strict=True))]


def _timely(first: datetime, last: datetime) -> bool:
    return first >= EARLIEST and last < LATEST


def _data(model: Declared) -> Any:
    """The type of the data of a model's events; a feature's name need not be one that Python takes."""
    features = model.policy.model.features
    fields = [(f"feature_{place}", FEATURES[each.type], None) for place, each in enumerate(features.values())]
    names = dict(zip((field[0] for field in fields), features, strict=True))
    chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
    score: Any = chance if model.binary else float
    if model.classes:
        score = Annotated[list[chance], msgspec.Meta(min_length=model.classes, max_length=model.classes)]
    return msgspec.defstruct(
        "Data",
        [
            ("version", Name),
            ("slot", Name),
            ("features", msgspec.defstruct("Features", fields, rename=names, gc=False)),
            ("score", score),
            ("prediction", float | bool),
            ("latency_ms", float | bool),
        ],
        tag_field="model",
        tag=model.name,
        gc=False,
    )


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, not as declared; too deep
        return None
