"""Inference over gRPC: the same scores, ids, times and counts as over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from grpc import StatusCode, aio
from grpc_interceptor.exceptions import GrpcException
from kserve import InferInput, InferRequest

from kedge.serving import grpc as serving
from kedge.serving.grpc import Servicer
from tests.bundle import models
from tests.serving.front import ROW, Server

KINDS = {"amount": "FP64", "age_days": "INT64", "ratio": "FP32", "recurring": "BOOL", "country": "BYTES"}


class Context:
    """The metadata of a call."""

    def __init__(self, metadata):
        self._metadata = tuple(metadata.items())

    def invocation_metadata(self):
        return self._metadata


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return models.written(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture
def server(made):
    return Server(made)


def request(*rows, **changes):
    inputs = [
        InferInput(name, [len(rows)], kind, [float("nan") if row[name] is None else row[name] for row in rows])
        for name, kind in KINDS.items()
    ]
    found = InferRequest(model_name="payments", infer_inputs=inputs).to_grpc()
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def infer(server, asked, trust_event_time=False, **metadata):
    servicer = Servicer(None, None, replace(server.service, trust_event_time=trust_event_time))
    told = Context({name.replace("_", "-"): value for name, value in metadata.items()})
    return asyncio.run(servicer.ModelInfer(asked, told))


def scores(answer):
    return list(answer.outputs[0].contents.fp64_contents)


def test_typed_and_raw_tensors_give_the_scores_of_http(server):
    rows = [ROW, ROW | {"country": "zürich", "ratio": 0.5}]
    wanted = server.predict(*rows).json["predictions"]
    asked = request(*rows)
    assert scores(infer(server, asked)) == wanted
    raw = [
        struct.pack("<2d", 12.5, 12.5), struct.pack("<2q", 7, 7), struct.pack("<2f", float("nan"), 0.5), b"\1\1",
        b"".join(struct.pack("<I", len(text)) + text for text in (b"DE", "zürich".encode())),
    ]  # fmt: skip
    for tensor in asked.inputs:
        tensor.ClearField("contents")
    asked.raw_input_contents.extend(raw)
    assert scores(infer(server, asked)) == wanted


def test_answer_names_id_version_and_slot_and_is_counted_and_logged(server, made):
    answer = infer(server, request(ROW, id="g-1"))
    assert (answer.id, answer.model_version) == ("g-1", made.id)
    assert answer.parameters["slot"].string_param == "blue"
    assert server.metrics.requests["grpc", 200] == 1
    (kept,) = server.outbox._queue
    assert (kept.request_id, kept.scored.rows) == ("g-1", [ROW])


def test_metadata_means_what_headers_mean_over_http(server):
    assert infer(server, request(ROW, id="inner"), ce_id="outer").id == "outer"
    infer(server, request(ROW), trust_event_time=True, ce_time="2026-03-02T01:00:00+01:00")
    assert server.outbox._queue[-1].time == datetime(2026, 3, 2, tzinfo=UTC)
    infer(server, request(ROW), ce_time="2026-03-02T01:00:00+01:00")
    assert server.outbox._queue[-1].time != datetime(2026, 3, 2, tzinfo=UTC)
    infer(server, request(ROW), x_kedge_smoke="true")
    assert len(server.outbox._queue) == 3


@pytest.mark.parametrize(
    ("asked", "metadata", "code", "message"),
    [
        (request(ROW | {"amount": 1e300}), {}, StatusCode.INVALID_ARGUMENT, "feature 'amount': must be within"),
        (request(ROW, id="a b"), {}, StatusCode.INVALID_ARGUMENT, "an id must be"),
        (request(ROW), {"ce_id": "a\nb"}, StatusCode.INVALID_ARGUMENT, "ce-id: an id must be"),
        (request(ROW), {"ce_time": "noon"}, StatusCode.INVALID_ARGUMENT, "ce-time: must be a time"),
        (request(ROW, model_name="x" * 500), {}, StatusCode.NOT_FOUND, "this server has the model 'payments'"),
        (request(ROW, model_version="1"), {}, StatusCode.NOT_FOUND, "this server has the model 'payments'"),
    ],
)
def test_request_at_fault_is_refused_in_one_sentence_and_counted(server, asked, metadata, code, message):
    with pytest.raises(GrpcException) as seen:
        infer(server, asked, trust_event_time=True, **metadata)
    assert seen.value.status_code is code
    assert message in seen.value.details
    assert len(seen.value.details) < 600
    assert sum(server.metrics.requests.values()) == 1
    assert not server.outbox._queue


def test_model_that_fails_says_so_without_its_reason_and_is_counted(server, monkeypatch):
    def broken(rows):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.model, "score", broken)
    with pytest.raises(GrpcException) as seen:
        infer(server, request(ROW))
    assert seen.value.details.startswith("the model failed; see the log for")
    assert seen.value.status_code is StatusCode.INTERNAL
    assert server.metrics.requests["grpc", 500] == 1


def test_long_requests_are_scored_off_the_event_loop(server, monkeypatch):
    threads, score = [], server.model.score

    def noted(rows):
        threads.append(threading.current_thread() is threading.main_thread())
        return score(rows)

    monkeypatch.setattr(server.model, "score", noted)
    infer(server, request(ROW))
    infer(server, request(*[ROW] * 2000))
    assert threads == [True, False]


def test_connections_that_say_nothing_make_room_for_calls(server, monkeypatch):
    for name, limit in {"MAX_CONNECTIONS": 5, "HANDSHAKE_SECONDS": 0.5, "IDLE_SECONDS": 1.0}.items():
        monkeypatch.setattr(serving, name, limit)

    async def call(port):
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            return await ask(request(ROW).SerializeToString(), timeout=30, wait_for_ready=True)

    async def all_at_once():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        served = serving.GrpcServer("127.0.0.1", port, Servicer(None, None, server.service))
        await served.start()
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        answer = await call(port)
        open_files = len(os.listdir("/proc/self/fd"))
        for one in silent:
            one.close()
        await served.stop(0)
        return open_files, answer

    before = len(os.listdir("/proc/self/fd"))
    open_files, answer = asyncio.run(all_at_once())
    assert open_files - before < 40  # both ends of twenty would be more
    assert b"payments" in answer
