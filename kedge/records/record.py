"""One JSON object an event, written once under its idempotency key."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import orjson

from kedge.errors import StoreError, UsageError
from kedge.records.upgrade import upgrade
from kedge.store import Store

Kind = Literal[
    "check",  # a monitoring check: key is the window's end
    "run-started",  # a pipeline run was submitted: key is the run's name
    "run-finished",  # it ended: data has state ("succeeded", "rejected", "inconclusive", "failed"), step, reason,
    # bundle and, where the run was refused so that nothing ran, submitted: false
    "evaluated",  # champion against challenger: key is the challenger's bundle id and the run
    "registered",  # a challenger that passed its gates: key is the bundle id
    "approved",  # by whom: key is the bundle id
    "release-started",  # key is the bundle id and the attempt
    "adopted",  # a model that kedge did not train is watched from then on: key is "1"
    "promoted",
    "rolled-back",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
AT_ONCE = 16
"""Records read from the store at a time: in object storage each is a request of its own."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What happened to a model, when, by whom.

    ``kind`` and ``key`` together are the idempotency key: a second record with both is never written. ``time`` is when
    it counts (event time, UTC); ``written`` when it was written down.
    """

    model: str
    kind: Kind
    key: str
    time: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    actor: str = ""
    written: datetime | None = None


def append(store: Store, record: Record) -> bool:
    """Write the record unless one of its kind and key exists; True if this call wrote it.

    Raises:
        StoreError: the store refused.
        UsageError: the key is not a plain name, or ``time`` has no offset.
    """
    if record.kind not in KINDS:
        raise UsageError(f"record kind {record.kind!r} must be one of {', '.join(KINDS)}")
    if record.time.tzinfo is None:
        raise UsageError(f"record {record.kind}/{record.key}: time {record.time} has no offset; use UTC")
    body = asdict(record)
    body["actor"] = record.actor or _actor()
    body["written"] = record.written or datetime.now(UTC)  # the wall's, also in a replay
    return store.put_if_absent(
        _key(record.model, record.kind, record.key), orjson.dumps(body, option=orjson.OPT_INDENT_2)
    )


def read(store: Store, model: str, kinds: Iterable[Kind] | None = None) -> list[Record]:
    """All records of these kinds (default: all), in the order of ``time``, then ``written``.

    Reads every one of them: of the checks, of which a model has thousands, :func:`newest` reads the last few.

    Raises:
        StoreError: a record cannot be read or is not a record.
    """
    wanted = kinds if kinds is not None else KINDS
    return in_order(_fetched(store, [key for kind in wanted for key in store.keys(f"records/{model}/{kind}")]))


def newest(store: Store, model: str, kind: Kind, count: int, *, before: str | None = None) -> list[Record]:
    """The last ``count`` records of a kind whose keys are times, in order; the others are listed and not read.

    Args:
        before: Only records whose keys are below this one.

    Raises:
        StoreError: as :func:`read`.
    """
    names = list(store.keys(f"records/{model}/{kind}"))
    if before is not None:
        names = [name for name in names if name < _key(model, kind, before)]
    return in_order(_fetched(store, names[-count:] if count else []))


def find(store: Store, model: str, kind: Kind, key: str) -> Record | None:
    """The record of this kind and key, or None: one read.

    Raises:
        StoreError: as :func:`read`.
    """
    name = _key(model, kind, key)
    try:
        return _parsed(store.get(name), f"{store.url}/{name}")
    except KeyError:
        return None


def evaluation_key(bundle: str, run: str) -> str:
    """Key of an ``evaluated`` record: a bundle that KFP's cache hands to a later run meets another champion there."""
    return f"{bundle}-{run}"


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records in the order of ``time``, then ``written``."""
    return sorted(records, key=lambda record: (record.time, record.written or record.time))


def latest(store: Store, model: str, *kinds: Kind) -> Record | None:
    """The newest record of these kinds, or None."""
    found = read(store, model, kinds or None)
    return found[-1] if found else None


def _fetched(store: Store, names: Sequence[str]) -> list[Record]:
    with ThreadPoolExecutor(AT_ONCE) as readers:
        bodies = readers.map(store.get, names)
        return [_parsed(body, f"{store.url}/{name}") for name, body in zip(names, bodies, strict=True)]


def _parsed(raw: bytes, place: str) -> Record:
    try:
        body = orjson.loads(raw)
        body["time"] = datetime.fromisoformat(body["time"])
        body["written"] = datetime.fromisoformat(body["written"])
        record = Record(**body)
        return replace(record, data=upgrade(record.kind, dict(record.data)))
    except (ValueError, TypeError, KeyError) as exc:
        raise StoreError(f"{place}: not a record kedge wrote ({exc}); restore it or move it away") from exc


def _key(model: str, kind: str, key: str) -> str:
    safe = key.replace(":", "").replace("+", "_")
    if not safe or "/" in safe or safe.startswith(".") or len(safe) > 200:
        raise UsageError(f"record key {key!r} must be a plain name of at most 200 characters")
    return f"records/{model}/{kind}/{safe}.json"


def _actor() -> str:
    name = os.environ.get("KEDGE_ACTOR")
    if name:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a numeric user without an entry, as in every image
        return f"uid-{os.getuid()}"
