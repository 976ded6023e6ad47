"""The knative driver against a KServe in Knative mode that behaves as measured: each of its traps is a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.errors import Conflict, ReleaseError, UsageError
from kedge.rollout.evidence import Observed
from kedge.rollout.knative.driver import KnativeDriver
from kedge.rollout.knative.objects import Declared, Placed
from kedge.rollout.knative.status import slot_status
from kedge.rollout.knative.traffic import Revision, Seen, Write, next_write
from kedge.rollout.kserve.address import Address
from kedge.rollout.model import Mirror, Route
from kedge.rollout.release import Release
from kedge.rollout.rollback import rollback
from kedge.rollout.rollout import run
from tests.rollout.conftest import NEW, OLD, Golden, Killed
from tests.rollout.connected import Seconds, connected
from tests.rollout.fake_knative import FakeKnative

START = datetime(2026, 3, 2, tzinfo=UTC)
THIRD = "c" * 40
ADDRESS = Address(namespace="models")
S3 = "s3://store/bundles/fraud/"


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def cluster(seconds):
    return FakeKnative(time=seconds)


@pytest.fixture
def made(cluster, seconds):
    with connected(KnativeDriver, cluster, ADDRESS, seconds) as make:
        yield make


@pytest.fixture
def driver(made):
    return made()


@pytest.fixture
def served(driver, seconds):
    """Blue has all traffic."""
    driver.deploy("blue", OLD, S3 + OLD)
    seconds.sleep(20)
    return driver.set_route(Route(weights={"blue": 100}))


@pytest.fixture
def canary(driver, served, seconds):
    """Green has 10 %."""
    driver.deploy("green", NEW, S3 + NEW)
    seconds.sleep(20)
    return driver.set_route(replace(served, weights={"blue": 90, "green": 10}))


def spec(cluster):
    return cluster.service["spec"]["predictor"]


def edit(cluster, **fields):
    """Somebody else's write of the predictor; None removes a field."""
    kept = {key: value for key, value in {**spec(cluster), **fields}.items() if value is not None}
    cluster.put("inferenceservices", {**cluster.service, "spec": {"predictor": kept}})
    cluster.tick()


def write_spec(cluster, bundle, slot, **fields):
    """A manifest with another bundle, applied by hand."""
    meta = cluster.service["metadata"]
    labels = {**meta["labels"], "kedge.dev/slot": slot}
    annotations = {**meta["annotations"], "kedge.dev/bundle": bundle}
    cluster.put(
        "inferenceservices", {**cluster.service, "metadata": {**meta, "labels": labels, "annotations": annotations}}
    )
    edit(cluster, **fields)


def bore(cluster, bundle):
    """The shares a bundle had, in their order."""
    return [shares.get(bundle, 0) for _, shares in cluster.bore]


def status_of(cluster):
    return (cluster.created, cluster.latest_ready, cluster.rolledout, cluster.previous)


# -- the fake has every trap that the driver must not step into


def test_new_spec_with_a_share_gives_it_to_the_refused_revision_first(cluster, canary, seconds):
    edit(cluster, canaryTrafficPercent=0)
    assert status_of(cluster) == (2, 2, 1, 0)
    write_spec(cluster, THIRD, "green", canaryTrafficPercent=10)
    assert status_of(cluster) == (3, 2, 1, 0)
    assert cluster.bore[-1][1] == {NEW: 10, OLD: 90}
    seconds.sleep(20)
    cluster.tick()
    assert cluster.bore[-1][1] == {THIRD: 10, OLD: 90}


def test_restoring_and_removing_the_field_together_gives_all_to_the_refused_revision(cluster, canary, seconds):
    edit(cluster, canaryTrafficPercent=0)
    write_spec(cluster, OLD, "blue", canaryTrafficPercent=None)
    assert cluster.bore[-1][1] == {NEW: 100}


def test_percentage_on_a_promoted_service_brings_the_older_revision_back(cluster, canary):
    edit(cluster, canaryTrafficPercent=None)
    assert status_of(cluster) == (2, 2, 2, 1)
    edit(cluster, canaryTrafficPercent=10)
    assert cluster.rolledout == 1
    assert cluster.bore[-1][1] == {NEW: 10, OLD: 90}


def test_annotation_of_the_service_makes_a_revision(cluster, served):
    cluster.service["metadata"]["annotations"]["kedge.dev/rollout"] = "{}"
    cluster.tick()
    assert cluster.created == 2


def test_revision_without_traffic_and_tag_loses_its_pods(cluster, canary, seconds):
    edit(cluster, canaryTrafficPercent=None)
    seconds.sleep(61)
    cluster.tick()
    assert ("pods", "fraud-predictor-00001-1") not in cluster.objects


# -- slots and shares


def test_first_bundle_is_an_inference_service_in_knative_mode_without_a_percentage(cluster, served):
    meta = cluster.service["metadata"]
    assert meta["name"] == "fraud"
    assert meta["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    assert meta["annotations"]["serving.kserve.io/enable-tag-routing"] == "true"
    assert meta["labels"]["kedge.dev/slot"] == "blue"
    assert spec(cluster)["minReplicas"] == 1
    assert "canaryTrafficPercent" not in spec(cluster)


def test_candidate_is_written_with_nothing_and_raised_when_it_is_the_latest_ready_one(driver, cluster, served, seconds):
    driver.deploy("green", NEW, S3 + NEW)
    assert (cluster.created, spec(cluster)["canaryTrafficPercent"]) == (2, 0)
    assert not driver.slot("green").ready
    with pytest.raises(ReleaseError, match="latest ready revision is fraud-predictor-00001"):
        driver.set_route(replace(served, weights={"blue": 90, "green": 10}))
    seconds.sleep(20)
    assert driver.slot("green").ready
    driver.set_route(replace(served, weights={"blue": 90, "green": 10}))
    assert cluster.bore[-1][1] == {OLD: 90, NEW: 10}
    assert cluster.created == 2


def test_candidate_keeps_the_settings_of_the_champion_and_never_scales_to_zero(driver, cluster, served, seconds):
    edit(cluster, serviceAccountName="readers", minReplicas=0, maxReplicas=5)
    seconds.sleep(20)
    driver.deploy("green", NEW, S3 + NEW)
    assert (spec(cluster)["serviceAccountName"], spec(cluster)["maxReplicas"]) == ("readers", 5)
    assert spec(cluster)["minReplicas"] == 1
    assert spec(cluster)["model"]["storageUri"] == S3 + NEW


def test_state_of_a_rollout_makes_no_revision(driver, cluster, canary):
    for percent in (20, 30, 40):
        canary = driver.set_route(replace(canary, weights={"blue": 100 - percent, "green": percent}))
    assert cluster.created == 2
    assert driver.route() == canary


def test_rollback_is_one_percentage_and_both_revisions_keep_their_pods(driver, cluster, canary, seconds):
    full = driver.set_route(replace(canary, weights={"green": 100}))
    assert cluster.bore[-1][1] == {OLD: 1, NEW: 99}  # the last percent keeps the champion warm
    seconds.sleep(600)
    cluster.tick()
    assert driver.slot("blue").ready
    writes = len(cluster.history)
    driver.set_route(replace(full, weights={"blue": 100}))
    assert cluster.bore[-1][1] == {OLD: 100}
    assert [kind for _, kind, _ in cluster.history[writes:]] == ["configmaps", "inferenceservices"]


def test_promotion_is_finished_when_the_other_slot_is_emptied(driver, cluster, canary):
    driver.set_route(replace(canary, weights={"green": 100}))
    driver.remove("blue")
    assert "canaryTrafficPercent" not in spec(cluster)
    assert cluster.bore[-1][1] == {NEW: 100}
    assert status_of(cluster) == (2, 2, 2, 1)
    assert driver.slot("blue").bundle is None


def test_emptied_refused_slot_is_replaced_by_the_champions_spec_at_zero_first(driver, cluster, canary):
    driver.set_route(replace(canary, weights={"blue": 100}))
    shares = len(cluster.bore)
    driver.remove("green")
    assert status_of(cluster) == (3, 3, 3, 1)
    assert "canaryTrafficPercent" not in spec(cluster)
    assert spec(cluster)["model"]["storageUri"] == S3 + OLD
    assert all(share == {OLD: 100} for _, share in cluster.bore[shares - 1 :])


def test_candidate_after_a_refused_one_gets_its_share_and_the_refused_one_none(driver, cluster, canary, seconds):
    """Also when the process died before the refused one was replaced."""
    back = driver.set_route(replace(canary, weights={"blue": 100}))
    shares = len(cluster.bore)
    driver.deploy("green", THIRD, S3 + THIRD)
    seconds.sleep(20)
    driver.set_route(replace(back, weights={"blue": 90, "green": 10}))
    assert cluster.bore[-1][1] == {OLD: 90, THIRD: 10}
    assert set(bore(cluster, NEW)[shares:]) == {0}


def test_slot_with_a_share_is_not_removed(driver, canary):
    with pytest.raises(ReleaseError, match="still gets traffic"):
        driver.remove("green")
    with pytest.raises(ReleaseError, match="still gets traffic"):
        driver.remove("blue")


def test_empty_slot_gets_no_share(driver, served):
    with pytest.raises(ReleaseError, match="fraud-green is empty"):
        driver.set_route(replace(served, weights={"blue": 90, "green": 10}))


def test_last_slot_takes_the_service_with_it(driver, cluster):
    driver.deploy("blue", OLD, S3 + OLD)
    driver.remove("blue")
    driver.remove("blue")
    assert cluster.service is None


def test_champion_that_kserve_swapped_for_an_older_revision_comes_back_as_a_new_one(driver, cluster, seconds, served):
    """Two tenures, then KServe takes 0 without a new revision for a rollback and gives all to the first."""
    driver.deploy("green", NEW, S3 + NEW)
    seconds.sleep(20)
    driver.set_route(replace(driver.route(), weights={"green": 100}))
    driver.remove("blue")
    edit(cluster, canaryTrafficPercent=0)
    assert cluster.bore[-1][1] == {OLD: 100}
    driver.deploy("blue", THIRD, S3 + THIRD)
    for _ in range(4):
        seconds.sleep(20)
        driver.deploy("blue", THIRD, S3 + THIRD)
    assert cluster.bore[-1][1] == {NEW: 100}
    assert driver.slot("blue").ready
    assert driver.slot("green").ready


def test_share_that_somebody_removed_by_hand_is_rolled_back_by_a_new_revision(driver, cluster, canary, seconds):
    edit(cluster, canaryTrafficPercent=None)  # all traffic on the candidate now
    back = driver.set_route(replace(canary, weights={"blue": 100}))
    assert spec(cluster)["canaryTrafficPercent"] == 0
    assert spec(cluster)["model"]["storageUri"] == S3 + OLD
    seconds.sleep(20)
    driver.readings(driver.mark())
    assert cluster.bore[-1][1] == {OLD: 99, NEW: 1}
    driver.remove("green")
    assert cluster.bore[-1][1] == {OLD: 100}
    assert back.weights == {"blue": 100}


def test_percentage_that_another_owns_too_is_removed_all_the_same(driver, cluster, canary):
    driver.set_route(replace(canary, weights={"green": 100}))
    cluster.owned["inferenceservices", "fraud"]["kubectl-patch/Update"] = {
        ("spec", "predictor", "canaryTrafficPercent")
    }
    driver.remove("blue")
    assert "canaryTrafficPercent" not in spec(cluster)
    assert cluster.bore[-1][1] == {NEW: 100}


def test_mirror_is_refused(driver, canary):
    with pytest.raises(UsageError, match="Knative cannot mirror"):
        driver.set_route(replace(canary, mirror=Mirror(slot="green", percent=10)))
    assert not driver.mirrors


# -- what a slot says


def test_noise_of_the_service_is_not_believed(driver, cluster, canary):
    for word in (("False", "ReconcileFailed"), ("Unknown", ""), ("False", "RevisionFailed")):
        cluster.ready_word = word
        cluster.tick()
        assert driver.slot("blue").ready
        assert driver.slot("green").ready


def test_image_that_cannot_be_pulled_is_told_by_the_revision(driver, cluster, served, seconds):
    cluster.behaviours[NEW] = "no image"
    cluster.ready_word = ("Unknown", "")
    driver.deploy("green", NEW, S3 + NEW)
    told = slot_status("green", Placed(bundle=NEW, storage=S3 + NEW), driver._seen(), ())  # its pods are not there yet
    assert told.reason == "revision fraud-predictor-00002: ImagePullBackOff: kedge/serve:9 not found"
    assert not told.failed


def test_crashing_candidate_says_what_its_server_said(driver, cluster, served):
    cluster.behaviours[NEW] = "crashes"
    driver.deploy("green", NEW, S3 + NEW)
    told = driver.slot("green")
    assert (told.ready, told.failed) == (False, True)
    assert "ended 3 times, exit code 1: bundle altered: model.ubj" in told.reason
    assert driver.slot("blue").ready


def test_failed_revision_is_believed_when_it_says_so_for_ten_seconds(driver, cluster, served, seconds):
    cluster.behaviours[NEW] = "refused by knative"
    driver.deploy("green", NEW, S3 + NEW)
    told = driver.slot("green")
    assert (told.failed, told.reason) == (False, "revision fraud-predictor-00002: ContainerMissing: no such image")
    seconds.sleep(5)
    cluster.behaviours[NEW] = "starts"  # it was noise
    assert not driver.slot("green").failed
    cluster.behaviours[NEW] = "refused by knative"
    for failed in (False, False, True):
        assert driver.slot("green").failed is failed
        seconds.sleep(5)


def test_format_without_runtime_ends_the_wait(driver, cluster, served):
    driver.deploy("green", NEW, S3 + NEW)
    info = {"reason": "NoSupportingRuntime", "message": "No runtime found"}
    said = {"modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": info}}
    current = driver._seen()
    current = replace(current, service={**current.service, "status": said}, created=current.rolledout)
    told = slot_status("green", Placed(bundle=NEW, storage="s"), current, ())
    assert told.failed
    assert "NoSupportingRuntime" in told.reason


def test_candidate_whose_pods_are_gone_is_not_ready(driver, cluster, canary):
    conditions = cluster.objects["pods", "fraud-predictor-00002-1"]["status"]["conditions"]
    conditions[0]["status"] = "False"
    cluster._pods = lambda *_: None  # the kubelet is away
    told = driver.slot("green")
    assert (told.ready, told.reason) == (False, "no pod of revision fraud-predictor-00002 takes requests")


@pytest.fixture
def second_tenure(driver, cluster, served, seconds):
    """Green has all traffic and blue had it before."""
    driver.deploy("green", NEW, S3 + NEW)
    seconds.sleep(20)
    driver.set_route(replace(driver.route(), weights={"green": 100}))
    driver.remove("blue")


def test_spec_that_knative_refuses_is_told_by_its_event_and_leaves_no_way_back_to_an_older_revision(
    driver, cluster, second_tenure, seconds
):
    """The champion's spec at 0 was once what its revision was made from: KServe took that for a rollback."""
    assert status_of(cluster) == (2, 2, 2, 1)
    cluster.refuses_until = seconds.passed + 10
    driver.deploy("blue", THIRD, S3 + THIRD)
    assert driver.slot("blue").reason.endswith("dry run failed with exceeded quota: tight")
    shares = len(cluster.bore)
    driver.remove("blue")
    assert [share for _, share in cluster.bore[shares - 1 :]] == [{NEW: 100}]
    assert status_of(cluster) == (3, 3, 3, 2)
    assert "canaryTrafficPercent" not in spec(cluster)


def test_warning_from_before_the_spec_was_written_is_not_told(driver, cluster, second_tenure, seconds):
    cluster._refuse(cluster.service)
    cluster.objects["events", "fraud"]["lastTimestamp"] = "2026-03-01T23:59:59Z"
    cluster.refuses_until = seconds.passed + 10
    cluster._refuse = lambda _: None
    driver.deploy("blue", THIRD, S3 + THIRD)
    assert driver.slot("blue").reason.startswith("KServe has made no revision of it yet")


def test_status_that_names_a_revision_of_an_earlier_spec_settles_nothing(driver, cluster, second_tenure):
    """The same bundle again, before KServe told of it: the revision that is named may not be the latest."""
    current = driver._seen()
    assert current.settled("green", current.placed)
    meta = current.service["metadata"]
    again = {**current.service, "metadata": {**meta, "annotations": {**meta["annotations"], "kedge.dev/written": "9"}}}
    assert not replace(current, service=again).settled("green", current.placed)


# -- the declaration


def test_second_writer_of_a_revision_loses(made, driver, canary):
    first = made().set_route(replace(canary, weights={"blue": 50, "green": 50}))
    with pytest.raises(Conflict):
        driver.set_route(replace(canary, weights={"green": 100}))
    assert driver.route() == first


def test_writers_of_one_declaration_are_told_apart_by_the_server(made, driver, cluster, canary):
    """Both read the same; the one who writes second meets the resource version."""
    found, declared = driver._declared()
    made().set_route(replace(canary, weights={"blue": 80, "green": 20}))
    with pytest.raises(Conflict, match="modified"):
        driver._swap(found, declared)


def test_deploy_moves_no_revision_of_the_route(driver, served):
    driver.deploy("green", NEW, S3 + NEW)
    assert driver.route().revision == served.revision


def test_slot_made_by_the_chart_is_taken_over(driver, cluster, served, seconds):
    del cluster.objects["configmaps", "fraud-release"]
    assert driver.route() == Route(weights={"blue": 100})
    driver.deploy("green", NEW, S3 + NEW)
    seconds.sleep(20)
    assert driver.set_route(replace(driver.route(), weights={"blue": 90, "green": 10})).revision == 1
    assert cluster.bore[-1][1] == {OLD: 90, NEW: 10}


def test_service_of_somebody_else_is_left_alone(driver, cluster):
    theirs = {"metadata": {"name": "fraud", "annotations": {"kedge.dev/bundle": OLD}, "labels": {}}}
    cluster.put("inferenceservices", {**theirs, "spec": {"predictor": {}}})
    with pytest.raises(ReleaseError, match="kedge did not deploy it"):
        driver.route()


def test_declaration_that_is_not_kedges_is_refused(driver, cluster, served):
    cluster.objects["configmaps", "fraud-release"]["data"]["slots"] = "{"
    with pytest.raises(ReleaseError, match="configmap fraud-release: slots"):
        driver.route()


def test_declaration_whose_writer_died_is_followed_by_the_next_one(made, cluster, canary, seconds):
    killed = made()
    killed._follow = lambda: None
    killed.set_route(replace(canary, weights={"blue": 100}))
    assert cluster.bore[-1][1] == {OLD: 90, NEW: 10}
    made().readings(made().mark())
    assert cluster.bore[-1][1] == {OLD: 100}


def test_writer_that_slept_over_anothers_declaration_ends_with_that_one(made, cluster, canary):
    """It read 50 %, another took everything back and wrote, then it wakes up and writes 50 %: it must look again."""
    slow, other = made(), made()
    raised = slow._write

    def write(write, current):
        slow._write = raised
        now = other.route()
        other.set_route(replace(now, weights={"blue": 100}))
        raised(write, slow._seen())  # past the compare-and-swap of the service

    slow._write = write
    slow.set_route(replace(canary, weights={"blue": 50, "green": 50}))
    assert cluster.bore[-1][1] == {OLD: 100}


def test_service_that_another_keeps_writing_is_an_error_not_a_loop(driver, cluster, canary):
    written = driver._write

    def reverted(write, current):
        written(write, current)
        edit(cluster, canaryTrafficPercent=77)

    driver._write = reverted
    with pytest.raises(ReleaseError, match="who else writes it"):
        driver.set_route(replace(canary, weights={"blue": 80, "green": 20}))


# -- predictions and counters


def test_smoke_predictions_go_to_a_pod_of_the_candidate(driver, cluster, canary):
    cluster.answers[NEW] = [0.5, 0.5]
    assert driver.predict("green", [{"x": 1.0}, {"x": 2.0}]) == [0.5, 0.5]
    assert driver.predict("blue", [{"x": 1.0}, {"x": 2.0}]) == [0.25, 0.75]
    driver.set_route(replace(canary, weights={"blue": 100}))
    driver.remove("green")
    with pytest.raises(ReleaseError, match="cannot be asked: it is empty"):
        driver.predict("green", [{"x": 1.0}])


def test_each_revisions_own_requests_are_counted(driver, cluster, canary):
    cluster.traffic(100)
    mark = driver.mark()
    cluster.traffic(1000, failing=0.5, bundle=NEW)
    live = driver.readings(mark).live
    assert (live["blue"].requests, live["green"].requests, live["green"].errors) == (900, 100, 50)


# -- whole releases


@pytest.fixture
def release_of(policy, store, cluster, seconds):
    """Twenty requests a second while someone sleeps."""
    store_uri = store.uri
    store.uri = lambda key: "s3://store/" + store_uri(key).rsplit("/store/")[-1]

    def make(made, bundle, failing=0.0, kill_at=None):
        sleeps = 0

        def sleep(passing):
            nonlocal sleeps
            sleeps += 1
            if sleeps == kill_at:
                raise Killed
            cluster.traffic(round(20 * passing), failing=failing, bundle=NEW)
            seconds.sleep(passing)

        return Release(
            driver=made(sleep=sleep), policy=policy, store=store, publish=lambda _: None,
            bundle=Golden(bundle) if bundle else None,
            observe=lambda _rollout, spans: [Observed(span=span) for span in spans],
            clock=lambda: START + timedelta(seconds=seconds.passed), sleep=sleep,
        )  # fmt: skip

    return make


def test_first_release_and_the_next_two_are_promoted(made, cluster, release_of):
    for bundle in (OLD, NEW, THIRD):
        assert run(release_of(made, bundle)).result == "promoted"
    assert made().route().weights == {"blue": 100}
    assert made().route().rollout is None
    assert "canaryTrafficPercent" not in spec(cluster)
    assert (cluster.created, cluster.rolledout) == (3, 3)  # no revision but these
    assert [share for share in bore(cluster, NEW) if share][:3] == [10, 50, 95]


def test_failing_candidate_is_rolled_back_and_the_next_one_never_lets_it_serve_again(made, cluster, release_of):
    run(release_of(made, OLD))
    outcome = run(release_of(made, NEW, failing=0.5))
    assert outcome.result == "rolled-back"
    assert cluster.bore[-1][1] == {OLD: 100}
    shares = len(cluster.bore)
    assert run(release_of(made, THIRD)).result == "promoted"
    assert set(bore(cluster, NEW)[shares:]) == {0}
    assert max(bore(cluster, THIRD)) == 100


def during(made, asked, state, change):
    """Do something at each look in a state, told how often before."""
    passes, looks = asked.sleep, []

    def sleep(seconds):
        passes(seconds)
        rollout = made().route().rollout
        if rollout is not None and (looks or rollout.state == state):
            change(len(looks))
            looks.append(seconds)

    asked.sleep = sleep
    return asked


@pytest.mark.parametrize("state", ["canary", "bake"])
def test_champion_whose_pods_crash_loop_leaves_the_traffic_to_the_candidate(made, cluster, release_of, state):
    run(release_of(made, OLD))
    asked = during(made, release_of(made, NEW), state, lambda _looks: cluster.behaviours.update({OLD: "crashes"}))
    outcome = run(asked)
    assert (outcome.result, "slot blue is not ready" in outcome.reason) == ("promoted", True)
    assert cluster.bore[-1][1] == {NEW: 100}
    assert bore(cluster, OLD)[-2:] == [5 if state == "bake" else 90, 0]  # none for who does not answer


def test_champion_that_is_back_on_knative_is_a_new_revision_and_the_release_goes_on(made, cluster, release_of):
    def restart(looks):
        cluster.behaviours[OLD] = "crashes" if looks < 30 else "ready"

    run(release_of(made, OLD))
    asked = during(made, release_of(made, NEW), "canary", restart)
    said = []
    asked.say = said.append
    assert run(asked).result == "promoted"
    states = [line.split(": ")[1] for line in said if line.startswith(NEW[:12])]
    assert states == ["smoke", "canary 10 %", "failover", "canary 10 %", "canary 50 %", "bake"]
    assert bore(cluster, OLD)[-6:] == [90, 0, 90, 50, 5, 0]


def test_candidate_whose_pod_is_drained_in_the_bake_waits_without_traffic_and_bakes_again(made, cluster, release_of):
    def drain(looks):
        cluster.behaviours[NEW] = "no room" if looks < 5 else "ready"

    run(release_of(made, OLD))
    assert run(during(made, release_of(made, NEW), "bake", drain)).result == "promoted"
    assert bore(cluster, NEW)[-5:] == [95, 0, 95, 99, 100]


@pytest.mark.parametrize("failing", [0.0, 0.5])
def test_shares_that_are_routed_long_after_they_are_asked_for_end_a_release_the_same_way(
    made, cluster, release_of, failing
):
    """A busy node: status tells a share 15 s after it was written, and the driver waits 10 s for one."""
    run(release_of(made, OLD))
    cluster.routed_after = 15.0
    assert run(release_of(made, NEW, failing=failing)).result == ("rolled-back" if failing else "promoted")
    assert cluster.bore[-1][1] == ({OLD: 100} if failing else {NEW: 100})
    shares = len(cluster.bore)
    assert run(release_of(made, THIRD)).result == "promoted"
    assert cluster.bore[-1][1] == {THIRD: 100}
    assert not failing or set(bore(cluster, NEW)[shares:]) == {0}


def test_operators_rollback_long_after_a_promotion_waits_for_the_old_bundle_before_it_moves_traffic(
    made, cluster, release_of, seconds
):
    run(release_of(made, OLD))
    run(release_of(made, NEW))
    seconds.sleep(3600)
    cluster.tick()
    shares = len(cluster.bore)
    assert rollback(release_of(made, None), reason="complaints").result == "rolled-back"
    assert made().route().weights == {made().route().champion: 100}
    moved = [share for _, share in cluster.bore[shares:]]
    assert moved[0] == {OLD: 99, NEW: 1}  # all of NEW until OLD was the latest ready revision
    assert moved[-1] == {OLD: 100}


@pytest.mark.parametrize("failing", [0.0, 0.5])
def test_release_killed_at_any_wait_goes_on_and_ends_the_same_way(made, cluster, release_of, failing):
    run(release_of(made, OLD))
    first, kills = len(cluster.bore), 0
    while True:
        try:
            outcome = run(release_of(made, NEW, failing, kill_at=3))
            break
        except Killed:
            kills += 1
            assert kills < 300
    assert kills > 5
    assert outcome.result in ("promoted" if not failing else "rolled-back", "refused")
    assert made().route().rollout is None
    assert cluster.bore[-1][1] == ({NEW: 100} if not failing else {OLD: 100})
    assert all(sum(shares.values()) == 100 for _, shares in cluster.bore[first:])


# -- what must always hold of the next write

REVISIONS = [Revision(name=f"r{n}", slot=slot, bundle=bundle, ready="True") for n, slot, bundle in (
    (1, "blue", OLD), (2, "green", NEW), (3, "green", THIRD), (4, "blue", OLD), (5, None, None))]  # fmt: skip


@st.composite
def situations(draw):
    declared = {"blue": Placed(bundle=OLD, storage="o")}
    if draw(st.booleans()):
        declared["green"] = Placed(bundle=draw(st.sampled_from([NEW, THIRD])), storage="n")
    weight = draw(st.integers(0, 100)) if "green" in declared else 0
    route = Route(weights={"blue": 100 - weight, "green": weight})
    created, ready, rolledout = (draw(st.sampled_from([None, *REVISIONS])) for _ in range(3))
    slot, bundle = draw(st.sampled_from([("blue", OLD), ("green", NEW), ("green", THIRD)]))
    percent = draw(st.sampled_from([None, 0, 10, 99]))
    predictor = {"model": {"storageUri": "x"}, **({} if percent is None else {"canaryTrafficPercent": percent})}
    service = {
        "metadata": {"labels": {"kedge.dev/slot": slot}, "annotations": {"kedge.dev/bundle": bundle}},
        "spec": {"predictor": predictor},
    }
    traffic = {ready.name: draw(st.integers(0, 100))} if ready else {}
    return Declared(slots=declared, route=route), Seen(
        service=service, created=created, ready=ready, rolledout=rolledout, traffic=traffic
    )


@given(situations())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_write_ever_gives_traffic_to_what_is_not_declared_or_not_the_latest_ready(situation):
    declared, seen = situation
    write = next_write(declared, seen)
    if write is None:
        return
    new_spec = (seen.slot, seen.placed.bundle) != (write.slot, write.placed.bundle)
    assert not (new_spec and write.percent), "a new spec is written with 0"
    if new_spec:
        assert not seen.percent, "the share of what is replaced goes first"
        assert write.percent == 0 or seen.rolledout is None
    if write.percent or (write.percent is None and seen.rolledout is not None):
        assert seen.created == seen.ready
        assert seen.created.holds(write.slot, declared.slots.get(write.slot))
    if write.percent is not None and not new_spec and seen.settled(write.slot, declared.slots.get(write.slot)):
        assert seen.rolledout != seen.created or not write.percent, "no percentage on a promoted service"


def test_nothing_is_written_where_all_is_as_declared():
    seen = Seen(
        service={
            "metadata": {"labels": {"kedge.dev/slot": "green"}, "annotations": {"kedge.dev/bundle": NEW}},
            "spec": {"predictor": {"model": {"storageUri": "n"}, "canaryTrafficPercent": 10}},
        },
        created=REVISIONS[1], ready=REVISIONS[1], rolledout=REVISIONS[0],
    )  # fmt: skip
    both = {"blue": Placed(bundle=OLD, storage="o"), "green": Placed(bundle=NEW, storage="n")}
    declared = Declared(slots=both, route=Route(weights={"blue": 90, "green": 10}))
    assert next_write(declared, seen) is None
    raised = replace(declared, route=Route(weights={"blue": 80, "green": 20}))
    assert next_write(raised, seen) == Write(slot="green", placed=both["green"], percent=20)
