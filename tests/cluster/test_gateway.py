"""The gateway driver against a real API server with the real definitions of KServe and the Gateway API.

No controller of KServe or of a gateway runs here: the tests make and write what those would.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import httpx
import pytest
from kubernetes import client

from kedge.errors import Conflict, ReleaseError
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.kserve.address import Address
from kedge.rollout.kserve.api import DEPLOYMENTS, ROUTES, SLOTS, Api, connect
from kedge.rollout.kserve.pods import BUNDLE
from kedge.rollout.model import Mirror, Rollout, Route
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import small, until

OLD, NEW = "a" * 40, "b" * 40
S3 = "s3://store/bundles/fraud/"
START = datetime(2026, 3, 2, tzinfo=UTC)
ROLLOUT = Rollout(
    bundle=NEW, uri=S3 + NEW, slot="green", champion=OLD, attempt=1, run="r", started=START, since=START, state="canary"
)


@pytest.fixture(scope="module")
def shared(make_namespace, custom_kinds):
    return make_namespace("gateway")


@pytest.fixture(scope="module")
def api(shared):
    connection = connect()
    yield Api(shared.name, connection)
    connection.rest_client.pool_manager.clear()


def driver_of(api, model):
    """A driver that waits for no Gateway controller: there is none."""
    address = Address(namespace=api.namespace, gateway="infra/public", domain="example.com")
    return GatewayDriver(
        address, model, api, http=httpx.Client(), sleep=lambda _s: None, monotonic=count(0, 10).__next__
    )


@pytest.fixture
def make_driver(api):
    made = []

    def make(model):
        made.append(driver_of(api, model))
        return made[-1]

    yield make
    for driver in made:
        driver.http.close()


def serve(namespace, name):
    """What KServe makes of an InferenceService, and what the Deployment's controller and the kubelet then say.

    The Deployment is paused and its pod made by hand, so that no real controller writes their status.
    """
    service = namespace.get("inferenceservice", name)
    bundle = service["metadata"]["annotations"][BUNDLE]
    labels = {"app": f"isvc.{name}-predictor", "serving.kserve.io/inferenceservice": name}
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "kserve-container", "image": "kedge/serve:none", "securityContext": closed}
    meta = {"labels": labels, "annotations": {BUNDLE: bundle}}
    spec = {"securityContext": security, "containers": [container], "schedulerName": "nobody"}
    predictor = {"name": f"{name}-predictor"}
    namespace.kubectl("apply", "--server-side", "--filename=-", given=[
        {"apiVersion": "v1", "kind": "Service", "metadata": predictor,
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": predictor,
         "spec": {"replicas": 1, "paused": True, "selector": {"matchLabels": labels},
                  "template": {"metadata": meta, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "name": f"{name}-predictor-1"}, "spec": spec},
    ])  # fmt: skip


def patch_status(namespace, kind, name, status):
    words = ["patch", kind, name, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"]
    namespace.kubectl(*words)


def test_slots_and_route_are_taken_by_the_real_definitions_and_come_back(make_driver, shared):
    driver = make_driver("round")
    for slot, bundle in (("blue", OLD), ("green", NEW)):
        driver.deploy(slot, bundle, S3 + bundle)
        serve(shared, f"round-{slot}")
    first = driver.set_route(Route(weights={"blue": 100}))
    canary = driver.set_route(replace(first, weights={"blue": 90, "green": 10}, rollout=ROLLOUT))
    assert driver.route() == canary
    shadow = driver.set_route(replace(canary, weights={"blue": 100}, mirror=Mirror(slot="green", percent=20)))
    assert driver.route() == shadow
    ended = driver.set_route(replace(shadow, mirror=None, rollout=None))
    assert (driver.route(), ended.mirror, ended.rollout) == (ended, None, None)
    driver.remove("green")
    assert driver.slot("green").bundle is None
    spec = shared.get("httproute", "round")["spec"]
    assert spec["hostnames"] == [f"round.{shared.name}.example.com"]


def test_second_writer_of_a_revision_meets_a_conflict(make_driver, shared):
    ours, theirs = make_driver("swap"), make_driver("swap")
    first = ours.set_route(Route())
    won = theirs.set_route(replace(first, rollout=ROLLOUT))
    with pytest.raises(Conflict):
        ours.set_route(replace(first, rollout=replace(ROLLOUT, run="other")))
    with pytest.raises(Conflict):
        ours.set_route(Route())
    assert ours.route() == won
    shared.kubectl("delete", "httproute", "swap")
    with pytest.raises(Conflict, match="deleted"):
        ours.set_route(won)


def test_apply_with_an_identity_never_makes_the_object_anew(api):
    meta = {"name": "gone", "uid": "0b0f3a52-0000-4000-8000-000000000000", "resourceVersion": "1"}
    with pytest.raises(Conflict):
        api.apply(ROUTES, {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta})
    assert api.get(ROUTES, "gone") is None


def test_route_that_a_gitops_tool_applies_is_an_error_that_names_it_and_an_edited_one_is_taken_over(
    make_driver, shared
):
    driver = make_driver("owned")
    first = driver.set_route(Route())
    edit = json.dumps({"spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/edited"}}]}]}})
    shared.kubectl("patch", "httproute", "owned", "--type=merge", f"--patch={edit}")
    second = driver.set_route(replace(driver.route(), rollout=ROLLOUT))
    assert second.revision > first.revision
    theirs = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "owned"},
        "spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/theirs"}}]}]},
    }  # fmt: skip
    words = ["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "--filename=-"]
    shared.kubectl(*words, given=theirs)
    with pytest.raises(ReleaseError, match=r"\.spec\.rules is applied by argocd-controller too") as caught:
        driver.set_route(driver.route())
    assert not isinstance(caught.value, Conflict)


def test_status_of_a_controller_is_no_conflict(make_driver, api, shared):
    driver = make_driver("settle")
    first = driver.set_route(Route())
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-03-02T00:00:00Z",
    }
    parent = {"parentRef": {"name": "public", "namespace": "infra"}, "controllerName": "example.com/gateway"}
    took = []

    def controller(_seconds):
        if not took:
            found = api.get(ROUTES, "settle")
            condition = {**accepted, "observedGeneration": found["metadata"]["generation"]}
            patch_status(shared, "httproute", "settle", {"parents": [{**parent, "conditions": [condition]}]})
            took.append(found)

    driver.sleep, driver.monotonic = controller, count(0, 0.1).__next__
    serve_service(shared, "settle-blue")
    second = driver.set_route(replace(first, weights={"blue": 100}))
    assert took
    assert driver.set_route(replace(second, rollout=ROLLOUT)).rollout == ROLLOUT


def serve_service(namespace, name):
    spec = {"ports": [{"port": 80}]}
    namespace.kubectl(
        "create", "--filename=-",
        given={"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"{name}-predictor"}, "spec": spec},
    )  # fmt: skip


def test_no_mirror_goes_to_a_service_that_is_not_there(make_driver):
    driver = make_driver("lost")
    with pytest.raises(ReleaseError, match="lost-green-predictor is not there"):
        driver.set_route(Route(mirror=Mirror(slot="green", percent=10)))


def test_slot_is_ready_only_when_deployment_and_pod_say_so(make_driver, api, shared):
    driver = make_driver("ready")
    driver.deploy("blue", OLD, S3 + OLD)
    assert driver.slot("blue").reason == "KServe has not made its Deployment yet"
    serve(shared, "ready-blue")
    assert not driver.slot("blue").ready
    said = {
        "observedGeneration": api.get(DEPLOYMENTS, "ready-blue-predictor")["metadata"]["generation"],
        "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": ""}],
    }  # fmt: skip

    def deployment_available():
        patch_status(shared, "deployment", "ready-blue-predictor", said)
        return driver.slot("blue").reason == "no pod of it takes requests"

    until("the Deployment's status as written", deployment_available, seconds=20)
    patch_status(shared, "pod", "ready-blue-predictor-1", {"conditions": [{"type": "Ready", "status": "True"}]})

    def pod_ready():
        patch_status(shared, "deployment", "ready-blue-predictor", said)
        return driver.slot("blue")

    status = until("a ready slot", lambda: (seen := pod_ready()).ready and seen, seconds=20)
    assert status.address == f"http://ready-blue-predictor.{shared.name}.svc:80"


@pytest.fixture(scope="module")
def installed(shared):
    """The chart with a slot and a route, without anything that runs, and the Services KServe would make."""
    idle = {
        "serving": {"enabled": True, "replicas": 2},
        "route": {"enabled": True},
        "collector": {"enabled": False},
        "policyCheck": {"enabled": False},
        "store": {"url": "s3://kedge/test"},
    }
    shared.install(small(models=[{"policy": FRAUD, "bundle": OLD}], **idle))
    for slot in ("blue", "green"):
        serve_service(shared, f"fraud-{slot}")
    return shared


def test_slot_of_the_chart_is_taken_over_and_its_candidate_resembles_it(make_driver, api, installed):
    driver = make_driver("fraud")
    assert driver.slot("blue").bundle == OLD
    route = driver.route()
    assert (route.weights, route.rollout) == ({"blue": 100}, None)
    hosts = installed.get("httproute", "fraud")["spec"]["hostnames"]
    driver.deploy("green", NEW, S3 + NEW)
    candidate = api.get(SLOTS, "fraud-green")["spec"]["predictor"]
    assert (candidate["minReplicas"], candidate["serviceAccountName"]) == (2, "kedge-slots")
    assert candidate["model"]["runtime"] == "kedge"
    moved = driver.set_route(replace(route, weights={"green": 100}, rollout=ROLLOUT))
    assert driver.route() == moved
    assert installed.get("httproute", "fraud")["spec"]["hostnames"] == hosts


def test_the_charts_release_account_may_do_all_of_it_and_others_are_told(installed):
    for account, allowed in (("kedge-release", True), ("kedge-collector", False)):
        settings = connect().configuration
        connection = client.ApiClient(settings)
        connection.set_default_header("Impersonate-User", f"system:serviceaccount:{installed.name}:{account}")
        driver = driver_of(Api(installed.name, connection), "fraud")
        if allowed:
            driver.deploy("green", OLD, S3 + OLD)
            assert driver.slot("green").bundle == OLD
            driver.set_route(replace(driver.route(), weights={"blue": 100}, rollout=None))
            driver.remove("green")
        else:
            with pytest.raises(ReleaseError, match="not allowed"):
                driver.slot("blue")
        driver.http.close()
        connection.rest_client.pool_manager.clear()
