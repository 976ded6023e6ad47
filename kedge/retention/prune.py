"""Delete from a store what its policy keeps no longer.

The manifest of a bundle or a snapshot goes first, so that who finds one finds the rest; each is listed again at once
before, and stays if a run used it meanwhile. What a kill leaves is deleted the next time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import PurePosixPath
from typing import Literal

import orjson

from kedge import pages, records
from kedge.clock import believed
from kedge.policy import Policy
from kedge.retention.expiry import Expired, Held, Inventory, Uses, expired
from kedge.store import Item, Store
from kedge.tables import snapshot

Thing = Literal["bundle", "snapshot", "page", "scrap"]
ID = re.compile(r"[0-9a-f]{40}")
MANIFESTS = ("bundle.json", "snapshot.json")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One thing that goes."""

    thing: Thing
    name: str
    used: datetime
    items: tuple[Item, ...]
    """In the order in which they go."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.items)

    def __str__(self) -> str:
        return f"{self.thing} {self.name} ({self.size:,} bytes, last used {self.used:%Y-%m-%d})"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes, in the order in which it goes."""

    removals: tuple[Removal, ...] = ()
    limit: datetime | None = None
    """What was used later stays; None: everything does."""
    waits_for: str = ""
    """The run under way that bundles and snapshots wait for; empty: none."""

    def __str__(self) -> str:
        counts: dict[Thing, int] = {}
        for removal in self.removals:
            counts[removal.thing] = counts.get(removal.thing, 0) + 1
        parts = (f"{count:,} {thing}{'s' * (count > 1)}" for thing, count in counts.items())
        return f"{', '.join(parts) or 'nothing'} ({sum(each.size for each in self.removals):,} bytes)"


def plan(policy: Policy, store: Store, *, now: datetime | None = None) -> Plan:
    """What the policy keeps no longer.

    Args:
        policy: Of the model.
        store: That holds it.
        now: By the store's clock; None: the machine's, as far as what the store holds lets it be
            :func:`kedge.clock.believed`. It is not the clock of a replay, as objects are not of its time.

    Raises:
        StoreError: the store, a record or a snapshot cannot be read.
    """
    rules, now = policy.retention, now or datetime.now(UTC)
    if rules.keep_days is None:
        return Plan()
    groups = {folder: _groups(store, folder, policy.name) for folder in ("bundles", "snapshots")}
    files = {folder: store.items(f"{folder}/{policy.name}") for folder in ("reports", "runs", "searches")}
    everything = [item for items in (*groups.values(), files) for each in items.values() for item in each]
    now = believed(now, (item.modified for item in everything))
    limit = now - timedelta(days=rules.keep_days)
    if all(item.modified >= limit for item in everything):
        return Plan(limit=limit)
    uses = Uses.of(records.read_events(store, policy.name))
    gone = expired(rules, uses, _inventory(store, policy.name, groups, files, uses), now)
    return Plan(removals=tuple(_removals(gone, groups, files)), limit=limit, waits_for=gone.waits_for)


def carry_out(made: Plan, store: Store, tell: Callable[[Removal], None] = lambda _: None) -> int:
    """Delete what goes; how many bytes went. What was used since the plan was made stays.

    Raises:
        StoreError: the store refuses; what is not deleted yet goes the next time.
    """
    freed = 0
    for removal in made.removals:
        if len(removal.items) > 1 and _used_since(removal, store, made.limit):
            continue
        _keep_origin(removal, store)
        for item in removal.items:
            store.delete(item.key)
            freed += item.size
        tell(removal)
    for model in {removal.items[0].key.split("/")[1] for removal in made.removals if removal.thing == "page"}:
        pages.write_index(store, model)
    return freed


def _keep_origin(removal: Removal, store: Store) -> None:
    """A bundle's manifest says for ever on which rows and code it was made."""
    first = removal.items[0].key
    if first.endswith("/bundle.json"):
        with suppress(KeyError):
            _, model, bundle, _ = first.split("/")
            store.put(f"deleted/{model}/{bundle}.json", store.get(first))


def _used_since(removal: Removal, store: Store, limit: datetime | None) -> bool:
    folder, model, name, *_ = removal.items[0].key.split("/")
    return limit is not None and any(item.modified >= limit for item in store.items(f"{folder}/{model}/{name}"))


def _groups(store: Store, folder: str, model: str) -> dict[str, list[Item]]:
    """The objects of each bundle or snapshot, the manifest first."""
    prefix = f"{folder}/{model}"
    found: dict[str, list[Item]] = {}
    for name, items in groupby(store.items(prefix), lambda item: item.key[len(prefix) + 1 :].split("/", 1)[0]):
        if ID.fullmatch(name):
            found[name] = sorted(items, key=lambda item: item.key.rpartition("/")[2] not in MANIFESTS)
    return found


def _inventory(
    store: Store,
    model: str,
    groups: Mapping[str, Mapping[str, list[Item]]],
    files: Mapping[str, Iterable[Item]],
    uses: Uses,
) -> Inventory:
    taken = snapshot.all_of(store, model)
    parents = {each.fingerprint: frozenset({each.parent}) if each.parent else frozenset() for each in taken}
    return Inventory(
        bundles=tuple(
            Held(name=name, used=max(_used(items), uses.named.get(name, _used(items))), needs=_rows_of(store, items))
            for name, items in groups["bundles"].items()
        ),
        snapshots=tuple(
            Held(name=name, used=_used(items), needs=parents.get(name, frozenset()))
            for name, items in groups["snapshots"].items()
        ),
        pages=tuple(_pages(files["reports"])),
        scraps=tuple(Held(name=item.key, used=item.modified) for name in ("runs", "searches") for item in files[name]),
        newest_of_source=frozenset(_newest_of_source(taken)),
    )


def _used(items: Iterable[Item]) -> datetime:
    return max(item.modified for item in items)


def _rows_of(store: Store, items: Iterable[Item]) -> frozenset[str]:
    """The snapshot that a bundle was trained on; one without a whole manifest cannot be opened, and needs nothing."""
    first = next(iter(items))
    if not first.key.endswith("/bundle.json"):
        return frozenset()
    try:
        return frozenset({str(orjson.loads(store.get(first.key))["snapshot"])})
    except (KeyError, TypeError, orjson.JSONDecodeError):  # damaged, or another hand deleted it meanwhile
        return frozenset()


def _pages(items: Iterable[Item]) -> Iterator[Held]:
    for item in items:
        page = pages.named(PurePosixPath(item.key).name, item.modified)
        if page is not None:
            yield Held(name=item.key, used=item.modified, of=page.of)


def _newest_of_source(taken: Iterable[snapshot.Snapshot]) -> Iterator[str]:
    """Of each table as it was read: the snapshot with the newest row."""
    read = [each for each in taken if each.parent is None and each.newest is not None]
    newest = {(each.source, each.time): each for each in sorted(read, key=lambda each: (each.newest, each.taken))}
    yield from (each.fingerprint for each in newest.values())


def _removals(
    gone: Expired, groups: Mapping[str, Mapping[str, list[Item]]], files: Mapping[str, Iterable[Item]]
) -> Iterator[Removal]:
    by_key = {item.key: item for items in files.values() for item in items}
    things: tuple[tuple[Thing, tuple[Held, ...], Callable[[str], Iterable[Item]]], ...] = (
        ("page", gone.pages, lambda name: (by_key[name],)),
        ("bundle", gone.bundles, lambda name: groups["bundles"][name]),
        ("snapshot", gone.snapshots, lambda name: groups["snapshots"][name]),
        ("scrap", gone.scraps, lambda name: (by_key[name],)),
    )
    for thing, each, items_of in things:
        for held in each:
            yield Removal(thing=thing, name=held.name, used=held.used, items=tuple(items_of(held.name)))
