"""The newest monitoring check of each model, kept for Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kedge.body import shown
from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.collector.payloads import FIGURE, MAX_FIGURES
from kedge.collector.reading import json_of
from kedge.collector.rejection import RequestRejected
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
            if path.exists():
                self._show(name, orjson.loads(path.read_bytes()), path.stat().st_mtime)

    def take(self, body: bytes) -> None:
        """Keep a check: ``{"model": ..., "figures": {...}}``, numbers by name; durable on return.

        Raises:
            RequestRejected: malformed, or the model is not declared.
            OSError: the disk refused.
        """
        value = json_of(body)
        if type(value) is not dict:
            raise RequestRejected("malformed", f'a check is {{"model": ..., "figures": {{...}}}}, got {shown(value)}')
        name = value.get("model")
        if type(name) is not str or name not in self._declared:
            raise RequestRejected(
                "unknown-model", f"model {shown(name)} is not declared; {', '.join(self._declared)} are"
            )
        figures = _figures(value.get("figures"))
        write_file(self._folder / f"{name}.json", orjson.dumps(figures))
        self._show(name, figures, time.time())

    def _show(self, name: str, figures: Mapping[str, float], posted: float) -> None:
        self._metrics.show(name, figures, "posted", posted + newest_seconds(self._declared[name].policy))


def _figures(value: Any) -> dict[str, float]:
    if type(value) is not dict or not 0 < len(value) <= MAX_FIGURES:
        raise RequestRejected("invalid", f"figures must be an object of 1 to {MAX_FIGURES} numbers, got {shown(value)}")
    for name, number in value.items():
        if not re.fullmatch(FIGURE, name):
            raise RequestRejected(
                "invalid", f"figure {shown(name)} must be lower-case letters, digits and _, at most 64"
            )
        if type(number) not in (int, float, bool):
            raise RequestRejected("invalid", f"figure {name} must be a number, got {shown(number)}")
    return {name: float(number) for name, number in value.items()}
