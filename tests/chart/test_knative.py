"""The chart where slots are revisions of one InferenceService in Knative mode."""

from __future__ import annotations

import pytest

from tests.chart.answering_cluster import render_in
from tests.chart.render import one, render, template
from tests.chart.test_values import FRAUD

KNATIVE = {
    "models": [{"policy": FRAUD, "bundle": "a" * 40}],
    "serving": {"enabled": True, "deploymentMode": "Knative"},
    "store": {"url": "s3://kedge/prod"},
}


def test_the_first_slot_is_the_models_one_service_and_keeps_idle_candidates(tmp_path):
    service = one(render_in(tmp_path, KNATIVE, []), "InferenceService", "fraud")
    assert service["metadata"]["labels"]["kedge.dev/slot"] == "blue"
    annotations = service["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Knative"
    assert annotations["serving.kserve.io/enable-tag-routing"] == "true"
    assert "serving.kserve.io/autoscalerClass" not in annotations
    assert "securityContext" not in service["spec"]["predictor"]  # Knative refuses a pod's


def test_a_route_in_knative_mode_is_refused_with_what_to_do():
    done = template({**KNATIVE, "route": {"enabled": True}}, check=False)
    assert "set route.enabled to false" in done.stderr


@pytest.mark.parametrize(("mode", "ports"), [("Knative", {8080, 8012, 9090}), ("Standard", {8080})])
def test_slots_let_in_the_sidecar_that_knative_sends_to_and_asks(mode, ports):
    values = {**KNATIVE, "serving": {"enabled": True, "deploymentMode": mode}}
    rules = one(render(values), "NetworkPolicy", "kedge-slots")["spec"]["ingress"]
    assert {each["port"] for rule in rules for each in rule["ports"]} == ports
