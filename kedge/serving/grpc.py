"""The Open Inference Protocol over gRPC: KServe's servicer for health and metadata, kedge's own for inference."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grpc import StatusCode, aio
from grpc_interceptor.exceptions import GrpcException
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer

from kedge.serving import v2
from kedge.serving.events import Prediction
from kedge.serving.front import MAX_BYTES
from kedge.serving.model import Row, Scored
from kedge.serving.rejection import RequestRejected
from kedge.serving.service import Service

FIELDS = {
    "BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
}  # fmt: skip
"""By data type the field that holds a tensor's values, unless they are raw."""
MAX_CONNECTIONS = 1000
HANDSHAKE_SECONDS = 10.0
"""For a connection to speak HTTP/2 at all."""
IDLE_SECONDS = 60.0
"""A connection without a call is closed then, which its client's library opens again when it needs it; gRPC cannot
close the longest idle one when another one comes."""
CODES = {400: StatusCode.INVALID_ARGUMENT, 404: StatusCode.NOT_FOUND, 500: StatusCode.INTERNAL}


class GrpcServer:
    """The servicer on one address, for a bounded number of connections; one beyond waits until others are closed."""

    def __init__(self, host: str, port: int, servicer: Servicer) -> None:
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._servicer = servicer
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Begin to listen."""
        limits = {
            "max_receive_message_length": MAX_BYTES,
            "max_send_message_length": MAX_BYTES,
            "max_allowed_incoming_connections": MAX_CONNECTIONS,
            "server_handshake_timeout_ms": int(1000 * HANDSHAKE_SECONDS),
            "max_connection_idle_ms": int(1000 * IDLE_SECONDS),
        }
        options = [(f"grpc.{name}", limit) for name, limit in limits.items()]
        self._server = aio.server(
            ThreadPoolExecutor(1), interceptors=(ExceptionToStatusInterceptor(),), options=options
        )
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Answer what is open, take nothing new."""
        if self._server is not None:
            await self._server.stop(grace)


class Servicer(InferenceServicer):  # type: ignore[misc]
    """Answers inferences of one model.

    Its repository verbs stay shut: anyone could unload the model.
    """

    def __init__(self, dataplane: Any, repository: Any, service: Service) -> None:
        super().__init__(dataplane, repository)
        self._service = service
        self._model = service.model

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """One inference. Metadata ``ce-id``, ``ce-time`` and ``x-kedge-smoke`` mean what the headers do over HTTP."""
        began = time.perf_counter()
        metadata = dict(context.invocation_metadata() or ())
        try:
            request_id, when = self._service.identify(
                metadata.get("ce-id"), request.id or None, metadata.get("ce-time")
            )
            scored, read = await self._service.worked(request.ByteSize(), self._scored, request)
        except RequestRejected as rejection:
            raise self._refused(rejection) from None
        latency = 1000 * (time.perf_counter() - began)
        prediction = Prediction(request_id, when, scored, latency, request.ByteSize())
        self._service.answered("grpc", prediction, read - began, smoke="x-kedge-smoke" in metadata)
        return self._answer(request_id, scored)

    def _scored(self, request: Any) -> tuple[Scored, float]:
        """The scores, and when the rows had been read."""
        self._refuse_another(request.model_name, request.model_version)
        rows = _rows(request, self._model.signature.names)
        read = time.perf_counter()
        return self._model.score(rows), read

    def _refuse_another(self, name: str, version: str) -> None:
        model = self._model
        if name != model.name or version not in ("", model.version):
            asked = f"{name[:60]!r}, version {version[:60]!r}"
            raise RequestRejected(
                404, f"no model {asked}; this server has the model {model.name!r}, version {model.version}"
            )

    def _answer(self, request_id: str, scored: Scored) -> Any:
        model = self._model
        tensors = {name: v2.tensor(name, scored, model.classes) for name in v2.OUTPUTS}
        outputs = [
            messages.ModelInferResponse.InferOutputTensor(
                name=name, datatype=datatype, shape=shape, contents=_contents(datatype, values)
            )
            for name, (datatype, shape, values) in tensors.items()
        ]
        slot = messages.InferParameter(string_param=model.slot)
        return messages.ModelInferResponse(
            model_name=model.name,
            model_version=model.version,
            id=request_id,
            parameters={"slot": slot},
            outputs=outputs,
        )

    def _refused(self, rejection: RequestRejected) -> GrpcException:
        self._service.refused("grpc", rejection)
        return GrpcException(status_code=CODES[rejection.status], details=rejection.message)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the model is ready; KServe would log a trace and the name for one it does not know."""
        return await self._told(super().ModelReady, request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The model's tensors."""
        return await self._told(super().ModelMetadata, request, context)

    async def _told(self, verb: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any) -> Any:
        try:
            self._refuse_another(request.name, request.version)
        except RequestRejected as rejection:
            raise self._refused(rejection) from None
        return await verb(request, context)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        raise _shut()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        raise _shut()


def _contents(datatype: str, values: list[Any]) -> Any:
    if datatype == "BYTES":
        return messages.InferTensorContents(bytes_contents=[text.encode() for text in values])
    return messages.InferTensorContents(fp64_contents=values)


def _shut() -> GrpcException:
    details = "the model is not loaded or unloaded by a client"
    return GrpcException(status_code=StatusCode.INVALID_ARGUMENT, details=details)


def _rows(request: Any, names: tuple[str, ...]) -> list[Row]:
    """The rows of input tensors, whose values lie in typed fields, or raw, one after the other."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise RequestRejected(400, f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    inputs: list[Mapping[str, Any]] = []
    for place, tensor in enumerate(request.inputs):
        described = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if raw:
            inputs.append(described | {"parameters": {"binary_data_size": len(raw[place])}})
        else:
            inputs.append(described | {"data": _values(tensor)})
    return v2.rows(inputs, b"".join(raw), names)


def _values(tensor: Any) -> list[Any]:
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise RequestRejected(400, f"input {tensor.name[:60]!r}: datatype must be one of {', '.join(FIELDS)}")
    values = list(getattr(tensor.contents, field))
    if tensor.datatype == "BYTES":
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError:
            raise RequestRejected(400, f"input {tensor.name[:60]!r}: BYTES must be UTF-8 texts") from None
    return [None if value != value else value for value in values]
