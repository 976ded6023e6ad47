"""A batch of own events column by column, as long as nothing in it needs a look of its own.

It takes a fifth of the time of reading them one by one. What it does not take is read one by one, to name the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

from components.collect.declared import MOST_ID, Declared, Values, text, time_of
from components.collect.events import PREDICTION
from components.collect.refusal import Refused

ATTRIBUTES = itemgetter("specversion", "type", "source", "id", "time", "data")
DATA = itemgetter("model", "version", "slot", "features", "score", "prediction", "latency_ms")
NUMBER = frozenset({float, int})
NUMBER_OR_BOOLEAN = frozenset({float, int, bool})


def columns(events: Sequence[Any], declared: Mapping[str, Declared], received: int) -> tuple[Declared, Values] | None:
    """The predictions of events that are all of one model, whole and right, by column; None of any others.

    Args:
        events: JSON values.
        received: Microseconds since 1970.
    """
    try:
        versions, kinds, sources, ids, times, data = zip(*map(ATTRIBUTES, events), strict=True)
        models, bundles, slots, features, scores, decisions, latencies = zip(*map(DATA, data), strict=True)
        (name,), (version,), (kind,) = set(models), set(versions), set(kinds)
        if (version, kind) != ("1.0", PREDICTION) or not all(sources) or any("data_base64" in one for one in events):
            return None
        model = declared[name]
        logged = model.features.columns(features)
        good = _are_ids(ids) and _are(NUMBER, scores) and _are(NUMBER_OR_BOOLEAN, decisions, latencies)
        if logged is None or not good or (model.binary and not (min(scores) >= 0 and max(scores) <= 1)):
            return None
        names = {one: text(one, "version or slot") for one in {*bundles, *slots}}
        own = (
            ids,
            tuple(map(time_of, times)),
            (received,) * len(ids),
            tuple(map(names.__getitem__, bundles)),
            tuple(map(names.__getitem__, slots)),
            scores,
            decisions,
            latencies,
        )
    except (KeyError, TypeError, ValueError, Refused):
        return None
    return model, [*own, *logged]


def _are_ids(values: Sequence[Any]) -> bool:
    return "".join(values).isprintable() and min(map(len, values)) > 0 and max(map(len, values)) <= MOST_ID


def _are(types: frozenset[type], *columns: Sequence[Any]) -> bool:
    return all(types.issuperset(map(type, column)) and all(map(isfinite, column)) for column in columns)
