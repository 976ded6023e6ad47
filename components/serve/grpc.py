"""The Open Inference Protocol over gRPC, on KServe's servicer."""

from __future__ import annotations

import struct
import time
from concurrent import futures
from typing import Any

from grpc import aio
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer

from components import clock
from components.serve import v2
from components.serve.events import Outbox, Prediction
from components.serve.front import MOST_BYTES
from components.serve.identity import checked_id, new_id
from components.serve.metrics import Metrics
from components.serve.model import Row, ServedModel
from components.serve.refusal import Refusal


def infer(request: InferRequest, model: ServedModel, metrics: Metrics, outbox: Outbox) -> InferResponse:
    """Answer one inference.

    Raises:
        InvalidInput: the request is at fault; KServe makes it INVALID_ARGUMENT.
    """
    began = time.perf_counter()
    try:
        request_id = checked_id(request.id, "id") if request.id else new_id()
        rows = _rows(request, model)
        read = time.perf_counter()
        scored = model.score(rows)
    except Refusal as refusal:
        metrics.requests["grpc", refusal.status] += 1
        raise InvalidInput(refusal.message) from None
    seconds = time.perf_counter() - began
    metrics.requests["grpc", 200] += 1
    metrics.answered(scored, read - began, seconds)
    outbox.add(Prediction(request_id, clock.now(), scored, 1000 * seconds))
    outputs = []
    for name, values in (("score", scored.scores), ("prediction", scored.predictions)):
        output = InferOutput(name, [len(values)], "FP64")
        output.data = values
        outputs.append(output)
    return InferResponse(request_id, model.name, outputs, model_version=model.version, parameters={"slot": model.slot})


def _rows(request: InferRequest, model: ServedModel) -> list[Row]:
    inputs = []
    for tensor in request.inputs:
        try:
            data = [_text(value) for value in tensor.as_numpy().ravel().tolist()]
        except (InvalidInput, ValueError, TypeError, struct.error) as exc:
            raise Refusal(400, f"input {str(tensor.name)[:60]!r}: {str(exc)[:200]}") from None
        inputs.append({"name": tensor.name, "shape": list(tensor.shape), "data": data})
    return v2.rows(inputs, b"", model.signature.names)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


class GrpcServer:
    """KServe's servicer on one address. Its repository verbs stay shut: anyone could unload the model."""

    def __init__(self, host: str, port: int, dataplane: Any, repository: Any) -> None:
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._servicer = _Servicer(dataplane, repository)
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Begin to listen."""
        limits = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", MOST_BYTES)]
        self._server = aio.server(
            futures.ThreadPoolExecutor(1), interceptors=(ExceptionToStatusInterceptor(),), options=limits
        )
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Answer what is open, take nothing new."""
        if self._server is not None:
            await self._server.stop(grace)


class _Servicer(InferenceServicer):  # type: ignore[misc]
    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        raise InvalidInput("the model is not loaded or unloaded by a client")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        raise InvalidInput("the model is not loaded or unloaded by a client")
