"""What the cluster starts is what the server takes, and no more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kedge.serving.__main__ import _parsed

RUNTIME = Path(__file__).parents[2] / "manifests" / "components" / "serving-runtime" / "runtime.yaml"


@pytest.fixture(scope="module")
def spec():
    return next(yaml.safe_load_all(RUNTIME.read_text()))["spec"]


def test_runtime_serves_format_kedge_with_words_the_server_takes(spec):
    assert spec["supportedModelFormats"] == [{"name": "kedge", "version": "1", "autoSelect": True}]
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"] == ["python", "-m", "kedge.serving"]
    options = _parsed(container["args"])
    assert str(options.bundle) == "/mnt/models"
    assert options.port == container["ports"][0]["containerPort"]
    assert (options.host, options.drain_seconds) == ("0.0.0.0", 5)


def test_runtime_runs_without_rights(spec):
    security = spec["containers"][0]["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 65532
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
