"""What happened to a model: who released what, on which data and code, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from kedge import records as ledger
from kedge.errors import UsageError
from kedge.records import (
    Accepted,
    Adopted,
    Approved,
    Champion,
    Checked,
    Data,
    Evaluated,
    ModelState,
    Promoted,
    Quarantined,
    Record,
    Registered,
    RolledBack,
    RunFinished,
    RunStarted,
    Scored,
)
from kedge.settings import Settings
from kedge.store import Store, open_store
from kedge.store.identity import refuse_empty

CHECKS = 1000
"""Checks looked back at: a model has thousands, and each is an object to read."""
SHOWN = 50
"""Lines that a notebook shows."""
COLUMNS = ("time (UTC)", "what", "who", "bundle", "rows", "code", "why")


@dataclass(frozen=True, kw_only=True)
class History:
    """A model's records, oldest first."""

    store: Store
    model: str
    records: Sequence[Record[Data]]

    def __repr__(self) -> str:
        return f"<History of {self.model}: {len(self)} records>"

    def __iter__(self) -> Iterator[Record[Data]]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def champion(self) -> Champion | None:
        """Who serves after these records; None before the first promotion."""
        return ModelState.of(self.records).champion

    def location(self, bundle: str) -> str:
        """Where a bundle of these records lies, for :func:`kedge.open_bundle`."""
        return self.store.uri(f"bundles/{self.model}/{bundle}")

    def newest(self, count: int, *, every: bool = False) -> History:
        """The last records; of the checks those that asked for something, or ``every`` one."""
        kept = [item for item in self.records if every or not _quiet(item.data)][-count:]
        return History(store=self.store, model=self.model, records=kept)

    def lines(self) -> list[tuple[str, ...]]:
        """One line a record, as `kedge history` prints it, in the order of ``COLUMNS``.

        ``rows`` is the fingerprint of the snapshot a bundle was trained on, ``code`` the git commit of the training
        code, both from the bundle's own manifest.
        """
        evaluated = {item.data.run for item in ledger.of_kind(self.records, Evaluated)}
        origins = {"": ("", "")}
        lines: list[tuple[str, ...]] = []
        for item in self.records:
            bundle, time = bundle_of(item.data), f"{item.time:%Y-%m-%d %H:%M}"
            if bundle not in origins:
                origins[bundle] = _origin(self.store, self.model, bundle)
            lines.append((time, what(item), item.actor, bundle[:12], *origins[bundle], why(item.data, evaluated)))
        return lines

    def _repr_html_(self) -> str:
        from kedge import report

        shown = self.newest(SHOWN)
        more = [f"The last {len(shown)} of {len(self)} records."] if len(shown) < len(self) else []
        return report.fragment(report.section(f"{self.model}: history", *more, report.table(COLUMNS, shown.lines())))


def read_history(store: str | Path, model: str, *, checks: int = CHECKS) -> History:
    """Read what happened to a model.

    Args:
        store: A folder, or a prefix in object storage.
        model: The model's name.
        checks: How many of the checks, of which a model has thousands, to look back at.

    Raises:
        UsageError: the store knows nothing of the model; says which ones it knows.
        StoreError: the store did not answer, or a record cannot be read.

    >>> history = read_history("tests/fixtures/before_renames/store", "fraud")
    >>> history.champion.bundle[:12], history.records[-1].kind
    ('6d064ef5b88d', 'rolled-back')
    """
    opened = open_store(Settings.of(str(store)).store)
    events = [item for item in ledger.read_events(opened, model) if not isinstance(item.data, Quarantined)]
    records = ledger.in_order([*events, *ledger.newest(opened, model, Checked, checks)])
    if not records:
        raise unknown_model(opened, model)
    return History(store=opened, model=model, records=records)


def models(store: Store) -> list[str]:
    """Names of the models that a store has records of."""
    return store.folders("records")


def unknown_model(store: Store, model: str) -> UsageError:
    """That the store knows nothing of a model, and which ones it knows; StoreError where it is empty."""
    refuse_empty(store)
    return UsageError(
        f"store {store.url}: no records of a model {model!r}; it has {', '.join(models(store)) or 'none'}"
    )


def what(item: Record[Data]) -> str:
    """What happened, in a few words."""
    match item.data:
        case Checked(action=action):
            return f"check: {action}"
        case RunStarted():
            return f"run started: {item.key}"
        case RunFinished(state=state):
            return f"run {state}: {item.key}"
        case Evaluated(outcome="inconclusive"):
            return "could not be judged"
        case Evaluated(passed=passed):
            return "passed its gates" if passed else "did not pass its gates"
        case Scored(rows=rows):
            return f"scored {rows:,} rows"
        case Registered(version=version):
            return f"registered as version {version or '?'}"
        case _:
            return item.kind.replace("-", " ")


def why(data: Data, evaluated: Collection[str] = ()) -> str:
    """The reasons a record gives.

    Args:
        evaluated: Runs whose evaluation gave its reasons: their ends need not repeat them.
    """
    match data:
        case Checked(reasons=reasons) | Evaluated(reasons=reasons):
            return "; ".join(dict.fromkeys(reasons))
        case RunFinished(state="rejected" | "inconclusive", step="evaluate", run=run) if run in evaluated:
            return ""
        case RunFinished(step=str(step), reason=str(reason)):
            return f"{step}: {reason}"
        case Accepted(reason=reason, breaches=breaches):
            return f"{reason} ({'; '.join(breach.sentence for breach in breaches)})"
        case Scored(data=table, output=output, candidate=candidate):
            beside = f", beside candidate {candidate[:12]}" if candidate else ""
            return f"{table} to {output}{beside}"
        case (
            RunStarted(reason=reason)
            | RunFinished(reason=reason)
            | Approved(reason=reason)
            | Promoted(reason=reason)
            | RolledBack(reason=reason)
        ):
            return reason or ""
        case _:
            return ""


def bundle_of(data: Data) -> str:
    """The bundle a record is about; empty where it is about none."""
    if isinstance(data, Checked | Accepted | Adopted | Quarantined):
        return ""
    return data.bundle or ""


def _quiet(data: Data) -> bool:
    return isinstance(data, Checked) and data.action == "none"


def _origin(store: Store, model: str, bundle: str) -> tuple[str, str]:
    """Snapshot and commit a bundle was made from, each cut to twelve digits; empty where nobody knows any more."""
    for key in (f"bundles/{model}/{bundle}/bundle.json", f"deleted/{model}/{bundle}.json"):
        with suppress(KeyError, TypeError, orjson.JSONDecodeError):
            made = orjson.loads(store.get(key))
            return str(made["snapshot"])[:12], str(made["commit"])[:12]
    return "", ""
