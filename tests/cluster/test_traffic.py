"""Clients' requests through a real gateway while the gateway driver moves slots and routes under them.

The Gateway is ``$KEDGE_TEST_GATEWAY`` (NAMESPACE/NAME, ``gateway/kedge`` by default). KServe's controller and the model
servers are doubles; Deployments, Services, endpoints, the route and the gateway are real.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from kedge import bundle as bundles
from kedge import policy as policies
from kedge.bundle import Signature
from kedge.errors import ReleaseError
from kedge.rollout.drill import drill
from kedge.rollout.evidence import Observed
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.kserve.address import Address
from kedge.rollout.kserve.api import SLOTS, Api, connect
from kedge.rollout.kserve.pods import address
from kedge.rollout.model import Mirror, Route
from kedge.rollout.rollout import Release, run
from kedge.store import open_store
from tests.chart.render import absent, tool
from tests.cluster.kserve_double import KServeDouble, ThroughApi
from tests.cluster.kubernetes import Namespace, sleeper, until
from tests.rollout.conftest import Golden, Killed

GATEWAY = os.environ.get("KEDGE_TEST_GATEWAY", "gateway/kedge")
LOAD = (Path(__file__).parent / "load.py").read_text()
OLD, NEW, DEAD = "a" * 40, "b" * 40, "d" * 40
S3 = "s3://store/bundles/fraud/"


@dataclass(frozen=True)
class Answered:
    """One request of a client."""

    began: float
    ended: float
    status: int
    slot: str


@dataclass(frozen=True)
class Clients:
    """A pod that asks the gateway."""

    namespace: Namespace
    address: str
    host: str

    def start(self, seconds: float, clients: int = 4) -> subprocess.Popen[str]:
        """Requests for so long, from now on."""
        words = ["exec", "clients", "--", "python", "-c", LOAD, self.address, self.host, str(seconds), str(clients)]
        return subprocess.Popen(
            [tool("kubectl"), "--namespace", self.namespace.name, *words], stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    def ended(self, asking: subprocess.Popen[str]) -> list[Answered]:
        """What became of the requests, in the order they began."""
        said, _ = asking.communicate(timeout=180)
        assert asking.returncode == 0
        lines = [line.split(" ", 3) for line in said.splitlines()]
        return sorted(
            (Answered(float(began), float(ended), int(status), slot) for began, ended, status, slot in lines),
            key=lambda each: each.began,
        )

    def ask(self, seconds: float, clients: int = 4) -> list[Answered]:
        """Requests for so long, and what became of them."""
        return self.ended(self.start(seconds, clients))


def failed(answers: list[Answered]) -> list[Answered]:
    return [each for each in answers if each.status != 200]


@pytest.fixture(scope="module")
def api(make_namespace, custom_kinds):
    namespace, name = GATEWAY.split("/")
    if "NotFound" in (said := Namespace(namespace).kubectl("get", "gateway", name, check=False)):
        absent(f"no Gateway {GATEWAY}: {said.strip()}")
    connection = connect()
    yield Api(make_namespace("traffic").name, connection)
    connection.rest_client.pool_manager.clear()


@pytest.fixture(scope="module")
def kserve(api):
    double = KServeDouble(api)
    yield double
    double.stop()


@pytest.fixture(scope="module")
def driver_of(api):
    http = httpx.Client(transport=ThroughApi(api))
    address = Address(namespace=api.namespace, gateway=GATEWAY, domain="example.com")
    yield lambda: GatewayDriver(address, "fraud", api, http=http)
    http.close()


@pytest.fixture(scope="module")
def clients(api):
    namespace = Namespace(api.namespace)
    namespace.kubectl("create", "--filename=-", given=[sleeper("clients")])
    namespace.kubectl("wait", "--for=condition=Ready", "pod/clients", "--timeout=180s")
    where, name = GATEWAY.split("/")
    found = Namespace(where).get("gateway", name)["status"]["addresses"][0]["value"]
    return Clients(namespace, found, f"fraud.{api.namespace}.example.com")


@pytest.fixture
def driver(driver_of, kserve, clients):
    """Blue has all traffic and green is up, whatever a test before left."""
    driver = driver_of()
    up(driver, "blue", OLD)
    route = driver.route()
    if route.revision == 0:
        driver.set_route(Route(weights={"blue": 100}))
    else:
        driver.set_route(replace(route, weights={"blue": 100}, mirror=None, rollout=None))
    up(driver, "green", NEW)
    until("the route to lead to blue", lambda: slots_seen(clients) == {"blue"})
    return driver


def slots_seen(clients: Clients) -> set[str]:
    return {each.slot if each.status == 200 else str(each.status) for each in clients.ask(0.5, 2)}


def up(driver, slot, bundle):
    driver.deploy(slot, bundle, S3 + bundle)
    until(f"{slot} to be ready: {driver.slot(slot).reason}", lambda: driver.slot(slot).ready, seconds=240)


def weigh(driver, green, **fields):
    return driver.set_route(replace(driver.route(), weights={"blue": 100 - green, "green": green}, **fields))


def test_split_is_as_weighted_by_the_candidates_own_count(driver, clients):
    weigh(driver, 20)
    until("green to be asked", lambda: "green" in slots_seen(clients))
    mark = driver.mark()
    answers = clients.ask(15)
    live = driver.readings(mark).live
    by_slot = Counter(each.slot for each in answers)
    assert not failed(answers)
    assert (live["blue"].requests, live["green"].requests) == (by_slot["blue"], by_slot["green"])
    deviation = (len(answers) * 0.2 * 0.8) ** 0.5
    assert abs(by_slot["green"] - 0.2 * len(answers)) < 5 * deviation
    print(f"split: {by_slot['green']} of {len(answers)} at 20 %")


def test_no_request_fails_over_twenty_changes_of_weights_and_a_promotion(driver, clients):
    asking = clients.start(45)
    until("the first answers", lambda: driver.readings(driver.mark()) and asking.poll() is None)
    for change in range(20):
        weigh(driver, (change * 37) % 101)
        time.sleep(0.3)
    driver.set_route(replace(driver.route(), weights={"green": 100}))
    driver.remove("blue")
    promoted = time.time()
    answers = clients.ended(asking)
    assert not failed(answers)
    late = [each for each in answers if each.began > promoted + 1]
    assert len(late) > 50, "the load ended before the promotion"
    assert {each.slot for each in late} == {"green"}
    print(f"20 changes and a promotion: {len(answers)} requests, 0 failed")


def test_rollback_cuts_over_within_a_second(driver, clients):
    """The best of three: other work on the node adds to the gateway's own time."""
    took = []
    for _ in range(3):
        weigh(driver, 50)
        until("green to be asked", lambda: "green" in slots_seen(clients))
        asking = clients.start(12)
        time.sleep(4)
        began = time.time()
        driver.set_route(replace(driver.route(), weights={"blue": 100}))
        answers = clients.ended(asking)
        assert not failed(answers)
        assert [each for each in answers if each.slot == "green"], "green had no traffic to lose"
        assert [each for each in answers if each.began > began + 1], "the load ended too early"
        took.append(max(each.began for each in answers if each.slot == "green") - began)
    print(f"rollback: last answer of the candidate began {', '.join(f'{each:.3f}' for each in took)} s after")
    assert min(took) < 1.0


def test_mirror_goes_before_its_target_and_without_it_every_request_would_fail(driver, clients, api):
    mark = driver.mark()
    driver.set_route(replace(driver.route(), mirror=Mirror(slot="green", percent=100)))
    until("copies", lambda: slots_seen(clients) and driver.readings(mark).mirrored["green"].requests)
    with pytest.raises(ReleaseError, match="still gets traffic"):
        driver.remove("green")
    asking = clients.start(10)
    time.sleep(3)
    driver.set_route(replace(driver.route(), mirror=None))
    driver.remove("green")
    answers = clients.ended(asking)
    assert not failed(answers)
    assert {each.slot for each in answers} == {"blue"}

    # The wrong order, to see that this load would notice it.
    up(driver, "green", NEW)
    driver.set_route(replace(driver.route(), mirror=Mirror(slot="green", percent=100)))
    api.delete(SLOTS, "fraud-green")
    until("failures", lambda: slots_seen(clients) == {"500"})
    driver.set_route(replace(driver.route(), mirror=None))
    until("recovery", lambda: slots_seen(clients) == {"blue"})


def test_no_weight_and_no_mirror_go_to_a_slot_without_service(driver, clients):
    driver.remove("green")
    until("its Service to be gone", lambda: "NotFound" in clients.namespace.kubectl(
        "get", "service", "fraud-green-predictor", check=False))  # fmt: skip
    for wrong in (Route(weights={"green": 10}), Route(mirror=Mirror(slot="green", percent=10))):
        with pytest.raises(ReleaseError, match="is not there"):
            driver.set_route(replace(driver.route(), weights=wrong.weights, mirror=wrong.mirror))


# -- whole releases


class Asking:
    """Clients that ask until the release is over."""

    def __init__(self, clients):
        self._clients, self._over, self.answers = clients, threading.Event(), []
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.is_set():
            self.answers += self._clients.ask(8)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


POLICY = {
    "model": {"name": "fraud", "target": "fraud", "features": {"x": {"type": "number"}}},
    "data": {"source": {"format": "csv", "location": "/x.csv"}, "time_column": "t"},
    "release": {
        "steps": [{"percent": percent, "min_seconds": 4, "min_requests": 30, "min_labels": 0} for percent in (20, 50)],
        "bake_seconds": 5,
        "interval_seconds": 1,
        "max_step_seconds": 120,
        "ready_seconds": 240,
        "guard": {"keep_seconds": 0},  # the replaced champion goes at once
    },
}


@pytest.fixture
def release_of(driver_of, tmp_path):
    store = open_store(tmp_path / "store")
    under = store.uri
    store.uri = lambda key: S3 + under(key).rsplit("/", 1)[-1]

    def make(bundle, sleep=time.sleep, *, policy=POLICY):
        return Release(
            driver=driver_of(), policy=policies.parse(policy), store=store, publish=lambda _: None,
            bundle=bundle and Golden(bundle), run="traffic",
            observe=lambda _rollout, spans: [Observed(span=span) for span in spans],
            clock=lambda: datetime.now(UTC), sleep=sleep, say=print,
        )  # fmt: skip

    return make


def test_release_that_is_killed_in_a_canary_goes_on_and_promotes_without_a_failed_request(driver, clients, release_of):
    driver.remove("green")
    looks = 0

    def sleep(seconds):
        nonlocal looks
        rollout = driver.route().rollout
        looks += rollout is not None and rollout.state == "canary"
        if looks == 1:  # the first step's; on a slow machine the next one begins before the third look
            looks += 1
            raise Killed
        time.sleep(seconds)

    with Asking(clients) as asking:
        with pytest.raises(Killed):
            run(release_of(NEW, sleep))
        stood = driver.route().rollout
        outcome = run(release_of(NEW))
    assert (stood.state, stood.step) == ("canary", 0)
    assert outcome.result == "promoted", outcome.reason
    assert driver.route().weights == {"green": 100}
    assert driver.slot("blue").bundle is None
    assert not failed(asking.answers)
    print(f"release, killed once: {len(asking.answers)} requests, 0 failed")


def test_candidate_without_endpoints_is_rolled_back_though_no_client_saw_a_failure(driver, clients, release_of):
    """Its share moves silently to the champion: only its own count and its pods tell."""
    driver.remove("green")
    until("an empty slot", lambda: driver.slot("green").bundle is None)
    gone, asked = [], release_of(DEAD)

    def say(text):
        if "canary" in text and not gone:
            gone.extend(driver._pods("green"))
            for pod in gone:
                driver.http.post(f"{address(pod)}/unready", json={}).raise_for_status()

    asked.say = say
    with Asking(clients) as asking:
        outcome = run(asked)
    assert gone
    assert outcome.result == "rolled-back"
    assert "slot green is not ready" in outcome.reason
    assert driver.route().weights == {"blue": 100}
    assert not failed(asking.answers)
    print(f"dead candidate: {len(asking.answers)} requests, 0 failed; {outcome.reason}")


def test_candidate_whose_server_needs_more_than_it_may_gets_no_traffic(driver, clients, release_of):
    driver.remove("green")
    until("an empty slot", lambda: driver.slot("green").bundle is None)
    sized = {"seconds": 3, "requests_per_second": 5, "max_p95_ms": 20_000, "max_start_seconds": 240, "max_memory_mb": 1}
    said, asked = [], release_of(NEW, policy={**POLICY, "release": {**POLICY["release"], "capacity": sized}})
    asked.say = said.append
    with Asking(clients) as asking:
        outcome = run(asked)
    assert outcome.result == "rolled-back"
    assert re.fullmatch(r"capacity: memory \d+(\.\d+)? MB, above the limit of 1 MB", outcome.reason)
    assert {each.slot for each in asking.answers} == {"blue"}
    assert not failed(asking.answers)
    print("capacity:", *(line for line in said if "limit of" in line), sep="\n  ")


def test_drill_goes_the_real_way_and_comes_back(driver, clients, release_of, tmp_path):
    """The champion's bundle, of which it serves a copy, predicts what the stand-in servers answer."""
    task = {**POLICY["model"], "task": "regression"}
    asked = release_of(None, policy={**POLICY, "model": task})
    model = LinearRegression().fit([[1.0], [2.0]], [0.25, 0.75])
    champion = bundles.write(
        tmp_path / "champion", model=model, signature=Signature.of(asked.policy.model), policy=asked.policy,
        estimator="linear", golden=pa.table({"x": [1.0, 2.0]}), profile=b"{}", snapshot="s",
    )  # fmt: skip
    bundles.publish(asked.store, champion)
    driver.remove("green")
    up(driver, "blue", champion.id)
    with Asking(clients) as asking:
        found = drill(asked, tmp_path / "copy", max_seconds=120)
    assert found.passed, found.reason
    assert driver.route().weights == {"blue": 100}
    assert driver.slot("green").bundle is None
    assert {each.slot for each in asking.answers} == {"blue", "green"}
    assert not failed(asking.answers)
    print(*found.lines(), f"{len(asking.answers)} requests, 0 failed", sep="\n")


def test_champion_that_crash_loops_hands_over_to_the_candidate_that_answers(driver, clients, release_of):
    """No comparison is possible any more: the candidate is judged by its own requests alone."""
    driver.remove("green")
    until("an empty slot", lambda: driver.slot("green").bundle is None)
    over, asked = threading.Event(), release_of(NEW)

    def crash():
        while not over.wait(0.5):
            for pod in driver._pods("blue"):
                with suppress(httpx.HTTPError):
                    driver.http.post(f"{address(pod)}/crash", json={})

    looping = threading.Thread(target=crash)

    def say(text):
        if "canary" in text and not looping.is_alive():
            looping.start()

    asked.say = say
    with Asking(clients) as asking:
        try:
            outcome = run(asked)
        finally:
            over.set()
            looping.join()
    assert outcome.result == "promoted", outcome.reason
    assert driver.route().weights == {"green": 100}
    after = [each for each in asking.answers if each.slot == "green"]
    assert after
    print(f"dead champion: {outcome.reason}; {len(failed(asking.answers))} of {len(asking.answers)} requests failed")
