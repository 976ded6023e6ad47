"""What the drivers on KServe have in common: what they talk to, and the counters of their model servers."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from kedge import clock
from kedge.errors import ReleaseError
from kedge.rollout.kserve import api, servers
from kedge.rollout.kserve.address import Address
from kedge.rollout.model import Mark, Slot, Traffic

PREDICTOR = "predictor.json"
"""Key of the ConfigMap that says what slots are."""


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

    def _predictor(self) -> api.Object | None:
        """What the installation says slots are, but for the bundle; None where the address names no ConfigMap."""
        if not self.address.slots:
            return None
        place = f"configmap {self.address.namespace}/{self.address.slots}"
        found = self.cluster.get(api.MAPS, self.address.slots)
        if found is None:
            raise ReleaseError(f"{place} is not there, which the platform's address names: helm upgrade makes it anew")
        try:
            predictor = json.loads((found.get("data") or {})[PREDICTOR])
            if not isinstance(predictor, dict):
                raise ValueError("not an object")
        except (KeyError, ValueError) as exc:
            raise ReleaseError(f"{place}: {PREDICTOR}: must be a predictor as JSON: {exc}") from exc
        return predictor

    @abstractmethod
    def _servers(self) -> Mapping[Slot, Mapping[str, Traffic]]:
        """What each model server of each slot has counted so far."""
