"""What a model server counted, from the text of its ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from kedge.rollout.model import Mark, Slot, Traffic

REQUEST_SECONDS = 30
"""A request without an answer for so long ends as 504."""


def traffic(text: str, bundle: str) -> Traffic:
    """Requests, answers 5xx and latency of one bundle.

    Latency is the server's own from the first byte read on. What took longer than the last finite bucket ended, at
    the latest, with the gateway's time-out.

    >>> traffic('kedge_requests_total{model_version="a",status="503"} 2.0', "a")
    Traffic(requests=2, errors=2, latency={})

    Raises:
        ValueError: this is not Prometheus' text, or a count is no whole number.
    """
    requests = errors = 0
    up_to: dict[float, int] = {}
    for sample in (each for family in text_string_to_metric_families(text) for each in family.samples):
        labels = sample.labels
        if labels.get("model_version") != bundle:
            continue
        if sample.name == "kedge_requests_total":
            count = int(sample.value)
            requests += count
            errors += count if labels["status"].startswith("5") else 0
        elif sample.name == "kedge_request_seconds_bucket" and labels.get("stage") == "total":
            edge = REQUEST_SECONDS if labels["le"] == "+Inf" else float(labels["le"])
            up_to[round(edge * 1000, 6)] = int(sample.value)
    return Traffic(requests=requests, errors=errors, latency=_disjoint(up_to))


def total(parts: Iterable[Traffic]) -> Traffic:
    """The traffic of several servers together.

    >>> total([Traffic(requests=2, latency={1.0: 2}), Traffic(requests=3, errors=1, latency={1.0: 1, 2.0: 1})])
    Traffic(requests=5, errors=1, latency={1.0: 3, 2.0: 1})
    """
    requests = errors = 0
    latency: dict[float, int] = {}
    for part in parts:
        requests, errors = requests + part.requests, errors + part.errors
        for edge, count in part.latency.items():
            latency[edge] = latency.get(edge, 0) + count
    return Traffic(requests=requests, errors=errors, latency=latency)


def since(mark: Mark, servers: Mapping[Slot, Mapping[str, Traffic]]) -> dict[Slot, Traffic]:
    """What the servers of each slot counted since the mark; one that is not in it counts from its start."""
    return {
        slot: total(traffic.since(mark.servers.get(key, Traffic())) for key, traffic in told.items())
        for slot, told in servers.items()
    }


def _disjoint(up_to: dict[float, int]) -> dict[float, int]:
    """Counts by bucket from counts up to its edge."""
    counted, below = {}, 0
    for edge in sorted(up_to):
        counted[edge] = up_to[edge] - below
        below = up_to[edge]
    return counted
