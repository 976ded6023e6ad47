"""What skaffold is told fits the chart that it installs."""

from __future__ import annotations

import json

import yaml

from tests.chart.render import ROOT, one, render

TOLD = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
(RELEASE,) = TOLD["deploy"]["helm"]["releases"]


def test_the_verify_job_runs_where_the_network_rules_let_it_reach_the_collector():
    values = ROOT / RELEASE["valuesFiles"][0]
    installed = render(values, release=RELEASE["name"], namespace=RELEASE["namespace"])
    (verify,) = TOLD["verify"]
    job = json.loads(verify["executionMode"]["kubernetesCluster"]["overrides"])
    rule = one(installed, "NetworkPolicy", "kedge-test")
    assert job["spec"]["template"]["metadata"]["labels"] == rule["spec"]["podSelector"]["matchLabels"]
    assert job["metadata"]["namespace"] == rule["metadata"]["namespace"] == RELEASE["namespace"]
    service = one(installed, "Service", "kedge-collector")
    (port,) = (each["port"] for each in service["spec"]["ports"])
    address = f"http://kedge-collector.{RELEASE['namespace']}.svc:{port}/readyz"
    assert address in verify["container"]["args"][0]


def test_every_image_is_built_from_a_file_that_is_there_and_handed_to_the_chart():
    built = {each["image"]: each["docker"] for each in TOLD["build"]["artifacts"]}
    for name, docker in built.items():
        assert f" AS {docker['target']}\n" in (ROOT / docker["dockerfile"]).read_text()
        assert name == f"kedge/{docker['target']}"
    handed = {
        f"images.{name.removeprefix('kedge/')}.{part}": f"{{{{.IMAGE_{part_of}_{name.replace('/', '_')}}}}}"
        for name in built
        for part, part_of in (("repository", "REPO"), ("tag", "TAG"))
    }
    assert RELEASE["setValueTemplates"] == handed
