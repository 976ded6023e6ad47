"""What the collector counts, for Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kedge.collector.rejection import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One registry a collector, so that two in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.accepted = counter("kedge_collect_accepted", "Acknowledged: durable in the journal", ["model", "kind"])
        self.refused = counter("kedge_collect_refused", "Not taken, by reason", ["reason"])
        self.sampled_out = counter("kedge_collect_sampled_out", "Acknowledged and left out by sampling", ["model"])
        self.other = counter(
            "kedge_collect_other",
            "What KServe's logger passed on that is no prediction: errors, explanations, metadata",
            ["model", "kind"],
        )
        self.appended = counter(
            "kedge_collect_appended_rows", "Rows appended to the prediction log", ["model", "table"]
        )
        self.duplicates = counter("kedge_collect_duplicates", "Rows of events sent again, taken out of the log")
        self.set_aside = counter(
            "kedge_collect_set_aside", "Acknowledged entries that the log did not take, kept in the spool", ["model"]
        )
        self.damaged_lines = counter(
            "kedge_collect_damaged_lines", "Stretches of the journal that are not what was written"
        )
        self.commit_seconds = histogram(
            "kedge_collect_commit_seconds", "Time to make a group of events durable", buckets=SECONDS
        )
        self.append_seconds = histogram("kedge_collect_append_seconds", "Time to append a run of segments")
        self.spool_bytes = gauge("kedge_collect_spool_bytes", "Journal not yet in the store")
        self.spool_free_bytes = gauge("kedge_collect_spool_free_bytes", "Room left on the spool's disk")
        self.store_up = gauge("kedge_collect_store_up", "1 if the last append succeeded")
        self.store_up.set(1)
        self.oldest_seconds = gauge(
            "kedge_collect_oldest_seconds", "Age of the oldest acknowledged event not yet in the store"
        )
        self.check = gauge("kedge_check", "Figures of the newest monitoring check", ["model", "figure"])
        self._shown: dict[tuple[str, str], set[str]] = {}
        self._until: dict[tuple[str, str], float] = {}
        self.faults: dict[str, str] = {}
        """What is wrong now, in words, by its place; readiness shows it."""

    def show(self, model: str, figures: Mapping[str, float], source: str, until: float = math.inf) -> None:
        """Show the newest figures of a check, and none of those that an earlier one of this source had, until the Unix
        time ``until``: what no check renews is no news of the model any more."""
        if time.time() >= until:
            figures = {}
        self._until[source, model] = until
        for stale in self._shown.get((source, model), set()) - figures.keys():
            self.check.remove(model, stale)
        self._shown[source, model] = set(figures)
        for figure, number in figures.items():
            self.check.labels(model, figure).set(number)

    def refuse(self, reason: Reason) -> None:
        """Count something that was not taken."""
        self.refused.labels(reason).inc()

    def aside(self, model: str, entries: int) -> None:
        """Count what was acknowledged and does not fit today's policies."""
        self.set_aside.labels(model).inc(entries)
        self.faults[f"set aside: {model}"] = (
            f"what was acknowledged for {model} does not fit its policy any more and lies in the spool's folder aside; "
            "mend the policy and start the collector again, which appends it"
        )

    def damaged(self, file: str, lengths: Sequence[int], folder: Path) -> None:
        """Count the stretches of a segment that are not what was written; of length 0, where it ends too early."""
        self.damaged_lines.inc(len(lengths))
        self.faults["journal"] = (
            f"segment {file} is not what was written ({sum(lengths):,} bytes in {len(lengths)} places cannot be read, "
            f"or its end is missing); the rest is in the log, the file in {folder}: check the disk, and delete the "
            "file when nobody needs it"
        )

    def page(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        now = time.time()
        for source, model in [place for place, until in self._until.items() if until <= now]:
            self.show(model, {}, source)
        return generate_latest(self.registry), CONTENT_TYPE
