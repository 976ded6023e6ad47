"""The doctor against servers that answer as the real ones do, and a cluster that behaves."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from kedge import kubeconfig, records
from kedge.cli import build
from kedge.cli.doctor import told
from kedge.doctor import accounts, aliases, cluster, places, runs, workloads
from kedge.doctor.api import DeniedError, UnreachableError
from kedge.doctor.client import KubernetesCluster
from kedge.doctor.finding import good, run
from kedge.errors import RegistryError, UsageError
from kedge.registry import Registry
from kedge.rollout.kserve.api import connect
from kedge.store import local, open_store
from kedge.store.identity import begin
from tests import clouds, web
from tests.records.made import record

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def answering(status, body, asked=None):
    """A server that gives one answer to everything; its address. What was asked is added to a list."""

    def answer(request):
        if asked is not None:
            asked.append(f"{request.path}?{request.query_string.decode()}".rstrip("?"))
        return web.said(body, status)

    return web.answering(answer)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def states(findings):
    return [each.state for each in findings]


def test_a_good_store_reads_writes_and_writes_once_and_is_left_clean(tmp_path):
    assert states(places.store(str(tmp_path))) == ["good", "warning"]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_an_empty_place_is_no_good_store(tmp_path):
    _, empty = places.store(str(tmp_path))
    assert "is empty: it has no store.json" in empty.seen
    identity = begin(open_store(tmp_path))
    _, known = places.store(str(tmp_path))
    assert (known.state, identity in known.seen) == ("good", True)


def test_a_store_that_cannot_be_written_is_bad_and_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    (found,) = places.store(str(tmp_path / "file"))
    assert found.state == "bad"
    assert found.fix


def test_a_store_of_another_kind_is_refused():
    (found,) = places.store("ftp://bucket")
    assert found.state == "bad"
    assert "ftp:// is not supported" in found.seen


@pytest.mark.parametrize("kind", ["s3", "gs", "abfss"])
def test_a_bucket_is_proven_to_write_once_and_left_clean(kind, monkeypatch, tmp_path):
    with clouds.storage(kind, tmp_path) as (address, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        proven, empty = places.store(f"{address}/team")
        assert (proven.state, empty.state) == ("good", "warning")
        assert "writes once" in proven.seen
        assert list(open_store(f"{address}/team").keys("")) == []
        (refused,) = places.store(f"{address.replace(clouds.BUCKET, 'gone')}/team")
        assert "there is no such bucket or container" in refused.seen
        assert "secret" not in str(places.store(f"{kind}://me:secret@{clouds.BUCKET}"))


def test_a_store_that_forgets_what_was_written_is_bad_by_its_address(tmp_path, monkeypatch):
    monkeypatch.setattr(local.LocalStore, "put", lambda self, key, data: None)
    (found,) = places.store(str(tmp_path))
    assert found.state == "bad"
    assert found.seen.startswith(f"{tmp_path}: doctor/")
    assert found.seen.endswith("was written and is not there")


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


def test_no_password_of_an_address_is_told():
    address = "http://bob:hunt@er2@127.0.0.1:1"
    found = [*places.registry(address), *places.prometheus(address)]
    said = [*told(found), *(each.to_dict()["seen"] for each in found), str(RegistryError(f"registry {address}: away"))]
    assert not [line for line in said if "bob" in line or "er2" in line]
    assert said[-1] == "registry http://127.0.0.1:1: away"


def test_a_registry_on_this_machine_is_no_illness():
    assert states(places.registry("sqlite:///mlflow.db")) == ["skipped"]


BEHIND_UI = {"apiServerReady": True, "apiServerTagName": "2.17.0", "apiServerMultiUser": True, "multi_user": True}
"""The same health as the user interface passes it on, where Kubeflow's own address leads."""


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def registered(tmp_path, uri):
    """A store and a registry on this machine in which bundle a is champion and b its challenger."""
    store = open_store(tmp_path / "store")
    for number, (kind, bundle) in enumerate([("registered", "a"), ("promoted", "a"), ("registered", "b")]):
        records.append(store, record(kind, bundle * 40 + "-1", NOW + timedelta(hours=number), bundle=bundle * 40))
    registry = Registry(uri)
    for bundle in "ab":
        registry.register("fraud", bundle * 40, "/x", {})
    registry.publish("fraud", records.read_state(store, "fraud"))
    return store, registry


def test_a_record_dated_ahead_is_named_with_its_file(tmp_path):
    store, year = open_store(tmp_path), timedelta(days=365)
    ahead = record("promoted", f"{'b' * 40}-1", datetime.now(UTC) + year, bundle="b" * 40)
    for item in (record("promoted", f"{'a' * 40}-1", NOW, bundle="a" * 40), ahead):
        records.append(store, item)
    (found,) = places.records(store.url)
    assert f"records/fraud/promoted/{'b' * 40}-1.json: happened at {ahead.time:%Y-%m-%d %H:%M} UTC" in found.seen
    assert "correct `time` in the file" in found.fix


def test_aliases_that_are_as_the_records_say_are_good(registered):
    store, registry = registered
    (found,) = aliases.compared(store.url, registry.uri)
    assert (found.state, found.seen) == ("good", "fraud: as the records say")


def test_an_alias_moved_by_hand_is_named_and_put_back_by_what_is_told(registered, tmp_path):
    store, registry = registered
    registry._client.set_registered_model_alias("fraud", "champion", "2")
    (found,) = aliases.compared(store.url, registry.uri)
    assert found.state == "warning"
    assert f"@champion of fraud names bundle {'b' * 12}, the records say bundle {'a' * 12}" in found.seen
    assert records.read_state(store, "fraud").champion_bundle == "a" * 40
    fix = found.fix.removeprefix("python -c '").removesuffix("'")
    subprocess.run([sys.executable, "-c", fix], check=True, timeout=60, cwd=tmp_path)
    assert not (tmp_path / "mlflow.db").exists()  # MLflow's own place, where a client is told of no other
    assert states(aliases.compared(store.url, registry.uri)) == ["good"]


def test_an_alias_that_names_what_the_records_do_not_is_to_be_deleted(registered):
    store, registry = registered
    records.append(store, record("rolled-back", "b" * 40 + "-1", NOW + timedelta(hours=9)))
    (found,) = aliases.compared(store.url, registry.uri)
    assert "@challenger of fraud names bundle bbbbbbbbbbbb, the records say nothing" in found.seen
    assert 'delete_registered_model_alias("fraud", "challenger")' in found.fix


def test_a_champion_without_a_version_there_is_told(registered):
    store, registry = registered
    records.append(store, record("promoted", "c" * 40 + "-1", NOW + timedelta(hours=9)))
    found = aliases.compared(store.url, registry.uri)[0]
    assert "the records say bundle cccccccccccc, which has no version there" in found.seen


def test_a_registry_that_is_gone_is_not_made_anew_by_asking(registered, tmp_path):
    store, _ = registered
    (found,) = aliases.compared(store.url, f"sqlite:///{tmp_path}/other.db")
    assert (found.state, "no such file" in found.seen) == ("warning", True)
    assert not (tmp_path / "other.db").exists()


def test_without_a_registered_bundle_no_registry_is_asked(tmp_path):
    assert aliases.compared(str(tmp_path / "store"), f"sqlite:///{tmp_path}/mlflow.db") == []
    assert not (tmp_path / "mlflow.db").exists()


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
    assert states(runs.skew("kubeflow pipelines", "Mon, 02 Mar 2020 00:00:00 GMT")) == ["bad"]


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
    """(who, verb, resource or resource/name, namespace); who is "you" or an account's user."""
    asks_for_others: bool = True
    reads: bool = True
    running: list = field(default_factory=list)
    jobs: list = field(default_factory=list)
    objects: dict = field(default_factory=dict)
    """Those of a kind, by its plural."""
    hidden: set = field(default_factory=set)
    """(plural, namespace) that the caller may not list; namespace "*": all at once."""

    def version(self):
        if self.away:
            raise UnreachableError(self.away)
        return self.release, self.date

    def kinds(self, group):
        return self.served.get(group, set())

    def everywhere(self, group, version, plural, *, name=""):
        if (plural, "*") in self.hidden:
            raise DeniedError(f"you may not read /apis/{group}/{version}/{plural}")
        found = self.gateways if plural == "gateways" else self.objects.get(plural, [])
        return [each for each in found if name in ("", each["metadata"]["name"])]

    def within(self, namespace, group, version, plural, *, labels=""):
        if (plural, namespace) in self.hidden:
            raise DeniedError(f"you may not read /apis/{group}/{version}/namespaces/{namespace}/{plural}")
        wanted = dict(each.split("=") for each in labels.split(",") if each)
        found = [each["metadata"] for each in self.objects.get(plural, [])]
        return [
            each
            for each, meta in zip(self.objects.get(plural, []), found, strict=True)
            if meta["namespace"] == namespace and wanted.items() <= meta.get("labels", {}).items()
        ]

    def config_map(self, namespace, name):
        return self.settings

    def may(self, right, namespace, account=None):
        if account and not self.asks_for_others:
            raise DeniedError("you may not create subjectaccessreviews.authorization.k8s.io")
        kind = f"{right.resource}/{right.name}" if right.name else right.resource
        return (account.user if account else "you", right.verb, kind, namespace) not in self.denied

    def pods(self):
        return self._read(self.running, "pods")

    def cron_jobs(self):
        return self._read(self.jobs, "cronjobs")

    def _read(self, found, what):
        if not self.reads:
            raise DeniedError(f"you may not read /api/v1/namespaces/ml/{what}")
        return found


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


def a_route(*conditions, generation=2, **parent):
    """A model's HTTPRoute, and what the controller of its Gateway says of it."""
    said = [{"observedGeneration": generation, "reason": "R", "message": "m", **each} for each in conditions]
    meta = {"namespace": "ml", "name": "fraud", "generation": 2, "labels": {"app.kubernetes.io/part-of": "kedge"}}
    parents = [{"conditions": said}] if said else []
    spec = {"parentRefs": [{"namespace": "gateway", "name": "kedge", **parent}]}
    return {"metadata": meta, "spec": spec, "status": {"parents": parents}}


ROUTES = {"gateway.networking.k8s.io": {"v1/HTTPRoute"}}
ACCEPTED = {"type": "Accepted", "status": "True"}


def test_a_gateway_that_a_models_route_asks_for_must_be_programmed_at_its_newest_generation():
    told = {"served": ROUTES, "objects": {"httproutes": [a_route(ACCEPTED)]}}
    (found,) = cluster.gateway(FakeCluster(**told, gateways=[a_gateway("False")]))
    assert (found.state, "routes of models ask for it" in found.seen) == ("bad", True)
    stale = a_gateway("True")
    stale["metadata"]["generation"], stale["status"]["conditions"][0]["observedGeneration"] = 4, 3
    (found,) = cluster.gateway(FakeCluster(**told, gateways=[stale]))
    assert (found.state, "has not taken generation 4" in found.seen) == ("bad", True)
    elsewhere = {**told, "objects": {"httproutes": [a_route(ACCEPTED, name="other")]}}
    assert states(cluster.gateway(FakeCluster(**elsewhere, gateways=[a_gateway("False")]))) == ["warning"]


def test_gateways_that_may_not_be_listed_are_not_called_well():
    (found,) = cluster.gateway(FakeCluster(served=ROUTES, hidden={("gateways", "*")}))
    assert (found.state, found.fix) == ("skipped", "an administrator asks: kubectl get gateways -A")


@pytest.mark.parametrize(
    ("route", "state", "words"),
    [
        (a_route(ACCEPTED, {"type": "ResolvedRefs", "status": "True"}), "good", "taken"),
        (a_route(), "bad", "no controller of a Gateway has taken its generation 2"),
        (a_route(ACCEPTED, generation=1), "bad", "has taken its generation 2"),
        (a_route({"type": "Accepted", "status": "False"}), "bad", "Accepted is false: R: m"),
        (a_route(ACCEPTED, {"type": "ResolvedRefs", "status": "False"}), "bad", "ResolvedRefs is false"),
    ],
)
def test_a_models_route_is_taken_by_its_gateway_or_what_is_against_it_is_told(route, state, words):
    (found,) = workloads.routes(FakeCluster(served=ROUTES, objects={"httproutes": [route]}))
    assert (found.what, found.state) == ("route fraud", state)
    assert words in found.seen
    assert bool(found.fix) == (state == "bad")
    assert workloads.routes(FakeCluster()) == []


def workload(name, namespace="kserve", *, ready=1, wanted=1, conditions=(), args=(), **labels):
    meta = {"namespace": namespace, "name": name, "labels": labels}
    return {
        "metadata": meta,
        "spec": {
            "replicas": wanted,
            "template": {"spec": {"serviceAccountName": name, "containers": [{"name": "one", "args": list(args)}]}},
        },
        "status": {"readyReplicas": ready, "conditions": list(conditions)},
    }


@pytest.mark.parametrize(
    ("told", "state", "words", "fix"),
    [
        ({}, "good", "kserve/kserve-controller-manager: 1 of 1 pods ready", ""),
        ({"ready": None}, "bad", "0 of 1 pods ready; no slot comes up", "kubectl -n kserve describe deployment"),
        ({"ready": 1, "wanted": 2}, "warning", "1 of 2 pods ready", "logs deployment/kserve-controller-manager"),
        ({"wanted": 0, "ready": 0}, "bad", "is scaled to 0", "scale deployment kserve-controller-manager --replicas 1"),
        (
            {
                "ready": 0,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "Q", "message": "quota"}],
            },
            "bad",
            "0 of 1 pods ready: Q: quota",
            "describe",
        ),
    ],
)
def test_kserves_controller_is_up_or_it_is_told_what_is_down_and_what_to_type(told, state, words, fix):
    there = {"deployments": [workload(workloads.KSERVE, **told), workload("other")]}
    (found,) = workloads.kserve(FakeCluster(served=KSERVE, objects=there))
    assert (found.what, found.state) == ("kserve controller", state)
    assert words in found.seen
    assert fix in found.fix


def test_kserves_kinds_without_a_controller_are_bad_and_without_kinds_nothing_is_asked():
    (found,) = workloads.kserve(FakeCluster(served=KSERVE))
    assert (found.state, "install KServe's controller" in found.fix) == ("bad", True)
    assert workloads.kserve(FakeCluster()) == []


def test_who_may_not_list_deployments_everywhere_is_told_of_those_he_may_see_or_that_nobody_looked():
    there = {"deployments": [workload(workloads.KSERVE, "kubeflow", ready=0)]}
    some = {("deployments", "*"), ("deployments", "kserve")}
    (found,) = workloads.kserve(FakeCluster(served=KSERVE, objects=there, hidden=some))
    assert (found.state, "kubeflow/kserve-controller-manager" in found.seen) == ("bad", True)
    (found,) = workloads.kserve(FakeCluster(served=KSERVE, objects=there, hidden={*some, ("deployments", "kubeflow")}))
    assert found.state == "skipped"
    assert found.seen == "not looked whether they run: you may not read /apis/apps/v1/deployments"
    assert found.fix == "an administrator asks: kubectl get deployments --all-namespaces"


KUBEFLOW_UI = "http://ml-pipeline-ui.kfp.svc.cluster.local"


def test_kubeflows_controllers_are_asked_for_where_the_checks_submit_to():
    there = [workload("ml-pipeline", "kfp"), workload("workflow-controller", "kfp", ready=0)]
    told = {"jobs": [check_of("fraud", KEDGE_KFP_HOST=KUBEFLOW_UI)], "objects": {"deployments": there}}
    api, controller = workloads.kubeflow(FakeCluster(**told))
    assert (api.state, controller.state) == ("good", "bad")
    assert controller.seen == ("kfp/workflow-controller: 0 of 1 pods ready; runs are taken and never start without it")
    (found,) = workloads.kubeflow(FakeCluster(**told, hidden={("deployments", "kfp")}))
    assert (found.state, found.fix) == ("skipped", "an administrator asks: kubectl get deployments --namespace kfp")
    (found,) = workloads.kubeflow(FakeCluster())
    assert (found.state, found.seen) == ("skipped", "kubeflow has no Deployment ml-pipeline")
    outside = check_of("fraud", KEDGE_KFP_HOST="https://kubeflow.example.com")
    assert workloads.kubeflow(FakeCluster(jobs=[outside])) == []


def a_slice(service, namespace, *ready):
    meta = {"namespace": namespace, "name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}}
    return {"metadata": meta, "endpoints": [{"conditions": {"ready": each}} for each in ready]}


@pytest.mark.parametrize(
    ("url", "slices", "state", "words"),
    [
        ("http://mlflow.tracking:5000", [a_slice("mlflow", "tracking", False, True)], "good", "1 ready"),
        ("http://mlflow.tracking.svc:5000", [a_slice("mlflow", "tracking", False)], "bad", "has no pod that is ready"),
        ("http://mlflow:5000", [a_slice("mlflow", "ml")], "bad", "Service ml/mlflow"),
        ("http://mlflow.tracking:5000", [], "warning", "no Service mlflow in tracking"),
        ("https://mlflow.example.com", [], "skipped", "leads out of the cluster"),
        ("http://10.1.2.3:5000", [], "skipped", "leads out of the cluster"),
    ],
)
def test_mlflow_is_asked_for_where_the_checks_ask_it(url, slices, state, words):
    told = {"jobs": [check_of("fraud", MLFLOW_TRACKING_URI=url)], "objects": {"endpointslices": slices}}
    (found,) = workloads.services(FakeCluster(**told))
    assert (found.what, found.state) == ("mlflow service", state)
    assert words in found.seen
    assert bool(found.fix) == (state != "good")


def test_a_service_that_may_not_be_looked_at_is_not_called_well():
    jobs = [check_of("fraud", KEDGE_KFP_HOST=KUBEFLOW_UI)]
    (found,) = workloads.services(FakeCluster(jobs=jobs, hidden={("endpointslices", "kfp")}))
    assert (found.what, found.state) == ("kubeflow service", "skipped")
    assert "kubectl -n kfp describe service ml-pipeline-ui" in found.fix


def test_a_collector_without_a_pod_that_is_ready_is_bad():
    labels = {"app.kubernetes.io/part-of": "kedge", "app.kubernetes.io/component": "collector"}
    down = {"statefulsets": [workload("kedge-collector", "ml", ready=0, **labels), workload("db", "ml", ready=0)]}
    (found,) = workloads.collector(FakeCluster(objects=down))
    assert (found.what, found.state) == ("collector", "bad")
    assert "kubectl -n ml describe statefulset kedge-collector" in found.fix


@pytest.mark.parametrize(
    ("told", "state", "words"),
    [
        ({}, "good", "it can ask whose a sender's token is"),
        (
            {"denied": {("system:serviceaccount:ml:kedge-collector", "create", "tokenreviews", "")}},
            "bad",
            "not create tokenreviews.authentication.k8s.io; who shows a token is answered 503",
        ),
        ({"asks_for_others": False}, "skipped", "not asked what they may do"),
    ],
)
def test_a_collector_that_lets_accounts_in_may_ask_kubernetes_whose_a_token_is(told, state, words):
    labels = {"app.kubernetes.io/part-of": "kedge", "app.kubernetes.io/component": "collector"}
    args = ["--port=8080", "--sender", "ml/kedge-slots=events"]
    asking = {"statefulsets": [workload("kedge-collector", "ml", args=args, **labels)]}
    up, found = workloads.collector(FakeCluster(objects=asking, **told))
    assert (up.state, found.state, words in found.seen) == ("good", state, True)
    assert "kedge-collector" in f"{found.what}{found.fix}"


def test_the_client_asks_for_objects_by_name_and_label_and_tells_what_it_may_not_read(tmp_path, monkeypatch):
    default = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    asked = []
    with answering(200, {"items": [{"a": 1}]}, asked=asked) as address:
        monkeypatch.setattr(default, web.kubeconfig(tmp_path / "config", address))
        api = KubernetesCluster("ml")
        assert api.everywhere("apps", "v1", "deployments", name="x") == [{"a": 1}]
        assert api.within("kserve", "apps", "v1", "deployments", labels="a/b=c") == [{"a": 1}]
    assert asked == [
        "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx",
        "/apis/apps/v1/namespaces/kserve/deployments?labelSelector=a%2Fb%3Dc",
    ]
    with answering(403, {}) as address:
        monkeypatch.setattr(default, web.kubeconfig(tmp_path / "config", address))
        with pytest.raises(DeniedError, match="may not read /apis/apps/v1/namespaces/kserve/deployments"):
            KubernetesCluster("ml").within("kserve", "apps", "v1", "deployments")


def check_of(model, *, platform="gateway:ml?claim=x", image="kedge/step:1", **env):
    """A CronJob of the chart, as far as the doctor reads it."""
    env = {"KEDGE_PLATFORM": platform, **env}
    container = {"name": "monitor", "image": image, "env": [{"name": k, "value": v} for k, v in env.items()]}
    pod = {"serviceAccountName": "kedge-monitor", "containers": [container]}
    meta = {"name": f"kedge-check-{model}", "labels": {"kedge.dev/model": model}}
    return {"metadata": meta, "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}


def allowed(**told):
    found = FakeCluster(**told)
    return {each.what: each for each in accounts.permissions(found, told.get("steps"))}


RELEASE, MONITOR = (f"system:serviceaccount:ml:kedge-{name}" for name in ("release", "monitor"))
STEPS, PROFILE = "system:serviceaccount:kubeflow:pipeline-runner", "system:serviceaccount:risk:default-editor"


def test_accounts_that_may_do_their_work_are_good():
    found = allowed(jobs=[check_of("fraud"), check_of("churn")])
    assert {name: each.state for name, each in found.items()} == {
        "may: you": "good",
        "may: ml/kedge-release": "good",
        "may: kubeflow/pipeline-runner": "good",
        "may: ml/kedge-monitor": "good",
    }


def test_a_right_that_an_account_lacks_is_bad_though_the_person_who_asks_has_it():
    denied = {(RELEASE, verb, "httproutes/fraud", "ml") for verb in ("get", "patch")}
    found = allowed(jobs=[check_of("fraud")], denied=denied)
    assert found["may: you"].state == found["may: kubeflow/pipeline-runner"].state == "good"
    assert found["may: ml/kedge-release"].state == "bad"
    assert found["may: ml/kedge-release"].seen == "not get, patch httproutes.gateway.networking.k8s.io/fraud in ml"
    assert "kedge-release" in found["may: ml/kedge-release"].fix


def test_a_right_that_only_the_person_lacks_is_no_illness_of_the_installation():
    found = allowed(jobs=[check_of("fraud")], denied={("you", "create", "inferenceservices", "ml")})
    assert found["may: you"].state == "warning"
    assert "kedge rollback" in found["may: you"].seen
    assert "rolebinding" in found["may: you"].fix


def test_kubeflows_steps_are_told_how_to_get_the_right_to_release():
    found = allowed(jobs=[check_of("fraud")], denied={(STEPS, "list", "pods", "ml")})["may: kubeflow/pipeline-runner"]
    assert (found.state, found.seen) == ("bad", "not list pods in ml")
    assert "release.subjects" in found.fix
    assert "namespace: kubeflow" in found.fix


@pytest.mark.parametrize("lacking", ["create configmaps", "get configmaps/fraud-release", "get revisions"])
def test_knatives_revisions_and_the_record_of_a_release_are_asked_for_where_slots_are_revisions(lacking):
    verb, kind = lacking.split()
    denied = {(RELEASE, verb, kind, "ml")}
    knative = allowed(jobs=[check_of("fraud", platform="knative:ml")], denied=denied)["may: ml/kedge-release"]
    assert knative.state == "bad"
    assert knative.seen.startswith(f"not {verb} {kind.split('/')[0]}")
    assert allowed(jobs=[check_of("fraud")], denied=denied)["may: ml/kedge-release"].state == "good"


def test_the_right_to_submit_is_asked_for_in_the_profile_that_runs_live_in():
    job = check_of("fraud", KEDGE_KFP_NAMESPACE="risk")
    denied = {(MONITOR, "create", "runs", "risk"), (PROFILE, "patch", "inferenceservices/fraud-blue", "ml")}
    found = allowed(jobs=[job], denied=denied)
    assert found["may: ml/kedge-monitor"].state == "bad"
    assert found["may: ml/kedge-monitor"].seen == "not create runs.pipelines.kubeflow.org in risk"
    assert "kfp.rbac=true" in found["may: ml/kedge-monitor"].fix
    assert found["may: risk/default-editor"].state == "bad"


def test_a_kubeflow_of_one_user_asks_for_no_rights_so_that_their_lack_is_a_warning():
    denied = {(MONITOR, "list", "pipelineversions", "ml")}
    assert allowed(jobs=[check_of("fraud")], denied=denied)["may: ml/kedge-monitor"].state == "warning"


def test_steps_of_another_account_are_asked_for_by_name():
    found = accounts.permissions(FakeCluster(jobs=[check_of("fraud")]), "argo/steps")
    assert "may: argo/steps" in {each.what for each in found}


def test_who_may_not_ask_for_others_is_told_so_and_what_an_administrator_types():
    found = allowed(jobs=[check_of("fraud")], asks_for_others=False)
    assert found.keys() == {"may: you", "accounts"}
    assert found["accounts"].state == "skipped"
    assert "may not create subjectaccessreviews" in found["accounts"].seen
    assert f"--as {RELEASE}" in found["accounts"].fix


def test_a_namespace_without_checks_or_without_leave_to_look_says_so():
    assert "has no checks" in allowed()["accounts"].seen
    hidden = allowed(reads=False)["accounts"]
    assert "may not read" in hidden.seen
    assert "auth can-i" in hidden.fix


def test_what_may_not_be_read_is_told_plainly_and_the_rest_is_looked_at():
    found = {each.what: each for each in cluster.examined(FakeCluster(reads=False, served=KSERVE))}
    assert found["images"].state == "skipped"
    assert "--clusterrole view" in found["images"].fix
    assert found["kserve"].state == "good"


def test_the_prometheus_operator_is_optional_and_its_lack_named():
    (found,) = cluster.operator(FakeCluster())
    assert (found.state, "v1/ServiceMonitor" in found.seen) == ("skipped", True)
    served = {"monitoring.coreos.com": {"v1/PrometheusRule", "v1/ServiceMonitor"}}
    assert states(cluster.operator(FakeCluster(served=served))) == ["good"]


def pod_of(image, **status):
    spec = {"containers": [{"name": "c", "image": image}]}
    return {"metadata": {"name": "p"}, "spec": spec, "status": {"containerStatuses": [{"name": "c", **status}]}}


@pytest.mark.parametrize("kind", ["containerStatuses", "initContainerStatuses"])
def test_a_pod_that_waits_for_its_image_is_named(kind):
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    told = [{"name": "c", "image": "kedge/collect:9", "state": {"waiting": waiting}}]
    (found,) = cluster.images(
        FakeCluster(running=[{"metadata": {"name": "kedge-collector-0"}, "status": {kind: told}}])
    )
    assert found.state == "bad"
    assert found.seen == "kedge-collector-0: kedge/collect:9: ErrImagePull: not found"
    assert "make images" in found.fix


def test_an_image_of_a_check_that_no_pod_has_run_is_named_with_what_tries_it():
    jobs = [check_of("fraud", image="registry.example/kedge/step:1")]
    (found,) = cluster.images(FakeCluster(jobs=jobs, running=[pod_of("registry.example/kedge/step:1", imageID="")]))
    assert found.state == "skipped"
    assert found.seen == "registry.example/kedge/step:1: no pod has run it yet"
    assert "create job kedge-check-fraud-now --from cronjob/kedge-check-fraud" in found.fix
    ran = [pod_of("registry.example/kedge/step:1", imageID="sha256:1")]
    assert states(cluster.images(FakeCluster(jobs=jobs, running=ran))) == ["good"]
    assert states(cluster.images(FakeCluster())) == ["good"]


def test_nobody_is_told_to_train_a_model_to_try_its_image():
    check, train = check_of("fraud", image="step:1"), check_of("fraud", image="step:1")
    train["metadata"] = {"name": "kedge-train-fraud", "labels": {"app.kubernetes.io/component": "train"}}
    (found,) = cluster.images(FakeCluster(jobs=[check, train]))
    assert "create job kedge-check-fraud-now" in found.fix


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
    default = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(default, web.kubeconfig(tmp_path / "config", address))
    done = CliRunner().invoke(build(), ["doctor", "--store", str(tmp_path / "store")])
    assert done.exit_code == 1
    assert f"{address}: " in done.output
    assert done.output.count("\n x  ") + done.output.startswith(" x  ") == 1


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on():
    def broken():
        raise RuntimeError("boom")

    first, second = run({"broken": broken, "b": lambda: [good("b", "fine")]})
    assert (first.state, first.what) == ("bad", "broken")
    assert second.state == "good"


def test_a_broken_record_is_named_and_the_other_models_records_are_looked_at(nowhere):
    store = open_store(nowhere / "store")
    store.put("records/broken/promoted/x.json", b"{")
    records.append(store, record("promoted", f"{'b' * 40}-1", datetime.now(UTC) + timedelta(days=9)))
    done = CliRunner().invoke(build(), ["doctor", "--store", str(nowhere / "store"), "--json"])
    found = [each for each in json.loads(done.stdout) if each["state"] in ("bad", "warning")]
    assert [(each["what"], each["state"]) for each in found] == [("records", "bad"), ("records", "warning")]
    assert "records/broken/promoted/x.json: not a record kedge wrote" in found[0]["seen"]


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


WHOLE = {
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
}
PLUGIN = {"apiVersion": "client.authentication.k8s.io/v1", "command": "nosuch-plugin", "interactiveMode": "Never"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"current-context": "gone"}, "context was not found for specified context: gone"),
        ({"current-context": ""}, "current-context is not set"),
        ({"clusters": []}, 'cluster "c" does not exist'),
        ({"users": []}, 'user "u" does not exist'),
        (
            {"users": [{"name": "u", "user": {"exec": PLUGIN}}]},
            "getting credentials: exec: executable nosuch-plugin not found",
        ),
    ],
)
def test_a_kubeconfig_at_fault_is_told_in_kubectls_words_with_exit_code_2(nowhere, monkeypatch, changed, words):
    (nowhere / "config").write_text(json.dumps(WHOLE | changed))
    monkeypatch.setenv("KUBECONFIG", str(nowhere / "config"))
    done = CliRunner().invoke(build(), ["doctor", "--store", str(nowhere / "store")])
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert "reads, writes, writes once" in done.output  # what needs no cluster was looked at
    with pytest.raises(UsageError, match=words):
        connect()


def test_a_kubeconfig_that_is_no_yaml_is_named(nowhere, monkeypatch):
    (nowhere / "config").write_text("a: [")
    monkeypatch.setenv("KUBECONFIG", str(nowhere / "config"))
    assert str(nowhere / "config") in (kubeconfig.fault() or "")


def test_a_whole_kubeconfig_and_none_at_all_have_no_fault(nowhere, monkeypatch):
    assert kubeconfig.fault() is None
    first, second = dict(WHOLE), {"users": WHOLE["users"]}
    del first["users"]
    for name, part in (("one", first), ("two", second)):
        (nowhere / name).write_text(json.dumps(part))
    monkeypatch.setenv("KUBECONFIG", f"{nowhere / 'one'}:{nowhere / 'two'}")
    assert kubeconfig.fault() is None
