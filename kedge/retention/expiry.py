"""Which of the things in a store may go: pure, so that no order of records and no cut deletes what is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kedge.policy import Retention
from kedge.records import Data, ModelState, Record

DEPLOYABLE = 3
"""The bundles that served last, the champion among them: a rollback may need the one before, and its own one before."""
MAX_RUN = timedelta(days=7)
"""A run that began longer ago and gave no verdict died; one that lives may need what no record names."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A bundle, a snapshot or a page in the store."""

    name: str
    """A bundle's id, a snapshot's fingerprint, a page's key."""
    used: datetime
    """When it was last written, or named by a record."""
    needs: frozenset[str] = frozenset()
    """Of a bundle and a snapshot: fingerprints of the snapshots it was made from."""
    of: str = ""
    """Of a page: the bundle or snapshot it describes; empty: it is a check's, or nobody's."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a store holds of one model."""

    bundles: tuple[Held, ...] = ()
    snapshots: tuple[Held, ...] = ()
    pages: tuple[Held, ...] = ()
    scraps: tuple[Held, ...] = ()
    """What only a run under way reads: notes of its steps, trials of its search."""
    newest_of_source: frozenset[str] = frozenset()
    """Snapshots that hold the newest row ever taken from a table: the next one is held against it."""


@dataclass(frozen=True, kw_only=True)
class Expired:
    """What may go, in the order in which it goes: at no moment does something that stays lack what it needs."""

    pages: tuple[Held, ...] = ()
    bundles: tuple[Held, ...] = ()
    snapshots: tuple[Held, ...] = ()
    scraps: tuple[Held, ...] = ()
    waits_for: str = ""
    """The run under way that all but pages of checks and scraps wait for; empty: none."""


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What the records say of bundles."""

    needed: Mapping[str, str] = field(default_factory=dict)
    """Bundle -> what needs it."""
    named: Mapping[str, datetime] = field(default_factory=dict)
    """Bundle -> when a record that names it was written last."""
    running: Mapping[str, datetime] = field(default_factory=dict)
    """Run without a verdict -> when it began."""

    @classmethod
    def of(cls, records: Iterable[Record[Data]]) -> Uses:
        """Of all records of a model but its checks, in any order."""
        known = list(records)
        state, named = ModelState.of(known), dict[str, datetime]()
        for item in known:
            for bundle in _named(item.data):
                named[bundle] = max(named.get(bundle, _moment(item)), _moment(item))
        running = {
            run.name: _moment(run.newest.started)
            for run in state.runs
            if run.newest.started is not None and run.newest.finished is None
        }
        return cls(needed=dict(_needed(state)), named=named, running=running)


def expired(rules: Retention, uses: Uses, held: Inventory, now: datetime) -> Expired:
    """What a store holds longer than the rules say, and nothing needs.

    Args:
        rules: With ``keep_days``.
        uses: By the model's records.
        held: In the store.
        now: By the store's clock.
    """
    assert rules.keep_days is not None
    limit = now - timedelta(days=rules.keep_days)
    old_pages = [page for page in held.pages if page.used < limit]
    newest = {page.name for page in sorted((each for each in held.pages if not each.of), key=_age)[-rules.keep_pages :]}
    of_checks = tuple(page for page in old_pages if not page.of and page.name not in newest)
    scraps = tuple(each for each in held.scraps if each.used < limit)
    waits_for = next((run for run, began in uses.running.items() if now - began < MAX_RUN), "")
    if waits_for:
        return Expired(pages=of_checks, scraps=scraps, waits_for=waits_for)
    by_use = sorted(held.bundles, key=_age)
    bundles = tuple(
        each for each in by_use[: -rules.keep_bundles] if each.used < limit and each.name not in uses.needed
    )
    stay = {each.name for each in held.bundles} - {each.name for each in bundles} | uses.needed.keys()
    rows = _needed_rows((each for each in held.bundles if each.name in stay), held)
    snapshots = tuple(each for each in held.snapshots if each.used < limit and each.name not in rows)
    stay |= {each.name for each in held.snapshots} - {each.name for each in snapshots}
    return Expired(
        pages=(*of_checks, *(page for page in old_pages if page.of and page.of not in stay)),
        bundles=bundles,
        snapshots=snapshots,
        scraps=scraps,
    )


def _needed(state: ModelState) -> Iterator[tuple[str, str]]:
    """Bundle and what needs it."""
    yield from ((bundle, "served lately") for bundle in state.lineage[-DEPLOYABLE:])
    if state.registered:
        yield state.registered[-1].data.bundle, "registered last"
    for release in state.releases:
        if release.promoted is None and release.rolled_back is None:
            yield release.bundle, "its release is under way"
    for run in state.runs:
        if run.newest.finished is None and run.bundle is not None:
            yield run.bundle, "its run is under way"
    if state.stalled is not None:
        yield state.stalled.bundle, "its release is tried again"


def _needed_rows(bundles: Iterable[Held], held: Inventory) -> set[str]:
    """Snapshots that bundles were made from, and those that these were cleaned from."""
    parents = {each.name: each.needs for each in held.snapshots}
    wanted = [*held.newest_of_source, *(name for bundle in bundles for name in bundle.needs)]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted.extend(parents.get(name, ()))
    return found


def _named(data: Data) -> Iterator[str]:
    fields = (getattr(data, name, None) for name in ("bundle", "champion", "candidate", "previous"))
    yield from (value for value in fields if isinstance(value, str) and value)


def _moment(item: Record[Data]) -> datetime:
    """By the wall's clock: a replay's records happen at other times than they are written."""
    return item.written or item.time


def _age(held: Held) -> tuple[datetime, str]:
    return held.used, held.name
