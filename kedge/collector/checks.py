"""The newest monitoring check of each model, kept for Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kedge.body import json_of, shown
from kedge.collector.declared import Declared, model_of
from kedge.collector.metrics import Metrics
from kedge.collector.payloads import FIGURE, MAX_FIGURES
from kedge.collector.rejection import invalid, malformed
from kedge.errors import DataError
from kedge.records.exposition import newest_seconds
from kedge.store import write_file


class Checks:
    """Figures by model; they survive a restart."""

    def __init__(self, folder: Path, declared: Mapping[str, Declared], metrics: Metrics) -> None:
        self._folder = folder
        self._declared = declared
        self._metrics = metrics

    def load(self) -> None:
        """Show again what an earlier process was told."""
        for name in self._declared:
            path = self._folder / f"{name}.json"
            try:
                self._show(name, _figures(json_of(path.read_bytes())), path.stat().st_mtime)
            except FileNotFoundError:
                pass
            except (DataError, OSError) as exc:  # it is shown again after the next check
                self._metrics.faults[f"checks: {name}"] = f"{path} cannot be read: {exc}; delete it"

    def take(self, body: bytes) -> None:
        """Keep a check: ``{"model": ..., "figures": {...}}``, numbers by name; durable on return.

        Raises:
            RequestRejected: malformed, or the model is not declared.
            OSError: the disk refused.
        """
        value = json_of(body)
        if type(value) is not dict:
            raise malformed(f'a check is {{"model": ..., "figures": {{...}}}}, got {shown(value)}')
        name = model_of(self._declared, value.get("model")).name
        figures = _figures(value.get("figures"))
        write_file(self._folder / f"{name}.json", orjson.dumps(figures))
        self._metrics.faults.pop(f"checks: {name}", None)
        self._show(name, figures, time.time())

    def _show(self, name: str, figures: Mapping[str, float], posted: float) -> None:
        self._metrics.show(name, figures, "posted", posted + newest_seconds(self._declared[name].policy))


def _figures(value: Any) -> dict[str, float]:
    if type(value) is not dict or not 0 < len(value) <= MAX_FIGURES:
        raise invalid(f"figures must be an object of 1 to {MAX_FIGURES} numbers, got {shown(value)}")
    for name, number in value.items():
        if not re.fullmatch(FIGURE, name):
            raise invalid(f"figure {shown(name)} must be lower-case letters, digits and _, at most 64")
        if type(number) not in (int, float, bool):
            raise invalid(f"figure {name} must be a number, got {shown(number)}")
    return {name: float(number) for name, number in value.items()}
