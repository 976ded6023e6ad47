"""KServe's ModelServer with kedge's front before it: lifecycle, probes, gRPC."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from kserve import Model, ModelServer
from kserve.protocol.rest.server import RESTServer

from kedge.connection import Bounds, bounded
from kedge.house import allow_files
from kedge.serving import grpc as grpc_server
from kedge.serving.events import Outbox
from kedge.serving.front import Front
from kedge.serving.grpc import GrpcServer, Servicer
from kedge.serving.metrics import Metrics
from kedge.serving.model import ServedModel
from kedge.serving.service import Service

GRACE_SECONDS = 30
FLUSH_SECONDS = 5.0
LINGER_SECONDS = 0.25
"""Open connections live so much longer than the listener: a request that is on its way is answered."""
MAX_CONNECTIONS = 2000
KEEP_ALIVE_SECONDS = 75  # longer than a gateway keeps its own side, or it meets a closed connection


class KServeModel(Model):  # type: ignore[misc]
    """What KServe's own application knows of the model: its name, its readiness, its tensors."""

    def __init__(self, served: ServedModel) -> None:
        super().__init__(served.name)
        self._served = served
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        types = {"category": "BYTES", "boolean": "BOOL", "integer": "INT64", "number": "FP64"}
        inputs = self._served.signature.inputs
        return [{"name": each.name, "datatype": types[each.type], "shape": [-1]} for each in inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        classes = self._served.classes
        score = {"name": "score", "datatype": "FP64", "shape": [-1, len(classes)] if classes else [-1]}
        decided = {"name": "prediction", "datatype": "BYTES" if classes else "FP64", "shape": [-1]}
        return [score, decided]


class DrainingServer(uvicorn.Server):
    """Says "not ready" on the first signal and goes on answering for ``drain_seconds``, so that whoever routes to it
    can look elsewhere; then answers what is open and ends. A second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, front: Front, drain_seconds: float) -> None:
        super().__init__(config)
        self._front = front
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._front.draining:
            super().handle_exit(sig, frame)
            return
        self._front.draining = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self._stop_listening)

    def _stop_listening(self) -> None:
        for server in self.servers:
            server.close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end)

    def _end(self) -> None:
        self.should_exit = True


class Server(ModelServer):  # type: ignore[misc]
    """Serves one model until SIGTERM or SIGINT.

    Args:
        model: Warmed up.
        listener: Bound, not yet listening.
        collector: Address for prediction events, or None.
        grpc: Host and port for gRPC, or None.
        cpus: Threads for long requests.
        trust_event_time: Take a prediction's time from ``ce-time``.
        drain_seconds: How long to go on answering after the first signal.
    """

    def __init__(
        self,
        model: ServedModel,
        listener: socket.socket,
        *,
        collector: str | None,
        grpc: tuple[str, int] | None,
        cpus: int,
        trust_event_time: bool,
        drain_seconds: float,
    ) -> None:
        super().__init__(workers=1, enable_grpc=False, enable_latency_logging=False, grace_period=GRACE_SECONDS)
        quiet_logs()
        self._listener = listener
        outbox = Outbox(model, collector)
        executor = ThreadPoolExecutor(cpus, thread_name_prefix="batch")
        self._service = Service(model, Metrics(model, outbox).register(), outbox, executor, trust_event_time)
        self._grpc = grpc
        self._drain_seconds = drain_seconds

    def run(self) -> None:
        """Serve; returns when drained."""
        kserve_model = KServeModel(self._service.model)
        self._register_and_check_atleast_one_model_is_ready([kserve_model])
        gc.freeze()  # what is loaded now stays: a full collection walks half a million objects of KServe for nothing
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _end)  # until uvicorn takes it, and when uvicorn raises it again at its end
            runner.run(self._serve())

    async def _serve(self) -> None:
        rest = self._rest()
        grpc = None
        if self._grpc is not None:
            servicer = Servicer(self.dataplane, self.model_repository_extension, self._service)
            grpc = GrpcServer(*self._grpc, servicer)
            await grpc.start()
        outbox, model = self._service.outbox, self._service.model
        outbox.start()
        address = ":".join(str(part) for part in self._listener.getsockname()[:2])
        sys.stdout.write(f"{model.name} {model.version} in {model.slot} on http://{address}\n")
        sys.stdout.flush()
        try:
            await rest.serve(sockets=[self._listener])
        finally:
            if grpc is not None:
                await grpc.stop(GRACE_SECONDS)
            await outbox.close(FLUSH_SECONDS)
            self._service.executor.shutdown(wait=False, cancel_futures=True)

    def _rest(self) -> DrainingServer:
        from kserve.model_server import app

        RESTServer("kserve.model_server:app", self.dataplane, self.model_repository_extension, 0).create_application()
        front = Front(app, self._service)
        allow_files(MAX_CONNECTIONS + grpc_server.MAX_CONNECTIONS)
        protocol = bounded(Bounds(self._service.metrics.refused, most=MAX_CONNECTIONS, probes=self._probes()))
        config = uvicorn.Config(
            front, http=protocol, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )  # fmt: skip
        return DrainingServer(config, front, self._drain_seconds)

    def _probes(self) -> frozenset[bytes]:
        """What asks whether the server lives and is ready, and how it is."""
        name = self._service.model.name
        paths = (
            "/",
            "/metrics",
            "/v2/health/live",
            "/v2/health/ready",
            f"/v1/models/{name}",
            f"/v2/models/{name}/ready",
        )
        return frozenset(path.encode() for path in paths)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(0)


def quiet_logs() -> None:
    """Keep what a client can cause out of the log, where it costs more than the request."""
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    logging.getLogger("kserve").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
