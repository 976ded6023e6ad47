"""The platform's folder: what is wanted of it (slots, routes) and what it says of itself (status).

slots/<model>-<slot>.json    which bundle a slot shall run           written by drivers
routes/<model>.json          weights, mirror, rollout                written by drivers
status/<model>-<slot>.json   what runs there                         written by the supervisor
status/platform.json         addresses, and routes as applied        written by the supervisor
log/, envoy/, spool/, cache/ the supervisor's own
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from kedge.errors import Conflict, ReleaseError
from kedge.rollout.model import Route, Slot, decode_route, encode_route
from kedge.store import write_file


@dataclass(frozen=True, kw_only=True)
class SlotWanted:
    """Which bundle a slot shall run."""

    bundle: str
    uri: str
    generation: int
    """Rises with every change, so that a status tells which wish it answers."""


@dataclass(frozen=True, kw_only=True)
class SlotSeen:
    """What the supervisor says of a slot."""

    generation: int
    bundle: str
    ready: bool = False
    failed: bool = False
    ends: int = 0
    """How often its process ended by itself since the bundle was asked for."""
    reason: str = ""
    address: str | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlatformSeen:
    """What the supervisor says of itself."""

    ready: bool
    """Gateway and collector answer."""
    pid: int
    gateway: str
    """Address clients send requests to."""
    collector: str
    admin: str
    """Envoy's administration address, for its statistics."""
    epoch: str
    """Changes when Envoy is started anew and its counters begin at zero."""
    routes: dict[str, int] = field(default_factory=dict)
    """Model -> revision of its route that Envoy has applied."""


Kind = TypeVar("Kind", SlotWanted, SlotSeen, PlatformSeen)


class Folder:
    """Reading and writing the declared objects. Every write is whole; a route's is a compare-and-swap."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def wanted(self, model: str, slot: Slot) -> SlotWanted | None:
        """What the slot shall run; None: nothing."""
        return _read(self._slot(model, slot), SlotWanted)

    def want(self, model: str, slot: Slot, bundle: str, uri: str) -> None:
        """Declare a bundle in a slot; the one that is there already changes nothing."""
        with self._locked(model):
            before = self.wanted(model, slot)
            if before is None or (before.bundle, before.uri) != (bundle, uri):
                _write(self._slot(model, slot), SlotWanted(bundle=bundle, uri=uri, generation=self._next(model)))

    def want_empty(self, model: str, slot: Slot) -> None:
        """Declare a slot empty."""
        with self._locked(model):
            self._slot(model, slot).unlink(missing_ok=True)

    def route(self, model: str) -> Route:
        """The declared route; revision 0 if none was ever declared."""
        path = self._route(model)
        try:
            return decode_route(path.read_bytes(), str(path))
        except FileNotFoundError:
            return Route()
        except OSError as exc:
            raise ReleaseError(f"{path}: cannot be read: {exc.strerror}") from exc

    def swap_route(self, model: str, route: Route) -> Route:
        """Replace the route of ``route.revision``. Raises Conflict if it has another revision by now."""
        with self._locked(model):
            revision = self.route(model).revision
            if revision != route.revision:
                raise Conflict(
                    f"{self._route(model)}: is at revision {revision}, not {route.revision}: changed by someone else"
                )
            written = replace(route, revision=revision + 1)
            write_file(self._route(model), encode_route(written))
            return written

    def seen(self, model: str, slot: Slot) -> SlotSeen | None:
        """The slot's status; None if the supervisor wrote none."""
        return _read(self._seen(model, slot), SlotSeen)

    def see(self, model: str, slot: Slot, seen: SlotSeen | None) -> None:
        """Write a slot's status; None removes it."""
        if seen is None:
            self._seen(model, slot).unlink(missing_ok=True)
        else:
            _write(self._seen(model, slot), seen)

    def platform(self) -> PlatformSeen | None:
        """The supervisor's own status, only while it runs."""
        return _read(self.root / "status" / "platform.json", PlatformSeen) if self.running() else None

    def see_platform(self, seen: PlatformSeen) -> None:
        """Write the supervisor's own status."""
        _write(self.root / "status" / "platform.json", seen)

    def forget_status(self) -> None:
        """Remove what an earlier supervisor said."""
        for path in (self.root / "status").glob("*.json"):
            path.unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether a supervisor works on this folder: it holds the lock as long as it lives."""
        path = self.root / "lock"
        if not path.exists():
            return False
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        path = self.root / "routes" / f".{model}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _next(self, model: str) -> int:
        """A generation no slot of the model had: counted in a file of its own, as a slot's file comes and goes."""
        path = self.root / "slots" / f".{model}.generation"
        generation = int(path.read_text()) + 1 if path.exists() else 1
        write_file(path, str(generation).encode())
        return generation

    def _slot(self, model: str, slot: Slot) -> Path:
        return self.root / "slots" / f"{model}-{slot}.json"

    def _route(self, model: str) -> Path:
        return self.root / "routes" / f"{model}.json"

    def _seen(self, model: str, slot: Slot) -> Path:
        return self.root / "status" / f"{model}-{slot}.json"


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as exc:
        raise ReleaseError(f"{path}: cannot be read as the platform's own: {exc}; remove it") from exc


def _write(path: Path, value: SlotWanted | SlotSeen | PlatformSeen) -> None:
    write_file(path, TypeAdapter(type(value)).dump_json(value, indent=2))
