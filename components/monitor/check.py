"""One check: a window of the prediction log against the champion's reference. Reads; decides and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from components.monitor.estimate import Estimate
from components.monitor.history import Champion
from components.monitor.performance import Performance


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Columns of the window against the reference's."""

    verdict: str
    """``compared`` or ``too few rows``, which is never "no drift"."""
    drifted: tuple[str, ...] = ()
    attention: float = 0.0
    """Share of the model's importance that drifted."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Every number, by column."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check saw."""

    model: str
    champion: Champion
    start: datetime
    end: datetime
    rows: int
    """Rows of the window, whoever answered them."""
    inputs: Drift
    """Features, over all rows of the window."""
    scores: Drift
    """``_score``, over the champion's own rows."""
    corrupt: tuple[str, ...] = ()
    """Why the feed counts as corrupt, in words; empty: it does not."""
    performance: Performance
    estimate: Estimate | None = None
    trained_until: datetime | None = None
    """Time of the newest row the champion was trained on."""
    new_labels: int | None = None
    """Labels that became known since then, or since the last retraining; None: not asked for."""
