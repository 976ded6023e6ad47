"""Dashboards and alerts: they ask only for what kedge's own pages, or kube-state-metrics, have."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from tests.chart.promql import asked, grouped
from tests.chart.render import CHART, one, render, tool

FULL = CHART / "ci" / "full-values.yaml"
DASHBOARDS = sorted(CHART.glob("files/dashboards/*.json"))
SCRAPED = {"namespace", "pod", "job", "instance"}
"""Labels that Prometheus adds to what it scrapes."""
STATE = {
    "kube_cronjob_info": {"cronjob"},
    "kube_cronjob_next_schedule_time": {"cronjob"},
    "kube_cronjob_spec_suspend": {"cronjob"},
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "kube_job_failed": {"job_name", "condition"},
    "kube_job_owner": {"job_name", "owner_kind", "owner_name"},
    "kube_job_status_start_time": {"job_name"},
    "kube_statefulset_replicas": {"statefulset"},
    "kube_statefulset_status_replicas_ready": {"statefulset"},
}
"""What kube-state-metrics 2 exposes, as far as it is asked for: https://github.com/kubernetes/kube-state-metrics/tree/main/docs"""


@cache
def exposed() -> dict[str, set[str]]:
    """Every series of the collector and the model server with its labels, from the real registries, and the others'."""
    series = {name: labels | SCRAPED for name, labels in STATE.items()}
    for page in (collectors_page(), servers_page()):
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                series.setdefault(sample.name, set(SCRAPED)).update(sample.labels)
    series["kedge:failed_job_started:timestamp_seconds"] = {"namespace", "cronjob"}  # recorded by the rules
    return series


def collectors_page() -> str:
    """A collector's metrics, with one of everything counted."""
    from kedge import policy
    from kedge.collector.metrics import Metrics
    from kedge.records import ModelState
    from kedge.records.exposition import ModelStates
    from tests.chart.test_values import FRAUD
    from tests.records.made import check, record

    metrics = Metrics()
    declared = {"fraud": SimpleNamespace(policy=policy.parse(FRAUD))}
    model_states = ModelStates(None, declared, metrics)
    going = record("release-started", "b-1", _noon(), bundle="b", previous="a")
    model_states._states["fraud"] = ModelState.of([check(_noon(), trained_until=_noon()), *_served(), going])
    metrics.accepted.labels("fraud", "prediction")
    metrics.refused.labels("busy")
    metrics.sampled_out.labels("fraud")
    metrics.appended.labels("fraud", "labels")
    metrics.set_aside.labels("fraud")
    metrics.check.labels("fraud", "warn")
    return metrics.page()[0].decode()


def servers_page() -> str:
    """A model server's metrics after one request."""
    from kedge.serving.metrics import Metrics

    model = SimpleNamespace(name="fraud", version="v", slot="blue", binary=True, classes=())
    metrics = Metrics(model, SimpleNamespace(sent=0, dropped=0, waiting=0))
    metrics.refused(503)
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def _noon():
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _served():
    from tests.records.made import record

    return (record("promoted", "a-1", _noon(), bundle="a"),)


def rules():
    groups = one(render(FULL), "PrometheusRule", "kedge")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions():
    """Place and PromQL of everything that is asked of Prometheus."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield (
                    f"{path.name}: ${variable['name']}",
                    re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])[1],
                )
        for note in board["annotations"]["list"]:
            yield f"{path.name}: {note['name']}", note["expr"]


def test_every_series_that_is_asked_for_is_exposed_with_the_labels_it_is_asked_by():
    wrong = []
    for place, expression in expressions():
        found = asked(expression)
        assert found, place
        for name, labels in found.items():
            if name not in exposed():
                wrong.append(f"{place}: {name} is exposed by nobody")
            elif labels - exposed()[name]:
                wrong.append(f"{place}: {name} has no label {sorted(labels - exposed()[name])}")
    assert wrong == []


def test_what_is_grouped_by_is_a_label_of_a_series_in_the_expression():
    made = {"cronjob", "model"}  # by label_replace
    for place, expression in expressions():
        labels = set().union(*(exposed()[name] for name in asked(expression))) | made | {"le"}
        assert grouped(expression) <= labels, place


def promtool(*words, cwd):
    """promtool's verdict on files of a folder."""
    done = subprocess.run([tool("promtool"), *words], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_every_alert_fires_when_it_should_and_not_before(tmp_path):
    cases = Path(__file__).with_name("alerts.yaml").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in cases] == []
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(one(render(FULL), "PrometheusRule", "kedge")["spec"]))
    (tmp_path / "alerts.yaml").write_text(cases)
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", cwd=tmp_path)
    promtool("test", "rules", "alerts.yaml", cwd=tmp_path)


@pytest.mark.parametrize("name", ["kedge_request_seconds", "kedge_rows", "no_such"])
def test_a_name_that_is_not_exposed_is_seen(name):
    """What the test above rests on: a family's name is no series."""
    assert name not in exposed()
    assert asked(f'rate({name}{{namespace="x"}}[5m]) > 0') == {name: {"namespace"}}


def test_every_rule_watches_only_its_own_namespace():
    for rule in rules():
        assert re.findall(r'"([^"]*)"', rule["expr"])[0] == "ml", rule


def test_the_rules_of_a_release_of_another_name_watch_its_objects():
    values = yaml.safe_load(FULL.read_text()) | {"fullnameOverride": "other"}
    groups = one(render(values), "PrometheusRule", "other")["spec"]["groups"]
    text = " ".join(rule["expr"] for group in groups for rule in group["rules"])
    assert set(re.findall(r'["|]other-(\w+)', text)) == {"check", "score", "collector", "guard"}
    assert not re.search(r'["|]kedge-', text)


def test_a_dashboard_names_its_panels_and_lays_them_side_by_side():
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        places = [panel["gridPos"] for panel in board["panels"]]
        cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(cells) == len(set(cells)), path
        assert max(x for x, _ in cells) < 24
        assert len({panel["id"] for panel in board["panels"]}) == len(places)
        assert all(panel["title"] for panel in board["panels"])
    assert len({json.loads(path.read_text())["uid"] for path in DASHBOARDS}) == len(DASHBOARDS) == 3


def panel(board, title):
    panels = json.loads((CHART / "files" / "dashboards" / f"{board}.json").read_text())["panels"]
    return next(each for each in panels if each["title"].startswith(title))


def test_a_quarantined_feed_is_red_and_a_late_check_not_green():
    rules = panel("models", "What it decided")["fieldConfig"]["overrides"]
    colours = {rule["matcher"]["options"]: rule["properties"][0]["value"]["fixedColor"] for rule in rules}
    shown = {action: [c for pattern, c in colours.items() if re.search(pattern.strip("/"), f"fraud: {action}")]
             for action in ("none", "warn", "retrain", "quarantine")}  # fmt: skip
    assert shown == {"none": ["green"], "warn": ["orange"], "retrain": ["blue"], "quarantine": ["red"]}
    for title in ("Age of the newest check", "Waits for an approval"):
        steps = panel("models", title)["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [steps[0]["color"], steps[1]] == ["green", {"color": "orange", "value": 1}]


@pytest.mark.parametrize(
    ("board", "title", "figure"),
    [
        ("models", "Share of the importance", "drifted_importance"),
        ("models", "Rise of the labelled loss", "loss_increase"),
        ("servers", "Share that failed", "error_rate"),
        ("servers", "Time of a request", "latency_ms"),
    ],
)
def test_a_figure_with_a_limit_is_drawn_beside_it(board, title, figure):
    found = panel(board, title)
    assert f'figure="{figure}"' in found["targets"][-1]["expr"]
    assert found["fieldConfig"]["overrides"][0]["properties"][0]["value"]["fixedColor"] == "red"
