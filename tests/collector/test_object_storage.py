"""The collector and the log's reader on object storage that goes away for long and comes back."""

import time
from datetime import UTC, datetime

import orjson
import pytest
from moto.server import ThreadedMotoServer

from kedge.store import open_store
from kedge.tables import log
from tests import metrics

DAY = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
BATCHED = {"content-type": "application/cloudevents-batch+json"}


class Storage:
    """An S3 interface on one port, which can be shut and opened again with what it holds."""

    def __init__(self):
        self.port = 0
        self.open()

    def open(self):
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def shut(self):
        self._server.stop()
        self._server._server.server_close()


@pytest.fixture
def storage(monkeypatch):
    import boto3

    started = Storage()
    address = f"http://127.0.0.1:{started.port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="collector")
    yield started
    started.shut()


def send(client, event, first, last):
    """A batch of predictions, and a label of each."""
    names = [f"e{number}" for number in range(first, last)]
    answer = client.post("/", content=orjson.dumps([event(name) for name in names]), headers=BATCHED)
    assert answer.status_code == 202
    labels = [{"id": name, "label": 1, "observed_at": "2026-03-02T18:00:00Z"} for name in names]
    assert client.post("/v1/labels", json={"model": "payments", "labels": labels}).status_code == 202


def test_what_came_while_the_object_storage_was_away_is_in_the_log_once_with_its_labels(
    start, event, declared, storage
):
    store = open_store("s3://collector/team")
    with start(store=store, segment_bytes=20_000) as client:
        send(client, event, 0, 100)
        assert client.post("/v1/flush").status_code == 200  # a full segment may have been appended before

        storage.shut()
        for first in range(100, 1000, 100):
            send(client, event, first, first + 100)
        send(client, event, 0, 100)  # sent again, as by one who saw no answer
        until(lambda: figure(client, "kedge_collect_spool_bytes") > 100_000)
        until(lambda: "away since" in client.get("/readyz").json()["faults"].get("store", ""))
        assert client.get("/readyz").status_code == 200
        assert figure(client, "kedge_collect_store_up") == 0

        storage.open()
        until(lambda: client.post("/v1/flush").status_code == 200)
        until(lambda: figure(client, "kedge_collect_spool_bytes") == 0)
        assert client.get("/readyz").json() == {"ready": True, "faults": {}}
    rows = log.read_window(store, declared(), *DAY, columns=["_id", "amount"])
    assert sorted(rows["_id"].to_pylist()) == sorted(f"e{number}" for number in range(1000))
    assert set(rows["_label"].to_pylist()) == {1.0}


def figure(client, name):
    return metrics.total(client.get("/metrics").text, name)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
