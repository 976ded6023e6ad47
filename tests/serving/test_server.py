"""The process: ready only when it can predict, drained before it ends, bounded against its clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from kedge.serving.__main__ import main
from tests import metrics, web
from tests.bundle import models
from tests.serving.front import INFER, PREDICT, ROW


@contextmanager
def collecting():
    """A collector that keeps the events of each batch; it answers what ``answers`` says, then 202."""
    kept = SimpleNamespace(events=[], answers=[], seen=[])

    def answer(request):
        kept.seen.append({name.lower(): value for name, value in request.headers.items()})
        status, body = kept.answers.pop(0) if kept.answers else (202, {})
        if status == 202:
            kept.events += request.get_json(force=True)
        return web.said(body, status)

    with web.answering(answer) as kept.address:
        yield kept


class Process:
    """A real server on a free port."""

    def __init__(self, folder, *words, environment=None):
        command = [sys.executable, "-m", "kedge.serving", "--bundle", str(folder), "--port", "0", *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.line = line.strip()
        self.address = line.rsplit(" ", 1)[1].strip()
        self.port = int(self.address.rsplit(":", 1)[1])
        self.client = httpx.Client(base_url=self.address, timeout=20, trust_env=False)
        wait_for(lambda: self.status("/v2/health/ready") == 200)

    def status(self, path):
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return None

    def predict(self, *rows, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(PREDICT, json={"instances": list(rows)}, headers=named)

    def metric(self, name, **labels):
        return metrics.total(self.client.get("/metrics").text, name, **labels)

    def kill(self):
        self.client.close()
        self.process.kill()
        self.process.communicate()

    def end(self, seconds=30):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        output = self.process.communicate(timeout=seconds)
        return self.process.returncode, output[1]


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return models.written(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture(scope="module")
def collector():
    with collecting() as kept:
        yield kept


@pytest.fixture(scope="module")
def server(made, collector):
    words = ("--slot", "green", "--collector", collector.address, "--grpc-port", str(free_port()))
    started = Process(made.folder, *words, environment={"KEDGE_COLLECT_TOKEN": "open sesame"})
    started.grpc_port = int(words[-1])
    yield started
    started.kill()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_server_answers_predictions_and_kserves_own_endpoints(server, made):
    answer = server.predict(ROW, ce_id="first")
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "first"
    assert (answer.headers["x-kedge-version"], answer.headers["x-kedge-slot"]) == (made.id, "green")
    assert server.client.get("/v1/models").json() == {"models": ["payments"]}
    assert server.client.get("/v1/models/payments").json() == {"name": "payments", "ready": True}
    assert server.client.get("/v2/health/live").json() == {"live": True}
    inputs = server.client.get("/v2/models/payments").json()["inputs"]
    assert inputs[-1] == {"name": "country", "datatype": "BYTES", "shape": [-1]}
    assert server.line == f"payments {made.id} in green on {server.address}"
    batch = server.predict(*made.golden_rows())
    assert batch.json()["predictions"] == made.golden.column("_score").to_pylist()


def test_events_reach_the_collector_with_the_token_and_are_sent_again_when_it_pushes_back(server, collector):
    wait_for(lambda: server.metric("kedge_events_waiting") == 0)
    collector.answers += [(503, {}), (500, {})]
    collector.events.clear()
    server.predict(ROW, ROW, ce_id="pair")
    wait_for(lambda: len(collector.events) >= 2)
    assert [event["id"] for event in collector.events] == ["pair-0", "pair-1"]
    assert collector.events[0]["data"]["slot"] == "green"
    assert collector.seen[-1]["authorization"] == "Bearer open sesame"
    assert collector.seen[-1]["content-type"] == "application/cloudevents-batch+json"
    assert not collector.answers


def test_events_a_collector_refuses_are_counted_as_dropped_and_the_accepted_ones_as_sent(server, collector):
    wait_for(lambda: server.metric("kedge_events_waiting") == 0)
    sent = server.metric("kedge_events_total")
    collector.answers.append((400, {"accepted": 1, "refused": []}))
    server.predict(ROW, ROW, ROW)
    wait_for(lambda: server.metric("kedge_events_total") == sent + 3)
    assert server.metric("kedge_events_total", outcome="dropped") == 2


def test_grpc_answers_the_same_scores_and_refuses_with_the_fault(server, made):
    import grpc
    from kserve import InferInput, InferRequest
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import (
        ModelMetadataRequest,
        ModelReadyRequest,
        RepositoryModelUnloadRequest,
    )
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    def request(amount):
        values = {"amount": ("FP64", [amount]), "age_days": ("INT64", [7]), "ratio": ("FP64", [float("nan")]),
                  "recurring": ("BOOL", [True]), "country": ("BYTES", ["DE"])}  # fmt: skip
        inputs = [InferInput(name, [1], kind, data) for name, (kind, data) in values.items()]
        return InferRequest(model_name="payments", infer_inputs=inputs, request_id="g-1").to_grpc()

    raw, short, other = request(12.5), request(12.5), request(12.5)
    for tensor in raw.inputs:
        tensor.ClearField("contents")
    raw.raw_input_contents.extend([b"123"] * 5)
    short.raw_input_contents.extend([b"123"])
    other.model_name = "other"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request(12.5))
        assert (answer.id, answer.model_version) == ("g-1", made.id)
        assert list(answer.outputs[0].contents.fp64_contents) == server.predict(ROW).json()["predictions"]
        for bad, message, code in (
            (request(1e300), "feature 'amount': must be within", grpc.StatusCode.INVALID_ARGUMENT),
            (raw, "input 'amount'", grpc.StatusCode.INVALID_ARGUMENT),
            (short, "1 raw_input_contents for 5 inputs", grpc.StatusCode.INVALID_ARGUMENT),
            (other, "this server has the model 'payments'", grpc.StatusCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.RpcError, match=message) as seen:
                stub.ModelInfer(bad)
            assert seen.value.code() is code
        for ask, question in (
            (stub.ModelReady, ModelReadyRequest(name="x\nforged line")),
            (stub.ModelMetadata, ModelMetadataRequest(name="payments", version="7")),
        ):
            with pytest.raises(grpc.RpcError, match="this server has the model 'payments'") as seen:
                ask(question)
            assert seen.value.code() is grpc.StatusCode.NOT_FOUND
        assert stub.ModelReady(ModelReadyRequest(name="payments")).ready
        assert stub.ModelMetadata(ModelMetadataRequest(name="payments")).inputs[0].name == "amount"
        with pytest.raises(grpc.RpcError, match="not loaded or unloaded"):
            stub.RepositoryModelUnload(RepositoryModelUnloadRequest(model_name="payments"))
        raw.raw_input_contents[0] = b"x" * 5 * 2**20
        with pytest.raises(grpc.RpcError) as seen:
            stub.ModelInfer(raw)
        assert seen.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.predict(ROW).status_code == 200


def test_head_that_is_too_long_or_no_http_is_refused_and_counted_and_others_are_served(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert b"HTTP/1.1 431" in received(client)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"\x16\x03\x01\x00 not http\r\n\r\n")
        assert b"HTTP/1.1 400" in received(client)
    assert server.metric("kedge_requests_total", protocol="connection") >= 2
    assert server.predict(ROW).status_code == 200


def received(client):
    client.settimeout(20)
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_client_that_sends_ten_megabytes_before_it_reads_is_told_413(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head.encode() + b"x" * 10_000_000)
        assert received(client).startswith(b"HTTP/1.1 413")


def test_smuggled_header_and_conflicting_lengths_are_refused(server):
    body = json.dumps({"instances": [ROW]}).encode()
    for lengths in (
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nhost: x\r\n" + lengths + b"\r\n" + body)
            assert received(client).startswith(b"HTTP/1.1 400")


def test_server_goes_on_answering_while_it_drains_then_ends_without_error(made):
    started = Process(made.folder, "--drain-seconds", "1.5")
    assert started.status("/v2/health/ready") == 200
    started.process.send_signal(signal.SIGTERM)
    wait_for(lambda: started.status("/v2/health/ready") == 503)
    answer = started.predict(ROW)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    started.client.close()
    _, error = started.process.communicate(timeout=30)
    assert started.process.returncode == 0
    assert "Traceback" not in error


def test_signal_before_the_server_listens_ends_it_without_error(made):
    """A pod may be deleted while it starts; whoever asks it to end need not wait or kill it."""
    early = (
        "import os, signal; from kedge.serving import server, __main__ as program; "
        "server.Server._rest = lambda self: os.kill(os.getpid(), signal.SIGTERM); "
        f"program.main(['--bundle', {str(made.folder)!r}, '--port', '0'])"
    )
    ended = subprocess.run([sys.executable, "-c", early], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr


def test_no_request_is_lost_when_the_server_is_told_to_end_under_load(made):
    """Clients that keep their connections open and go elsewhere when told so, as a gateway does."""
    started = Process(made.folder)
    answered, lost = [], []

    def ask():
        with httpx.Client(base_url=started.address, timeout=20, trust_env=False) as client:
            while True:
                try:
                    answer = client.post(PREDICT, json={"instances": [ROW]})
                except httpx.TransportError as exc:
                    lost.append(exc)
                    return
                answered.append(answer.status_code)
                if answer.headers.get("connection") == "close":
                    return

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    wait_for(lambda: len(answered) >= 200)
    code, error = started.end()
    for client in clients:
        client.join(20)
    assert (code, lost, set(answered)) == (0, [], {200})
    assert "Traceback" not in error


def test_events_that_wait_are_sent_before_the_server_ends(made):
    with collecting() as collector:
        started = Process(made.folder, "--collector", collector.address)
        for number in range(20):
            started.predict(ROW, ce_id=f"e{number}")
        code, _ = started.end()
    assert code == 0
    assert sorted(event["id"] for event in collector.events) == sorted(f"e{number}" for number in range(20))


def test_altered_bundle_is_refused_with_its_file_before_anything_listens(tmp_path, capsys):
    made = models.written(tmp_path / "made")
    raw = bytearray((made.folder / "model.ubj").read_bytes())
    raw[100] ^= 1
    (made.folder / "model.ubj").write_bytes(raw)
    assert main(["--bundle", str(made.folder), "--port", "0"]) == 2
    assert "model.ubj: SHA-256 is" in capsys.readouterr().err


def test_words_at_fault_end_with_code_2_and_say_what_is_allowed(made, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, message in (
            (("--slot", "Blue!"), "--slot 'Blue!': must be lower-case"),
            (("--collector", "collector:80"), "--collector 'collector:80': must be an address"),
            (("--bundle-id", "0" * 40), f"is bundle {made.id}, wanted {'0' * 40}"),
            (
                ("--host", "203.0.113.1"),
                "on 203.0.113.1: Cannot assign requested address; give another with --port or --host",
            ),
            (("--port", port), f"port {port} on 127.0.0.1: Address already in use; give another"),
            (("--port", "99999"), "--port 99999: a port is 0 to 65535"),
            (("--bundle", "/nowhere"), "a bundle is a folder with bundle.json"),
        ):
            assert main(["--bundle", str(made.folder), *words]) == 2
            assert message in capsys.readouterr().err


def test_infer_over_http_keeps_its_id(server):
    value = {"id": "v2-1", "inputs": [
        {"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in ROW.items()
    ]}  # fmt: skip
    answer = server.client.post(INFER, json=value)
    assert answer.json()["id"] == answer.headers["x-request-id"] == "v2-1"
