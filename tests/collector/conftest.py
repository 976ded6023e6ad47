import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from kedge import policy as policies
from kedge.collector.app import App
from kedge.collector.collector import Collector
from kedge.collector.connection import protocol
from kedge.collector.settings import Settings
from kedge.store import open_store

TIME = "2026-03-02T12:00:00.000001Z"


@pytest.fixture(scope="session")
def declared():
    """Makes a policy of a small model."""

    def make(name="payments", *, task="binary", positive=1, negative=None, **features):
        return policies.parse(
            {
                "model": {
                    "name": name,
                    "task": task,
                    "target": "returned",
                    "positive_label": positive,
                    "negative_label": negative,
                    "features": features or {"amount": {"type": "number"}, "country": {"type": "category"}},
                },
                "data": {"source": {"format": "log"}},
            }
        )

    return make


@pytest.fixture(scope="session")
def event():
    """Makes an own event in structured mode."""

    def make(identity="a", *, time=TIME, **data):
        data = {
            "model": "payments",
            "version": "v1",
            "slot": "blue",
            "features": {"amount": 12.5, "country": "DE"},
            "score": 0.25,
            "prediction": 0,
            "latency_ms": 1.5,
        } | data
        attributes = {"specversion": "1.0", "id": identity, "source": "test", "type": "dev.kedge.prediction"}
        return attributes | {"time": time, "data": data}

    return make


@pytest.fixture
def start(tmp_path, declared):
    """Serve a collector from this process on a real socket: ``with start(policy, sample=0.5) as client``."""

    @contextmanager
    def started(*given, store=None, spool="spool", max_connections=1000, **options):
        options = {"interval_seconds": 3600.0, "reserve_bytes": 0} | options
        settings = Settings(spool=tmp_path / spool, **options)
        collector = Collector(store or open_store(tmp_path / "store"), given or (declared(),), settings)
        app = App(collector, settings)
        config = uvicorn.Config(
            app,
            port=0,
            http=protocol(app, max_connections),
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the collector did not start"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                client.collector = collector
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
        assert not thread.is_alive()

    return started
