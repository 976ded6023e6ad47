"""One hour of predictions joined with their labels, beside reading the same columns bare.

python benchmarks/window.py [--rows 1000000] [--features 20] [--rounds 9] [--pairs]

With ``--pairs`` the predictions are requests and responses of KServe's logger, the responses in other order; bare is
then reading the same columns of three tables.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from kedge import policy as policies
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.tables import appending, log, upkeep
from kedge.tables.pairs import request_columns, response_columns

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BATCHES = 10


def fill(store: Store, policy: Policy, rows: int, *, pairs: bool) -> None:
    """An hour of predictions under random ids, three hours around it, and labels for all of the hour in other order."""
    random = np.random.default_rng(7)
    ids = [str(UUID(bytes=random.bytes(16))) for _ in range(rows)]
    each = rows // BATCHES
    around = [f"other-{index}" for index in range(each)]
    parts = [(ids[number * each : (number + 1) * each], START) for number in range(BATCHES)]
    for number, (part, start) in enumerate([*parts, (around, START - HOUR)]):
        predictions = _predictions(policy, part, random, start)
        tables = _pairs(policy, predictions, random) if pairs else {"predictions": predictions}
        for name, table in tables.items():
            appending.append(store, policy, name, table, writer="bench", sequence=number)
    order = random.permutation(rows)
    observed = np.datetime64(START.replace(tzinfo=None), "us") + random.integers(0, 7_200_000_000, rows)
    labels = {"_id": pa.array(ids).take(pa.array(order)), "_label": (random.random(rows) < 0.1).astype(float)}
    labels["_observed"] = pa.array(observed.astype("datetime64[us]")).cast(log.TIME)
    appending.append(store, policy, "labels", pa.table(labels), writer="bench", sequence=0)
    upkeep.compact(store, policy)


def _predictions(policy: Policy, ids: list[str], random: np.random.Generator, start: datetime) -> pa.Table:
    times = np.datetime64(start.replace(tzinfo=None), "us") + np.sort(random.integers(0, 3_600_000_000, len(ids)))
    columns = {"_id": ids, "_time": pa.array(times.astype("datetime64[us]")).cast(log.TIME)}
    columns |= {
        "_score": random.random(len(ids)),
        "_prediction": np.zeros(len(ids)),
        "_latency_ms": random.random(len(ids)),
    }
    columns |= {"_version": pa.repeat("0123456789" * 4, len(ids)), "_slot": pa.repeat("blue", len(ids))}
    for name, feature in policy.model.features.items():
        if feature.type == "category":
            columns[name] = pa.array([f"value-{index}" for index in range(30)]).take(
                pa.array(random.integers(0, 30, len(ids)))
            )
        else:
            columns[name] = random.random(len(ids))
    return pa.table(columns)


def _pairs(policy: Policy, predictions: pa.Table, random: np.random.Generator) -> dict[appending.Table, pa.Table]:
    """The same as requests and responses."""
    predictions = predictions.append_column("_rows", pa.repeat(1, predictions.num_rows))
    requests = predictions.select(list(appending.columns_of(policy, "requests").keys() - {"_received"}))
    responses = predictions.select(list(appending.columns_of(policy, "responses").keys() - {"_received"}))
    return {"requests": requests, "responses": responses.take(pa.array(random.permutation(responses.num_rows)))}


def bare(store: Store, columns: list[str], *, pairs: bool) -> int:
    """The same columns of all tables by pyarrow's scanner, no filter, no join."""
    if pairs:
        both = {"requests": request_columns(columns), "responses": response_columns(columns)}
    else:
        both = {"predictions": columns}
    for name, names in both.items():
        predictions = DeltaTable(store.uri(f"logs/window/{name}")).to_pyarrow_dataset().to_table(columns=names)
    labels = DeltaTable(store.uri("logs/window/labels")).to_pyarrow_dataset()
    labels.to_table(columns=["_id", "_label", "_observed", "_received"])
    return int(predictions.num_rows)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall's clock and of processor time."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    """Fill, read in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", action="store_true", help="Of KServe's logger instead of own events.")
    options = parser.parse_args()
    features = {f"number_{index}": {"type": "number"} for index in range(options.features * 3 // 5)}
    features |= {f"category_{index}": {"type": "category"} for index in range(options.features - len(features))}
    model = {"name": "window", "target": "outcome", "features": features}
    policy = policies.parse({"model": model, "data": {"source": {"format": "log"}}})
    folder = Path(tempfile.mkdtemp(prefix="kedge-window-"))
    store = open_store(folder)
    try:
        fill(store, policy, options.rows, pairs=options.pairs)
        for what, names in (("all columns", None), ("score and label only", ["_id", "_score"])):
            columns = names or [name for name in log.schema(policy).names if name != "_day"]
            needed = list(dict.fromkeys((*columns, "_id", "_received")))
            pairs = []
            for _ in range(options.rounds):
                base = _timed(lambda needed=needed: bare(store, needed, pairs=options.pairs))
                joined = _timed(lambda names=names: log.read_window(store, policy, START, START + HOUR, columns=names))
                pairs.append((base, joined))
            for kind, place in (("wall", 0), ("processor", 1)):
                ratio = statistics.median(joined[place] / base[place] for base, joined in pairs)
                best, least = (min(side[place] for side in sides) for sides in zip(*pairs, strict=True))
                print(
                    f"{what}, {kind}: bare {best:.2f} s, window with labels {least:.2f} s, ratio {ratio:.2f} "
                    f"(goal: at most {3 if options.pairs else 2})",
                    flush=True,
                )
        table = log.read_window(store, policy, START, START + HOUR, columns=["_id"])
        assert table.num_rows == options.rows, table.num_rows
        assert table["_label"].null_count == 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
