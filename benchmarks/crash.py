"""Kill the collector at random moments under load, start it again, and count what the log holds.

    python benchmarks/crash.py [--rounds 100] [--replicas 2]

Each round sends predictions (single and batched), KServe request and response pairs and labels, some of them twice and
out of order, kills the process with SIGKILL after a random time and starts it again on the same spool and store. At the
end the log's reader must give everything that was acknowledged once: lost 0, duplicated 0. What was not acknowledged
may be there or not, but never twice. With several collectors each event goes to any of them, also when sent again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

from kedge import policy as policies
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.tables import appending, log

SENDERS = 4
POLICY = {
    "model": {"name": "crash", "target": "outcome", "features": {"amount": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
}
TIME = "2026-03-02T12:00:00Z"


@dataclass
class Ledger:
    """Ids that the collector acknowledged."""

    predictions: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    responses: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    @property
    def logged(self) -> set[str]:
        """Predictions that must be in the log: own ones, and those of which request and response were acknowledged."""
        return self.predictions | (self.requests & self.responses)


class Sender(threading.Thread):
    """Sends until it is told to stop; notes what was acknowledged, sends some things again."""

    def __init__(self, name: str, ports: list[int], ledger: Ledger, seed: int) -> None:
        super().__init__(daemon=True)
        self._name = name
        self._addresses = [f"http://127.0.0.1:{port}" for port in ports]
        self._ledger = ledger
        self._random = random.Random(seed)
        self._count = 0
        self.ends = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=5) as client:
            while not self.ends.is_set():
                work = self._random.choice((self._single, self._batch, self._pair, self._pair, self._labels))
                try:
                    for _ in range(self._random.choice((1, 1, 1, 2))):
                        work(client)
                except httpx.TransportError:
                    time.sleep(0.005)

    def _post(self, client: httpx.Client, path: str, **content: Any) -> httpx.Response:
        return client.post(self._random.choice(self._addresses) + path, **content)

    def _id(self) -> str:
        self._count += self._random.choice((0, 1, 1, 1))  # now and then the same id again
        return f"{self._name}-{self._count}"

    def _single(self, client: httpx.Client) -> None:
        identity = self._id()
        headers = {"content-type": "application/cloudevents+json"}
        answer = self._post(client, "/", content=orjson.dumps(_event(identity)), headers=headers)
        self._note(answer, self._ledger.predictions, [identity])

    def _batch(self, client: httpx.Client) -> None:
        ids = [self._id() for _ in range(self._random.randint(1, 30))]
        headers = {"content-type": "application/cloudevents-batch+json"}
        answer = self._post(client, "/", content=orjson.dumps([_event(identity) for identity in ids]), headers=headers)
        self._note(answer, self._ledger.predictions, ids)

    def _pair(self, client: httpx.Client) -> None:
        identity = "pair-" + self._id()
        unmatched = [
            ("request", {"instances": [{"amount": 1.0}]}, self._ledger.requests),
            ("response", {"predictions": [0.5]}, self._ledger.responses),
        ]
        self._random.shuffle(unmatched)
        for kind, body, ledger in unmatched:
            headers = {
                "ce-specversion": "1.0", "ce-id": identity, "ce-source": "http://localhost:9081/", "ce-time": TIME,
                "ce-type": f"org.kubeflow.serving.inference.{kind}", "ce-inferenceservicename": "crash-blue",
            }  # fmt: skip
            self._note(self._post(client, "/", json=body, headers=headers), ledger, [identity])

    def _labels(self, client: httpx.Client) -> None:
        ids = [self._id() for _ in range(self._random.randint(1, 20))]
        labels = [{"id": identity, "label": 1, "observed_at": TIME} for identity in ids]
        answer = self._post(client, "/v1/labels", json={"model": "crash", "labels": labels})
        self._note(answer, self._ledger.labels, ids)

    def _note(self, answer: httpx.Response, ledger: set[str], ids: list[str]) -> None:
        if answer.status_code == 202:
            ledger.update(ids)
        else:
            self._ledger.refused.append(answer.text)


def _event(identity: str) -> dict[str, object]:
    data = {"model": "crash", "version": "v", "slot": "blue", "features": {"amount": 1.5}, "score": 0.5}
    attributes = {"specversion": "1.0", "id": identity, "source": "crash", "type": "dev.kedge.prediction", "time": TIME}
    return attributes | {"data": data}


class Replica:
    """A collector with a spool of its own on the common store; it appends all the time."""

    def __init__(self, folder: Path, number: int) -> None:
        self._command = [sys.executable, "-m", "kedge.collector", "--store", str(folder / "store"), "--spool"]
        self._command += [str(folder / f"spool-{number}"), "--policy", str(folder / "policy.yaml")]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._command += ["--port", str(self.port), "--interval-seconds", "0.1"]
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        self._process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
                if self._process.poll() is not None:
                    raise SystemExit(f"the collector ended with {self._process.returncode}") from None
            else:
                return
        raise SystemExit("the collector did not start")

    def kill(self) -> None:
        """SIGKILL, and start again."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.start()

    def flush(self) -> None:
        """Append what it holds."""
        httpx.post(f"http://127.0.0.1:{self.port}/v1/flush", timeout=120).raise_for_status()

    def stop(self) -> None:
        """End it as Kubernetes does."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


def crash(rounds: int, folder: Path, seed: int = 0, replicas: int = 1) -> dict[str, int]:
    """Run the rounds; what was sent, lost and duplicated."""
    chance = random.Random(seed)
    (folder / "policy.yaml").write_bytes(orjson.dumps(POLICY))
    ledger = Ledger()
    collectors = [Replica(folder, number) for number in range(replicas)]
    ports = [collector.port for collector in collectors]
    senders = [Sender(f"s{index}", ports, ledger, seed + index) for index in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(rounds):
            time.sleep(chance.uniform(0.0, 1.0))
            chance.choice(collectors).kill()
        for sender in senders:
            sender.ends.set()
            sender.join(30)
        for collector in collectors:
            collector.flush()
        result = counted(folder, ledger)
    finally:
        for collector in collectors:
            collector.stop()
    return {"kills": rounds, "refused": len(ledger.refused), **result}


def counted(folder: Path, ledger: Ledger) -> dict[str, int]:
    """Acknowledged, lost and duplicated, as the log's reader gives them, and rows of the tables that it drops."""
    store = open_store(folder / "store")
    policy = policies.parse(POLICY)
    result = {}
    for name, acknowledged in (("predictions", ledger.logged), ("labels", ledger.labels)):
        ids = _read_ids(store, policy, name)
        wanted = acknowledged if name == "predictions" else acknowledged & set(_read_ids(store, policy, "predictions"))
        result[f"{name} acknowledged"] = len(acknowledged)
        result[f"{name} lost"] = len(wanted - set(ids))
        result[f"{name} duplicated"] = len(ids) - len(set(ids))
    logged = set(log.read_labels(store, policy, None)["_id"].to_pylist())
    result["labels lost"] += len(ledger.labels - logged)
    for table in appending.TABLES:
        opened = appending.open_table(store, f"logs/{policy.name}/{table}")
        ids = opened.to_pyarrow_dataset().to_table(columns=["_id"])["_id"].to_pylist() if opened is not None else []
        result[f"{table} sent again"] = len(ids) - len(set(ids))
    return result


def _read_ids(store: Store, policy: Policy, name: str) -> list[str]:
    """Ids as the log's readers give them: of labels, those of predictions."""
    time = datetime.fromisoformat(TIME)
    labels: log.Labels = "none" if name == "predictions" else "inner"
    found = log.read_window(store, policy, time, time + timedelta(days=1), columns=["_id"], labels=labels)
    return list(found["_id"].to_pylist())


def main() -> None:
    """Run and print; the exit code is 1 if anything was lost or duplicated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kedge-crash-"))
    began = time.monotonic()
    result = crash(options.rounds, folder, options.seed, options.replicas)
    for name, value in result.items():
        print(f"{name:26} {value:>10,}")
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    if any(value for name, value in result.items() if name.endswith(("lost", "duplicated"))):
        sys.exit(f"see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
