"""The outbox: bounded, never waited for, honest about what it lost."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.serving import events
from kedge.serving.events import Outbox, Prediction
from kedge.serving.model import Scored, ServedModel
from tests.bundle import models
from tests.serving.front import ROW


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = models.written(tmp_path_factory.mktemp("bundle") / "made")
    return ServedModel(made, made.load_model(), "blue")


def prediction(rows=1, request_id="a", row=ROW, size=100):
    scored = Scored([row] * rows, [0.5] * rows, [1.0] * rows, 0.0, 0.0)
    return Prediction(request_id, datetime(2026, 3, 2, tzinfo=UTC), scored, 1.0, size)


def delivered(outbox):
    """The batches that go out while every one is taken."""
    batches = []

    async def run():
        while outbox.waiting:
            body, rows = await outbox._next_batch()
            batches.append(orjson.loads(body))
            assert len(batches[-1]) == rows
            outbox._forget(rows)

    asyncio.run(run())
    return batches


def test_rows_beyond_the_bound_are_dropped_and_counted(model):
    outbox = Outbox(model, "http://127.0.0.1:9", max_waiting=10)
    for _ in range(5):
        outbox.add(prediction(rows=3))
    assert (outbox.waiting, outbox.dropped, outbox.sent) == (12, 3, 0)
    outbox._forget(3)
    outbox.add(prediction())
    assert (outbox.waiting, outbox.dropped) == (10, 3)


def test_a_request_of_more_rows_than_may_wait_is_told_whole(model, caplog):
    outbox = Outbox(model, "http://127.0.0.1:9", max_waiting=10)
    outbox.add(prediction(rows=25))
    assert (outbox.waiting, outbox.dropped) == (25, 0)
    outbox.add(prediction(rows=2))
    outbox.add(prediction(rows=2))
    assert outbox.dropped == 4
    assert [each.getMessage() for each in caplog.records] == [
        "prediction events are dropped, 2 so far: 25 rows wait for http://127.0.0.1:9, which is away or too slow"
    ]
    assert sum(map(len, delivered(outbox))) == 25


def test_requests_beyond_the_bytes_that_may_wait_are_dropped_and_their_room_is_free_again_when_sent(model):
    outbox = Outbox(model, "http://127.0.0.1:9")
    for _ in range(20):
        outbox.add(prediction(size=4 * 2**20))
    assert (outbox.waiting, outbox.dropped) == (16, 4)
    delivered(outbox)
    outbox.add(prediction(size=events.MAX_WAITING_BYTES))
    assert (outbox.waiting, outbox.dropped) == (1, 4)


@given(sizes=st.lists(st.integers(1, 1200), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_every_row_goes_out_once_in_its_order_in_batches_of_at_most_500(model, sizes):
    outbox = Outbox(model, "http://127.0.0.1:9")
    for number, rows in enumerate(sizes):
        outbox.add(prediction(rows, request_id=f"r{number}"))
    batches = delivered(outbox)
    names = {number: [f"r{number}"] if rows == 1 else [f"r{number}-{row}" for row in range(rows)]
             for number, rows in enumerate(sizes)}  # fmt: skip
    assert [event["id"] for batch in batches for event in batch] == [name for each in names.values() for name in each]
    assert max(map(len, batches)) <= 500 + events.SLICE_ROWS
    assert (outbox.waiting, len(outbox._queue), outbox._bytes, outbox._told) == (0, 0, 0, 0)


def test_wide_rows_go_out_in_batches_that_the_collector_takes(model):
    outbox = Outbox(model, "http://127.0.0.1:9")
    outbox.add(prediction(400, row=ROW | {"country": "x" * 20_000}))
    assert max(len(orjson.dumps(batch)) for batch in delivered(outbox)) < 2 * 2**20


def test_requests_are_answered_between_the_slices_of_a_batch(model):
    async def run():
        outbox, turns = Outbox(model, "http://127.0.0.1:9"), 0

        async def other():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1
                outbox.add(prediction())

        outbox.add(prediction(rows=events.BATCH_ROWS))
        beside = asyncio.create_task(other())
        body, rows = await outbox._next_batch()
        beside.cancel()
        return turns, rows, len(orjson.loads(body))

    turns, rows, sent = asyncio.run(run())
    assert turns >= events.BATCH_ROWS // events.SLICE_ROWS - 2
    assert rows == sent >= events.BATCH_ROWS


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


def test_each_batch_shows_the_token_that_the_kubelet_last_wrote(model, tmp_path, monkeypatch):
    file, seen = tmp_path / "token", []
    monkeypatch.setenv("KEDGE_COLLECT_TOKEN_FILE", str(file))

    def collector(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(202)

    async def run():
        outbox = Outbox(model, "http://collector")
        async with httpx.AsyncClient(transport=httpx.MockTransport(collector)) as client:
            assert await outbox._post(client, b"[]") is None  # it is not there yet: sent again, as after a refusal
            for token in ("first\n", "second"):
                file.write_text(token)
                assert (await outbox._post(client, b"[]")).status_code == 202

    asyncio.run(run())
    assert seen == ["Bearer first", "Bearer second"]
