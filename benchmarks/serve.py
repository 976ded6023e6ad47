"""The model server beside a constant model in the same server, KServe's own server, and peers.

    python benchmarks/serve.py                                   # kedge and KServe's own server
    python benchmarks/serve.py --servers kedge-constant kedge --parts row load
    python benchmarks/serve.py --servers kedge mlserver --parts row --requests 20
    python benchmarks/serve.py --servers kedge-constant kedge --parts row --estimator lightgbm --classes 3

The servers named run at once and are asked in turn, each time for another row, so that whatever else the machine does
falls on all of them; the figures are medians over the rounds, ratios those to the first server. CPU is that of the
server's process tree, from the scheduler's own nanosecond counts. A peer gets a virtual environment of its own first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))
import open_loop  # noqa: E402
from serve_peers import rows, write_bundle  # noqa: E402

OWN = ("kedge-constant", "kedge", "kserve-constant", "kserve-inplace", "kserve-sklearn")
PEERS = {"mlserver": "mlserver", "mlflow": "mlflow==3.17.*", "bentoml": "bentoml"}
READY_SECONDS = 240
ROWS = 1000
LOAD_ROUNDS = 10  # a block
LOAD_SECONDS = 0.1  # a round: whatever else runs here disturbs some rounds, not the median
PARTS = ("row", "batch", "load", "start")


@dataclass
class Server:
    """A started server and what was measured on it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    ready_seconds: float
    requests: list[bytes] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def processes(self) -> list[int]:
        """Its process and all below it."""
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [child for parent in new for child in _children(parent)]
        return found

    def cpu_seconds(self) -> float:
        """CPU its threads have used."""
        total = 0
        for pid in self.processes():
            total += sum(int((thread / "schedstat").read_text().split()[0]) for thread in _threads(pid))
        return total / 1e9

    def megabytes(self) -> float:
        """Memory of its own: proportional set size."""
        total = 0
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for thread in _threads(pid) for child in (thread / "children").read_text().split()]


def _threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for any status but 200."""
        self._socket.sendall(request)
        seen = self._socket.recv(1 << 18)
        while b"\r\n\r\n" not in seen:
            seen += self._socket.recv(1 << 18)
        head, _, body = seen.partition(b"\r\n\r\n")
        lower = head.lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0] or b"content-length: " not in lower:
            raise RuntimeError(f"{head[:200]!r} {body[:300]!r}")
        length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(1 << 18)
        return body


def post(path: str, value: Any) -> bytes:
    """A whole HTTP request."""
    body = orjson.dumps(value)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def requests_for(name: str) -> list[bytes]:
    """Requests of one row each, all different."""
    columns = rows(ROWS)
    each = zip(*columns.values(), strict=True)
    return [request_for(name, {key: [value] for key, value in zip(columns, row, strict=True)}) for row in each]


def request_for(name: str, columns: dict[str, list[Any]]) -> bytes:
    """The rows in the server's own protocol."""
    instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    count = len(instances)
    if name == "kserve-sklearn":  # it makes a data frame of each row
        instances = [{column: [value] for column, value in row.items()} for row in instances]
    if name == "mlserver":
        inputs = [
            {"name": column, "shape": [count, 1], "datatype": "FP64" if column[0] == "n" else "BYTES", "data": values}
            | ({} if column[0] == "n" else {"parameters": {"content_type": "str"}})
            for column, values in columns.items()
        ]
        return post("/v2/models/bench/infer", {"parameters": {"content_type": "pd"}, "inputs": inputs})
    if name == "mlflow":
        return post("/invocations", {"dataframe_records": instances})
    if name == "bentoml":
        return post("/predict", {"instances": instances})
    return post("/v1/models/bench:predict", {"instances": instances})


@contextmanager
def started(name: str, python: str, folder: Path) -> Iterator[Server]:
    """A server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | ({"PYTHONPATH": str(ROOT)} if name in OWN else {})
    began = time.perf_counter()
    command = [python, str(Path(__file__).with_name("serve_peers.py")), name, str(folder), str(port)]
    log = (folder / f"{name}.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    server = Server(name, process, port, 0.0, requests_for(name))
    try:
        while not _answers(server):
            if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                raise RuntimeError(f"{name} did not start: {(folder / f'{name}.log').read_text()[-1500:]}")
            time.sleep(0.02)
        server.ready_seconds = time.perf_counter() - began
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        log.close()


def _answers(server: Server) -> bool:
    try:
        client = Client(server.port)
    except OSError:
        return False
    try:
        client.ask(server.requests[0])
    except (OSError, RuntimeError, IndexError):
        return False
    finally:
        client.close()
    return True


def measure(servers: list[Server], rounds: int, requests: int) -> None:
    """Ask each server in turn, one request at a time."""
    clients = {server.name: Client(server.port) for server in servers}
    for number in range(rounds + 1):
        for server in servers:
            ask = clients[server.name].ask
            before, taken = server.cpu_seconds(), []
            for place in range(requests):
                request = server.requests[(number * requests + place) % ROWS]
                began = time.perf_counter()
                ask(request)
                taken.append(time.perf_counter() - began)
            if number:  # the first round warms up
                server.cpu.append((server.cpu_seconds() - before) / requests * 1e6)
                server.p50.append(statistics.median(taken) * 1e3)
                server.p99.append(sorted(taken)[int(0.99 * len(taken))] * 1e3)
    for client in clients.values():
        client.close()


@contextmanager
def apart(servers: list[Server]) -> Iterator[str]:
    """The servers on the last processor and this process on the first, before all else that runs there; in words."""
    cpus = sorted(os.sched_getaffinity(0))
    threads = [int(each.name) for server in servers for pid in server.processes() for each in _threads(pid)]
    for thread in threads:
        os.sched_setaffinity(thread, cpus[-1:])
    os.sched_setaffinity(0, cpus[:1])
    try:
        for thread in (0, *threads):
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
        rank = "before all else"
    except PermissionError:
        rank = "beside whatever else runs"
    try:
        yield f"generator on processor {cpus[0]}, servers on {cpus[-1]}, {rank}"
    finally:
        for thread in (0, *threads):
            os.sched_setaffinity(thread, cpus)
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def under_load(servers: list[Server], blocks: int) -> None:
    """Print p50 and p99 of the servers, in turn, at one rate: 60 % of what the last of them sustained just before.

    A shared machine's speed changes by a third within minutes, so the highest rate is measured anew for each block.
    """
    with apart(servers) as where, ExitStack() as stack:
        generators = {}
        for server in servers:
            generators[server.name] = open_loop.Generator(server.port, server.requests)
            stack.callback(generators[server.name].close)
        rates: list[float] = []
        loads: dict[str, dict[str, list[open_loop.Load]]] = {
            kind: {name: [] for name in generators} for kind in ("even", "random")
        }
        for block in range(blocks):
            rates.append(0.6 * highest_rate(servers[-1]))
            for turn in range(LOAD_ROUNDS):
                for kind, taken in loads.items():
                    even = open_loop.even(rates[-1], LOAD_SECONDS)
                    seed = block * LOAD_ROUNDS + turn
                    due = even if kind == "even" else open_loop.random(rates[-1], LOAD_SECONDS, seed)
                    for name, generator in generators.items():
                        taken[name].append(generator.run(due))
    print(f"{where}; {statistics.median(rates):.0f} requests/s ({min(rates):.0f} to {max(rates):.0f})")
    for kind, taken in loads.items():
        show_load(kind, taken)


def highest_rate(server: Server) -> float:
    """Requests a second with eight always open, the median of three runs."""
    with closing(open_loop.Generator(server.port, server.requests, connections=8)) as generator:
        return statistics.median(generator.run(open_loop.at_once(1500)).rate for _ in range(3))


def show_load(kind: str, loads: dict[str, list[open_loop.Load]]) -> None:
    """The medians over the rounds, and their quartiles."""
    base: dict[float, float] = {}
    for name, taken in loads.items():
        parts = []
        for share in (0.5, 0.99):
            each = [np.quantile(load.latency, share) * 1e3 for load in taken]
            low, middle, high = np.quantile(each, (0.25, 0.5, 0.75))
            ratio = middle / base.setdefault(share, middle)
            parts.append(f"p{100 * share:.0f} {middle:.3f} ms ({low:.3f} to {high:.3f}), ratio {ratio:.2f}")
        every = float(np.quantile(np.concatenate([load.latency for load in taken]), 0.99)) * 1e3
        late = statistics.median(float(np.quantile(load.late, 0.99)) * 1e3 for load in taken)
        busy = statistics.median(load.busy for load in taken)
        print(
            f"{kind} arrivals, {name}: {'; '.join(parts)}; p99 of all rounds together {every:.2f} ms"
            f"; generator busy {busy:.0%}, late p99 {late:.3f} ms"
        )


def batch(server: Server, folder: Path, rounds: int) -> tuple[float, float]:
    """Median ms of a 1,000-row request, and of decoding its JSON and ``inplace_predict`` in this process."""
    import xgboost
    from serve_peers import CODES

    request = request_for(server.name, rows(1000))
    body = request.partition(b"\r\n\r\n")[2]
    booster = xgboost.Booster(model_file=folder / "bundle" / "model.ubj")
    codes = {code: float(place) for place, code in enumerate(CODES)}

    def bare() -> None:
        decoded = orjson.loads(body)["instances"]
        matrix = np.array([[codes.get(value, value) for value in row.values()] for row in decoded], np.float32)
        booster.inplace_predict(matrix)

    client = Client(server.port)
    return _alternately(lambda: client.ask(request), bare, rounds)


def _alternately(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, into in ((first, taken[0]), (second, taken[1])):
            time.sleep(0.01)  # OpenMP's threads of the one before spin on
            began = time.perf_counter()
            call()
            into.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken[0]), statistics.median(taken[1])


def cold_starts(folder: Path, rounds: int) -> dict[str, float]:
    """Median seconds from process to first answer, started in turn; the first of each fills the file cache."""
    taken: dict[str, list[float]] = {"kedge": [], "kserve-constant": []}
    for number in range(rounds + 1):
        for name, seconds in taken.items():
            with started(name, sys.executable, folder) as server:
                if number:
                    seconds.append(server.ready_seconds)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def peer_python(name: str, package: str) -> str:
    """The interpreter of a peer's own environment, made if need be."""
    home = Path(tempfile.gettempdir()) / "kedge-peers" / name
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", "3.11", str(home)], check=True)
        wanted = [package, "scikit-learn>=1.5,<1.10", "xgboost-cpu>=3.2,<3.3", "pandas<3", "orjson"]
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), *wanted], check=True)
    return str(python)


def show(servers: list[Server]) -> None:
    """The table of one row a request."""
    base = servers[0]
    heads = ("one row", "p50 ms", "ratio", "p99 ms", "CPU µs/request", "ratio", "MB", "start s")
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for server in servers:
        p50, p99, cpu = (statistics.median(taken) for taken in (server.p50, server.p99, server.cpu))
        ratios = p50 / statistics.median(base.p50), cpu / statistics.median(base.cpu)
        print(
            f"| {server.name} | {p50:.2f} | {ratios[0]:.2f} | {p99:.2f} | {cpu:.0f} | {ratios[1]:.2f} "
            f"| {server.megabytes():.0f} | {server.ready_seconds:.1f} |"
        )


def main() -> None:
    """Run everything and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--servers", nargs="+", choices=(*OWN, *PEERS), default=OWN, help="the first is the base")
    parser.add_argument("--estimator", choices=("xgboost", "lightgbm"), default="xgboost", help="what kedge serves")
    parser.add_argument("--classes", type=int, default=2, help="3 and more: a probability of each")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    folder = Path(tempfile.mkdtemp(prefix="kedge-serve-"))
    try:
        write_bundle(folder / "bundle", options.estimator, options.classes)
        run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(options: argparse.Namespace, folder: Path) -> None:
    """The measurements asked for, on servers that run side by side."""
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    with ExitStack() as stack:
        servers = {}
        for name in options.servers:
            python = peer_python(name, PEERS[name]) if name in PEERS else sys.executable
            servers[name] = stack.enter_context(started(name, python, folder))
        if "row" in options.parts:
            measure(list(servers.values()), options.rounds, options.requests)
            show(list(servers.values()))
        if "batch" in options.parts:
            served, bare = batch(servers["kedge"], folder, options.rounds * 2)
            print(f"1,000 rows: kedge {served:.2f} ms, JSON and inplace_predict {bare:.2f}, ratio {served / bare:.2f}")
        if "load" in options.parts:
            under_load([servers["kedge-constant"], servers["kedge"]], options.rounds)
    if "start" in options.parts:
        starts = cold_starts(folder, options.starts)
        own, other = starts["kedge"], starts["kserve-constant"]
        print(f"start to first answer: kedge {own:.2f} s, kserve-constant {other:.2f} s, ratio {own / other:.2f}")


if __name__ == "__main__":
    main()
