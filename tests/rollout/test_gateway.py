"""The gateway driver against an API server that behaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kedge.errors import Conflict, ReleaseError, UsageError
from kedge.rollout.drivers import open_driver
from kedge.rollout.evidence import Observed
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.knative.driver import KnativeDriver
from kedge.rollout.kserve import counters
from kedge.rollout.kserve.address import Address, parse
from kedge.rollout.model import Mirror, Rollout, Route
from kedge.rollout.release import Release
from kedge.rollout.rollout import run
from kedge.serving.metrics import Metrics
from tests import web
from tests.rollout.conftest import NEW, OLD, Golden
from tests.rollout.connected import Seconds, connected
from tests.rollout.fake_kubernetes import FakeCluster

START = datetime(2026, 3, 2, tzinfo=UTC)
ADDRESS = Address(namespace="models", gateway="infra/public", domain="example.com")
S3 = "s3://store/bundles/fraud/"


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def made(cluster):
    with connected(GatewayDriver, cluster, ADDRESS, Seconds()) as make:
        yield make


@pytest.fixture
def driver(made):
    return made()


@pytest.fixture
def both(driver):
    """Both slots run, blue has all traffic."""
    driver.deploy("blue", OLD, S3 + OLD)
    driver.deploy("green", NEW, S3 + NEW)
    return driver.set_route(Route(weights={"blue": 100}))


def rules(cluster):
    return cluster.objects["httproutes", "fraud"]["spec"]["rules"]


def rollout(**fields):
    given = {"bundle": NEW, "uri": S3 + NEW, "slot": "green", "champion": OLD, "attempt": 1, "run": "r"}
    return Rollout(**given, started=START, since=START, **fields)


# -- slots


def test_slot_is_an_inference_service_with_the_bundle_marked(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    made = cluster.objects["inferenceservices", "fraud-blue"]
    assert made["spec"]["predictor"]["model"] == {"modelFormat": {"name": "kedge"}, "storageUri": S3 + OLD}
    assert made["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert made["metadata"]["annotations"]["kedge.dev/bundle"] == OLD
    assert made["metadata"]["labels"]["kedge.dev/slot"] == "blue"


def test_candidate_gets_the_settings_of_the_champion(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    champion = cluster.objects["inferenceservices", "fraud-blue"]
    champion["spec"]["predictor"] |= {"minReplicas": 3, "serviceAccountName": "kedge-slots"}
    champion["spec"]["predictor"]["model"]["runtime"] = "kedge"
    driver.deploy("green", NEW, S3 + NEW)
    candidate = cluster.objects["inferenceservices", "fraud-green"]["spec"]["predictor"]
    assert (candidate["minReplicas"], candidate["serviceAccountName"]) == (3, "kedge-slots")
    assert candidate["model"] == {"modelFormat": {"name": "kedge"}, "storageUri": S3 + NEW, "runtime": "kedge"}


def test_asking_again_for_the_same_bundle_writes_nothing(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    writes = len(cluster.history)
    driver.deploy("blue", OLD, S3 + OLD)
    assert len(cluster.history) == writes


def test_store_in_a_folder_is_reached_by_its_claim_or_the_reader_is_told(made, cluster):
    made(replace(ADDRESS, claim="kedge-store")).deploy("blue", OLD, "/var/lib/kedge/store/bundles/fraud/x")
    asked = cluster.objects["inferenceservices", "fraud-blue"]["spec"]["predictor"]["model"]["storageUri"]
    assert asked == f"pvc://kedge-store/bundles/fraud/{OLD}"
    with pytest.raises(UsageError, match="claim=NAME"):
        made().deploy("green", NEW, "/var/lib/kedge/store/bundles/fraud/x")


def test_slot_is_ready_with_address_when_its_pods_take_requests(driver):
    assert driver.slot("blue").bundle is None
    driver.deploy("blue", OLD, S3 + OLD)
    status = driver.slot("blue")
    assert (status.bundle, status.ready, status.failed) == (OLD, True, False)
    assert status.address == "http://fraud-blue-predictor.models.svc:80"


@pytest.mark.parametrize(
    ("behaviour", "failed", "not_started", "reason"),
    [
        ("crashes", True, False, "ended 3 times, exit code 1: bundle altered: model.ubj"),
        ("no image", False, True, "ImagePullBackOff: kedge/serve:9 not found"),
        ("no room", False, True, "Unschedulable: 0/1 nodes are available"),
        ("refused", True, True, "NoSupportingRuntime: No runtime found"),
    ],
)
def test_slot_that_does_not_come_up_says_why_though_kserve_calls_it_ready(
    driver, cluster, behaviour, failed, not_started, reason
):
    cluster.behaviours[NEW] = behaviour
    driver.deploy("green", NEW, S3 + NEW)
    status = driver.slot("green")
    assert (status.bundle, status.ready, status.failed, status.not_started) == (NEW, False, failed, not_started)
    assert reason in status.reason


def test_slot_that_no_controller_makes_anything_of_was_not_tried(driver, cluster):
    driver.deploy("green", NEW, S3 + NEW)
    for each in [key for key in cluster.objects if key[0] in ("deployments", "pods")]:
        del cluster.objects[each]
    status = driver.slot("green")
    assert (status.ready, status.not_started, status.reason) == (False, True, "KServe has not made its Deployment yet")


def test_slot_with_an_older_pod_template_is_not_ready(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    cluster.objects["inferenceservices", "fraud-blue"]["metadata"]["annotations"]["kedge.dev/bundle"] = NEW
    status = driver.slot("blue")
    assert (status.bundle, status.ready) == (NEW, False)
    assert "KServe has not given the bundle" in status.reason


@pytest.mark.parametrize(
    "change",
    [{"observedGeneration": 0}, {"updatedReplicas": 0}, {"replicas": 2}, {"conditions": []}],
    ids=lambda change: next(iter(change)),
)
def test_slot_is_not_ready_while_its_deployment_rolls(driver, cluster, change):
    driver.deploy("blue", OLD, S3 + OLD)
    cluster.objects["deployments", "fraud-blue-predictor"]["status"] |= change
    assert not driver.slot("blue").ready


def test_candidate_without_endpoints_is_not_ready(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    cluster.objects["pods", "fraud-blue-predictor-1"]["status"]["conditions"][0]["status"] = "False"
    status = driver.slot("blue")
    assert (status.ready, status.reason) == (False, "no pod of it takes requests")


def test_warning_about_an_earlier_pod_is_not_told_of_a_new_slot(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    cluster.objects["deployments", "fraud-blue-predictor"]["status"]["conditions"] = []
    for name, when, reason in (("old", "2026-03-01T00:00:00Z", "Old"), ("new", "2026-03-02T00:00:09Z", "FailedCreate")):
        event = {"type": "Warning", "reason": reason, "message": "quota", "lastTimestamp": when}
        about = {"name": f"fraud-blue-predictor-{name}"}
        cluster.put("events", {"metadata": {"name": name}, "involvedObject": about, **event})
        told = driver.slot("blue").reason
        assert told == ("its pods are coming up" if name == "old" else "fraud-blue-predictor-new: FailedCreate: quota")


# -- route


def test_route_comes_back_as_it_was_written(driver, both):
    written = Route(
        weights={"blue": 95, "green": 5}, rollout=rollout(state="canary", mark=driver.mark()), revision=both.revision
    )
    again = driver.set_route(written)
    assert driver.route() == again == replace(written, revision=again.revision)
    shadow = driver.set_route(replace(again, weights={"blue": 100}, mirror=Mirror(slot="green", percent=20)))
    assert driver.route() == shadow
    cleared = driver.set_route(replace(shadow, mirror=None, rollout=None))
    assert (driver.route(), cleared.rollout, cleared.mirror) == (cleared, None, None)


def test_first_route_has_its_own_host_and_gateway_and_later_writes_keep_them(driver, both, cluster):
    driver.set_route(replace(both, weights={"green": 100}))
    spec = cluster.objects["httproutes", "fraud"]["spec"]
    assert spec["hostnames"] == ["fraud.models.example.com"]
    assert (spec["parentRefs"][0]["namespace"], spec["parentRefs"][0]["name"]) == ("infra", "public")


def test_first_route_takes_the_host_and_listener_of_the_address(made, cluster):
    address = parse("gateway:models?gateway=infra/public&section=https&host=scores.example.org")
    made(address).set_route(Route())
    spec = cluster.objects["httproutes", "fraud"]["spec"]
    assert spec["hostnames"] == ["scores.example.org"]
    assert spec["parentRefs"][0]["sectionName"] == "https"


def test_first_route_without_a_gateway_in_the_address_says_what_to_add(made):
    with pytest.raises(UsageError, match="gateway=NAMESPACE/NAME&domain=DOMAIN"):
        made(Address(namespace="models")).set_route(Route())


def test_weights_keep_their_place_among_the_pins_and_smoke_is_taken_from_clients(driver, both, cluster):
    driver.set_route(replace(both, weights={"blue": 90, "green": 10}))
    rest, blue, green = rules(cluster)
    assert [blue["backendRefs"][0]["name"], green["backendRefs"][0]["name"]] == [
        "fraud-blue-predictor", "fraud-green-predictor",
    ]  # fmt: skip
    assert green["matches"][0]["headers"] == [{"type": "Exact", "name": "x-kedge-slot", "value": "green"}]
    assert [ref["weight"] for ref in rest["backendRefs"]] == [90, 10]
    assert all("filters" not in ref for rule in rules(cluster) for ref in rule["backendRefs"])
    assert all(rule["filters"][0]["requestHeaderModifier"] == {"remove": ["x-kedge-smoke"]} for rule in rules(cluster))


def test_rule_of_the_weights_is_the_first_whatever_else_the_route_says(driver, both, cluster):
    """A gateway names clusters by the place of their rule: the place of the weights must not move under traffic."""
    for weights in ({"blue": 90, "green": 10}, {"blue": 100}, {"green": 100}):
        both = driver.set_route(replace(both, weights=weights))
        assert all("headers" not in match for match in rules(cluster)[0]["matches"])
        assert all("headers" in match for rule in rules(cluster)[1:] for match in rule["matches"])


def test_slot_without_weight_and_mirror_is_named_nowhere_on_the_route(driver, both, cluster):
    driver.set_route(replace(both, weights={"blue": 100}, mirror=Mirror(slot="green", percent=0)))
    assert "green" not in str(rules(cluster))


def test_second_writer_of_a_revision_loses(made, driver, both):
    first = made().set_route(replace(both, weights={"blue": 50, "green": 50}))
    with pytest.raises(Conflict, match="modified"):
        driver.set_route(replace(both, weights={"green": 100}))
    assert driver.route() == first


def test_route_that_another_made_first_is_a_conflict(driver, both):
    with pytest.raises(Conflict, match="already exists"):
        driver.set_route(Route(weights={"green": 100}))


def test_route_that_was_deleted_is_not_made_anew_by_the_next_step(driver, both, cluster):
    del cluster.objects["httproutes", "fraud"]
    with pytest.raises(Conflict, match="deleted"):
        driver.set_route(replace(both, weights={"green": 100}))
    assert ("httproutes", "fraud") not in cluster.objects


def test_status_of_the_controller_is_no_conflict_for_the_next_write(driver, both):
    for weight in (10, 20, 30):
        both = driver.set_route(replace(both, weights={"blue": 100 - weight, "green": weight}))
    assert driver.route().weights == {"blue": 70, "green": 30}


def test_controller_that_never_takes_the_route_is_not_waited_for_without_end(driver, both, cluster):
    cluster.accepts = False
    assert driver.set_route(replace(both, weights={"green": 100})).weights == {"green": 100}


@pytest.mark.parametrize(
    "route", [Route(weights={"blue": 90, "green": 10}), Route(mirror=Mirror(slot="green", percent=1))]
)
def test_no_traffic_and_no_mirror_goes_to_a_service_that_is_not_there(driver, route):
    driver.deploy("blue", OLD, S3 + OLD)
    with pytest.raises(ReleaseError, match="fraud-green-predictor is not there"):
        driver.set_route(route)
    assert driver.route() == Route()


@pytest.mark.parametrize("mirror", [None, Mirror(slot="green", percent=10)])
def test_slot_is_removed_only_after_its_traffic(driver, both, mirror, cluster):
    weights = {"blue": 100} if mirror else {"blue": 90, "green": 10}
    route = driver.set_route(replace(both, weights=weights, mirror=mirror))
    with pytest.raises(ReleaseError, match="still gets traffic"):
        driver.remove("green")
    driver.set_route(replace(route, weights={"blue": 100}, mirror=None))
    driver.remove("green")
    driver.remove("green")
    assert driver.slot("green").bundle is None
    assert ("inferenceservices", "fraud-blue") in cluster.objects


def test_route_to_foreign_services_or_with_a_foreign_state_is_refused(driver, both, cluster):
    cluster.objects["httproutes", "fraud"]["metadata"]["annotations"]["kedge.dev/rollout"] = "{}"
    with pytest.raises(ReleaseError, match=r"annotation kedge\.dev/rollout is not kedge's: bundle"):
        driver.route()
    rules(cluster)[0]["backendRefs"][0]["name"] = "shop"
    with pytest.raises(ReleaseError, match="'shop', which is no slot"):
        driver.route()


# -- predictions and counters


def test_smoke_predictions_go_past_the_gateway(driver, both, cluster):
    assert driver.predict("green", [{"x": 1.0}, {"x": 2.0}]) == [0.25, 0.75]
    cluster.answers[NEW] = [0.5]
    with pytest.raises(ReleaseError, match="1 scores for 2 rows"):
        driver.predict("green", [{"x": 1.0}, {"x": 2.0}])
    driver.remove("green")
    with pytest.raises(ReleaseError, match="did not answer: no such host"):
        driver.predict("green", [{"x": 1.0}])


def test_each_slots_own_requests_are_counted_since_the_mark(driver, both, cluster):
    cluster.count("fraud-green", 7)
    mark = driver.mark()
    cluster.count("fraud-green", 3)
    cluster.count("fraud-green", 2, status="500", seconds=0.02)
    cluster.count("fraud-blue", 40, seconds=0.008)
    live = driver.readings(mark).live
    assert (live["green"].requests, live["green"].errors) == (5, 2)
    assert live["green"].latency == {5.0: 3, 10.0: 0, 30_000.0: 2}
    assert (live["blue"].requests, live["blue"].latency) == (40, {5.0: 0, 10.0: 40, 30_000.0: 0})


def test_counters_of_a_server_that_started_anew_count_from_zero(driver, both, cluster):
    cluster.count("fraud-green", 70)
    mark = driver.mark()
    cluster.counts.clear()
    cluster.objects["pods", "fraud-green-predictor-1"]["status"]["containerStatuses"][0]["restartCount"] = 1
    cluster.count("fraud-green", 4)
    assert driver.readings(mark).live["green"].requests == 4


def test_server_that_was_not_ready_at_the_mark_is_not_counted_from_its_start(driver, both, cluster):
    cluster.count("fraud-green", 70)
    conditions = cluster.objects["pods", "fraud-green-predictor-1"]["status"]["conditions"]
    conditions[0]["status"] = "False"
    mark = driver.mark()
    conditions[0]["status"] = "True"
    cluster.count("fraud-green", 4)
    assert driver.readings(mark).live["green"].requests == 4


def test_copies_are_counted_as_mirrored(driver, both, cluster):
    driver.set_route(replace(both, mirror=Mirror(slot="green", percent=100)))
    mark = driver.mark()
    cluster.count("fraud-green", 9)
    cluster.count("fraud-blue", 9)
    readings = driver.readings(mark)
    assert (readings.mirrored["green"].requests, readings.live["green"].requests) == (9, 0)
    assert (readings.mirrored["blue"].requests, readings.live["blue"].requests) == (0, 9)


def test_counters_that_cannot_be_read_are_an_error_and_not_a_zero(driver, both, cluster):
    mark = driver.mark()
    cluster.deaf = True
    with pytest.raises(ReleaseError, match=r"counters at http://10\.0\.0\.1:8080/metrics cannot be read"):
        driver.readings(mark)


def test_what_the_model_server_really_writes_is_understood():
    ours = SimpleNamespace(name="fraud", version=NEW, slot="green", binary=True, classes=())
    metrics = Metrics(ours, SimpleNamespace(sent=1, dropped=0, waiting=0))
    metrics.requests.update({("v1", 200): 3, ("v2", 503): 2, ("v1", 400): 1})
    for seconds in (0.0004, 0.002, 7.0):
        metrics.stages["total"].add(seconds)
    registry = CollectorRegistry()
    registry.register(metrics)
    seen = counters.traffic(generate_latest(registry).decode(), NEW)
    assert (seen.requests, seen.errors) == (6, 2)
    assert {edge: count for edge, count in seen.latency.items() if count} == {0.4: 1, 2.0: 1, 30_000.0: 1}
    assert counters.traffic(generate_latest(registry).decode(), OLD).requests == 0


def test_a_brace_in_a_label_is_read_as_what_it_is():
    page = f'kedge_requests_total{{model_name="a}}b",model_version="{NEW}",status="503"}} 2.0\n'
    seen = counters.traffic(page, NEW)
    assert (seen.requests, seen.errors) == (2, 2)


def test_what_is_no_page_of_counters_is_an_error_and_not_a_zero():
    with pytest.raises(ValueError, match="invalid metric name"):
        counters.traffic("<html>not here</html>", NEW)


# -- errors of the API


def test_busy_server_is_asked_again(driver, cluster):
    cluster.unwell = [503, 429]
    assert driver.route() == Route()


def test_server_that_stays_away_is_an_error_within_the_deadline(driver, cluster):
    cluster.unwell = [503] * 100
    with pytest.raises(ReleaseError, match="answered 503: try again"):
        driver.route()
    assert 5 < 100 - len(cluster.unwell) < 10


def test_missing_permission_names_what_to_bind(driver, cluster):
    cluster.forbidden = {"inferenceservices"}
    with pytest.raises(
        ReleaseError, match=r"inferenceservices models/fraud-blue: not allowed: .*release Role"
    ) as caught:
        driver.slot("blue")
    assert caught.value.__cause__.status == 403


@pytest.mark.parametrize("writer", ["kubectl-edit/Update", "helm/Update", "helm"])
def test_fields_that_another_wrote_once_are_taken_over(driver, both, cluster, writer):
    cluster.owned["inferenceservices", "fraud-green"] = {writer: {("spec", "predictor", "model", "storageUri")}}
    driver.deploy("green", OLD, S3 + OLD)
    assert driver.slot("green").bundle == OLD
    assert cluster.owned["inferenceservices", "fraud-green"][writer] == set()


def test_fields_that_another_applies_again_and_again_are_left_and_named(driver, both, cluster):
    owner = {"argocd-controller": {("spec", "predictor", "model", "storageUri")}}
    cluster.owned["inferenceservices", "fraud-green"] = owner
    with pytest.raises(ReleaseError, match=r"\.spec\.predictor\.model\.storageUri is applied by argocd") as caught:
        driver.deploy("green", OLD, S3 + OLD)
    assert not isinstance(caught.value, Conflict)  # a release would look again for ever
    assert driver.slot("green").bundle == NEW


# -- addresses


@pytest.mark.parametrize(
    "text",
    [
        "gateway:",
        "gateway:a/b",
        "gateway:a?colour=red",
        "gateway:a?domain",
        "gateway:a?gateway=x",
        "gateway:a?claim=x&claim=y",
        "knative:",
        "knative:a?gateway=x/y",
        "knative:a?domain=example.com",
    ],
)
def test_address_that_says_nothing_is_refused(text):
    with pytest.raises(UsageError, match="platform"):
        parse(text)


def test_platform_is_opened_by_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", web.kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1"))
    assert isinstance(open_driver("gateway:models", "fraud"), GatewayDriver)
    assert isinstance(open_driver("knative:models?claim=store", "fraud"), KnativeDriver)
    with pytest.raises(UsageError, match="gateway:NAMESPACE"):
        open_driver("nomad://here", "fraud")


# -- whole releases


class Traffic:
    """Twenty requests a second, split as the route says, while someone sleeps."""

    def __init__(self, cluster, failing=0.0):
        self.cluster, self.failing, self.now = cluster, failing, START

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += timedelta(seconds=seconds)
        refs = rules(self.cluster)[0]["backendRefs"]
        for ref in refs:
            slot = ref["name"].removesuffix("-predictor")
            requests = round(20 * seconds * ref["weight"] / sum(each["weight"] for each in refs))
            failed = round(requests * (self.failing if self.cluster.bundle(slot) == NEW else 0))
            self.cluster.count(slot, requests - failed)
            self.cluster.count(slot, failed, status="500")


@pytest.fixture
def release_of(policy, store):
    def make(driver, traffic, bundle):
        return Release(
            driver=driver, policy=policy, store=store, publish=lambda _: None, bundle=Golden(bundle),
            observe=lambda _rollout, spans: [Observed(span=span) for span in spans],
            clock=traffic.clock, sleep=traffic.sleep,
        )  # fmt: skip

    store_uri = store.uri
    store.uri = lambda key: "s3://store/" + store_uri(key).rsplit("/store/")[-1]
    return make


def test_first_release_and_the_next_are_promoted_and_the_old_slot_is_emptied(made, cluster, release_of):
    traffic = Traffic(cluster)
    assert run(release_of(made(), traffic, OLD)).result == "promoted"
    assert run(release_of(made(), traffic, NEW)).result == "promoted"
    assert made().route().weights == {"green": 100}
    assert made().route().rollout is None
    assert [name for kind, name in cluster.objects if kind == "inferenceservices"] == ["fraud-green"]


def test_failing_candidate_loses_its_traffic_before_its_slot_goes(made, cluster, release_of):
    traffic = Traffic(cluster, failing=0.5)
    run(release_of(made(), traffic, OLD))
    cluster.history.clear()
    outcome = run(release_of(made(), traffic, NEW))
    assert outcome.result == "rolled-back"
    assert "failed" in outcome.reason or "error" in outcome.reason
    assert made().route().weights == {"blue": 100}
    gone = cluster.history.index(("DELETE", "inferenceservices", "fraud-green"))
    assert cluster.history[gone - 1] == ("PATCH", "httproutes", "fraud")


def test_candidate_whose_pods_die_is_rolled_back(made, cluster, release_of):
    traffic = Traffic(cluster)
    run(release_of(made(), traffic, OLD))
    asked = release_of(made(), traffic, NEW)
    die = traffic.now + timedelta(seconds=30)

    def sleep(seconds):
        traffic.sleep(seconds)
        if traffic.now > die and ("pods", "fraud-green-predictor-1") in cluster.objects:
            conditions = cluster.objects["pods", "fraud-green-predictor-1"]["status"]["conditions"]
            conditions[0]["status"] = "False"

    asked.sleep = sleep
    outcome = run(asked)
    assert outcome.result == "rolled-back"
    assert "no pod of it takes requests" in outcome.reason


def unready(cluster, slot, **status):
    """Have the pods of a slot take no requests from now on."""
    pod = cluster.objects["pods", f"fraud-{slot}-predictor-1"]
    pod["status"] = {
        **pod["status"],
        "conditions": [{**each, "status": "False"} for each in pod["status"]["conditions"]],
        "containerStatuses": [{"name": "kserve-container", **status}],
    }


def after(traffic, release, seconds, change):
    """Change the cluster once, so many seconds from now."""
    due, asked = [traffic.now + timedelta(seconds=seconds)], release.sleep

    def sleep(seconds):
        asked(seconds)
        if due and traffic.now > due[0]:
            due.clear()
            change()

    release.sleep = sleep


def test_champion_whose_pods_crash_loop_leaves_the_traffic_to_the_candidate(made, cluster, release_of, store):
    traffic = Traffic(cluster)
    run(release_of(made(), traffic, OLD))
    asked = release_of(made(), traffic, NEW)
    crashed = {"restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}}
    after(traffic, asked, 20, lambda: unready(cluster, "blue", **crashed))
    outcome = run(asked)
    assert outcome.result == "promoted"
    assert "CrashLoopBackOff: back-off 5m0s; the candidate answered all traffic" in outcome.reason
    assert made().route().weights == {"green": 100}


def test_candidate_whose_pod_is_deleted_waits_and_takes_its_step_again(made, cluster, release_of):
    traffic = Traffic(cluster)
    run(release_of(made(), traffic, OLD))
    asked = release_of(made(), traffic, NEW)
    whole = {}

    def delete():
        whole.update(cluster.objects["pods", "fraud-green-predictor-1"])
        unready(cluster, "green", restartCount=0, state={"waiting": {"reason": "ContainerCreating"}})
        after(traffic, asked, 20, lambda: cluster.objects.update({("pods", "fraud-green-predictor-1"): whole}))

    after(traffic, asked, 20, delete)
    said = []
    asked.say = said.append
    assert run(asked).result == "promoted"
    assert [text for text in said if text.endswith("no traffic until it is back")]


def test_slot_with_one_pod_of_two_still_serves(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    cluster.objects["deployments", "fraud-blue-predictor"]["status"]["updatedReplicas"] = 2
    status = driver.slot("blue")
    assert (status.ready, status.serves(OLD), status.serves(NEW)) == (False, True, False)


def test_slot_whose_bundle_cannot_be_fetched_was_not_started(driver, cluster):
    driver.deploy("green", NEW, S3 + NEW)
    unready(cluster, "green", restartCount=0, state={"waiting": {"reason": "PodInitializing"}})
    ended = {"terminated": {"exitCode": 1, "message": "403: SignatureDoesNotMatch"}}
    pod = cluster.objects["pods", "fraud-green-predictor-1"]["status"]
    pod["initContainerStatuses"] = [{"name": "storage-initializer", "restartCount": 4, "state": ended}]
    status = driver.slot("green")
    assert (status.ready, status.not_started, status.ends) == (False, True, 0)
    assert "storage-initializer ended 5 times, exit code 1: 403: SignatureDoesNotMatch" in status.reason


# -- collectors


@pytest.fixture
def flushed(cluster, driver):
    """Two collectors that are ready, of which the first does not answer; what was asked, in order."""
    asked = []
    for number in (0, 1):
        ready = {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": "True"}]}
        meta = {"name": f"kedge-collector-{number}", "labels": {"app.kubernetes.io/component": "collector"}}
        cluster.put("pods", {"metadata": meta, "spec": {"containers": [{"name": "collector"}]}, "status": ready})

    def collector(request):
        asked.append((request.url.host, request.url.path, request.headers.get("authorization")))
        if request.url.host == "10.0.0.0":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(collector)) as driver.http:
        yield asked


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, None),
        ({"KEDGE_COLLECT_TOKEN": "shared"}, "Bearer shared"),
        ({"KEDGE_COLLECT_TOKEN_FOR": "kubeflow/kedge-steps@kedge-collector"}, "Bearer kedge-steps@kedge-collector"),
    ],
)
def test_a_flush_shows_each_collector_the_shared_token_or_one_of_the_steps_own_account(
    driver, flushed, monkeypatch, environment, shown
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    driver.flush()
    assert flushed == [(f"10.0.0.{number}", "/v1/flush", shown) for number in (0, 1)]


def test_a_step_that_may_ask_for_no_token_leaves_the_collectors_to_write_later(cluster, driver, flushed, monkeypatch):
    monkeypatch.setenv("KEDGE_COLLECT_TOKEN_FOR", "kubeflow/kedge-steps@kedge-collector")
    cluster.forbidden.add("serviceaccounts/token")
    driver.flush()
    assert flushed == []
