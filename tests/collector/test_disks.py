"""Real disks in a namespace of the collector's own: a spool of 48 MiB that runs full, a store that is read-only."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import orjson
import pytest

from kedge import policy as policies
from kedge.store import open_store
from kedge.tables import appending, log

POLICY = """\
model: {name: payments, target: returned, features: {amount: {type: number}, country: {type: category}}}
data: {source: {format: log}}
"""
SMALL = 'mount -t tmpfs -o size=48m none "$0" && exec "$@"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
AS_IT_IS = 'exec "$@"'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-ec"]
LOGGER = {"ce-specversion": "1.0", "ce-source": "http://localhost:9081/", "ce-inferenceservicename": "payments-blue"}
ROWS = 4000
EVER = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    probe = subprocess.run([*NAMESPACE, SMALL, folder, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"this machine mounts nothing in a namespace: {probe.stderr.strip()}")
    return folder


@contextmanager
def running(spool, store, *words, mount=SMALL, mounted=None):
    """A collector in a namespace; it ends with 0 when it is told to."""
    policy = spool.parent / "policy.yaml"
    policy.write_text(POLICY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kedge.collector", "--store", store, "--policy", policy, "--port", str(port)]
    place = [
        *NAMESPACE,
        mount,
        mounted or spool,
        *command,
        "--spool",
        spool / "own",
        "--interval-seconds",
        "600",
        *words,
    ]
    process = subprocess.Popen(place, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            until(lambda: reachable(client, process))
            yield client
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode == 0, errors


def reachable(client, process):
    assert process.poll() is None, process.stderr.read()
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def logged(client, number):
    """A large request and its answer as KServe's logger sends them: the statuses."""
    instances = [{"amount": row, "country": "x" * 240} for row in range(ROWS)]
    payloads = {"request": {"instances": instances}, "response": {"predictions": [0.25] * ROWS}}
    statuses = []
    for kind, body in payloads.items():
        headers = LOGGER | {"ce-id": f"k{number}", "ce-type": f"org.kubeflow.serving.inference.{kind}"}
        statuses.append(client.post("/", json=body, headers=headers).status_code)
    return statuses


def test_a_spool_filled_while_the_store_was_away_empties_when_it_is_back_and_nothing_acknowledged_is_lost(
    spool, tmp_path, event
):
    store = tmp_path / "store"
    store.mkdir()
    (store / "logs").write_text("away")
    whole, own, told_to_wait = [], [], 0
    with running(spool, store, "--reserve-mb", "32") as client:
        for number in range(100):
            statuses = logged(client, number)
            headers = {"content-type": "application/cloudevents+json"}
            answer = client.post("/", content=orjson.dumps(event(f"o{number}")), headers=headers)
            if answer.status_code == 202:
                own.append(f"o{number}")
            if statuses != [202, 202]:
                break
            told_to_wait += answer.status_code == 503
            whole.append(f"k{number}")
        assert own
        assert told_to_wait > 5  # while the logger, which sends once, was still taken
        ready = client.get("/readyz")
        assert (ready.status_code, "No space left" in ready.json()["faults"]["spool"]) == (503, True)
        assert client.get("/healthz").status_code == 200

        (store / "logs").unlink()
        until(lambda: client.post("/v1/flush").status_code == 200)
        until(lambda: client.get("/readyz").json() == {"ready": True, "faults": {}})
        assert logged(client, "after") == [202, 202]
        assert client.post("/v1/flush").json()["appended"] == 2 * ROWS
    rows = log.read_window(open_store(store), policies.load(spool.parent / "policy.yaml"), *EVER, columns=["_id"])
    ids = rows["_id"].to_pylist()
    assert len(ids) == len(set(ids))
    wanted = {f"{one}-{row}" for one in [*whole, "kafter"] for row in range(ROWS)}
    assert set(ids) == wanted | set(own)


def test_what_was_acknowledged_while_the_store_was_read_only_is_in_it_after_a_stop_when_it_is_not(
    spool, tmp_path, event
):
    store = tmp_path / "store"
    store.mkdir()

    def send(client, identity):
        headers = {"content-type": "application/cloudevents+json"}
        return client.post("/", content=orjson.dumps(event(identity)), headers=headers).status_code

    with running(spool, store, mount=READ_ONLY, mounted=store) as client:
        assert send(client, "a") == 202
        answer = client.post("/v1/flush")
        assert (answer.status_code, "Read-only file system" in answer.json()["error"]) == (503, True)
        assert send(client, "b") == 202
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        assert "away since" in ready.json()["faults"]["store"]
        assert "Read-only file system" in ready.json()["faults"]["store"]
        assert "kedge_collect_store_up 0.0" in client.get("/metrics").text
    assert not list(store.iterdir())
    with running(spool, store, mount=AS_IT_IS) as client:
        assert send(client, "c") == 202
    table = appending.open_table(open_store(store), "logs/payments/predictions")
    assert sorted(table.to_pyarrow_table(columns=["_id"])["_id"].to_pylist()) == ["a", "b", "c"]
