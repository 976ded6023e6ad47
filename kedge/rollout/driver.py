"""What a rollout needs from a platform: seven verbs, so that a new platform is a new file and not a new branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx

from kedge.choice import Score
from kedge.rollout.model import Mark, Readings, Route, Slot, SlotStatus


class Driver(Protocol):
    """One model's two slots and the route between them. Every verb may be repeated."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def mirrors(self) -> bool:
        """Whether requests can be copied to a slot."""

    @property
    def keeps(self) -> bool:
        """Whether a slot without traffic may keep its server, so that a rollback is one change of weights."""

    @property
    def http(self) -> httpx.Client:
        """Asks the servers of slots themselves, at their ``SlotStatus.address``."""

    def deploy(self, slot: Slot, bundle: str, uri: str) -> None:
        """Ask for a bundle in a slot; returns at once. Asking again for the bundle that is there changes nothing."""

    def slot(self, slot: Slot) -> SlotStatus:
        """What runs in the slot."""

    def remove(self, slot: Slot) -> None:
        """Ask for an empty slot. Raises ReleaseError while the route gives it traffic or mirrors to it."""

    def route(self) -> Route:
        """The route as it is declared now."""

    def set_route(self, route: Route) -> Route:
        """Replace the route whose revision is ``route.revision``; the route returned has the next revision.

        Raises:
            Conflict: another writer was first; read the route again and decide anew.
        """

    def predict(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
        """Scores from the slot itself, past the gateway: such requests appear in no counter.

        Raises:
            SlotNotReady: the slot did not answer.
            ReleaseError: it answered, and not with a score for each row.
        """

    def mark(self) -> Mark:
        """This moment, to count from."""

    def readings(self, mark: Mark) -> Readings:
        """What the gateway counted since the mark."""

    def flush(self) -> None:
        """Have the collector write what it holds to the prediction log; a collector that is down is no error."""
