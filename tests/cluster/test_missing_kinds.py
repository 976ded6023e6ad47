"""A cluster without KServe and the Gateway API: what helm and the doctor tell its administrator."""

from __future__ import annotations

from typer.testing import CliRunner

from kedge.cli import build
from tests.chart.render import CHART
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import IDLE, SLOT, Namespace, small


def installed(kubeconfig, **values):
    """What helm says to an installation, up to the server's own check of every object."""
    words = ["install", "missing", str(CHART), "--dry-run=server", "--kubeconfig", kubeconfig]
    done = Namespace("default").helm(*words, values=small(**values), check=False)
    return done.returncode, done.stdout + done.stderr


def test_slots_are_refused_before_anything_is_made(without_kserve):
    code, said = installed(without_kserve, models=SLOT, **IDLE)
    assert code
    for kind in ("InferenceService", "HTTPRoute"):
        assert f'no matches for kind "{kind}"' in said
    assert "ensure CRDs are installed first" in said


def test_the_notes_say_what_to_install(without_kserve):
    code, said = installed(without_kserve, models=[{"policy": FRAUD}])
    assert code == 0, said
    assert "This cluster has no KServe; slots (serving.enabled) need" in said
    assert "This cluster has no Gateway API; routes (route.enabled) need" in said


def test_the_doctor_says_what_to_install(without_kserve, tmp_path, monkeypatch):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", without_kserve)
    done = CliRunner().invoke(build(), ["doctor", "--store", str(tmp_path / "store")])
    assert done.exit_code == 1
    assert "the cluster has no v1alpha1/ServingRuntime, v1beta1/InferenceService" in done.output
    assert "-> install KServe" in done.output
    assert "the cluster has no v1/HTTPRoute" in done.output
    assert "-> install the Gateway API" in done.output
