"""Connections that bring no request: ended, answered why, counted."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from kedge.connection import HEAD_BYTES, Bounds, bounded

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope, receive, send, body=b"ok"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(app, protocol):
    """A client's two ends of a connection to a server of this application, and the server's state."""
    config = uvicorn.Config(app, http=protocol, ws="none", interface="asgi3", timeout_keep_alive=1)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        yield reader, writer, state
        writer.close()


def talk(*parts, head_seconds=0.2, pause=0.0):
    """What a client that sends these parts reads until the server ends, and the statuses counted."""
    counted = []

    async def run():
        async with served(app, bounded(Bounds(counted.append, head_seconds))) as (reader, writer, _):
            writing = asyncio.create_task(write(writer))
            seen = await asyncio.wait_for(reader.read(), 10)
            writing.cancel()
        return seen

    async def write(writer):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)

    return asyncio.run(run()), counted


@pytest.mark.parametrize("parts", [(), (b"GET",), (b"GET / HTTP/1.1\r\nhost: ",)])
def test_head_that_does_not_arrive_gets_408(parts):
    seen, counted = talk(*parts)
    assert seen.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"did not arrive within 0.2 s" in seen
    assert counted == [408]


def test_drops_of_a_head_do_not_lengthen_its_time():
    letters = [REQUEST[place : place + 1] for place in range(20)]
    seen, counted = talk(*letters, head_seconds=0.3, pause=0.1)
    assert seen.startswith(b"HTTP/1.1 408")
    assert counted == [408]


def test_second_request_of_a_connection_is_bounded_like_the_first():
    seen, counted = talk(REQUEST, b"GET / HT", pause=0.05)
    assert seen.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 408" in seen
    assert counted == [408]


def test_head_without_end_gets_431():
    seen, counted = talk(b"GET / HTTP/1.1\r\nx: " + b"y" * (HEAD_BYTES + 1), head_seconds=5)
    assert seen.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert counted == [431]


def test_idle_connection_after_an_answer_is_closed_without_a_fault():
    seen, counted = talk(REQUEST, REQUEST, pause=0.05)
    assert seen.count(b"HTTP/1.1 200 OK") == 2
    assert counted == []


def test_client_that_never_reads_a_large_answer_is_cut_off_and_counted():
    counted = []

    async def run():
        large = partial(app, body=b"x" * 32 * 2**20)
        async with (
            asyncio.timeout(30),
            served(large, bounded(Bounds(counted.append, read_seconds=0.2))) as (_, writer, state),
        ):
            writer.write(REQUEST)
            while not counted or state.connections:
                await asyncio.sleep(0.02)

    asyncio.run(run())
    assert counted == [408]


def test_client_that_reads_a_large_answer_gets_the_whole_of_it():
    counted = []

    async def run():
        large = partial(app, body=b"x" * 32 * 2**20)
        async with asyncio.timeout(30), served(large, bounded(Bounds(counted.append))) as (reader, writer, _):
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            return len(await reader.readexactly(32 * 2**20))

    assert asyncio.run(run()) == 32 * 2**20
    assert counted == []
