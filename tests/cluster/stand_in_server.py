"""A model server's stand-in, small enough for a loaded node: v1 predictions, readiness, counters as kedge's.

Run as ``python -c``. Environment: BUNDLE, SLOT. A POST to /unready ends its readiness, and nothing else; one to
/crash ends the process; from one to /fail on each prediction fails.
"""

import asyncio
import json
import os
import resource
import signal

BUNDLE, SLOT = os.environ["BUNDLE"], os.environ["SLOT"]
DRAIN_SECONDS = 5
state = {"200": 0, "500": 0, "ready": True, "fails": False}


def metrics():
    labels, count = f'model_version="{BUNDLE}"', state["200"] + state["500"]
    return (
        f'kedge_requests_total{{{labels},protocol="v1",status="200"}} {state["200"]}\n'
        f'kedge_requests_total{{{labels},protocol="v1",status="500"}} {state["500"]}\n'
        f'kedge_request_seconds_bucket{{le="0.01",{labels},stage="total"}} {count}\n'
        f'kedge_request_seconds_bucket{{le="+Inf",{labels},stage="total"}} {count}\n'
        f"process_resident_memory_bytes {1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n"
    ).encode()


def answer(path, headers, body):
    if path == "/metrics":
        return 200, metrics()
    if path.startswith("/v2/health"):
        return (200 if state["ready"] else 503), b"{}"
    if path == "/unready":
        state["ready"] = False
        return 200, b"{}"
    if path == "/fail":
        state["fails"] = True
        return 200, b"{}"
    if path == "/crash":
        os._exit(1)
    status = 500 if state["fails"] else 200
    if b"x-kedge-smoke: true" not in headers:
        state[str(status)] += 1
    if state["fails"]:
        return status, b"{}"
    rows = json.loads(body)["instances"]
    return 200, json.dumps({"predictions": [0.25 + 0.5 * (row["x"] - 1) for row in rows]}).encode()


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lowered = head.lower()
            length = lowered.partition(b"content-length:")[2].split(b"\r\n")[0].strip()
            body = await reader.readexactly(int(length)) if length else b""
            status, said = answer(head.split(b" ")[1].decode(), lowered, body)
            told = f"HTTP/1.1 {status} .\r\ncontent-length: {len(said)}\r\nx-kedge-slot: {SLOT}\r\n\r\n"
            writer.write(told.encode() + said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    ends = asyncio.Event()
    stop = asyncio.get_running_loop()
    stop.add_signal_handler(signal.SIGTERM, stop.call_later, DRAIN_SECONDS, ends.set)
    async with await asyncio.start_server(serve, "0.0.0.0", 8080):
        await ends.wait()


asyncio.run(main())
