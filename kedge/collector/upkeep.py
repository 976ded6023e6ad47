"""Keeps the log's tables easy to read: small files put together, repeated rows and old days dropped, files deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.collector.settings import Settings
from kedge.errors import DataError, StoreError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import upkeep

CLEAN_SECONDS = 86_400
FIRST_CLEAN_SECONDS = 3600
"""After a start; then every day."""


class Upkeep:
    """Counts appends by what the metrics say and acts when it is time."""

    def __init__(self, store: Store, declared: Mapping[str, Declared], settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._declared = declared
        self._settings = settings
        self._metrics = metrics
        self._runs = 0
        self._cleaned = time.monotonic() - CLEAN_SECONDS + FIRST_CLEAN_SECONDS

    def run_if_due(self) -> None:
        """Compact every so many runs; drop and delete once a day. A failure is shown and tried again later."""
        self._runs += 1
        every = self._settings.compact_every
        try:
            if every and self._runs % every == 0:
                for model in self._declared.values():
                    upkeep.compact(self._store, model.policy)
            if time.monotonic() - self._cleaned > CLEAN_SECONDS:
                self._cleaned = time.monotonic()
                self._clean()
        except StoreError as exc:
            self._metrics.faults["upkeep"] = str(exc)
        else:
            self._metrics.faults.pop("upkeep", None)

    def _clean(self) -> None:
        days = self._settings.retention_days
        since = datetime.now(UTC) - timedelta(seconds=2 * CLEAN_SECONDS)
        for model in self._declared.values():
            repeats = upkeep.remove_repeats(self._store, model.policy, since, self._settings.spool)
            self._metrics.duplicates.inc(repeats)
            if days:
                self._drop_old(model.policy, timedelta(days=days))
            upkeep.vacuum(self._store, model.policy)

    def _drop_old(self, policy: Policy, retention: timedelta) -> None:
        place, most = f"retention: {policy.name}", self._settings.max_drop_days
        try:
            upkeep.drop_old(self._store, policy, retention, datetime.now(UTC), max_days=most)
        except DataError as exc:
            self._metrics.faults[place] = str(exc)
        else:
            self._metrics.faults.pop(place, None)
