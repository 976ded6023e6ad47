"""Kill releases at random moments under load, in every fourth the champion's server too, and count failed requests.

    python benchmarks/release_kills.py [--kills 40] [--seed 1]

Everything but the model servers is real: Envoy, the supervisor of `kedge up`, releases as processes of their own. Each
release is killed by SIGKILL once, at a random moment, and gone on with by another process. In every fourth the
champion's server is killed while the candidate has traffic, and never comes up again. Failed are requests that got no
answer or another than 200, although one slot at least was healthy all the while. The goal is 0, and no route that is
left with a rollout.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kedge.rollout.local.driver import LocalDriver
from kedge.rollout.local.folder import Folder
from kedge.rollout.model import Route

ROOT = Path(__file__).resolve().parents[1]
STANDINS = ROOT / "tests" / "rollout"
POLICY = """
model: {name: fraud, target: fraud, features: {x: {type: number}}}
data: {source: {format: csv, location: x.csv}, time_column: t}
release:
  steps: [{percent: 50, min_seconds: 1, min_requests: 20}]
  bake_seconds: 1
  interval_seconds: 0.2
  ready_seconds: 30
  guard: {keep_seconds: 0}
"""
CLIENTS = 3
DEADLINE = 60.0


class Load:
    """Clients that ask all the while."""

    def __init__(self, gateway: str) -> None:
        self.port = urlsplit(gateway).port
        self.answered, self.failed = 0, list[str]()
        self.last: dict[str, float] = {}
        """When the newest request began that a slot answered, in monotonic seconds."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self._stop.wait(0.01):
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/models/fraud:predict", b'{"instances": [{"x": 1}]}')
                answer = connection.getresponse()
                answer.read()
            except OSError as exc:
                self.failed.append(repr(exc))
                connection.close()
                continue
            slot = answer.headers.get("x-kedge-slot", "")
            self.last[slot] = max(began, self.last.get(slot, 0.0))
            if answer.status == http.HTTPStatus.OK:
                self.answered += 1
            else:
                self.failed.append(str(answer.status))
        connection.close()


def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > ends:
            raise SystemExit(f"not within {DEADLINE:g} s: {what}")
        time.sleep(0.02)


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def serving() -> Iterator[tuple[Path, Folder, LocalDriver, Load]]:
    """A platform whose champion is asked all the while: its folder, what it says, its driver, the clients."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "fraud.yaml").write_text(POLICY, encoding="ascii")
        folder, driver = Folder(root / "platform"), LocalDriver(root / "platform", "fraud")
        words = [sys.executable, str(STANDINS / "run_platform.py"), str(root / "platform")]
        platform = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        try:
            until(lambda: (seen := folder.platform()) and seen.ready, "the platform")
            write_bundle(root, "first")
            driver.deploy("blue", "first", str(root / "first"))
            until(lambda: driver.slot("blue").ready, "the first champion")
            driver.set_route(replace(driver.route(), weights={"blue": 100}))
            seen = folder.platform()
            assert seen is not None
            load = Load(seen.gateway)
            yield root, folder, driver, load
            load.stop()
        finally:
            platform.send_signal(signal.SIGTERM)
            platform.wait(60)


def measure(kills: int, seed: int) -> dict[str, Any]:
    """Release and kill; what became of it."""
    rng = random.Random(seed)
    with serving() as (root, folder, driver, load):
        ends = [_release(root, folder, driver, number, rng) for number in range(kills)]
        route = driver.route()
    return {
        "kills": kills,
        "dead_champions": sum(number % 4 == 3 for number in range(kills)),
        "promoted": ends.count("promoted"),
        "answered": load.answered,
        "failed": len(load.failed),
        "kinds_of_failure": sorted(set(load.failed)),
        "left": route.rollout is not None,
    }


def _release(root: Path, folder: Folder, driver: LocalDriver, number: int, rng: random.Random) -> str:
    """One release that is killed once and gone on with; how it ended."""
    name = f"bundle-{number}"
    write_bundle(root, name)
    champion = driver.route().champion
    assert champion is not None
    words = [sys.executable, str(STANDINS / "run_release.py"), str(root), name]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if number % 4 == 3:
        until(lambda: _candidate_has_traffic(folder, driver.route(), name), "the candidate's traffic")
        serving, status = driver.slot(champion).bundle, folder.seen("fraud", champion)
        assert status is not None
        assert status.pid is not None
        (root / str(serving) / "behaviour.json").write_text('{"crash": true}', encoding="ascii")
        os.kill(status.pid, signal.SIGKILL)
    time.sleep(rng.uniform(0, 4))
    process.kill()
    process.wait()
    last = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return last.stdout.strip()


def _candidate_has_traffic(folder: Folder, route: Route, name: str) -> bool:
    """Whether the gateway sends it requests by now, too."""
    rollout, seen = route.rollout, folder.platform()
    declared = rollout is not None and rollout.bundle == name and route.weights.get(rollout.slot, 0) > 0
    return declared and seen is not None and seen.routes.get("fraud", 0) >= route.revision


def write_bundle(root: Path, name: str, **behaviour: float) -> None:
    """What the stand-in of a model server serves, and how it behaves."""
    (root / name).mkdir()
    (root / name / "behaviour.json").write_text(json.dumps(behaviour), encoding="ascii")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seen = measure(options.kills, options.seed)
    for name, value in seen.items():
        print(f"{name:<18}{value}")
    print("goal: 0 failed, nothing left:", "met" if not seen["failed"] and not seen["left"] else "**missed**")


if __name__ == "__main__":
    main()
