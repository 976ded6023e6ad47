"""What every driver on KServe must do alike: whole releases with a drill and the candidate's capacity."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from kedge import bundle as bundles
from kedge import records
from kedge.policy.release import Capacity
from kedge.rollout.drill import drill
from kedge.rollout.evidence import Observed
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.knative.driver import KnativeDriver
from kedge.rollout.kserve.address import Address
from kedge.rollout.release import Release
from kedge.rollout.rollout import run
from tests.rollout.conftest import NEW, OLD, START, Golden
from tests.rollout.connected import Seconds, connected
from tests.rollout.fake_knative import FakeKnative
from tests.rollout.fake_kubernetes import FakeCluster
from tests.rollout.published import published
from tests.rollout.test_gateway import Traffic

QUICK = {"requests_per_second": 500, "seconds": 0.05}


class OnGateway:
    """Two InferenceServices and a route."""

    def __init__(self):
        self.seconds, self.cluster = Seconds(), FakeCluster()
        self.address = Address(namespace="models", gateway="infra/public", domain="example.com")
        self.driver, self.traffic = GatewayDriver, Traffic(self.cluster)

    def pass_time(self, seconds):
        if ("httproutes", "fraud") in self.cluster.objects:
            self.traffic.sleep(seconds)
        self.seconds.sleep(seconds)


class OnKnative:
    """Two revisions of one InferenceService."""

    def __init__(self):
        self.seconds = Seconds()
        self.cluster, self.address, self.driver = FakeKnative(time=self.seconds), Address(namespace="models"), None
        self.driver = KnativeDriver

    def pass_time(self, seconds):
        self.cluster.traffic(round(20 * seconds))
        self.seconds.sleep(seconds)


@pytest.fixture(params=[OnGateway, OnKnative], ids=["gateway", "knative"])
def place(request):
    made = request.param()
    with connected(made.driver, made.cluster, made.address, made.seconds) as make:
        made.make = make
        yield made


@pytest.fixture
def release_of(place, policy, store):
    store_uri = store.uri
    store.uri = lambda key: "s3://store/" + store_uri(key).rsplit("/store/")[-1]

    def make(bundle=None, policy=policy):
        return Release(
            driver=place.make(sleep=place.pass_time), policy=policy, store=store, publish=lambda _: None, bundle=bundle,
            observe=lambda _rollout, spans: [Observed(span=span) for span in spans],
            clock=lambda: START + timedelta(seconds=place.seconds.passed), sleep=place.pass_time,
        )  # fmt: skip

    return make


def test_a_drill_goes_the_real_way_and_leaves_the_champion_alone(place, release_of, policy, store, tmp_path):
    champion = published(store, policy, tmp_path)
    opened = bundles.fetch(store, "fraud", champion, tmp_path / "cache")
    asked = []

    def score(bundle, rows):
        asked.append(bundle)
        return opened.load_model().score(opened.signature.encode(pa.Table.from_pylist(rows))).tolist()

    place.cluster.score = score
    assert run(release_of(opened)).result == "promoted"
    before = [record.kind for record in records.read(store, "fraud")]
    (tmp_path / "drill").mkdir()
    found = drill(release_of(), Path(tmp_path / "drill"), max_seconds=600)
    assert found.passed, found
    assert found.reason.startswith("failed requests at ")
    assert 0 <= found.traffic_seconds < found.verdict_seconds <= found.empty_seconds
    route = place.make().route()
    assert (route.weights, route.rollout) == ({"blue": 100}, None)
    assert place.make().slot("blue").bundle == champion
    assert len(set(asked)) == 2, "the copy was asked for its golden rows in a slot of its own"
    assert [record.kind for record in records.read(store, "fraud")] == before


@pytest.mark.parametrize(
    ("limits", "result", "word"),
    [
        ({"max_memory_mb": 100}, "rolled-back", "capacity: memory 150 MB, above the limit of 100 MB"),
        ({"max_memory_mb": 200, "max_p95_ms": 60_000, "max_start_seconds": 900}, "promoted", ""),
    ],
)
def test_a_candidates_server_is_measured_in_its_slot_before_it_has_traffic(
    place, release_of, change, limits, result, word
):
    assert run(release_of(Golden(OLD))).result == "promoted"
    said, asked = [], release_of(Golden(NEW), change(capacity=Capacity(**QUICK, **limits)))
    asked.say = said.append
    outcome = run(asked)
    assert outcome.result == result
    assert word in outcome.reason
    assert [line for line in said if line.startswith("memory 150 MB")]
    assert place.make().route().weights == {"green" if result == "promoted" else "blue": 100}
