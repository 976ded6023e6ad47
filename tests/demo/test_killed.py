"""The real parts of the demo, killed with signal 9 while they work: the next command goes on from the store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kedge import records
from kedge.demo import payments, story
from kedge.demo.loop import environment, set_clock
from kedge.demo.processes import Addresses, platform
from kedge.demo.run import _policy_file
from kedge.demo.traffic import Answer, Bank, Clients, Label, Request
from kedge.policy import Policy, load
from kedge.store import open_store
from kedge.tables import log

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("killed")]  # one world for all


class World:
    """A running platform with a history in its warehouse, driven by hand."""

    def __init__(self, folder: Path, policy: Policy, addresses: Addresses) -> None:
        self.folder, self.policy, self.addresses = folder, policy, addresses
        self.store = open_store(folder / "store")
        self.clients = Clients(addresses.gateway, policy.name)
        self.bank = Bank(addresses.collector, policy.name)

    def ask(self, number: int, rows: int) -> list[Answer]:
        """Ask for the first rows of a day and post their outcomes."""
        table = payments.day(number, rows, payments.Weather())
        values = table.select(list(self.policy.model.features)).to_pylist()
        ids, times, labels = (table[x].to_pylist() for x in ("payment_id", "requested_at", "returned"))
        answers = self.clients.ask([Request(*row) for row in zip(ids, times, values, strict=True)])
        for key, when, label in zip(ids, times, labels, strict=True):
            self.bank.later(Label(key, label, when))
        self.bank.tell(payments.START.replace(year=2027))
        return answers

    def submit(self) -> subprocess.Popen[bytes]:
        """Start `kedge submit`."""
        words = ("submit", "--policy", str(self.folder / "policy.yaml"), "--local", "--key", "first")
        told = {**os.environ, **environment(self.folder)}
        return subprocess.Popen([sys.executable, "-m", "kedge.cli", *words], env=told, start_new_session=True)

    def status(self, name: str) -> dict[str, object]:
        """What the supervisor says of a slot, or of itself."""
        found: dict[str, object] = orjson.loads(
            (self.folder / "store" / "platform" / "status" / f"{name}.json").read_bytes()
        )
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("killed")
    raw = yaml.safe_load(Path("kedge/demo/payments.yaml").read_text())
    policy = load(_policy_file(folder, raw, folder / "warehouse"))
    story.write_history(folder / "warehouse")
    set_clock(folder, payments.START)
    with platform(folder / "policy.yaml", folder / "store", environment(folder)) as addresses:
        world = World(folder, policy, addresses)
        yield world
        world.clients.close()
        world.bank.close()
    assert children_of(folder) == []


def children_of(folder: Path) -> list[str]:
    """Command lines of living processes that know the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and place.parent.name != str(os.getpid()):
            found.append(words)
    return found


def pid_of(*words: str) -> int | None:
    """A living process whose command line holds all of the words."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words) and place.parent.name != str(os.getpid()):
            return int(place.parent.name)
    return None


def wait_for(look: Callable[[], Any], seconds: float = 120) -> Any:
    """The first true value of ``look``; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain for {look}")


@pytest.fixture(scope="module")
def released(world: World) -> World:
    """The world after a submission was killed with its steps and submitted again."""
    first = world.submit()
    wait_for(lambda: list(world.store.keys("snapshots")))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert world.submit().wait(300) == 0
    return world


def test_a_submission_killed_with_its_steps_is_taken_up_by_the_next_one(released: World) -> None:
    promoted = records.read(released.store, "payments", records.Promoted)
    assert len(promoted) == 1
    assert [answer.status for answer in released.ask(0, 20)] == [200] * 20


def test_a_killed_model_server_is_started_again_with_the_same_bundle(released: World) -> None:
    world = released
    bundle = records.read(world.store, "payments", records.Promoted)[0].data.bundle
    slot = next(x for x in ("blue", "green") if (world.folder / f"store/platform/status/payments-{x}.json").exists())
    before = world.status(f"payments-{slot}")["pid"]
    os.kill(int(str(before)), signal.SIGKILL)

    def back() -> bool:
        seen = world.status(f"payments-{slot}")
        return bool(seen["ready"]) and seen["pid"] != before and world.ask(1, 1)[0].status == 200

    wait_for(back)  # through the gateway too, which hears of it a little later
    answers = world.ask(1, 20)
    assert {answer.version for answer in answers if answer.status == 200} == {bundle}
    assert answers[-1].status == 200


def test_a_killed_collector_comes_back_with_everything_it_acknowledged_once(released: World) -> None:
    world = released
    asked = world.ask(2, 60)
    killed = pid_of("kedge.collector", str(world.folder))
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def flushed() -> bool:
        try:
            world.bank.flush()
        except Exception:
            return False
        return True

    wait_for(flushed)
    day = payments.START.replace(day=payments.START.day + 2)
    rows = log.read_labels(world.store, world.policy, None)
    told = [key for key in rows["_id"].to_pylist() if key.startswith(f"{day:%y%m%d}")]
    assert len(told) == len(set(told)) == 60
    assert len(asked) == 60


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_nothing_running(tmp_path: Path, sign: signal.Signals) -> None:
    words = [sys.executable, "-m", "kedge.cli", "demo", "--folder", str(tmp_path / "demo")]
    told = tmp_path / "out.txt"
    with told.open("w") as out:
        demo = subprocess.Popen(
            words, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a script in the background ignores it
        )  # fmt: skip
    wait_for(lambda: "training and releasing" in told.read_text())
    wait_for(lambda: (tmp_path / "demo/store/snapshots").exists())
    demo.send_signal(sign)
    code = demo.wait(60)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[sign]
    wait_for(lambda: not children_of(tmp_path), 60)
    assert "Traceback" not in told.read_text()
