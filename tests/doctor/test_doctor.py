"""The doctor against servers that answer as the real ones do, and a cluster that behaves."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from components.store import local
from pipelines.cli import build
from pipelines.doctor import cluster, places, runs
from pipelines.doctor.finding import good, run

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@contextmanager
def answering(status, body, **headers):
    """A server that gives one answer to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(status)
            for name, value in {"Date": self.date_time_string(), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def states(findings):
    return [each.state for each in findings]


def test_a_good_store_reads_writes_and_writes_once_and_is_left_clean(tmp_path):
    assert states(places.store(str(tmp_path))) == ["good"]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_store_that_cannot_be_written_is_bad_and_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    (found,) = places.store(str(tmp_path / "file"))
    assert found.state == "bad"
    assert found.fix


def test_a_store_of_another_kind_is_refused():
    (found,) = places.store("gs://bucket")
    assert found.state == "bad"
    assert "gs:// is not supported" in found.seen


def test_a_store_that_forgets_its_conditions_is_bad(tmp_path, monkeypatch):
    def careless(self, key, data):
        self.put(key, data)
        return True

    monkeypatch.setattr(local.LocalStore, "put_if_absent", careless)
    (found,) = places.store(str(tmp_path))
    assert found.what == "store: write once"
    assert "start one run twice" in found.seen


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, b"3.17.0", "good", "MLflow 3.17.0"),
        (200, b"2.9.1", "warning", "tested with 3.17"),
        (403, b"Invalid Host header", "bad", "does not know this name"),
        (401, b"", "bad", "401"),
        (404, b"", "bad", "404"),
    ],
)
def test_mlflow_is_told_apart_from_what_is_not(status, body, state, words):
    with answering(status, body) as address:
        (found,) = places.registry(address)
    assert found.state == state
    assert words in found.seen


def test_mlflow_that_is_away_is_bad():
    with answering(200, b"") as address:
        pass
    (found,) = places.registry(address)
    assert found.state == "bad"
    assert address in found.seen


def test_a_registry_on_this_machine_is_no_illness():
    assert states(places.registry("sqlite:///mlflow.db")) == ["skipped"]


BEHIND_UI = {"apiServerReady": True, "apiServerTagName": "2.17.0", "apiServerMultiUser": True, "multi_user": True}
"""The same health as the user interface passes it on, where Kubeflow's own address leads."""


@pytest.mark.parametrize("said", [{"tag_name": "2.17.0", "multi_user": True}, BEHIND_UI])
def test_kubeflow_pipelines_says_its_version_and_kind(said):
    with answering(200, said) as address:
        version, clock = runs.kfp(address, None)
    assert version.state == "good"
    assert "2.17.0, multi-user" in version.seen
    assert clock.state == "good"


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, {"tag_name": "1.8.5"}, "warning"),
        (200, {**BEHIND_UI, "apiServerReady": False}, "bad"),
        (403, {}, "bad"),
        (500, {}, "bad"),
        (200, b"<html>", "bad"),
    ],
)
def test_kubeflow_pipelines_that_is_old_or_refuses_is_named(status, body, state):
    with answering(status, body) as address:
        first, *_ = runs.kfp(address, None)
    assert first.state == state
    assert first.fix


def test_a_clock_that_is_apart_is_bad():
    with answering(200, {"tag_name": "2.17.0"}, Date="Mon, 02 Mar 2020 00:00:00 GMT") as address:
        assert states(runs.kfp(address, None)) == ["good", "bad"]


def token(**claims):
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"x.{part}.y"


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        (token(aud=[runs.AUDIENCE], exp=(NOW + timedelta(hours=1)).timestamp()), "good", "60 minutes left"),
        (token(aud=["kubernetes"], exp=(NOW + timedelta(hours=1)).timestamp()), "bad", "its audience is kubernetes"),
        (token(aud=runs.AUDIENCE, exp=(NOW - timedelta(seconds=5)).timestamp()), "bad", "expired 5 s ago"),
        ("not a token", "bad", "not a service account token"),
        ("a.!!!.c", "bad", "not a service account token"),
    ],
)
def test_a_token_is_for_the_right_audience_and_not_expired(tmp_path, text, state, words):
    (tmp_path / "token").write_text(text)
    (found,) = runs.token(tmp_path / "token", now=NOW)
    assert found.state == state
    assert words in found.seen


def test_a_token_that_is_not_there_is_bad(tmp_path):
    assert states(runs.token(tmp_path / "token")) == ["bad"]
    assert states(runs.token(None)) == ["skipped"]


def test_prometheus_knows_the_collector_or_a_fix_is_given():
    with answering(200, {"data": {"result": [{"value": [0, "2"]}]}}) as address:
        assert places.prometheus(address)[0].seen.endswith("scrapes 2 collectors")
    with answering(200, {"data": {"result": []}}) as address:
        assert states(places.prometheus(address)) == ["warning"]
    with answering(200, b"hello") as address:
        assert states(places.prometheus(address)) == ["bad"]


@dataclass
class FakeCluster:
    """A cluster as the doctor asks it."""

    namespace: str = "ml"
    address: str = "https://10.0.0.1"
    release: str = "v1.36.3"
    date: str | None = None
    away: str = ""
    served: dict = field(default_factory=dict)
    gateways: list = field(default_factory=list)
    settings: dict | None = None
    denied: set = field(default_factory=set)
    running: list = field(default_factory=list)

    def version(self):
        if self.away:
            raise cluster.UnreachableError(self.away)
        return self.release, self.date

    def kinds(self, group):
        return self.served.get(group, set())

    def everywhere(self, group, version, plural):
        return self.gateways

    def config_map(self, namespace, name):
        return self.settings

    def may(self, verb, group, resource):
        return (verb, resource) not in self.denied

    def pods(self):
        return self.running


KSERVE = {"serving.kserve.io": {"v1beta1/InferenceService", "v1alpha1/ServingRuntime"}}


def test_missing_kserve_is_named_with_where_to_get_it():
    (found,) = cluster.kserve(FakeCluster())
    assert found.state == "bad"
    assert "v1beta1/InferenceService" in found.seen
    assert "kserve.github.io" in found.fix


@pytest.mark.parametrize(
    ("deploy", "ingress", "state"),
    [
        ({"defaultDeploymentMode": "Standard"}, {"enableGatewayApi": True}, "good"),
        ({"defaultDeploymentMode": "Standard"}, {}, "warning"),
        ({"defaultDeploymentMode": "Knative"}, {}, "good"),
    ],
)
def test_kserves_mode_is_read_from_its_settings(deploy, ingress, state):
    settings = {"deploy": json.dumps(deploy), "ingress": json.dumps(ingress)}
    assert states(cluster.kserve(FakeCluster(served=KSERVE, settings=settings))) == ["good", state]


def a_gateway(programmed):
    condition = {"type": "Programmed", "status": programmed, "message": "no address"}
    return {
        "metadata": {"namespace": "gateway", "name": "kedge"},
        "spec": {"gatewayClassName": "envoy"},
        "status": {"conditions": [condition]},
    }


def test_gateways_are_found_and_told_apart():
    served = {"gateway.networking.k8s.io": {"v1/HTTPRoute"}}
    assert states(cluster.gateway(FakeCluster())) == ["bad"]
    assert states(cluster.gateway(FakeCluster(served=served))) == ["warning"]
    assert states(cluster.gateway(FakeCluster(served=served, gateways=[a_gateway("True")]))) == ["good"]
    (found,) = cluster.gateway(FakeCluster(served=served, gateways=[a_gateway("False")]))
    assert found.state == "warning"
    assert "no address" in found.seen


def test_each_verb_that_is_denied_is_named():
    denied = {("patch", "httproutes"), ("delete", "httproutes")}
    found = {each.what: each for each in cluster.permissions(FakeCluster(denied=denied))}
    route = found.pop("may: httproutes.gateway.networking.k8s.io")
    assert route.state == "bad"
    assert route.seen == "not patch, delete in ml"
    assert {each.state for each in found.values()} == {"good"}


def test_a_pod_that_waits_for_its_image_is_named():
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    pod = {
        "metadata": {"name": "kedge-collector-0"},
        "status": {"containerStatuses": [{"image": "kedge/collect:9", "state": {"waiting": waiting}}]},
    }
    assert states(cluster.images(FakeCluster())) == ["good"]
    (found,) = cluster.images(FakeCluster(running=[pod]))
    assert found.seen == "kedge-collector-0: kedge/collect:9: ErrImagePull: not found"
    assert "make images" in found.fix


def test_an_api_server_that_is_away_is_one_finding_with_what_to_type():
    (found,) = cluster.examined(FakeCluster(away="401 Unauthorized"))
    assert (found.what, found.state) == ("kubernetes", "bad")
    assert found.seen == "https://10.0.0.1: 401 Unauthorized"
    assert "kubectl cluster-info" in found.fix


@pytest.mark.parametrize(("release", "state"), [("v1.28.9", "bad"), ("v1.29.0", "good"), ("v1.36.3+k3s1", "good")])
def test_kubernetes_older_than_the_chart_takes_is_bad(release, state):
    assert cluster.examined(FakeCluster(release=release))[0].state == state


def test_a_clock_apart_from_the_api_servers_is_bad():
    found = {each.what: each for each in cluster.examined(FakeCluster(date="Mon, 02 Mar 2020 00:00:00 GMT"))}
    assert found["clock"].state == "bad"
    assert found["clock"].seen.endswith("from that of kubernetes")


def test_an_api_server_that_nobody_answers_for_is_told_at_once(tmp_path, monkeypatch):
    with answering(200, {}) as address:
        pass
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
    config |= {"clusters": [{"name": "c", "cluster": {"server": address}}], "users": [{"name": "u", "user": {}}]}
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    done = CliRunner().invoke(build(), ["doctor", "--store", str(tmp_path / "store")])
    assert done.exit_code == 1
    assert f"{address}: " in done.output
    assert done.output.count("\n x  ") + done.output.startswith(" x  ") == 1


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on():
    def broken():
        raise RuntimeError("boom")

    first, second = run([broken, lambda: [good("b", "fine")]])
    assert (first.state, first.what) == ("bad", "broken")
    assert second.state == "good"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No cluster, no pipelines: a laptop before anything is installed."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for name in ("KEDGE_KFP_HOST", "KF_PIPELINES_SA_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_command_tells_a_person_what_to_type(nowhere):
    done = CliRunner().invoke(build(), ["doctor", "--store", str(nowhere / "store")])
    assert done.exit_code == 0, done.output
    assert "reads, writes, writes once" in done.output
    assert "-> export KEDGE_KFP_HOST=http://..." in done.output
    assert "set KUBECONFIG" in done.output


def test_the_command_tells_a_program_and_fails_when_something_is_bad(nowhere):
    (nowhere / "file").write_text("x")
    done = CliRunner().invoke(build(), ["doctor", "--store", str(nowhere / "file"), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert {"what", "state", "seen", "fix"} == found[0].keys()
    assert found[0]["state"] == "bad"
