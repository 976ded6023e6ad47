"""The outbox: bounded, never waited for, honest about what it lost."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from components.serve.events import Outbox, Prediction
from components.serve.model import Scored, ServedModel
from tests.bundle import models
from tests.serve.front import ROW


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = models.written(tmp_path_factory.mktemp("bundle") / "made")
    return ServedModel(made, made.load_model(), "blue")


def prediction(rows=1):
    scored = Scored([ROW] * rows, [0.5] * rows, [1.0] * rows, 0.0, 0.0)
    return Prediction("a", datetime(2026, 3, 2, tzinfo=UTC), scored, 1.0)


def test_rows_beyond_the_bound_are_dropped_and_counted(model):
    outbox = Outbox(model, "http://127.0.0.1:9", most_waiting=10)
    for _ in range(4):
        outbox.add(prediction(rows=3))
    assert (outbox.waiting, outbox.dropped, outbox.sent) == (9, 3, 0)
    outbox.add(prediction())
    assert (outbox.waiting, outbox.dropped) == (10, 3)


def test_without_a_collector_nothing_is_kept(model):
    outbox = Outbox(model, None)
    outbox.add(prediction())
    assert (outbox.waiting, outbox.dropped) == (0, 0)


def test_absent_collector_delays_neither_requests_nor_the_end(model):
    async def run():
        outbox = Outbox(model, "http://127.0.0.1:9")  # nobody listens there
        outbox.start()
        for _ in range(50):
            outbox.add(prediction(rows=2))
            await asyncio.sleep(0)
        assert outbox.waiting == 100
        began = time.monotonic()
        await outbox.close(0.3)
        return outbox, time.monotonic() - began

    outbox, seconds = asyncio.run(run())
    assert (outbox.waiting, outbox.dropped, outbox.sent) == (0, 100, 0)
    assert seconds < 10
