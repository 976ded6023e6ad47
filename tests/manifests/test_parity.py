"""The chart and the overlays are two ways to the same objects."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from kedge.collect_token import REQUESTED
from tests.chart.render import render
from tests.manifests.build import OVERLAYS, build, copied, take

HERE = Path(__file__).parent
FOR_DEVELOPMENT = ("mlflow", "object-store")
HELM_ONLY = "kedge-test"  # the network rule of `helm test`


def canonical(node):
    """Without labels of objects and pods, lists of named things in one order."""
    if isinstance(node, dict):
        return {
            name: canonical(value)
            for name, value in node.items()
            if name != "labels" or not isinstance(value, dict)  # selectors are matchLabels, and stay
        }
    if isinstance(node, list):
        items = [canonical(item) for item in node]
        named = all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: item["name"]) if named else items
    if isinstance(node, str):
        return re.sub(r"^kedge-policies-[a-z0-9]{10}$", "kedge-policies", node)
    return node


def comparable(objects):
    found = {}
    for each in objects:
        meta = each["metadata"]
        if "helm.sh/hook" in meta.get("annotations", {}) or meta["name"] in (*FOR_DEVELOPMENT, HELM_ONLY):
            continue
        each = canonical(each)
        each["metadata"].pop("annotations", None)
        template = each.get("spec", {}).get("template") if each["kind"] == "StatefulSet" else None
        if template:
            template["metadata"].pop("annotations", None)
            template.pop("metadata") if not template["metadata"] else None
        if each["kind"] == "ConfigMap":
            each["data"] = {name: yaml.safe_load(text) for name, text in each["data"].items()}
        found[f"{each['kind']}/{each['metadata']['name']}"] = without_empty(each)
    return found


def without_empty(node):
    if isinstance(node, dict):
        kept = {name: value for name, value in node.items() if value not in ({}, []) or name == "podSelector"}
        return {name: without_empty(value) for name, value in kept.items()}
    return [without_empty(item) for item in node] if isinstance(node, list) else node


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_chart_and_overlay_give_the_same_objects_but_for_labels(overlay):
    chart = render(HERE / f"{overlay.name}-values.yaml", namespace=f"kedge-{overlay.name}")
    assert comparable(build(overlay)) == comparable(chart)


def test_an_overlay_has_senders_show_tokens_as_the_chart_does(tmp_path):
    file = copied(tmp_path, "overlays/prod") / "kustomization.yaml"
    take(file, "../../components/collector-tokens")
    env = json.dumps({"env": {REQUESTED: "kubeflow/kedge-steps@kedge-collector"}}, separators=(",", ":"))
    file.write_text(file.read_text().replace("- pod={}", f"- 'pod={env}'"))
    values = yaml.safe_load((HERE / "prod-values.yaml").read_text())
    values["collector"]["tokens"] = {"enabled": True}
    assert comparable(build(file.parent)) == comparable(render(values, namespace="kedge-prod"))


def test_the_account_beside_kubeflow_asks_for_tokens_as_the_charts_does(tmp_path):
    file = copied(tmp_path, "kubeflow") / "kustomization.yaml"
    take(file, "../components/collector-tokens/steps")
    values = yaml.safe_load((HERE / "prod-values.yaml").read_text()) | {"release": {}}
    values["collector"]["tokens"] = {"enabled": True}
    charts = json.dumps(comparable(render(values, namespace="kedge-prod")))
    named = json.loads(charts.replace("kedge-kedge-prod-steps", "kedge-steps"))
    for name, ours in comparable(build(file.parent)).items():
        assert ours == named[name], name
