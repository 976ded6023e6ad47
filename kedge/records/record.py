"""One JSON object an event, written once under its idempotency key."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Generic, TypeVar, overload

import orjson
from pydantic import TypeAdapter, ValidationError

from kedge.errors import StoreError, UsageError
from kedge.records import quarantined
from kedge.records.checked import Window
from kedge.records.kinds import KINDS, TYPES, Data, Kind, Quarantined
from kedge.records.upgrade import upgrade
from kedge.store import Store

CLOCKS_APART = timedelta(hours=1)
"""So far may the clocks of pods and laptops be apart."""
AT_ONCE = 16
"""Records read from the store at a time: in object storage each is a request of its own."""
D_co = TypeVar("D_co", bound=Data, covariant=True)
D = TypeVar("D", bound=Data)
_KINDS: Mapping[type[Any], Kind] = {data: kind for kind, data in TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Record(Generic[D_co]):
    """What happened to a model, when, by whom.

    ``kind`` and ``key`` together are the idempotency key: a second record with both is never written. ``time`` is when
    it counts (event time, UTC); ``written`` when it was written down.
    """

    model: str
    kind: Kind = field(init=False)
    """What its data are of."""
    key: str
    time: datetime
    data: D_co
    actor: str = ""
    written: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _KINDS[type(self.data)])

    @property
    def order(self) -> tuple[datetime, datetime, int, str]:
        """What records are sorted by: time, then when written; of one moment, as one thing leads to another."""
        return self.time, self.written or self.time, KINDS.index(self.kind), self.key


def parse(body: Mapping[str, Any], place: str = "record") -> Record[Data]:
    """A record from the object it is in the store, whichever version of kedge wrote it.

    Raises:
        StoreError: it is none; ``place`` begins the message, which repeats no value.

    >>> key, time = "a" * 40 + "-1", "2026-03-02T00:00:00+00:00"
    >>> parse({"model": "fraud", "kind": "promoted", "key": key, "time": time}).data.bundle == "a" * 40
    True
    """
    try:
        kind, key, written = body["kind"], body["key"], body.get("written")
        return Record(
            model=_text(body["model"]),
            key=_text(key),
            time=_moment(body["time"]),
            data=_adapter(kind).validate_python(upgrade(kind, key, body.get("data") or {})),
            actor=_text(body.get("actor", "")),
            written=_moment(written) if written is not None else None,
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _refused(place, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise _refused(place, exc) from exc


def as_read(record: Record[D]) -> Record[D]:
    """The record as it will be read back: numbers of numpy as plain ones, what is not finite as JSON holds it."""
    return parse(orjson.loads(_encoded(record)))  # type: ignore[return-value]  # of the same kind


def append(store: Store, record: Record[Data]) -> bool:
    """Write the record unless one of its kind and key exists; True if this call wrote it.

    Raises:
        StoreError: the store refused.
        UsageError: the key is not a plain name, or ``time`` has no offset.
    """
    if record.time.tzinfo is None:
        raise UsageError(f"record {record.kind}/{record.key}: time {record.time} has no offset; use UTC")
    written = record.written or datetime.now(UTC)  # the wall's, also in a replay
    kept = replace(record, actor=record.actor or actor(), written=written)
    return store.put_if_absent(place_of(record), _encoded(kept))


def place_of(record: Record[Data]) -> str:
    """Its key in the store; UsageError if its own is not a plain name."""
    return _place(record.model, record.kind, record.key)


def quarantine(store: Store, model: str, window: Window) -> None:
    """Mark the rows of a window as corrupt, by the name of an empty object. Again is harmless."""
    store.put_if_absent(quarantined.place(model, window), b"")


@overload
def read(store: Store, model: str) -> list[Record[Data]]: ...
@overload
def read(store: Store, model: str, *kinds: type[D]) -> list[Record[D]]: ...
def read(store: Store, model: str, *kinds: type[Any]) -> list[Record[Any]]:
    """All records of these kinds (default: all), in order.

    Reads every one of them: of the checks, of which a model has thousands, :func:`newest` reads the last few.

    Raises:
        StoreError: a record cannot be read or is not a record.
    """
    wanted = kinds or tuple(TYPES.values())
    names = [key for kind in wanted for key in store.keys(f"records/{model}/{_KINDS[kind]}")]
    marks = _marks(store, model) if Quarantined in wanted else []
    return in_order([*_fetched(store, names), *marks])


def newest(store: Store, model: str, kind: type[D], count: int, *, before: str | None = None) -> list[Record[D]]:
    """The last ``count`` records of a kind whose keys are times, in order; the others are listed and not read.

    Args:
        before: Only records whose keys are below this one.

    Raises:
        StoreError: as :func:`read`.
    """
    names = list(store.keys(f"records/{model}/{_KINDS[kind]}"))
    if before is not None:
        names = [name for name in names if name < _place(model, _KINDS[kind], before)]
    return in_order(_fetched(store, names[-count:] if count else []))


def find(store: Store, model: str, kind: type[D], key: str) -> Record[D] | None:
    """The record of this kind and key, or None: one read.

    Raises:
        StoreError: as :func:`read`.
    """
    name = _place(model, _KINDS[kind], key)
    try:
        return _parsed(store.get(name), f"{store.url}/{name}")
    except KeyError:
        return None


def find_each(store: Store, model: str, kind: type[D], keys: Iterable[str]) -> list[Record[D]]:
    """The records of this kind and these keys that there are, in order: as many reads as keys.

    Raises:
        StoreError: as :func:`read`.
    """
    with ThreadPoolExecutor(AT_ONCE) as readers:
        found = readers.map(lambda key: find(store, model, kind, key), keys)
        return in_order(item for item in found if item is not None)


def evaluation_key(bundle: str, run: str) -> str:
    """Key of an ``evaluated`` record: a bundle that KFP's cache hands to a later run meets another champion there."""
    return f"{bundle}-{run}"


def check_key(end: datetime) -> str:
    """Key of a check's record: its window's end."""
    return f"{end.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def dated_ahead(records: Iterable[Record[D_co]], now: datetime) -> list[Record[D_co]]:
    """Those that a wrong clock dated ahead: until then they are the newest of their kind, and no check sees them.

    A mark of a quarantine is not told beside the check that made it.
    """
    return [item for item in records if item.time > now + CLOCKS_APART and item.kind != "quarantined"]


def in_order(records: Iterable[Record[D]]) -> list[Record[D]]:
    """Records of one model in their one order."""
    return sorted(records, key=lambda record: record.order)


def of_kind(records: Iterable[Record[Data]], kind: type[D]) -> list[Record[D]]:
    """Those of one kind, in the order in which they come."""
    return [item for item in records if type(item.data) is kind]  # type: ignore[misc]  # that is its type now


def latest(store: Store, model: str, *kinds: type[D]) -> Record[D] | None:
    """The newest record of these kinds, or None."""
    found = read(store, model, *kinds)
    return found[-1] if found else None


def _marks(store: Store, model: str) -> list[Record[Quarantined]]:
    """The quarantined windows, as records that happened at their ends."""
    return [
        Record(model=model, key=name, time=window.end, data=Quarantined(window=window))
        for name, window in quarantined.marked(store, model)
    ]


def _fetched(store: Store, names: Sequence[str]) -> list[Record[Any]]:
    with ThreadPoolExecutor(AT_ONCE) as readers:
        bodies = readers.map(store.get, names)
        return [_parsed(body, f"{store.url}/{name}") for name, body in zip(names, bodies, strict=True)]


def _parsed(raw: bytes, place: str) -> Record[Any]:
    try:
        body = orjson.loads(raw)
    except ValueError as exc:
        raise _refused(place, exc) from exc
    return parse(body, place)


def _refused(place: str, fault: object) -> StoreError:
    return StoreError(f"{place}: not a record kedge wrote ({fault}); restore it or move it away")


def _encoded(record: Record[Data]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)


def _moment(text: str | datetime) -> datetime:
    time = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its offset")
    return time


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("model, key and actor are texts")
    return value


@cache
def _adapter(kind: Kind) -> TypeAdapter[Any]:
    return TypeAdapter(TYPES[kind])


def _place(model: str, kind: Kind, key: str) -> str:
    safe = key.replace(":", "").replace("+", "_")
    if not safe or "/" in safe or safe.startswith(".") or len(safe) > 200:
        raise UsageError(f"record key {key!r} must be a plain name of at most 200 characters")
    return f"records/{model}/{kind}/{safe}.json"


def actor() -> str:
    """Who acts: ``$KEDGE_ACTOR``, or the user of this process."""
    name = os.environ.get("KEDGE_ACTOR")
    if name:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a numeric user without an entry, as in every image
        return f"uid-{os.getuid()}"
