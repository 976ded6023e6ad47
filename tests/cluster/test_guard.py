"""The circuit breaker as its CronJob runs it: on its account, behind network policies, through a real gateway."""

from __future__ import annotations

import io
import subprocess
import tarfile
from datetime import timedelta

import httpx
import pytest

from kedge import clock, records
from kedge.rollout.gateway.driver import GatewayDriver
from kedge.rollout.kserve.address import Address
from kedge.rollout.kserve.api import Api, connect
from kedge.rollout.kserve.pods import address
from kedge.rollout.model import Route
from kedge.store import open_store
from tests.chart.render import absent, tool
from tests.chart.test_values import FRAUD
from tests.cluster.kserve_double import KServeDouble, ThroughApi
from tests.cluster.kubernetes import Namespace, sleeper, small, until
from tests.cluster.test_monitor import TAKE
from tests.cluster.test_traffic import GATEWAY, Clients
from tests.records.made import record
from tests.rollout.conftest import NEW, OLD

STORE = "/var/lib/kedge/store"


@pytest.fixture(scope="module")
def ml(make_namespace, custom_kinds, tmp_path_factory):
    """The chart with a gateway; two releases in the store's records."""
    where, name = GATEWAY.split("/")
    if "NotFound" in (said := Namespace(where).kubectl("get", "gateway", name, check=False)):
        absent(f"no Gateway {GATEWAY}: {said.strip()}")
    namespace = make_namespace("guard")
    namespace.install(
        small(
            models=[{"policy": FRAUD, "bundle": OLD}],
            serving={"enabled": True},
            route={"enabled": True, "gateway": {"name": name, "namespace": where}},
            guard={"seconds": 10, "schedule": "0 0 1 1 *"},  # the test makes the job
        )
    )
    folder = tmp_path_factory.mktemp("guard")
    store = open_store(folder)
    for bundle, ago in ((OLD, 3), (NEW, 2)):
        records.append(store, record("promoted", f"{bundle}-1", clock.now() - timedelta(hours=ago), bundle=bundle))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "records", "records")
    words = ["--namespace", namespace.name, "exec", "-i", "kedge-collector-0", "--", "python", "-c", TAKE, STORE]
    subprocess.run([tool("kubectl"), *words], input=packed.getvalue(), check=True, timeout=120)
    return namespace


@pytest.fixture(scope="module")
def api(ml):
    connection = connect()
    made = Api(ml.name, connection)
    kserve = KServeDouble(made)
    yield made
    kserve.stop()
    connection.rest_client.pool_manager.clear()


@pytest.fixture(scope="module")
def driver(api):
    """Green is the champion, and blue, who was it before, is kept."""
    http = httpx.Client(transport=ThroughApi(api))
    found = GatewayDriver(
        Address(namespace=api.namespace, gateway=GATEWAY, domain="example.com"), "fraud", api, http=http
    )
    for slot, bundle in (("blue", OLD), ("green", NEW)):
        found.deploy(slot, bundle, f"s3://store/bundles/fraud/{bundle}")
        until(f"{slot} to be ready", lambda slot=slot: found.slot(slot).ready, seconds=240)
    found.set_route(Route(weights={"green": 100}, revision=found.route().revision))
    yield found
    http.close()


@pytest.fixture(scope="module")
def clients(ml):
    ml.kubectl("create", "--filename=-", given=[sleeper("clients")])
    ml.kubectl("wait", "--for=condition=Ready", "pod/clients", "--timeout=180s")
    where, name = GATEWAY.split("/")
    found = Namespace(where).get("gateway", name)["status"]["addresses"][0]["value"]
    return Clients(ml, found, f"fraud.{ml.name}.example.com")


def look(ml, clients, name):
    """What a look said while clients asked."""
    asking = clients.start(60)
    ml.kubectl("create", "job", name, "--from=cronjob/kedge-guard-fraud")

    def over():
        status = ml.get("job", name)["status"]
        return status.get("succeeded") or status.get("failed")

    try:
        until(f"the end of {name}", over, seconds=300)
        return ml.kubectl("logs", f"job/{name}")
    finally:
        asking.kill()
        asking.communicate()


def test_a_champion_that_fails_is_rolled_back_and_one_that_answers_is_left(ml, driver, clients):
    until("green to answer", lambda: {each.slot for each in clients.ask(0.5, 2)} == {"green"})
    said = look(ml, clients, "quiet")
    assert "fraud: within limits, " in said
    assert driver.route().weights == {"green": 100}

    for pod in driver._pods("green"):
        driver.http.post(f"{address(pod)}/fail", json={}).raise_for_status()
    said = look(ml, clients, "failing")
    assert "fraud: rolled back, " in said
    assert driver.route().weights == {"blue": 100}
    until("blue to answer", lambda: {each.slot for each in clients.ask(0.5, 2)} == {"blue"})


def test_a_person_in_the_tools_pod_sees_what_the_guard_did(ml, driver, clients):
    """After the look above. The pod has the guard's account, which moved the traffic there."""
    tools = ["exec", "deploy/kedge-tools", "--", "kedge"]
    history = ml.kubectl(*tools, "history", "--model", "fraud").splitlines()
    assert "rolled back  guard" in history[-1]
    assert NEW[:12] in history[-1]
    assert OLD[:12] in ml.kubectl(*tools, "status", "--model", "fraud")
