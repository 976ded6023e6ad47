"""A batch of own events column by column, as long as nothing in it needs a look of its own.

It takes a third of the time of reading them one by one. What it does not take is read one by one, to name the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from components.collect.declared import Declared, Row, finite, identity_of, text, time_of
from components.collect.events import PREDICTION
from components.collect.refusal import Refused

ATTRIBUTES = itemgetter("specversion", "type", "source", "id", "time", "data")
DATA = itemgetter("model", "version", "slot", "features", "score", "prediction", "latency_ms")


def rows(events: Sequence[Any], declared: Mapping[str, Declared], received: int) -> tuple[Declared, list[Row]] | None:
    """The predictions of events that are all of one model, whole and right; None of any others.

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
        names = {one: text(one, "version or slot") for one in {*bundles, *slots}}
        columns = (
            map(identity_of, ids),
            map(time_of, times),
            (received,) * len(ids),
            map(names.__getitem__, bundles),
            map(names.__getitem__, slots),
            map(model.score, scores),
            (finite(one, "prediction") for one in decisions),
            (finite(one, "latency_ms") for one in latencies),
        )
        return None if logged is None else (model, list(zip(*columns, *logged, strict=True)))
    except (KeyError, TypeError, ValueError, Refused):
        return None
