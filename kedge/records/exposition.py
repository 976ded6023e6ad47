"""The state of each model, read from its records, for Prometheus.

A check ends long before anybody could scrape it, and so do the steps of a run. What they found lies in the store as
records, which the collector reads here: any number of collectors show the same, and nothing has to be pushed. A record
never changes, so each is read once; only the newest check is read at all.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from time import monotonic
from typing import Protocol, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from kedge import records
from kedge.errors import StoreError
from kedge.policy import Policy
from kedge.policy.cron import max_pause
from kedge.records import (
    Action,
    Checked,
    Data,
    ModelState,
    Pipeline,
    Promoted,
    Quarantined,
    Record,
    RolledBack,
    RunState,
)
from kedge.records.kinds import TYPES
from kedge.store import Store

REFRESH_SECONDS = 60.0
DAY = 86_400.0
LATE = 1200.0
"""Seconds beyond the longest pause of its schedule after which a check is late."""
OUTCOMES = ("promoted", "rolled-back", "not-judged")


class Modelled(Protocol):
    """Something that has a model's policy."""

    policy: Policy


class Page(Protocol):
    """What is shown to Prometheus, and what is wrong, in words, by its place."""

    registry: CollectorRegistry
    faults: dict[str, str]

    def show(self, model: str, figures: Mapping[str, float], source: str, until: float = math.inf) -> None: ...


class ModelStates(Collector):
    """The newest check, the runs and the releases of every declared model."""

    def __init__(self, store: Store, declared: Mapping[str, Modelled], metrics: Page) -> None:
        self._store = store
        self._policies = {name: model.policy for name, model in declared.items()}
        self._metrics = metrics
        self._read: dict[str, Record[Data]] = {}
        self._states: dict[str, ModelState] = {}
        self._due = 0.0
        metrics.registry.register(self)

    def refresh_if_due(self) -> None:
        """Read what is new, at most once a minute. A failure is shown and tried again later."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + REFRESH_SECONDS
        faults = []
        for name in self._policies:
            try:
                checks = records.newest(self._store, name, Checked, 1)
                self._states[name] = ModelState.of([*checks, *self._events(name)])
                self._show(name)
            except StoreError as exc:  # the other models' may be well
                faults.append(f"a record cannot be read: {exc}")
        if faults:
            self._metrics.faults["records"] = "; ".join(faults)
        else:
            self._metrics.faults.pop("records", None)

    def describe(self) -> list[Metric]:
        """Nothing before the first look."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, as of the last look."""
        states = dict(self._states)
        yield from _checks(states, self._policies)
        yield from _runs(states)
        yield from _releases(states, self._policies)
        yield from _champions(states, self._policies)

    def _show(self, name: str) -> None:
        check = self._states[name].check
        until = math.inf if check is None else _made(check) + newest_seconds(self._policies[name])
        self._metrics.show(name, figures(check), "record", until)

    def _events(self, name: str) -> list[Record[Data]]:
        """All records of a model but its checks; those seen before are not read again."""
        events = []
        for kind, data in TYPES.items():
            if data in (Checked, Quarantined):
                continue
            for place in self._store.keys(f"records/{name}/{kind}"):
                if place not in self._read:
                    item = records.find(self._store, name, data, PurePosixPath(place).stem)
                    if item is None:  # somebody removed it just now
                        continue
                    self._read[place] = item
                events.append(self._read[place])
        return events


def figures(check: Record[Checked] | None) -> dict[str, float]:
    """The numbers of a check; what it could not measure is NaN, so that no older number stands for it."""
    if check is None:
        return {}
    data, performance = check.data, check.data.performance
    named = {
        f"{name}{end}": value
        for name, each in performance.metrics.items()
        for end, value in (("", each.value), ("_low", each.low), ("_high", each.high))
    }
    return named | {
        "rows": float(data.rows),
        "drifted_features": float(len(data.inputs.drifted)),
        "drifted_importance": data.inputs.drifted_importance,
        "scores_drifted": float(len(data.scores.drifted)),
        "labelled_rows": float(performance.rows),
        "loss": performance.loss.value if performance.loss else math.nan,
        "loss_reference": performance.reference.loss if performance.reference else math.nan,
        "loss_increase": _number(performance.increase),
        "wrong": performance.wrong.value if performance.wrong else math.nan,
        "estimated_loss_increase": _number(data.estimate.increase if data.estimate else None),
        "error_rose": float(bool(data.alarm.get("open"))),
        "fairness_exceeded": float(len(data.fairness.exceeded)) if data.fairness else math.nan,
        "broken_limits": float(len(performance.broken_limits)),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _made(item: Record[Data]) -> float:
    """Unix seconds on the wall's clock."""
    return (item.written or item.time).timestamp()


def newest_seconds(policy: Policy) -> float:
    """How long the newest check is the newest: three of the longest pauses of its schedule, a day at least."""
    return max(DAY, 3 * (max_pause(policy.monitor.schedule) or 0.0))


def limits(policy: Policy) -> dict[str, float]:
    """What the policy calls too much, by the figure that it is of; a limit that it does not set is not there."""
    pause = max_pause(policy.monitor.schedule)
    named = {
        f"{metric.label}_{name}": limit
        for metric in policy.metrics
        for name, limit in (("min", metric.min), ("max", metric.max), ("max_drop", metric.max_drop))
    }
    found = named | {
        "check_age_seconds": None if pause is None else pause + LATE,
        "loss_increase": policy.monitor.performance.min_increase,
        "drifted_importance": policy.monitor.drift.min_drifted_importance,
        "latency_ms": policy.release.guard.max_latency_ms,
        "error_rate": policy.release.guard.max_error_rate,
        "age_seconds": policy.monitor.triggers.max_age_seconds,
    }
    return {figure: limit for figure, limit in found.items() if limit is not None}


def limit_seconds(policy: Policy) -> float:
    """The longest a release takes by its policy: to come up, every step to its limit, and baking."""
    release = policy.release
    shadow = release.max_step_seconds if release.shadow_percent > 0 else 0.0
    return release.ready_seconds + shadow + release.max_rollout_seconds


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, labels=labels)


def _checks(states: Mapping[str, ModelState], policies: Mapping[str, Policy]) -> Iterator[Metric]:
    when = _gauge("kedge_checked_timestamp_seconds", "When the newest check was made.", "model")
    action = _gauge("kedge_check_action", "1 for what the newest check decided.", "model", "action")
    for name, state in states.items():
        if state.check is not None:
            when.add_metric([name], _made(state.check))
            if time.time() >= _made(state.check) + newest_seconds(policies[name]):
                continue  # what it decided is no news any more
            for each in get_args(Action):
                action.add_metric([name, each], float(state.check.data.action == each))
    yield when
    yield action


def _runs(states: Mapping[str, ModelState]) -> Iterator[Metric]:
    ended = CounterMetricFamily("kedge_runs", "Runs that ended, by state.", labels=["model", "pipeline", "state"])
    going = _gauge("kedge_runs_under_way", "Runs that began and did not end.", "model", "pipeline")
    for name, state in states.items():
        ends = ((run.pipeline, each.finished) for run in state.runs for each in run.attempts)
        finished = Counter((pipeline, end.data.state) for pipeline, end in ends if end)
        under_way = Counter(run.pipeline for run in state.runs if run.running)
        for pipeline in get_args(Pipeline):
            going.add_metric([name, pipeline], under_way[pipeline])
            for ended_as in get_args(RunState):
                ended.add_metric([name, pipeline, ended_as], finished[pipeline, ended_as])
    yield ended
    yield going


def _outcome(item: Record[Promoted] | Record[RolledBack]) -> str:
    return "not-judged" if isinstance(item.data, RolledBack) and not item.data.condemned else item.kind


def _releases(states: Mapping[str, ModelState], policies: Mapping[str, Policy]) -> Iterator[Metric]:
    ended = CounterMetricFamily("kedge_releases", "Releases that ended, by outcome.", labels=["model", "outcome"])
    since = _gauge(
        "kedge_release_started_timestamp_seconds", "When the release under way began; none: absent.", "model"
    )
    limit = _gauge("kedge_release_limit_seconds", "The longest a release takes by its policy.", "model")
    for name, state in states.items():
        limit.add_metric([name], limit_seconds(policies[name]))
        if state.open_release is not None:
            since.add_metric([name], _made(state.open_release))
        outcomes = [item for each in state.releases for item in (each.promoted, each.rolled_back) if item]
        counts = Counter(_outcome(item) for item in outcomes)
        for kind in OUTCOMES:
            ended.add_metric([name, kind], counts[kind])
    yield from (ended, since, limit)


def _champions(states: Mapping[str, ModelState], policies: Mapping[str, Policy]) -> Iterator[Metric]:
    since = _gauge("kedge_champion_since_timestamp_seconds", "When the champion began to serve.", "model")
    trained = _gauge("kedge_trained_until_timestamp_seconds", "Newest row the champion was trained on.", "model")
    waits = _gauge("kedge_approval_waiting", "1 while kedge approve is waited for.", "model", "pipeline")
    limit = _gauge("kedge_limit", "What the policy calls too much.", "model", "figure")
    for name, state in states.items():
        policy = policies[name]
        if state.champion is not None:
            since.add_metric([name], state.champion.since.timestamp())
        if state.check is not None and state.check.data.trained_until is not None:
            trained.add_metric([name], state.check.data.trained_until.timestamp())
        release = state.release_to_approve is not None and policy.release.approval == "manual"
        waits.add_metric([name, "retrain"], float(state.retraining_to_approve is not None))
        waits.add_metric([name, "release"], float(release))
        for figure, value in limits(policy).items():
            limit.add_metric([name, figure], value)
    yield from (since, trained, waits, limit)
