"""The state of each model, read from its records, for Prometheus.

A check ends long before anybody could scrape it, and so do the steps of a run. What they found lies in the store as
records, which the collector reads here: any number of collectors show the same, and nothing has to be pushed. A record
never changes, so each is read once; only the newest check is read at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from time import monotonic
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kedge import records as ledger
from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.errors import StoreError
from kedge.policy import Policy
from kedge.records import Kind, Record
from kedge.store import Store

REFRESH_SECONDS = 60.0
ACTIONS = ("none", "warn", "retrain", "quarantine")
PIPELINES = ("retrain", "release")
STATES = ("succeeded", "rejected", "inconclusive", "failed")
OUTCOMES = ("promoted", "rolled-back")
READ: tuple[Kind, ...] = ("run-started", "run-finished", "release-started", "promoted", "rolled-back")


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What the records of one model say."""

    check: Record | None
    runs: Mapping[tuple[str, str], int]
    """Ended runs by pipeline and state."""
    under_way: Mapping[str, int]
    """Runs that began and did not end, by pipeline."""
    releases: Mapping[str, int]
    """Ended releases by outcome."""
    release_since: float | None
    """When the release under way began, Unix seconds; None: there is none."""


class ModelStates(Collector):
    """The newest check, the runs and the releases of every declared model."""

    def __init__(self, store: Store, declared: Mapping[str, Declared], metrics: Metrics) -> None:
        self._store = store
        self._policies = {name: model.policy for name, model in declared.items()}
        self._metrics = metrics
        self._read: dict[str, Record] = {}
        self._states: dict[str, ModelState] = {}
        self._due = 0.0
        metrics.registry.register(self)

    def refresh_if_due(self) -> None:
        """Read what is new, at most once a minute. A failure is shown and tried again later."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + REFRESH_SECONDS
        try:
            for name in self._policies:
                newest = ledger.newest(self._store, name, "check", 1)
                self._states[name] = state_of(newest[0] if newest else None, self._records(name))
                self._show(name)
        except (StoreError, KeyError) as exc:  # a key: somebody removed it, or it is no check that kedge wrote
            self._metrics.faults["records"] = f"a record cannot be read: {exc}"
        else:
            self._metrics.faults.pop("records", None)

    def describe(self) -> list[Metric]:
        """Nothing before the first look."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, as of the last look."""
        states = dict(self._states)
        yield from _checks(states)
        yield from _runs(states)
        yield from _releases(states, self._policies)

    def _show(self, name: str) -> None:
        for figure, number in figures(self._states[name].check).items():
            self._metrics.check.labels(name, figure).set(number)

    def _records(self, name: str) -> list[Record]:
        """All of a model but its checks; those seen before are not read again."""
        found = []
        for kind in READ:
            for place in self._store.keys(f"records/{name}/{kind}"):
                if place not in self._read:
                    self._read[place] = self._slim(name, kind, PurePosixPath(place).stem)
                found.append(self._read[place])
        return found

    def _slim(self, name: str, kind: Kind, key: str) -> Record:
        """A record without the evidence of a release, which is long."""
        item = ledger.find(self._store, name, kind, key)
        if item is None:
            raise KeyError(key)
        return replace(item, data={name: item.data[name] for name in ("pipeline", "state") if name in item.data})


def state_of(check: Record | None, records: list[Record]) -> ModelState:
    """What runs and releases came to. Pure."""
    started = {item.key: str(item.data.get("pipeline", "retrain")) for item in records if item.kind == "run-started"}
    finished = {item.key: str(item.data["state"]) for item in records if item.kind == "run-finished"}
    ended = {item.key for item in records if item.kind in OUTCOMES}
    open_releases = [item for item in records if item.kind == "release-started" and item.key not in ended]
    return ModelState(
        check=check,
        runs=Counter((started.get(key, _pipeline(key)), state) for key, state in finished.items()),
        under_way=Counter(pipeline for key, pipeline in started.items() if key not in finished),
        releases=Counter(item.kind for item in records if item.kind in OUTCOMES),
        release_since=max((_made(item) for item in open_releases), default=None),
    )


def _made(item: Record) -> float:
    """Unix seconds on the wall's clock."""
    return (item.written or item.time).timestamp()


def _pipeline(run: str) -> str:
    """Of a run that nobody announced: one started from the form of Kubeflow Pipelines."""
    return "release" if run.startswith("release-") else "retrain"


def figures(check: Record | None) -> dict[str, float]:
    """The numbers of a check; what it could not measure is NaN, so that no older number stands for it."""
    if check is None:
        return {}
    data = check.data
    performance, estimate = data.get("performance") or {}, data.get("estimate") or {}
    return {
        "rows": _number(data.get("rows")),
        "drifted_features": float(len(data["inputs"]["drifted"])),
        "drifted_importance": _number(data["inputs"]["drifted_importance"]),
        "scores_drifted": float(len(data["scores"]["drifted"])),
        "labelled_rows": _number(performance.get("rows")),
        "loss": _number((performance.get("loss") or {}).get("value")),
        "loss_reference": _number((performance.get("reference") or {}).get("loss")),
        "loss_increase": _number(performance.get("increase")),
        "wrong": _number((performance.get("wrong") or {}).get("value")),
        "estimated_loss_increase": _number(estimate.get("increase")),
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def limit_seconds(policy: Policy) -> float:
    """The longest a release takes by its policy: to come up, every step to its limit, and baking."""
    release = policy.release
    steps = len(release.steps) + (release.shadow_percent > 0)
    return release.ready_seconds + steps * release.max_step_seconds + release.bake_seconds


def _checks(states: Mapping[str, ModelState]) -> Iterator[Metric]:
    when = GaugeMetricFamily("kedge_checked_timestamp_seconds", "When the newest check was made.", labels=["model"])
    action = GaugeMetricFamily("kedge_check_action", "1 for what the newest check decided.", labels=["model", "action"])
    for name, state in states.items():
        if state.check is not None:
            when.add_metric([name], _made(state.check))
            for each in ACTIONS:
                action.add_metric([name, each], float(state.check.data["action"] == each))
    yield when
    yield action


def _runs(states: Mapping[str, ModelState]) -> Iterator[Metric]:
    ended = CounterMetricFamily("kedge_runs", "Runs that ended, by state.", labels=["model", "pipeline", "state"])
    going = GaugeMetricFamily("kedge_runs_under_way", "Runs that began and did not end.", labels=["model", "pipeline"])
    for name, state in states.items():
        for pipeline in PIPELINES:
            going.add_metric([name, pipeline], state.under_way.get(pipeline, 0))
            for ended_as in STATES:
                ended.add_metric([name, pipeline, ended_as], state.runs.get((pipeline, ended_as), 0))
    yield ended
    yield going


def _releases(states: Mapping[str, ModelState], policies: Mapping[str, Policy]) -> Iterator[Metric]:
    ended = CounterMetricFamily("kedge_releases", "Releases that ended, by outcome.", labels=["model", "outcome"])
    since = GaugeMetricFamily(
        "kedge_release_started_timestamp_seconds", "When the release under way began; none: absent.", labels=["model"]
    )
    limit = GaugeMetricFamily(
        "kedge_release_limit_seconds", "The longest a release takes by its policy.", labels=["model"]
    )
    for name, state in states.items():
        limit.add_metric([name], limit_seconds(policies[name]))
        if state.release_since is not None:
            since.add_metric([name], state.release_since)
        for outcome in OUTCOMES:
            ended.add_metric([name, outcome], state.releases.get(outcome, 0))
    yield from (ended, since, limit)
