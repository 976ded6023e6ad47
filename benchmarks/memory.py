"""Peak memory and processor time of ingest, validate and a check, each in a process of its own.

python benchmarks/memory.py [--rows 3000000] [--folder /tmp/kedge-memory]

The table has 16 numbers, an integer, a truth value, two categories, a time, an id of 13 letters and an outcome, in
files of 100,000 rows. The prediction log has as many predictions in one day, each with its outcome an hour later.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kedge import policy as policies
from kedge import records
from kedge.data import ingest, validate
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.tables import appending, upkeep
from kedge.training import train

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
FILE_ROWS = 100_000
FEATURES = {f"n{k}": "number" for k in range(16)} | {"i": "integer", "b": "boolean", "c": "category", "d": "category"}
STEPS = ("prepare", "ingest", "validate", "check")


def rows(count: int, start: datetime, seed: int, span: timedelta) -> pa.Table:
    """Rows spread over a time."""
    random = np.random.default_rng(seed)
    times = np.datetime64(start.replace(tzinfo=None), "us") + np.sort(random.integers(0, span // DAY.resolution, count))
    columns: dict[str, object] = {
        "id": [f"{seed:03d}-{k:09d}" for k in range(count)],
        "at": pa.array(times.astype("datetime64[us]")).cast(pa.timestamp("us", "UTC")),
    }
    columns |= {f"n{k}": random.normal(size=count) for k in range(16)}
    columns |= {"i": random.integers(0, 90, count), "b": random.random(count) < 0.5}
    columns |= {"c": np.array(["a", "bb", "ccc", "d"])[random.integers(0, 4, count)]}
    columns |= {"d": np.array([f"shop{k}" for k in range(50)])[random.integers(0, 50, count)]}
    columns["late"] = (columns["n0"] + random.normal(size=count) > 0.5).astype(np.int64)
    return pa.table(columns)


def rules(table: Path) -> Policy:
    """The policy over a table."""
    return policies.parse(
        {
            "model": {
                "name": "big",
                "target": "late",
                "features": {name: {"type": kind} for name, kind in FEATURES.items()},
            },
            "data": {
                "source": {"format": "parquet", "location": str(table)},
                "time_column": "at",
                "id_column": "id",
            },
            "train": {"estimators": ["linear"], "min_rows": 500},
            "labels": {"delay_seconds": 3600},
            "monitor": {"window_seconds": 86400, "schedule": "0 0 * * *"},
        }
    )


def prepare(folder: Path, count: int) -> None:
    """Write the table and the log, and promote a champion trained on 20,000 rows."""
    for name in ("table", "small"):
        (folder / name).mkdir(parents=True)
    store, parts = open_store(folder / "store"), count // FILE_ROWS
    pq.write_table(rows(20_000, START - 30 * DAY, 999, 29 * DAY), folder / "small" / "0.parquet")
    small = rules(folder / "small")
    champion = train.run(small, store, ingest.run(small, store, START)).id
    body = {"model": "big", "kind": "promoted", "key": f"{champion}-1", "time": START, "data": {}}
    records.append(store, records.parse({**body, "actor": "", "written": None}))
    policy = rules(folder / "table")
    for number in range(parts):
        span = 30 * DAY / parts
        made = rows(FILE_ROWS, START - 30 * DAY + number * span, number, span)
        pq.write_table(made, folder / "table" / f"{number:03d}.parquet")
        serve(store, policy, champion, rows(FILE_ROWS, START + number * DAY / parts, 500 + number, DAY / parts), number)
    upkeep.compact(store, policy)


def serve(store: Store, policy: Policy, champion: str, made: pa.Table, number: int) -> None:
    """Log rows as predictions of the champion, with their outcomes."""
    columns = {"_id": made["id"], "_time": made["at"], "_received": made["at"]}
    columns |= {"_version": [champion] * len(made), "_slot": ["blue"] * len(made)}
    columns |= {"_score": np.random.default_rng(number).random(len(made)), "_prediction": np.zeros(len(made))}
    columns |= {"_latency_ms": np.ones(len(made))}
    for name, kind in FEATURES.items():
        columns[name] = made[name] if kind == "category" else made[name].cast(pa.float64())
    labels = {"_id": made["id"], "_label": made["late"].cast(pa.float64())}
    labels["_observed"] = pc.add(made["at"], pa.scalar(timedelta(hours=1)))
    appending.append(store, policy, "predictions", pa.table(columns), writer="bench", sequence=number)
    appending.append(store, policy, "labels", pa.table(labels), writer="bench", sequence=number)


def step(name: str, folder: Path) -> str:
    """One step, in this process; what it has to tell the next one."""
    policy, store = rules(folder / "table"), open_store(folder / "store")
    if name == "ingest":
        return ingest.run(policy, store, START)
    if name == "validate":
        return validate.run(policy, store, (folder / "ingest").read_text())
    file = folder / "policy.yaml"
    file.write_text(json.dumps(policy.to_dict()))
    words = ["--policy", file, "--store", folder / "store", "--now", (START + DAY).isoformat(), "--no-submit"]
    asked = [sys.executable, "-m", "kedge.cli", "monitor", *words]  # with the imports and the allocator of a check
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Prepare once, then measure each step in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=3_000_000)
    options.add_argument("--folder", type=Path, default=Path("/tmp/kedge-memory"))
    options.add_argument("--step", choices=STEPS)
    asked = options.parse_args()
    if asked.step is not None:
        if asked.step == "prepare":
            prepare(asked.folder, asked.rows)
            return
        (asked.folder / asked.step).write_text(step(asked.step, asked.folder))
        who = resource.RUSAGE_CHILDREN if asked.step == "check" else resource.RUSAGE_SELF
        used = resource.getrusage(who)
        print(f"{asked.step:8} {used.ru_maxrss / 1024:6.0f} MB  {used.ru_utime + used.ru_stime:6.2f} s of CPU")
        return
    for name in STEPS[asked.folder.exists() :]:  # a process begins with the peak of the one that started it
        words = ["--rows", str(asked.rows), "--folder", asked.folder, "--step", name]
        subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
