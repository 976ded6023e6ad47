"""The local platform with a real Envoy: what is wanted comes about, nothing is lost, nothing is left."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pyarrow as pa
import pytest

from kedge.errors import Conflict, ReleaseError, UsageError
from kedge.rollout.local import envoy
from kedge.rollout.local.driver import LocalDriver
from kedge.rollout.local.folder import Folder
from kedge.rollout.local.servers import free_port
from kedge.rollout.local.supervisor import Settings, Supervisor
from kedge.rollout.model import Mirror, Rollout, Route
from kedge.rollout.release import Release
from kedge.rollout.rollout import run

HERE = Path(__file__).parent
PATH = "/v1/models/fraud:predict"
BODY = b'{"instances": [{"x": 1}]}'


def until(condition, seconds=15.0):
    """Wait until the condition holds; what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Running:
    """A platform in a process of its own."""

    def __init__(self, root):
        self.root = root
        self.folder = Folder(root / "platform")
        self.driver = LocalDriver(root / "platform", "fraud")
        with (root / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run_platform.py"), str(root / "platform")],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
            )
        self.seen = until(lambda: (seen := self.folder.platform()) and seen.ready and seen)

    def bundle(self, name, **behaviour):
        (self.root / name).mkdir(exist_ok=True)
        (self.root / name / "behaviour.json").write_text(json.dumps(behaviour))
        return str(self.root / name)

    def deploy(self, slot, name, **behaviour):
        self.driver.deploy(slot, name, self.bundle(name, **behaviour))
        until(lambda: self.driver.slot(slot).ready and self.driver.slot(slot).bundle == name)

    def weigh(self, **weights):
        self.driver.set_route(replace(self.driver.route(), weights=weights))

    def ask(self, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.seen.gateway).port, timeout=10)
        connection.request("POST", PATH, BODY, headers or {})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers.get("x-kedge-slot"), answer.headers.get("x-kedge-version")

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)


class Load:
    """Clients that keep asking, on connections they keep."""

    def __init__(self, gateway, clients=3):
        self.port, self.answers, self.failed = urlsplit(gateway).port, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self._stop.wait(0.005):
            try:
                connection.request("POST", PATH, BODY, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except OSError as exc:
                self.failed.append(repr(exc))
                connection.close()
                continue
            (self.answers if answer.status == 200 else self.failed).append(answer.headers.get("x-kedge-version"))
        connection.close()


@pytest.fixture
def platform(tmp_path):
    running = Running(tmp_path)
    yield running
    running.end()


def test_twenty_weight_changes_and_a_slot_replacement_lose_no_request(platform):
    platform.deploy("blue", "one")
    platform.deploy("green", "two")
    platform.weigh(blue=100)
    with Load(platform.seen.gateway) as load:
        for change in range(20):
            green = (0, 5, 50, 95, 100)[change % 5]
            platform.weigh(blue=100 - green, green=green)
        platform.weigh(blue=50, green=50)
        platform.deploy("green", "three")  # in place, under half of the traffic
        count = len(load.answers)
        until(lambda: len(load.answers) > count + 200)
        platform.driver.set_route(replace(platform.driver.route(), weights={"green": 100}))
        platform.driver.remove("blue")
        until(lambda: platform.folder.seen("fraud", "blue") is None)
        count = len(load.answers)
        until(lambda: len(load.answers) > count + 200)
    assert load.failed == []
    assert set(load.answers) == {"one", "two", "three"}


def test_mirrored_requests_are_answered_by_the_champion_and_counted_apart(platform):
    platform.deploy("blue", "one")
    platform.deploy("green", "two", failing=1.0)
    platform.weigh(blue=100)
    mark = platform.driver.mark()
    platform.driver.set_route(replace(platform.driver.route(), mirror=Mirror(slot="green", percent=100)))
    assert {platform.ask() for _ in range(40)} == {(200, "blue", "one")}
    seen = until(lambda: (now := platform.driver.readings(mark)).mirrored["green"].requests == 40 and now)
    assert seen.mirrored["green"].errors == 40
    assert (seen.live["blue"].requests, seen.live["blue"].errors, seen.live["green"].requests) == (40, 0, 0)


def test_header_pins_a_request_to_a_slot_whatever_the_weights(platform):
    platform.deploy("blue", "one")
    platform.deploy("green", "two")
    platform.weigh(blue=100)
    assert platform.ask({"x-kedge-slot": "green"}) == (200, "green", "two")
    assert platform.ask()[1] == "blue"


def test_before_the_first_release_the_gateway_says_that_nothing_is_served(platform):
    assert platform.ask()[0] == 503


@pytest.mark.parametrize(("count", "said"), [(0, "none here yet"), (2, "m000, m001"), (500, "m019 and 480 more")])
def test_another_path_is_told_which_models_there_are(count, said):
    routes = json.loads(envoy.routes({f"m{k:03}": Route() for k in range(count)}))
    body = routes["resources"][0]["virtual_hosts"][0]["routes"][-1]["direct_response"]["body"]["inline_string"]
    assert json.loads(body)["error"].endswith(said)


def test_latency_of_each_slot_is_seen_by_the_gateway(platform):
    platform.deploy("blue", "one")
    platform.deploy("green", "two", delay_ms=60)
    platform.weigh(blue=50, green=50)
    mark = platform.driver.mark()
    with Load(platform.seen.gateway):
        until(lambda: sum(platform.driver.readings(mark).live["green"].latency.values()) > 20)
    seen = platform.driver.readings(mark).live
    assert sum(count for edge, count in seen["green"].latency.items() if edge < 60) == 0
    assert sum(count for edge, count in seen["blue"].latency.items() if edge < 60) > 0


def test_server_that_dies_is_started_again_on_the_same_slot(platform):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    before = platform.folder.seen("fraud", "blue").pid
    os.kill(before, signal.SIGKILL)
    until(lambda: (seen := platform.folder.seen("fraud", "blue")).ready and seen.pid != before)
    until(lambda: platform.ask()[0] == 200)
    assert platform.ask() == (200, "blue", "one")


def test_gateway_that_dies_comes_back_at_its_address_and_counts_anew(platform):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    assert platform.ask()[0] == 200
    mark = platform.driver.mark()
    envoy = next(child for child in platform.children() if child.name().startswith("envoy"))
    envoy.kill()
    until(lambda: platform.folder.platform().epoch != mark.epoch and platform.folder.platform().ready)
    assert platform.ask()[0] == 200
    assert platform.driver.readings(mark).live["blue"].requests == 1


def test_server_that_cannot_start_is_said_to_have_failed_with_its_last_words(platform):
    platform.driver.deploy("green", "bad", platform.bundle("bad", crash=True))
    status = until(lambda: (status := platform.driver.slot("green")).failed and status)
    assert "the model cannot be read" in status.reason
    assert "ended with code 1" in status.reason


def test_bundle_that_is_not_there_is_said_at_once(platform):
    platform.driver.deploy("green", "gone", str(platform.root / "gone"))
    status = until(lambda: (status := platform.driver.slot("green")).failed and status)
    assert "no such folder" in status.reason


def test_new_bundle_that_does_not_come_up_leaves_the_old_one_serving_but_not_ready(platform):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    platform.driver.deploy("blue", "bad", platform.bundle("bad", crash=True))
    until(lambda: platform.driver.slot("blue").failed)
    assert not platform.driver.slot("blue").ready
    assert platform.ask() == (200, "blue", "one")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running_however_the_supervisor_ends(platform, number):
    platform.deploy("blue", "one")
    children = platform.children()
    assert len(children) >= 3
    platform.end(number)
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not platform.folder.running()
    assert platform.driver.slot("blue").reason.startswith("the local platform is not running")


def test_platform_goes_on_where_a_killed_one_stood(platform, tmp_path):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    platform.end(signal.SIGKILL)
    again = Running(tmp_path)
    try:
        until(lambda: again.driver.slot("blue").ready)
        until(lambda: again.ask()[0] == 200)
        assert again.ask() == (200, "blue", "one")
        assert again.driver.route().weights == {"blue": 100}
        server = psutil.Process(again.folder.seen("fraud", "blue").pid)
        assert again.seen.collector in server.cmdline()  # else its predictions go where nobody listens
    finally:
        again.end()


def test_second_supervisor_on_the_folder_is_refused(platform):
    settings = Settings(folder=platform.folder.root, store="s", policies=[], models=[])
    with pytest.raises(UsageError, match="another `kedge up` runs this platform"):
        Supervisor(settings)


def test_gateway_port_in_use_is_said(platform, tmp_path):
    port = urlsplit(platform.seen.gateway).port
    settings = Settings(folder=tmp_path / "other", store="s", policies=[], models=[], port=port)
    with pytest.raises(UsageError, match=rf"port {port} on 127\.0\.0\.1: Address already in use; give another"):
        Supervisor(settings)


def test_collector_listens_where_it_was_asked_to(tmp_path):
    port = free_port()
    settings = Settings(folder=tmp_path, store="s", policies=[], models=[], collector_port=port)
    supervisor = Supervisor(settings)
    assert supervisor.address("collector") == f"http://127.0.0.1:{port}"
    supervisor.close()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UsageError, match="--collector-port"):
        Supervisor(settings)


def test_route_file_spoilt_by_hand_stops_no_traffic(platform):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    (platform.folder.root / "routes" / "fraud.json").write_text('{"weights": {"red": 100}}')
    until(lambda: "not a route kedge wrote" in (platform.root / "out.log").read_text())
    assert platform.ask()[0] == 200
    before = platform.folder.seen("fraud", "blue").pid
    os.kill(before, signal.SIGKILL)  # what dies is still started again
    until(lambda: platform.folder.seen("fraud", "blue").pid not in (before, None) and platform.ask()[0] == 200)


def test_services_that_never_answered_are_tried_on_other_ports(tmp_path):
    settings = Settings(
        folder=tmp_path / "platform",
        store="s",
        policies=[],
        models=[],
        collector=(sys.executable, "-c", "import sys; sys.exit('no port')"),
    )
    supervisor = Supervisor(settings)
    try:
        tried = set()

        def two_ports():
            with contextlib.suppress(ReleaseError):
                supervisor.tick()
            tried.add(supervisor.address("collector"))
            return len(tried) > 2

        until(two_ports)
        with pytest.raises(
            ReleaseError, match="the collector ended with code 1 and is started again; it said: no port"
        ):
            until(supervisor.tick)
    finally:
        supervisor.close()


def test_a_collector_that_was_killed_is_said_without_last_words(tmp_path):
    silent = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    settings = Settings(folder=tmp_path / "platform", store="s", policies=[], models=[], collector=silent)
    supervisor = Supervisor(settings)
    try:
        with pytest.raises(ReleaseError, match=r"the collector ended with code -9 and is started again$"):
            until(supervisor.tick)
    finally:
        supervisor.close()


class Golden:
    """As much of a bundle as a release reads: what the stand-in predicts."""

    def __init__(self, name):
        self.id = name
        self.golden = pa.table({"x": [1.0], "_score": [0.5]})
        self.size = 2_000_000

    def golden_rows(self):
        return [{"x": 1.0}]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({}, ""),
        ({"failing": 0.5}, "failed requests"),
        ({"delay_ms": 400}, "latency"),  # far above what a busy machine adds to either side
        ({"score": 0.7}, "smoke: golden rows"),
    ],
)
def test_release_through_a_real_gateway_ends_as_the_candidate_deserves(platform, change, store, tmp_path, fault, word):
    quick = change(bake_seconds=1.0, interval_seconds=0.2)
    steps = tuple(step.model_copy(update={"min_seconds": 1.0, "min_requests": 30}) for step in quick.release.steps)
    quick = quick.model_copy(update={"release": quick.release.model_copy(update={"steps": steps})})
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    platform.bundle("two", **fault)
    asked = Release(
        driver=platform.driver,
        policy=quick,
        store=store,
        publish=lambda state: None,
        observe=observe_nothing,
        bundle=Golden("two"),
    )
    asked.uri = lambda bundle: str(tmp_path / bundle)
    with Load(platform.seen.gateway) as load:
        outcome = run(asked)
        assert outcome.result == ("rolled-back" if fault else "promoted"), outcome.reason
        assert word in outcome.reason
        until(lambda: set(load.answers[-50:]) == {"one" if fault else "two"})  # slow answers of before may still come
    assert platform.driver.route().rollout is None
    if "failing" not in fault:
        assert load.failed == []


POLICY = """
model: {name: fraud, target: fraud, features: {x: {type: number}}}
data: {source: {format: csv, location: x.csv}, time_column: t}
release:
  steps: [{percent: 50, min_seconds: 0.5, min_requests: 20}]
  bake_seconds: 0.5
  interval_seconds: 0.1
"""


def test_release_killed_in_each_state_is_gone_on_with_by_the_next_process(platform):
    platform.deploy("blue", "one")
    platform.weigh(blue=100)
    platform.bundle("two", ready_after_s=1)
    (platform.root / "fraud.yaml").write_text(POLICY)
    words = [sys.executable, str(HERE / "run_release.py"), str(platform.root), "two"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    with Load(platform.seen.gateway) as load:
        for state in ("deploy", "canary", "bake"):
            process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                until(lambda state=state: (now := platform.driver.route().rollout) and now.state == state, 180)
            finally:
                process.kill()
                process.wait()
        last = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert last.stdout == "promoted\n"
    assert platform.driver.route().weights == {"green": 100}
    assert load.failed == []


def observe_nothing(rollout, spans):
    """No labels come."""
    from kedge.rollout.evidence import Observed

    return [Observed(span=span) for span in spans]


@pytest.mark.parametrize(("dead", "alive"), [("blue", "green"), ("green", "blue")])
def test_requests_of_a_slot_whose_server_is_killed_are_answered_by_the_other(platform, dead, alive):
    bundles = {"blue": "one", "green": "two"}
    for slot, bundle in bundles.items():
        platform.deploy(slot, bundle)
    platform.weigh(blue=50, green=50)
    with Load(platform.seen.gateway) as load:
        until(lambda: len(load.answers) > 100)
        (platform.root / bundles[dead] / "behaviour.json").write_text('{"crash": true}')
        os.kill(platform.folder.seen("fraud", dead).pid, signal.SIGKILL)
        until(lambda: platform.driver.slot(dead).ends >= 1)
        answered = len(load.answers)
        until(lambda: len(load.answers) > answered + 100)
    assert load.failed == []
    assert set(load.answers[answered + 50 :]) == {bundles[alive]}
    assert not platform.driver.slot(dead).serves(bundles[dead])


def test_candidate_that_was_not_tested_answers_for_nobody(platform, platform_rollout):
    platform.deploy("blue", "one")
    platform.deploy("green", "two")
    waiting = replace(platform_rollout, state="smoke", slot="green", champion="one")
    platform.driver.set_route(replace(platform.driver.route(), weights={"blue": 100}, rollout=waiting))
    (platform.root / "one" / "behaviour.json").write_text('{"crash": true}')
    os.kill(platform.folder.seen("fraud", "blue").pid, signal.SIGKILL)
    until(lambda: platform.ask()[0] == 503)
    assert {platform.ask()[0] for _ in range(20)} == {503}


def test_route_is_written_by_compare_and_swap(tmp_path):
    driver = LocalDriver(tmp_path, "fraud")
    first = driver.set_route(Route(weights={"blue": 100}))
    driver.set_route(replace(first, weights={"green": 100}))
    with pytest.raises(Conflict, match="is at revision 2, not 1"):
        driver.set_route(replace(first, weights={"blue": 100}))


def test_of_many_writers_at_once_one_wins(tmp_path):
    wins = []

    def write():
        try:
            LocalDriver(tmp_path, "fraud").set_route(Route(weights={"blue": 100}))
            wins.append(1)
        except Conflict:
            pass

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins == [1]


def test_route_comes_back_from_its_file_as_it_was(tmp_path, platform_rollout):
    driver = LocalDriver(tmp_path, "fraud")
    written = driver.set_route(Route(weights={"blue": 90, "green": 10}, rollout=platform_rollout))
    assert driver.route() == written


@pytest.fixture
def platform_rollout():
    from datetime import UTC, datetime

    from kedge.rollout.model import Mark, Readings, Span, Traffic

    time = datetime(2026, 3, 2, tzinfo=UTC)
    counted = Traffic(requests=5, errors=1, latency={1.0: 4, 2.5: 1})
    return Rollout(
        bundle="b", uri="u", slot="green", champion="a", attempt=1, run="r", started=time, since=time, state="canary",
        mark=Mark(time=time, epoch="7", readings=Readings(live={"green": counted})),
        spans=(Span(state="shadow", percent=10, began=time, ended=time, candidate=counted),),
    )  # fmt: skip


def test_slot_with_traffic_is_not_removed(tmp_path):
    driver = LocalDriver(tmp_path, "fraud")
    driver.set_route(Route(weights={"blue": 100}, mirror=Mirror(slot="green", percent=5)))
    for slot in ("blue", "green"):
        with pytest.raises(ReleaseError, match="still gets traffic"):
            driver.remove(slot)


def test_driver_says_that_no_platform_runs(tmp_path):
    driver = LocalDriver(tmp_path, "fraud")
    for verb in (driver.mark, lambda: driver.deploy("blue", "one", "/one")):
        with pytest.raises(ReleaseError, match="start it with `kedge up`"):
            verb()
