"""Keeps the log's tables easy to read: small files put together, repeated rows and old days dropped, files deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.collector.settings import Settings
from kedge.errors import DataError, StoreError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import upkeep

CLEAN_SECONDS = 86_400
AGAIN_SECONDS = 3600
"""Until the first cleaning after a start, and after one that failed."""


class Upkeep:
    """Counts appends by what the metrics say and acts when it is time."""

    def __init__(self, store: Store, declared: Mapping[str, Declared], settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._declared = declared
        self._settings = settings
        self._metrics = metrics
        self._runs = 0
        self._clean_at = monotonic() + AGAIN_SECONDS

    def run_if_due(self) -> None:
        """Compact every so many runs; drop and delete once a day.

        What failed of a model is shown until it succeeds, and keeps nothing else from being done.
        """
        self._runs += 1
        every = self._settings.compact_every
        if every and self._runs % every == 0:
            self._of_each("compact", partial(upkeep.compact, self._store))
        if monotonic() > self._clean_at:
            done = [self._of_each("repeats", self._remove_repeats), self._of_each("retention", self._drop_old)]
            done.append(self._of_each("vacuum", partial(upkeep.vacuum, self._store)))
            self._clean_at = monotonic() + (CLEAN_SECONDS if all(done) else AGAIN_SECONDS)

    def _of_each(self, what: str, work: Callable[[Policy], object]) -> bool:
        """Do it for each model; whether it succeeded for all."""
        failed = False
        for name, model in self._declared.items():
            place = f"{what}: {name}"
            try:
                work(model.policy)
            except (DataError, StoreError) as exc:
                self._metrics.faults[place], failed = str(exc), True
            else:
                self._metrics.faults.pop(place, None)
        return not failed

    def _remove_repeats(self, policy: Policy) -> None:
        since = datetime.now(UTC) - timedelta(seconds=2 * CLEAN_SECONDS)
        self._metrics.duplicates.inc(upkeep.remove_repeats(self._store, policy, since, self._settings.spool))

    def _drop_old(self, policy: Policy) -> None:
        days, most = self._settings.retention_days, self._settings.max_drop_days
        if days:
            upkeep.drop_old(self._store, policy, timedelta(days=days), datetime.now(UTC), max_days=most)
