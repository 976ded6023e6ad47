"""The model servers of one slot: the one that answers, the one that is coming up, and those that are finishing."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge.errors import KedgeError, UsageError
from kedge.rollout.local import envoy
from kedge.rollout.local.folder import Folder, SlotSeen, SlotWanted
from kedge.rollout.local.process import Process
from kedge.rollout.model import Slot
from kedge.store import open_store, write_file

PROBE_SECONDS = 1.0
"""How often something that was ready is asked again whether it is."""
PROBE_TIMEOUT = 0.5
UNHEARD_PROBES = 3
"""A server that did not say it is ready so often in a row is not."""
DRAIN_SECONDS = 2.0
"""How long a server that lost its traffic may finish what it began."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens loopback addresses past any proxy the environment names."""
END_SECONDS = 10.0
"""How long a server that was asked to end may take before it is killed."""
FAILED_ENDS = 3
"""A server that ended so often before it was ever ready will not come up by waiting."""


def free_port() -> int:
    """A loopback port nobody uses now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


class Probe:
    """Asks an address whether it answers 200: at every call until it does, then once a second."""

    def __init__(self) -> None:
        self._ready = False
        self._unheard = 0
        self._asked = 0.0

    def ready(self, url: str) -> bool:
        """What is known now."""
        now = time.monotonic()
        if self._ready and now - self._asked < PROBE_SECONDS:
            return True
        self._asked = now
        if _answers(url):
            self._ready, self._unheard = True, 0
        else:
            self._unheard += 1
            self._ready = self._ready and self._unheard < UNHEARD_PROBES
        return self._ready


class Server:
    """One model server process, on a port of its own at each start."""

    def __init__(self, words: Callable[[int], Sequence[str]], model: str, wanted: SlotWanted, log: Path) -> None:
        self.wanted = wanted
        self.process = Process(self._command, log)
        self.was_ready = False
        self.told = False
        """It was asked to end."""
        self._words = words
        self._model = model
        self._port = 0
        self._probe = Probe()

    @property
    def address(self) -> str:
        """Where it answers, past the gateway."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def ports(self) -> list[int]:
        """Ports the gateway may send to: none before it was ready and after it ended."""
        return [self._port] if self.was_ready and self.process.alive else []

    def keep(self) -> bool:
        """Keep it running; whether it is ready."""
        if self.process.keep():
            self._probe, self.was_ready = Probe(), False
        ready = self.process.alive and self._probe.ready(f"{self.address}/v2/models/{self._model}/ready")
        self.was_ready = self.process.alive and (self.was_ready or ready)
        return ready

    def seen(self, ready: bool) -> SlotSeen:
        """Its status."""
        failed = not ready and self.process.ends >= FAILED_ENDS and not self.was_ready
        return SlotSeen(
            generation=self.wanted.generation,
            bundle=self.wanted.bundle,
            ready=ready,
            failed=failed,
            ends=self.process.ends,
            reason="" if ready else self._reason(),
            address=self.address if self.process.alive else None,
            pid=self.process.pid,
        )

    def _reason(self) -> str:
        state = "not ready yet" if self.process.alive else f"ended with code {self.process.code}"
        times = f", {self.process.ends} times so far" if self.process.ends > 1 else ""
        said = self.process.said()
        return f"{state}{times}" + (f"; it said: {said}" if said else "")

    def _command(self) -> Sequence[str]:
        self._port = free_port()
        return self._words(self._port)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What every server of a slot is started with."""

    model: str
    slot: Slot
    store: str
    words: Callable[[], Sequence[str]]
    """The server's command, without bundle, slot and port; asked anew at each start."""
    log: Path


class SlotServers:
    """Makes a slot run what is wanted: a new server comes up beside the old one and takes over once it is ready."""

    def __init__(self, folder: Folder, place: Place) -> None:
        self._folder = folder
        self._place = place
        self._wanted: SlotWanted | None = None
        self._current: Server | None = None
        self._coming: Server | None = None
        self._leaving: list[tuple[Server, float]] = []
        self._refusal: SlotSeen | None = None
        self._endpoints: dict[str, bytes] = {}
        self._seen: SlotSeen | None = None
        self._bundles: dict[str, Path] = {}
        """By id the folders of the bundles that were started here."""

    def tick(self) -> None:
        """Look once, and work towards what is wanted."""
        wanted = self._folder.wanted(self._place.model, self._place.slot)
        if wanted != self._wanted:
            self._change(wanted)
        seen = self._kept()
        self._end_those_leaving()
        if seen != self._seen:
            self._folder.see(self._place.model, self._place.slot, seen)
            self._seen = seen

    def ask_to_stop(self) -> None:
        """Have all servers end."""
        for server in self._all():
            server.process.ask_to_stop()

    def close(self) -> None:
        """Wait until all servers have ended."""
        for server in self._all():
            server.process.wait(END_SECONDS)

    @property
    def model(self) -> str:
        """The model's name."""
        return self._place.model

    @property
    def slot(self) -> Slot:
        """The slot's name."""
        return self._place.slot

    @property
    def ports(self) -> list[int]:
        """Where the gateway may send requests of the slot to."""
        return self._current.ports if self._current else []

    @property
    def serving(self) -> tuple[str, Path] | None:
        """The bundle that answers here, by id and folder."""
        bundle = self._current.wanted.bundle if self._current is not None and self._current.ports else None
        return None if bundle is None else (bundle, self._bundles[bundle])

    def write_endpoints(self, beside: Sequence[int]) -> None:
        """Tell the gateway where the slot answers, and who does while it does not, if that changed."""
        for mirrored in (False, True):
            cluster = envoy.cluster_name(self.model, self.slot, mirrored=mirrored)
            found = envoy.endpoints(cluster, self.ports, () if mirrored else beside)
            if found != self._endpoints.get(cluster):
                write_file(self._folder.root / "envoy" / f"{cluster}.json", found)
                self._endpoints[cluster] = found

    def _change(self, wanted: SlotWanted | None) -> None:
        self._retire(self._coming)
        self._coming = self._refusal = None
        if wanted is None:
            self._retire(self._current)
            self._current = None
        elif self._current is None or self._current.wanted != wanted:
            self._start(wanted)
        self._wanted = wanted

    def _start(self, wanted: SlotWanted) -> None:
        try:
            bundle = self._bundle(wanted)
        except (KeyError, KedgeError, OSError) as exc:
            reason = f"bundle {wanted.uri} cannot be had: {exc}"
            self._refusal = SlotSeen(generation=wanted.generation, bundle=wanted.bundle, failed=True, reason=reason)
            return
        self._bundles[wanted.bundle] = bundle

        def words(port: int) -> Sequence[str]:
            what = ["--bundle", str(bundle), "--bundle-id", wanted.bundle, "--slot", self._place.slot]
            return [*self._place.words(), *what, "--port", str(port)]

        self._coming = Server(words, self._place.model, wanted, self._place.log)

    def _kept(self) -> SlotSeen | None:
        """Keep all servers running, let the coming one take over once it is ready; the slot's status."""
        seen = None
        if self._current is not None:
            seen = self._current.seen(self._current.keep())
            self._current.process.trim_log()
        if self._coming is not None:
            ready = self._coming.keep()
            seen = self._coming.seen(ready)
            if ready:
                self._retire(self._current)
                self._current, self._coming = self._coming, None
        return self._refusal or seen

    def _bundle(self, wanted: SlotWanted) -> Path:
        if "://" not in wanted.uri:
            if not Path(wanted.uri).is_dir():
                raise UsageError("no such folder")
            return Path(wanted.uri)
        cache = self._folder.root / "cache" / wanted.bundle
        return open_store(self._place.store).fetch(f"bundles/{self._place.model}/{wanted.bundle}", cache)

    def _retire(self, server: Server | None) -> None:
        if server is not None:
            self._leaving.append((server, time.monotonic() + DRAIN_SECONDS))

    def _end_those_leaving(self) -> None:
        """Without waiting: another slot may need its server started meanwhile."""
        now = time.monotonic()
        for server, until in self._leaving:
            if now >= until + END_SECONDS:
                server.process.wait(0)
            elif now >= until and not server.told:
                server.process.ask_to_stop()
                server.told = True
        self._leaving = [(server, until) for server, until in self._leaving if server.process.alive]

    def _all(self) -> list[Server]:
        return [server for server in (self._current, self._coming) if server] + [old for old, _ in self._leaving]


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=PROBE_TIMEOUT) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
