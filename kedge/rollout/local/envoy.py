"""Envoy as the gateway of one machine: its configuration as plain values, and what its counters say.

Envoy reads endpoints and routes from files that are replaced by a rename (file-based xDS), so weights, mirrors and
servers change while it runs and no request is lost. Each slot has two clusters: one for the answers clients get and one
for mirrored requests, so that the two are counted apart. Behind the servers of the first stand those of the other slot,
which answer while the slot's own do not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from kedge.rollout import smoke
from kedge.rollout.model import Readings, Route, Slot, Traffic
from kedge.tables import MIRRORED

SLOTS: tuple[Slot, ...] = get_args(Slot)
PIN = "x-kedge-slot"
"""Request header that names the slot to ask, whatever the weights are."""
REQUEST_SECONDS = 30
"""A request without an answer for so long ends as 504 and counts as failed."""
IDLE_SECONDS = 3
"""Envoy leaves an idle connection before the server does (uvicorn: after 5 s), or a request could meet its closing."""
MAX_NAMED = 20
"""Models that the answer at a path of none names: Envoy holds 4 KiB of one."""

_TYPE = "type.googleapis.com/envoy"


def _edges() -> tuple[int, ...]:
    edges = list(range(1, 11))
    while edges[-1] < 60_000:
        edges.append(round(edges[-1] * 1.15))
    return tuple(edges)


EDGES = _edges()
"""Upper edges of the latency buckets in ms: every millisecond up to 10, then 15 % apart. Envoy counts whole ms."""


def bootstrap(models: Sequence[str], *, gateway: int, admin: int, folder: Path) -> dict[str, Any]:
    """Envoy's static configuration: listener, administration address, two clusters a slot."""
    clusters = [
        _cluster(cluster_name(model, slot, mirrored=mirrored), folder)
        for model in models
        for slot in SLOTS
        for mirrored in (False, True)
    ]
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "rds": {"route_config_name": "models", "config_source": _file(folder / "routes.json")},
        "preserve_external_request_id": True,  # the client's id is the one labels come back under
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "node": {"id": "kedge", "cluster": "kedge"},
        "admin": {"address": _address(admin)},
        "stats_flush_interval": "1s",  # histograms are readable after a flush
        "stats_config": {
            "histogram_bucket_settings": [{"match": {"suffix": "upstream_rq_time"}, "buckets": list(EDGES)}]
        },
        "static_resources": {
            "clusters": clusters,
            "listeners": [{"name": "gateway", "address": _address(gateway), "filter_chains": [{"filters": filters}]}],
        },
    }


def endpoints(cluster: str, ports: Iterable[int], beside: Iterable[int] = ()) -> bytes:
    """The servers of a slot, as Envoy reads them; none: requests to the slot end as 503 and count as failed.

    Args:
        cluster: The cluster's name.
        ports: Of the slot's own servers.
        beside: Of those that answer while none of its own does.
    """
    found = [
        {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in group]}
        for priority, group in enumerate((list(ports), list(beside)))
    ]
    assignment = {
        "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": found,
    }
    return _resources([assignment])


def routes(declared: Mapping[str, Route]) -> bytes:
    """All models' routes, as Envoy reads them."""
    rules = [rule for model, route in declared.items() for rule in _rules(model, route)]
    nobody = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": _nobody(declared)}},
    }
    only_past_the_gateway = {"request_headers_to_remove": [smoke.HEADER]}
    hosts = [{"name": "models", "domains": ["*"], "routes": [*rules, nobody], **only_past_the_gateway}]
    return _resources(
        [{"@type": f"{_TYPE}.config.route.v3.RouteConfiguration", "name": "models", "virtual_hosts": hosts}]
    )


def version(resources: bytes) -> str:
    """The version Envoy reports once it applied these resources."""
    return str(json.loads(resources)["version_info"])


def cluster_name(model: str, slot: Slot, *, mirrored: bool = False) -> str:
    """Name of a slot's cluster, which is also its name in Envoy's statistics."""
    return f"{model}-{slot}" + (MIRRORED if mirrored else "")


def readings(stats: Mapping[str, Any], model: str) -> Readings:
    """One model's counters from Envoy's ``/stats?format=json&histogram_buckets=cumulative``."""
    counts: dict[str, int] = {}
    latency: dict[str, dict[float, int]] = {}
    for item in stats["stats"]:
        if "name" in item:
            counts[item["name"]] = int(item["value"])
        for histogram in item.get("histograms", ()) if isinstance(item.get("histograms"), list) else ():
            latency[histogram["name"]] = _disjoint(histogram["buckets"])

    def traffic(slot: Slot, mirrored: bool) -> Traffic:
        cluster = f"cluster.{cluster_name(model, slot, mirrored=mirrored)}"
        return Traffic(
            requests=counts.get(f"{cluster}.upstream_rq_completed", 0),
            errors=counts.get(f"{cluster}.upstream_rq_5xx", 0),
            latency=latency.get(f"{cluster}.upstream_rq_time", {}),
        )

    return Readings(
        live={slot: traffic(slot, False) for slot in SLOTS}, mirrored={slot: traffic(slot, True) for slot in SLOTS}
    )


def stats_filter(model: str) -> str:
    """Regular expression of the counters :func:`readings` wants."""
    return rf"^cluster\.{re.escape(model)}-(blue|green)({MIRRORED})?\.upstream_rq_(completed|5xx|time)$"


def _nobody(models: Iterable[str]) -> str:
    """The answer at another path: which models there are."""
    names = sorted(models)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    there = f"models here: {', '.join(names[:MAX_NAMED])}{more}" if names else "there is none here yet"
    return json.dumps({"error": f"no model is served at this path; ask /v1/models/MODEL:predict, {there}"})


def _rules(model: str, route: Route) -> list[dict[str, Any]]:
    paths = {"safe_regex": {"regex": rf"/v[12]/models/{re.escape(model)}([:/].*)?"}}
    pinned = [
        {
            "match": {**paths, "headers": [{"name": PIN, "string_match": {"exact": slot}}]},
            "route": {"cluster": cluster_name(model, slot), **_attempts()},
        }
        for slot in SLOTS
    ]
    served = [(slot, route.weights.get(slot, 0)) for slot in SLOTS if route.weights.get(slot, 0) > 0]
    if not served:
        text = json.dumps({"error": f"no model {model!r} is released yet"})
        return [*pinned, {"match": paths, "direct_response": {"status": 503, "body": {"inline_string": text}}}]
    weighted = [{"name": cluster_name(model, slot), "weight": weight} for slot, weight in served]
    action: dict[str, Any] = {"weighted_clusters": {"clusters": weighted}, **_attempts()}
    if route.mirror is not None and route.mirror.percent > 0:
        action["request_mirror_policies"] = [_mirror(model, route.mirror.slot, route.mirror.percent)]
    return [*pinned, {"match": paths, "route": action}]


def _attempts() -> dict[str, Any]:
    """A request whose server went away without a word of an answer is sent again, then to the other slot's: to predict
    twice does no harm. Every answer is the client's to judge."""
    previous = f"{_TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    return {
        "timeout": f"{REQUEST_SECONDS}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset",
            "num_retries": 2,
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {"@type": previous, "update_frequency": 1},
            },
        },
    }


def _mirror(model: str, slot: Slot, percent: int) -> dict[str, Any]:
    renamed = [
        {
            "append": {
                "header": {"key": header, "value": f"%REQ({header})%{MIRRORED}"},
                "append_action": "OVERWRITE_IF_EXISTS",
            }
        }
        for header in ("x-request-id", "ce-id")
    ]
    told = {"append": {"header": {"key": "x-kedge-mirrored", "value": "true"}}}
    return {
        "cluster": cluster_name(model, slot, mirrored=True),
        "runtime_fraction": {"default_value": {"numerator": percent, "denominator": "HUNDRED"}},
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [*renamed, told],
    }


def _cluster(name: str, folder: Path) -> dict[str, Any]:
    options = {
        "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"service_name": name, "eds_config": _file(folder / f"{name}.json")},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _resources(resources: list[dict[str, Any]]) -> bytes:
    digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({"version_info": digest, "resources": resources}, indent=1).encode()


def _file(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _disjoint(buckets: Sequence[Mapping[str, Any]]) -> dict[float, int]:
    """Counts by bucket from counts up to its edge."""
    counted, below = {}, 0
    for bucket in buckets:
        counted[float(bucket["upper_bound"])] = int(bucket["cumulative"]) - below
        below = int(bucket["cumulative"])
    return counted
