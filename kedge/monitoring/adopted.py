"""A model that kedge did not train has no bundle: it is compared with a table, or with its own first requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from kedge import drift, records
from kedge.drift import Kind, Profile
from kedge.errors import NothingServed
from kedge.monitoring import cohort
from kedge.monitoring.window import comparable, floats, scores_of
from kedge.policy import Policy
from kedge.records import Adopted, Record, Window
from kedge.store import Store
from kedge.tables import log, scores, sources


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a check compares with: as much of a bundle's manifest as it asks for."""

    created: datetime
    importance: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """``loss`` and ``rows``: of the first answers that were due, once there are enough outcomes."""
    snapshot: str = ""
    waits: str = ""
    """Why there is nothing to compare with yet, in words."""


def adopt(
    store: Store, policy: Policy, time: datetime, *, table: bool, rows: int, about: Mapping[str, str]
) -> Record[Adopted]:
    """Record that a model is watched from now on, and keep its reference if a table holds it.

    Args:
        table: The reference is the policy's training table; its profile is made now.
        rows: Else the first so many logged requests are, once they have come.
        about: What is told of the model in its history: ``service``, ``serves``, ``model``.

    Raises:
        DataError: the table cannot be read.
    """
    if table:
        store.put(_key(policy.name, "profile"), of_table(store, policy).to_json())
    data = Adopted(**about, rows=0 if table else rows)
    records.append(store, Record(model=policy.name, key="1", time=time, data=data))
    found = records.find(store, policy.name, Adopted, "1")
    assert found is not None
    return found


def of_table(store: Store, policy: Policy) -> Profile:
    """The profile of a training table: features as the log holds them, and its outcomes."""
    source = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    names = [*comparable(policy), policy.model.target]
    renamed = [*names[:-1], "_label"]
    batches = (_named(policy, batch.select(names)) for batch in source.batches(columns=names))
    return drift.build(batches, _kinds(policy, renamed))


def _named(policy: Policy, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Features and, as a profile counts them, outcomes, the last column; a row without one counts as missing."""
    *features, outcome = batch.columns
    if policy.model.classes:
        names = pa.array(policy.model.class_names)
        outcome = names.take(outcome.cast(pa.int64()))
    return pa.RecordBatch.from_arrays([*features, outcome], names=[*batch.schema.names[:-1], "_label"])


def reference(
    store: Store, policy: Policy, adoption: Record[Adopted], window: Window, delay: float
) -> tuple[Basis, Profile]:
    """What a check of this window compares with; built and kept as soon as enough was logged.

    Args:
        delay: Age in seconds from which a prediction's outcome is due.

    Raises:
        NothingServed: not one request was logged since the adoption.
        DataError, StoreError: the log cannot be read.
    """
    wanted = adoption.data.rows
    kept = _kept(store, policy.name, "profile")
    if kept is not None:
        metrics = _metrics(store, policy, adoption.time, window.end, delay)
        return Basis(created=adoption.time, metrics=metrics), Profile.from_json(kept)
    first = _first(store, policy, adoption.time, window.end, wanted)
    if not first.num_rows:
        raise NothingServed(
            f"model {policy.name}: none of the {wanted:,} requests of its reference was logged since it was adopted; "
            "if it answers requests, does its logger reach the collector?"
        )
    made = drift.build(first.to_batches(), _kinds(policy, first.column_names))
    if first.num_rows < wanted:
        waits = f"the reference is not complete: {first.num_rows:,} of {wanted:,} requests"
        return Basis(created=adoption.time, waits=waits), made
    store.put_if_absent(_key(policy.name, "profile"), made.to_json())
    return reference(store, policy, adoption, window, delay)


def _first(store: Store, policy: Policy, start: datetime, end: datetime, count: int) -> pa.Table:
    columns = ["_time", "_score", *comparable(policy)]
    rows = log.read_window(store, policy, start, max(start, end), columns=columns, labels="none")
    first = rows.take(pc.sort_indices(rows["_time"])).slice(0, count)
    answers = scores.columns(policy.model, scores_of(policy, first))
    return pa.table({**{name: first[name] for name in comparable(policy)}, **answers})


def _metrics(store: Store, policy: Policy, start: datetime, end: datetime, delay: float) -> Mapping[str, float]:
    """Loss over the first answers that are due, kept once there are enough of their outcomes; empty before."""
    kept = _kept(store, policy.name, "loss")
    if kept is None:
        due = max(start, end - timedelta(seconds=delay))
        rows = log.read_window(store, policy, start, due, columns=["_time", "_score"], known_at=end)
        times = rows["_time"].to_numpy().astype("datetime64[us]")
        first = cohort.judge(policy, scores_of(policy, rows), floats(rows["_label"]), times)
        if first.verdict != "judged":
            return {}
        body = orjson.dumps({"loss": first.loss / first.rows, "rows": float(first.rows)})
        store.put_if_absent(_key(policy.name, "loss"), body)
        kept = _kept(store, policy.name, "loss")
        assert kept is not None
    found: Mapping[str, float] = orjson.loads(kept)
    return found


def _kinds(policy: Policy, names: Iterable[str]) -> dict[str, Kind]:
    texts = {name for name, feature in policy.model.features.items() if feature.type == "category"}
    if policy.model.classes:
        texts.add("_label")
    return {name: "category" if name in texts else "number" for name in names}


def _kept(store: Store, model: str, what: str) -> bytes | None:
    try:
        return store.get(_key(model, what))
    except KeyError:
        return None


def _key(model: str, what: str) -> str:
    return f"adopted/{model}/{what}.json"
