"""Score a table by the champion of the records, in constant memory: golden rows first, all of it written or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kedge import bundle as bundles
from kedge import clock, decision, records
from kedge.bundle import Bundle
from kedge.bundle.predictor import Predictor
from kedge.code import FAULTS
from kedge.code import fault as code_fault
from kedge.cpus import usable_cpus
from kedge.errors import BundleError, DataError, NothingServed, TransformError, UsageError, UserError
from kedge.policy import Policy
from kedge.records import ModelState, Record, Scored
from kedge.rollout import batch as releases
from kedge.scoring import outputs, tables
from kedge.scoring.logged import PredictionLog
from kedge.store.identity import require
from kedge.tables import labels
from kedge.tables import log as log_table
from kedge.tables.ahead import ahead
from kedge.tables.columns import ID
from kedge.tables.sources import Table

Say = Callable[[str], None]
Floats = NDArray[np.float64]
DAY = "{date}"
"""What stands in names of tables for the day, UTC, by which the predictions are dated."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What came of scoring a table."""

    model: str
    batch: str
    """Hash of the ids in their order: what names the batch."""
    rows: int
    bundle: str
    """Whose answers were written."""
    candidate: str
    """The bundle that scored beside it; empty: none."""
    time: datetime
    """By which the predictions are dated."""
    output: str
    written: bool
    """False: the output held this batch already."""
    logged: bool
    """False: the log held this batch already, or was not asked for."""
    release: str = ""
    """How a release ended meanwhile, in words; empty: none did."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Model:
    bundle: Bundle
    predictor: Predictor

    def score(self, rows: pa.RecordBatch) -> Floats:
        return self.predictor.score(self.bundle.signature.encode(rows))


def score(
    ledger: releases.Ledger,
    data: str,
    output: str,
    *,
    query: str | None = None,
    id_column: str | None = None,
    at: datetime | None = None,
    log: bool = True,
    replace: bool = False,
    say: Say = lambda _: None,
) -> Scoring:
    """Score every row of a table by the model's champion.

    Where a candidate's release by batches is under way it scores the same rows; its answers go to the log only, as
    copies. Outcomes that ``data.labels`` has are read first, then the release is looked at, so that who answers is who
    they speak for; and once more after.

    A batch is known by its ids in their order. Scored again it is neither logged nor written twice; an output that
    lacks it is written.

    Args:
        ledger: The model's policy, store and registry.
        data: The table: a path, a pattern, an address in object storage, or ``sql:VARIABLE`` with ``query``.
            ``{date}`` stands for the day.
        output: See :func:`kedge.scoring.outputs.open_output`; ``{date}`` as well.
        query: One SELECT, for ``sql:``.
        id_column: Column of the ids; default the policy's ``data.id_column``.
        at: Time that the predictions are dated; default now.
        log: False: nothing is logged and no candidate scores: for a look at rows that are not to be judged.
        replace: A Parquet file that is there may be replaced.
        say: Told what happens, a line each.

    Raises:
        NothingServed: no bundle was promoted yet.
        UsageError: the output is the input, or holds something else.
        DataError: no table, one of another schema, or a value that cannot be read: nothing is written or logged.
        BundleError: the champion is altered, or its golden rows are predicted otherwise here.
        StoreError: also where the store is empty.
        RegistryError: as it says.
    """
    policy, store = ledger.policy, ledger.store
    moment = at or clock.now()
    moment -= timedelta(microseconds=moment.microsecond % 1000)
    data, output = (each.replace(DAY, f"{moment.astimezone(UTC):%Y-%m-%d}") for each in (data, output))
    outputs.refuse_input(output, data)
    outputs.refuse_store(output, store)
    require(store)
    if log and policy.data.labels is not None:
        try:
            labels.pull(store, policy)
        except DataError as exc:  # predictions do not wait for outcomes; a check says the same, and fails
            say(f"no new outcomes are read: {exc}")
    ended = [_looked(ledger, moment, say)] if log else []
    state = ledger.state()
    champion = state.champion_bundle
    if champion is None:
        raise NothingServed(_no_champion(policy, state))
    with TemporaryDirectory(prefix="kedge-score-") as cache:
        loaded = [_load(policy, store, champion, cache)]
        fault = releases.golden_fault(policy, loaded[0].bundle)
        if fault:
            raise BundleError(f"{fault}; nothing was scored")
        begun = state.open_release if log and policy.release.mode == "batch" else None
        if begun is not None:
            candidate = _load(policy, store, begun.data.bundle, cache)
            fault = releases.golden_fault(policy, candidate.bundle)
            if fault:
                releases.reject(ledger, fault)
                ended.append(_told(say, f"candidate {candidate.bundle.id[:12]}: rolled back: {fault}"))
            else:
                loaded.append(candidate)
        done = _stream(ledger, loaded, data, output, query, id_column, moment, log=log, replace=replace, say=say)
    if log:
        ended.append(_looked(ledger, max(moment, clock.now()) if at is None else moment, say))
    return Scoring(**done, release="; ".join(filter(None, ended)))


def _stream(
    ledger: releases.Ledger,
    models: list[_Model],
    data: str,
    output: str,
    query: str | None,
    id_column: str | None,
    moment: datetime,
    *,
    log: bool,
    replace: bool,
    say: Say,
) -> dict[str, Any]:
    policy, store, champion = ledger.policy, ledger.store, models[0].bundle
    table = tables.open_rows(policy, data, id_column, query, champion.signature)
    for other in models[1:]:
        tables.open_rows(policy, data, id_column, query, other.bundle.signature)
    named = table.sources[ID]
    into = outputs.open_output(output, outputs.schema(named, _names(policy)), model=policy.name, replace=replace)
    logs: PredictionLog | None = None
    try:
        if log:
            received = clock.now()
            received -= timedelta(microseconds=received.microsecond % 1000)
            logs = PredictionLog(store, policy, moment, received)
        ids, content, rows = hashlib.sha256(), hashlib.sha256(), 0
        some = pa.array([], pa.string())
        for part in ahead(tables.in_slices(_readable(table))):
            _refuse_ids(part, data, named, rows, once=log)
            _digest(part, ids, content)
            some = some if rows else part.column(ID)
            for place, model in enumerate(models):
                scores = _scored(model, part, data, rows)
                decided = decision.decide(policy.model, scores)
                if place == 0:
                    into.write(_predictions(policy, part, scores, decided, model.bundle.id, moment, named))
                if logs is not None:
                    logs.write(part, model.bundle.id, scores, decided, copies=place > 0)
            rows += len(part)
        if not rows:
            raise DataError(f"{data}: has no rows; nothing was scored")
        batch, digest = ids.hexdigest()[:40], content.hexdigest()[:40]
        before = records.find(store, policy.name, Scored, batch) if log else None
        if before is not None:
            _refuse_other(before, data, digest, champion.id)
        known = log_table.predicted_before(store, policy, some) if log and before is None else 0
        name = batch if log else f"{batch}-{champion.id[:12]}"
        written = not into.holds(name)
        if log:  # said before it is done, so that a run that is killed between is not ended by another bundle
            about = Scored(
                bundle=champion.id,
                candidate=models[1].bundle.id if len(models) > 1 else "",
                rows=rows,
                digest=digest,
                data=data,
                output=output,
            )
            records.append(store, Record(model=policy.name, key=batch, time=moment, data=about))
        logged = logs is not None and logs.commit(batch)
        if written:
            into.commit(name)
    except BaseException:
        if logs is not None:
            logs.abort()
        raise
    finally:
        into.abort()
    again = log and not logged
    if again:
        when = f" at {before.time:%Y-%m-%d %H:%M} UTC" if before is not None else ""
        say(f"{data}: scored before{when}; the log has these {rows:,} predictions, and keeps them once")
    if logged and known:
        say(
            f"{data}: {known:,} of its first {len(some):,} ids have predictions already, and outcomes count for those "
            "that were logged first: give rows that are asked about again ids of their own, such as customer and day"
        )
    if not written:
        say(f"{into.place}: holds this batch already, and stays as it is")
    return {
        "model": policy.name,
        "batch": batch,
        "rows": rows,
        "bundle": champion.id,
        "candidate": models[1].bundle.id if len(models) > 1 else "",
        "time": moment,
        "output": output,
        "written": written,
        "logged": logged,
    }


def _readable(table: Table) -> Iterator[pa.RecordBatch]:
    try:
        yield from table.batches()
    except DataError as exc:
        raise DataError(f"{exc}; nothing was scored") from exc


def _load(policy: Policy, store: Any, bundle: str, cache: str) -> _Model:
    opened = bundles.fetch(store, policy.name, bundle, Path(cache))
    return _Model(bundle=opened, predictor=opened.load_model(threads=usable_cpus()))


def _looked(ledger: releases.Ledger, now: datetime, say: Say) -> str:
    """A look at the release by batches that is under way."""
    if ledger.policy.release.mode != "batch":
        return ""
    begun = ledger.state().open_release
    ended = releases.look(ledger, now)
    if ended is None or begun is None:
        return ""
    return _told(say, f"candidate {begun.data.bundle[:12]}: {ended.result.replace('-', ' ')}: {ended.reason}")


def _told(say: Say, line: str) -> str:
    say(line)
    return line


def _no_champion(policy: Policy, state: ModelState) -> str:
    waiting = state.release_to_approve
    if waiting is not None and policy.release.approval == "manual":
        todo = f"bundle {waiting[:12]} waits for `kedge approve`"
    elif waiting is not None:
        todo = f"`kedge submit --policy FILE --release {waiting[:12]}` releases what passed its gates"
    else:
        todo = "`kedge submit` trains and releases a first one"
    return f"model {policy.name}: no champion yet, so nothing can score: {todo}"


def _scored(model: _Model, rows: pa.RecordBatch, data: str, before: int) -> Floats:
    """The scores of rows. Where some have none, the first of them is named."""
    try:
        return model.score(rows)
    except FAULTS as exc:
        fault = _as_error(model, exc)
    first, some = 0, rows
    while len(some) > 1:
        half = some.slice(0, len(some) // 2)
        some, first = (half, first) if _fault(model, half) else (some.slice(len(half)), first + len(half))
    alone = _fault(model, some)
    place = f"row {before + first + 1:,}" if alone else f"rows {before + 1:,} to {before + len(rows):,}"
    fault = alone or fault
    raise type(fault)(f"{data}, {place}: {fault}; nothing was scored") from fault


def _fault(model: _Model, rows: pa.RecordBatch) -> UserError | None:
    try:
        model.score(rows)
    except FAULTS as exc:
        return _as_error(model, exc)
    return None


def _as_error(model: _Model, exc: BaseException) -> UserError:
    """Why rows have no scores, without the words of a model's own code, which may hold values of rows."""
    if isinstance(exc, UserError):
        return exc
    return TransformError(f"the model of bundle {model.bundle.id[:12]} raises {code_fault(exc)}")


def _refuse_ids(rows: pa.RecordBatch, data: str, named: str, before: int, *, once: bool) -> None:
    """Refuse a row without an id and, where predictions are logged, an id that these rows have twice."""
    ids = rows.column(ID)
    if ids.null_count:
        place = before + int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0]) + 1
        raise DataError(f"{data}, row {place:,}: column {named!r}: the id is missing; nothing was scored")
    if once and pc.count_distinct(ids).as_py() < len(ids):
        first: dict[str, int] = {}
        place, other = next(
            (row, first[id_]) for row, id_ in enumerate(ids.to_pylist()) if first.setdefault(id_, row) < row
        )
        raise DataError(
            f"{data}, row {before + place + 1:,}: column {named!r}: the id of row {before + other + 1:,} again; an id "
            "names one prediction: leave the row away, give it an id of its own, or --no-log; nothing was scored"
        )


def _refuse_other(before: Record[Scored], data: str, digest: str, champion: str) -> None:
    """A prediction is known by its id: other features under the same ids would be other predictions."""
    told = f"{data}: its ids were scored at {before.time:%Y-%m-%d %H:%M} UTC ({before.data.data})"
    if before.data.digest != digest:
        raise UsageError(
            f"{told} with other features: an id names one prediction, so give rows that are asked about again new ids, "
            "or --no-log; nothing was written or logged"
        )
    if before.data.bundle != champion:
        raise UsageError(
            f"{told} by bundle {before.data.bundle[:12]}, and the champion is {champion[:12]} now: the log keeps the "
            "first answers; --no-log writes the new ones; nothing was written or logged"
        )


def _names(policy: Policy) -> tuple[str, ...]:
    """Of several classes; of another task none."""
    return policy.model.class_names if policy.model.classes else ()


def _predictions(
    policy: Policy, rows: pa.RecordBatch, scores: Floats, decided: Floats, version: str, moment: datetime, named: str
) -> pa.RecordBatch:
    count, names = len(rows), _names(policy)
    if names:
        answers = [*map(pa.array, scores.T), pa.array(names).take(pa.array(decided.astype(np.int64)))]
    else:
        answers = [pa.array(scores), pa.array(decided)]
    arrays = [
        rows.column(ID),
        *answers,
        pa.repeat(pa.scalar(version, pa.string()), count),
        pa.repeat(pa.scalar(moment, outputs.TIME), count),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=outputs.schema(named, names))


def _digest(rows: pa.RecordBatch, ids: Any, content: Any) -> None:
    """Add a slice of rows to both hashes; slices are of one length, so that equal tables have equal hashes."""
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        valid = np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes()
        if pa.types.is_string(column.type):
            filled = pc.fill_null(column, "")
            lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False)
            values: tuple[bytes, ...] = (lengths.tobytes(), _text(filled))
        else:
            values = (pc.fill_null(column, 0).to_numpy(zero_copy_only=False).tobytes(),)
        for part in (valid, *values):
            content.update(part)
            if name == ID:
                ids.update(part)


def _text(filled: pa.Array) -> bytes:
    """The bytes of all texts, one after the other."""
    with suppress(ValueError):
        offsets = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset : filled.offset + len(filled) + 1]
        data = filled.buffers()[2]
        return memoryview(data)[offsets[0] : offsets[-1]].tobytes() if data is not None else b""
    return "".join(filled.to_pylist()).encode()
