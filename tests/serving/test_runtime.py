"""What the cluster starts is what the server takes, and no more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kedge.serving.__main__ import _parsed
from kedge.serving.cpus import usable_cpus

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


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_containers_quota_bounds_the_threads(tmp_path, files, wanted):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cpus(tmp_path) == wanted


@pytest.mark.parametrize("text", ["max 100000\n", "nonsense", "900000000 1000\n", None])
def test_without_a_quota_all_processors_it_may_run_on_count(tmp_path, text, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == 3
