"""``kedge adopt`` against a real API server with KServe's real definitions."""

from __future__ import annotations

import pytest
from kubernetes import client
from typer.testing import CliRunner

from kedge.cli import build
from kedge.rollout.kserve.api import SLOTS, Api, connect

COLLECTOR = "http://kedge.ml:8080"
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "churn"},
    "spec": {
        "predictor": {"minReplicas": 2, "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://m/churn"}}
    },
}


@pytest.fixture(scope="module")
def namespace(make_namespace, custom_kinds) -> str:
    return str(make_namespace("adopt").name)


def test_adopting_adds_a_logger_to_a_service_of_another_and_nothing_else(namespace, tmp_path, monkeypatch) -> None:
    connection = connect()
    objects = client.CustomObjectsApi(connection)
    objects.create_namespaced_custom_object(
        "serving.kserve.io", "v1beta1", namespace, "inferenceservices", SERVICE, field_manager="somebody"
    )
    monkeypatch.chdir(tmp_path)
    words = ["adopt", "churn", "-n", namespace, "--collector", COLLECTOR, "--store", str(tmp_path / "store")]
    words += ["--feature", "age:number", "--apply"]
    first, again = (CliRunner().invoke(build(["adopt"]), words) for _ in range(2))
    assert first.exit_code == again.exit_code == 0, first.output
    assert "serves    sklearn" in first.output
    assert "from now on" in first.output
    assert f"logged to {COLLECTOR} already" in again.output
    api = Api(namespace, connection)
    now = api.get(SLOTS, "churn")
    assert now is not None
    logger = now["spec"]["predictor"].pop("logger")
    assert (logger["mode"], logger["url"]) == ("all", COLLECTOR)
    assert now["spec"] == SERVICE["spec"]
    owners = {each["manager"]: each["operation"] for each in now["metadata"]["managedFields"]}
    assert owners == {"somebody": "Update", "kedge": "Apply"}
    api.delete(SLOTS, "churn")
    connection.rest_client.pool_manager.clear()
