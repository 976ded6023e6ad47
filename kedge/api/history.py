"""What happened to a model: who released what, on which data and code, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from kedge import records as ledger
from kedge.errors import UsageError
from kedge.monitoring.history import Champion, bundle_of
from kedge.monitoring.history import champion as champion_of
from kedge.records import Record
from kedge.settings import Settings
from kedge.store import Store, open_store

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
    records: Sequence[Record]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def champion(self) -> Champion | None:
        """Who serves after these records; None before the first promotion."""
        return champion_of(self.records)

    def location(self, bundle: str) -> str:
        """Where a bundle of these records lies, for :func:`kedge.open_bundle`."""
        return self.store.uri(f"bundles/{self.model}/{bundle}")

    def newest(self, count: int, *, every: bool = False) -> History:
        """The last records; of the checks those that asked for something, or ``every`` one."""
        kept = [item for item in self.records if every or item.data.get("action") != "none"][-count:]
        return History(store=self.store, model=self.model, records=kept)

    def lines(self) -> list[tuple[str, ...]]:
        """One line a record, as `kedge history` prints it, in the order of ``COLUMNS``.

        ``rows`` is the fingerprint of the snapshot a bundle was trained on, ``code`` the git commit of the training
        code, both from the bundle's own manifest.
        """

        @cache
        def origin(bundle: str | None) -> tuple[str, str]:
            return _origin(self.store, self.model, bundle) if bundle else ("", "")

        evaluated = {item.data.get("run") for item in self.records if item.kind == "evaluated"}
        return [
            (
                f"{item.time:%Y-%m-%d %H:%M}",
                what(item),
                item.actor,
                (bundle_of(item) or "")[:12],
                *origin(bundle_of(item)),
                "" if _repeats(item) and item.data.get("run") in evaluated else why(item.data),
            )
            for item in self.records
        ]

    def _repr_html_(self) -> str:
        from kedge import report

        shown = self.newest(SHOWN)
        more = [f"The last {len(shown)} of {len(self)} records."] if len(shown) < len(self) else []
        return report.fragment(report.section(f"{self.model}: history", *more, report.table(COLUMNS, shown.lines())))


def read_history(store: str | Path, model: str, *, checks: int = CHECKS) -> History:
    """Read what happened to a model.

    Args:
        store: A folder or s3://bucket/prefix.
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
    others = ledger.read(opened, model, [kind for kind in ledger.KINDS if kind != "check"])
    records = ledger.in_order([*others, *ledger.newest(opened, model, "check", checks)])
    if not records:
        raise unknown_model(opened, model)
    return History(store=opened, model=model, records=records)


def models(store: Store) -> list[str]:
    """Names of the models that a store has records of."""
    return store.folders("records")


def unknown_model(store: Store, model: str) -> UsageError:
    """That the store knows nothing of a model, and which ones it knows."""
    return UsageError(
        f"store {store.url}: no records of a model {model!r}; it has {', '.join(models(store)) or 'none'}"
    )


def what(item: Record) -> str:
    """What happened, in a few words."""
    data = item.data
    match item.kind:
        case "check":
            return f"check: {data.get('action')}"
        case "run-started":
            return f"run started: {item.key}"
        case "run-finished":
            return f"run {data.get('state', 'ended')}: {item.key}"
        case "evaluated":
            if data.get("outcome") == "inconclusive":
                return "could not be judged"
            return "passed its gates" if data.get("passed") else "did not pass its gates"
        case "registered":
            return f"registered as version {data.get('version', '?')}"
        case _:
            return item.kind.replace("-", " ")


def why(data: Mapping[str, Any]) -> str:
    """The reasons a record gives."""
    reasons = data.get("reasons")
    text = "; ".join(dict.fromkeys(map(str, reasons))) if reasons else str(data.get("reason") or "")
    step = data.get("step")
    return f"{step}: {text}" if isinstance(step, str) and text else text


def _repeats(item: Record) -> bool:
    """Whether a run's end gives the reason that its evaluation has given."""
    data = item.data
    judged = (item.kind, data.get("step")) == ("run-finished", "evaluate")
    return judged and data.get("state") in ("rejected", "inconclusive")


def _origin(store: Store, model: str, bundle: str) -> tuple[str, str]:
    """Snapshot and commit a bundle was made from, each cut to twelve digits; empty where the bundle is gone."""
    try:
        made = orjson.loads(store.get(f"bundles/{model}/{bundle}/bundle.json"))
        return str(made["snapshot"])[:12], str(made["commit"])[:12]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return "", ""
