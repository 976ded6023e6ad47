"""A small table with something to learn, its policy, and a snapshot of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kedge import policy as policies
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import snapshot, sources

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=30)


def table(rows: int = 1500, *, seed: int = 0, sign: float = 1.0, task: str = "binary") -> pa.Table:
    """Rows of 30 days in time order: four numbers, a boolean, a category with gaps; ``sign`` turns the relation."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 4))
    country = rng.choice(["AT", "BE", "DE"], rows)
    recurring = rng.random(rows) < 0.5
    raw = sign * (1.5 * numbers[:, 0] - numbers[:, 1] ** 2 + (country == "BE") * 1.5 + recurring * 0.5)
    if task == "poisson":
        label = rng.poisson(np.exp(raw / 2)).astype(float)
    elif task == "multiclass":
        label = np.digitize(raw + rng.logistic(size=rows) * 0.7, [-1, 1])
    else:
        label = raw + rng.logistic(size=rows) * 0.7 > 0 if task == "binary" else raw + rng.normal(size=rows) * 0.3
    columns: dict[str, Any] = {f"x{index}": numbers[:, index] for index in range(4)}
    columns["x3"] = pa.array(numbers[:, 3], mask=rng.random(rows) < 0.1)
    columns |= {"country": pa.array(country, mask=rng.random(rows) < 0.05), "recurring": recurring}
    step = timedelta(days=30) / rows
    times = [START + step * index for index in range(rows)]
    return pa.table(
        {
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            **columns,
            "y": label.astype(np.int64) if task == "binary" else label,
        }
    )


def policy(location: str | Path = "unused", *, task: str = "binary", **sections: Any) -> Policy:
    """The policy of :func:`table`; ``sections`` are merged into its parts. The task may be a regression's loss."""
    number = {"type": "number"}
    extra: dict[str, Any] = {"classes": [0, 1, 2]} if task == "multiclass" else {}
    if task not in ("binary", "multiclass", "regression"):
        task, extra = "regression", {"loss": task}
    values: dict[str, Any] = {
        "model": {
            "name": "fraud",
            "task": task,
            "target": "y",
            **extra,
            "features": {
                **{f"x{index}": number for index in range(4)},
                "country": {"type": "category"},
                "recurring": {"type": "boolean"},
            },
            "slices": ["country", "recurring"],
        },
        "data": {"source": {"format": "parquet", "location": str(location)}, "time_column": "at"},
        "train": {"xgboost": {"trees": 40, "depth": 3}, "threads": 1, "holdout_share": 0.2},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return policies.parse(values)


def taken(store: Store, folder: Path, rows: pa.Table, asked: Policy) -> str:
    """A snapshot of these rows, through the real reader; returns its fingerprint."""
    file = folder / f"rows-{len(list(folder.glob('rows-*')))}.parquet"
    pq.write_table(rows, file)
    source = asked.data.source.model_copy(update={"location": str(file)})
    opened = sources.open_source(source, asked.data, store=store, model=asked.model)
    return snapshot.take(opened, asked, store, end=END).fingerprint
