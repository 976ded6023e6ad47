"""kedge's own events, as long as nothing in them needs a look of its own.

A decoder made for the declared models reads and checks them in one go, in half of the time of reading JSON values and
checking those. What it does not take is read value by value, to name the fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import astuple

from components.collect.declared import EARLIEST, EPOCH, LATEST, MICROSECOND, MOST_ID, MOST_NAME, Declared, Row, Values
from components.collect.events import PREDICTION

MOST_BATCH = 10_000
"""Events of a batch."""
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Number = Whole | float
FEATURES: dict[str, Any] = {
    "number": Number | bool | None,
    "integer": Number | bool | None,
    "boolean": bool | None,
    "category": str | None,
}
"""What a feature of a type may be; of a boolean feature, numbers need a look at each value."""
Identity = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_ID)]
Name = Annotated[str, msgspec.Meta(max_length=MOST_NAME)]
Given = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class OwnEvents:
    """Reads events of type ``dev.kedge.prediction`` of the declared models."""

    def __init__(self, declared: Mapping[str, Declared]) -> None:
        kinds = {_data(model): model for model in declared.values()}
        fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [
            ("specversion", Literal["1.0"]),
            ("id", Identity),
            ("source", Given),
            ("type", Literal[PREDICTION]),
            ("time", Moment),
            ("data", _any_of(kinds)),
            ("data_base64", Any, msgspec.UNSET),
        ]
        event: Any = msgspec.defstruct("Event", fields, gc=False)
        self._models: dict[type, Declared] = kinds
        self._one = msgspec.json.Decoder(event)
        self._many = msgspec.json.Decoder(Annotated[list[event], msgspec.Meta(max_length=MOST_BATCH)])

    def row(self, body: bytes, received: int) -> tuple[Declared, Row] | None:
        """The prediction in an event, with its model; None of any but a whole and right one.

        Args:
            received: Microseconds since 1970.
        """
        event = _decoded(self._one, body)
        found = None if event is None else self._columns([event], received)
        return None if found is None else (found[0], tuple(column[0] for column in found[1]))

    def columns(self, body: bytes, received: int) -> tuple[Declared, Values] | None:
        """The predictions of a batch whose events are all of one model, whole and right, by column; None of any other.

        Args:
            received: Microseconds since 1970.
        """
        return self._columns(_decoded(self._many, body), received)

    def _columns(self, events: Sequence[Any] | None, received: int) -> tuple[Declared, Values] | None:
        if not events:
            return None
        _, ids, _, _, times, data, encoded = zip(*map(astuple, events), strict=True)
        bundles, slots, features, scores, decisions, latencies = zip(*map(astuple, data), strict=True)
        (kind, *others), (unset, *given) = set(map(type, data)), set(encoded)
        texts = "".join((*ids, *set(bundles), *set(slots)))
        numbers = all(all(map(isfinite, column)) for column in (scores, decisions, latencies))
        timely = min(times) >= EARLIEST and max(times) < LATEST
        if others or given or unset is not msgspec.UNSET or not (texts.isprintable() and numbers and timely):
            return None
        model = self._models[kind]
        logged = model.features.private(zip(*map(astuple, features), strict=True))
        moments = tuple([(time - EPOCH) // MICROSECOND for time in times])
        own = (ids, moments, (received,) * len(ids), bundles, slots, scores, decisions, latencies)
        return model, [*own, *logged]


def _data(model: Declared) -> Any:
    """The type of the data of a model's events; a feature's name need not be one that Python takes."""
    features = model.policy.model.features
    fields = [(f"feature_{place}", FEATURES[each.type], None) for place, each in enumerate(features.values())]
    names = dict(zip((field[0] for field in fields), features, strict=True))
    score = Annotated[float, msgspec.Meta(ge=0, le=1)] if model.binary else float
    return msgspec.defstruct(
        "Data",
        [
            ("version", Name),
            ("slot", Name),
            ("features", msgspec.defstruct("Features", fields, rename=names, gc=False)),
            ("score", score),
            ("prediction", Number | bool),
            ("latency_ms", Number | bool),
        ],
        tag_field="model",
        tag=model.name,
        gc=False,
    )


def _any_of(kinds: Iterable[Any]) -> Any:
    first, *rest = kinds
    for kind in rest:
        first = first | kind
    return first


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, not as declared; too deep
        return None
