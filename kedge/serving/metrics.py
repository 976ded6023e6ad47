"""What the server counts, in Prometheus' form.

A prediction may not wait for its own statistics: a counter here is a list cell and a histogram a bisection, a few
hundred nanoseconds where a labelled ``prometheus_client`` histogram takes some ten microseconds a request. All
counting happens on the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from kedge.serving.events import Outbox
from kedge.serving.model import Scored, ServedModel

STEPS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
"""Ten preferred numbers a decade (ISO 3, R10)."""
SECONDS = tuple(edge for tens in range(-5, 1) for step in STEPS if 5e-5 <= (edge := round(step * 10.0**tens, 8)) <= 5.0)
"""Upper edges of the latency buckets, 50 µs to 5 s: so near that a release sees a latency that doubled."""
SHARES = tuple(step / 20 for step in range(1, 21))
STAGES = ("read", "encode", "score", "total")


class Histogram:
    """Counts by upper edge, inclusive, as Prometheus has them."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = tuple(edges)
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by edge."""
        total = 0
        found = []
        for edge, count in zip((*map(str, self.edges), "+Inf"), self.counts, strict=True):
            total += count
            found.append((edge, float(total)))
        return found


class Metrics(Collector):
    """The counts of one served model."""

    def __init__(self, model: ServedModel, outbox: Outbox) -> None:
        self._labels = [model.name, model.version, model.slot]
        self._binary, self._classes = model.binary, model.classes
        self.decided = [0] * len(model.classes)
        self._outbox = outbox
        self.requests: Counter[tuple[str, int]] = Counter()
        self.rows = 0
        self.stages = {stage: Histogram(SECONDS) for stage in STAGES}
        self.scores = Histogram(SHARES)

    def answered(self, protocol: str, scored: Scored, read_seconds: float, total_seconds: float) -> None:
        """Count one answered prediction request."""
        self.requests[protocol, 200] += 1
        self.rows += len(scored.scores)
        stages = self.stages
        stages["read"].add(read_seconds)
        stages["encode"].add(scored.encode_seconds)
        stages["score"].add(scored.score_seconds)
        stages["total"].add(total_seconds)
        if self._binary:
            for score in scored.scores:
                self.scores.add(score)
        if self._classes:
            for place in scored.predictions:
                self.decided[int(place)] += 1

    def refused(self, status: int) -> None:
        """Count a connection that was refused before it brought a whole request."""
        self.requests["connection", status] += 1

    def register(self) -> Metrics:
        """Show the counts on KServe's ``/metrics``."""
        REGISTRY.register(self)
        return self

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        names = ["model_name", "model_version", "slot"]
        requests = CounterMetricFamily(
            "kedge_requests", "Requests answered, by protocol and HTTP status.", labels=[*names, "protocol", "status"]
        )
        for (protocol, status), count in list(self.requests.items()):
            requests.add_metric([*self._labels, protocol, str(status)], count)
        yield requests
        rows = CounterMetricFamily("kedge_rows", "Rows predicted.", labels=names)
        rows.add_metric(self._labels, self.rows)
        yield rows
        stages = HistogramMetricFamily(
            "kedge_request_seconds", "Time of an answered request by stage.", labels=[*names, "stage"]
        )
        for stage, seen in self.stages.items():
            stages.add_metric([*self._labels, stage], seen.buckets(), seen.sum)
        yield stages
        if self._binary:
            scores = HistogramMetricFamily("kedge_score", "Predicted probabilities.", labels=names)
            scores.add_metric(self._labels, self.scores.buckets(), self.scores.sum)
            yield scores
        if self._classes:
            decided = CounterMetricFamily("kedge_decisions", "Rows by the class decided for.", labels=[*names, "class"])
            for name, count in zip(self._classes, self.decided, strict=True):
                decided.add_metric([*self._labels, name], count)
            yield decided
        yield from self._events(names)

    def _events(self, names: list[str]) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "kedge_events", "Prediction events by what became of them.", labels=[*names, "outcome"]
        )
        for outcome, count in (("sent", self._outbox.sent), ("dropped", self._outbox.dropped)):
            events.add_metric([*self._labels, outcome], count)
        yield events
        waiting = GaugeMetricFamily("kedge_events_waiting", "Prediction events not sent yet.", labels=names)
        waiting.add_metric(self._labels, self._outbox.waiting)
        yield waiting
