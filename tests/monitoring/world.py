"""A small world: a model trained on generated rows, promoted, and a prediction log that tests fill as they like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from kedge import bundle, policy, records
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import appending
from tests.records.made import record

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = {
    "model": {
        "name": "fraud",
        "target": "fraud",
        "features": {
            "amount": {"type": "number", "min": 0, "max": 1000},
            "age": {"type": "integer"},
            "card": {"type": "boolean"},
            "land": {"type": "category"},
            "secret": {"type": "number", "privacy": "hash"},
        },
    },
    "data": {"source": {"format": "parquet", "location": "x.parquet"}, "time_column": "at"},
    "train": {"estimators": ["linear"], "min_rows": 500},
    "monitor": {
        "performance": {"min_labels": 100, "min_increase": 0.2},
        "budget": {"consecutive_checks": 2, "cooldown_seconds": 0},
    },
}


def rows(count: int, start: datetime, seed: int, *, flipped: bool = False) -> pa.Table:
    """Rows spread over a day; ``flipped``: the relation is turned around."""
    random = np.random.default_rng(seed)
    amount = random.uniform(0, 1000, count)
    land = random.choice(["at", "de", "fr"], count)
    card = random.random(count) < 0.5
    log_odds = (amount - 500) / 120 + np.where(land == "fr", 1.0, 0.0)
    chance = 1 / (1 + np.exp(-(-log_odds if flipped else log_odds)))
    stamps = [start + DAY * (k / count) for k in range(count)]
    return pa.table(
        {
            "at": pa.array(stamps, pa.timestamp("us", tz="UTC")),
            "amount": amount,
            "age": random.integers(18, 90, count),
            "card": card,
            "land": land,
            "secret": random.normal(size=count),
            "fraud": (random.random(count) < chance).astype(np.int64),
        }
    )


@dataclass
class World:
    """A store with a champion, and the means to let it be used."""

    folder: Path
    policy: Policy
    store: Store
    champion: str
    sequence: int = 0

    def rules(self, labels: object = None, **monitor: object) -> Policy:
        """The policy with other monitor fields."""
        return policy.parse({**RULES, "labels": labels or {}, "monitor": {**RULES["monitor"], **monitor}})

    def serve(
        self,
        table: pa.Table,
        *,
        version: str | None = None,
        labels_after: timedelta | Mapping[int, timedelta] | None = timedelta(0),
    ) -> None:
        """Score rows with the champion and log them; labels become known so much later, by class; None: never."""
        self.sequence += 1
        found = bundle.fetch(self.store, "fraud", self.champion, self.folder / "cache")
        scores = found.load_model().score(found.signature.encode(table))
        ids = [f"{self.sequence}-{k}" for k in range(table.num_rows)]
        logged = pa.table(
            {
                "_id": ids,
                "_time": table["at"],
                "_version": pa.array([version or self.champion] * table.num_rows),
                "_score": scores,
                "_prediction": (scores >= 0.5).astype(float),
                "amount": table["amount"],
                "age": table["age"].cast(pa.float64()),
                "card": table["card"].cast(pa.float64()),
                "land": table["land"],
                "secret": pa.array(["h"] * table.num_rows),
            }
        )
        appending.append(self.store, self.policy, "predictions", logged, writer="test", sequence=self.sequence)
        if labels_after is not None:
            after = labels_after if isinstance(labels_after, Mapping) else {0: labels_after, 1: labels_after}
            rows = zip(ids, table["fraud"].to_pylist(), table["at"].to_pylist(), strict=True)
            self.label([(key, label, time + after[label]) for key, label, time in rows if label in after])

    def label(self, outcomes: Sequence[tuple[str, float, datetime]]) -> None:
        """Log outcomes: id, label, when it became known."""
        self.sequence += 1
        ids, labels, observed = zip(*outcomes, strict=True)
        stamps = pa.array(observed, pa.timestamp("us", tz="UTC"))
        table = pa.table({"_id": ids, "_label": pa.array(labels, pa.float64()), "_observed": stamps})
        appending.append(self.store, self.policy, "labels", table, writer="test", sequence=self.sequence)

    def promote(self, bundle_id: str, time: datetime) -> None:
        """Record a promotion."""
        records.append(self.store, record("promoted", f"{bundle_id}-1", time))
