"""What the drivers on KServe have in common: what they talk to, and the counters of their model servers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from kedge import clock
from kedge.rollout.kserve import api, servers
from kedge.rollout.kserve.address import Address
from kedge.rollout.model import Mark, Slot, Traffic


@dataclass(eq=False)
class KServeDriver(ABC):
    """See :class:`kedge.rollout.driver.Driver`."""

    address: Address
    """The namespace, and what first objects need."""
    model: str
    """The model's name, which its route or InferenceService has too."""
    cluster: api.Api
    """The API of that namespace."""
    http: httpx.Client = field(kw_only=True)
    """Asks model servers and collectors themselves."""
    sleep: Callable[[float], None] = field(default=time.sleep, kw_only=True)
    """Real seconds."""
    monotonic: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    """Real seconds since any moment."""

    def mark(self) -> Mark:
        told = {key: traffic for each in self._servers().values() for key, traffic in each.items()}
        return Mark(time=clock.now(), servers=told)

    def flush(self) -> None:
        servers.flush(self.http, self.cluster)

    @abstractmethod
    def _servers(self) -> Mapping[Slot, Mapping[str, Traffic]]:
        """What each model server of each slot has counted so far."""
