"""What scoring a table costs against reading, predicting and writing it bare: ``python benchmarks/score.py``.

A Parquet file of numbers, XGBoost with the policy's defaults. Bare: pyarrow's batches, XGBoost's own
``inplace_predict`` on as many threads, id and score written to Parquet. kedge does the same with golden rows first, the
table's schema, hashes of ids and content, version and time beside each score, and all of it in the prediction log. Each
runs in a process of its own, in turn; the least of the repetitions counts, because other work only adds. Where it adds
much, CPU seconds say more than time does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kedge.cpus import usable_cpus

FEATURES, TRAINED = 20, 100_000
NAMES = [f"x{place}" for place in range(FEATURES)]
CHUNK = 500_000
GOAL = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", choices=("bare", "kedge"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the tables are made (default: a temporary folder)")
    asked = parser.parse_args()
    if asked.only:
        folder = asked.folder
        began, cpu = time.perf_counter(), time.process_time()
        (bare if asked.only == "bare" else by_kedge)(folder)
        seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "memory": peak()}
        print(json.dumps(seconds))
        return
    print(f"{usable_cpus()} cores, {FEATURES} features\n")
    print("| rows | | wall s | CPU s | peak MB |\n|---|---|---|---|---|")
    for rows in asked.rows:
        with tempfile.TemporaryDirectory(dir=asked.folder) as place:
            folder = Path(place)
            prepare(folder, rows)
            found = least(folder, asked.times)
        for way, each in found.items():
            print(f"| {rows:,} | {way} | {each['wall']:.1f} | {each['cpu']:.1f} | {each['memory']:.0f} |")
        ratios = {of: found["kedge"][of] / found["bare"][of] for of in ("wall", "cpu", "memory")}
        cells = [f"{each:.2f}{'' if each <= GOAL else ' **missed**'}" for each in ratios.values()]
        print(f"| {rows:,} | ratio | {' | '.join(cells)} |", flush=True)


def least(folder: Path, times: int) -> dict[str, dict[str, float]]:
    """The least seconds and memory of some runs of both ways in turn, each in a process of its own."""
    runs: dict[str, list[dict[str, float]]] = {"bare": [], "kedge": []}
    for _ in range(times):
        for way, each in runs.items():
            command = [sys.executable, __file__, "--only", way, "--folder", str(folder)]
            each.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return {way: {of: min(run[of] for run in each) for of in each[0]} for way, each in runs.items()}


def prepare(folder: Path, rows: int) -> None:
    """A table, a model of XGBoost fitted on the like, and a store in which it is champion."""
    random = np.random.default_rng(0)
    schema = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in NAMES)])
    with pq.ParquetWriter(folder / "rows.parquet", schema) as writer:
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            ids = np.char.add("r", np.arange(first, first + count).astype(str))
            writer.write_table(pa.table([pa.array(ids), *random.normal(size=(FEATURES, count))], schema=schema))
    publish(folder, random)


def publish(folder: Path, random: np.random.Generator) -> None:
    """The champion of the benchmark."""
    import xgboost

    from kedge import bundle as bundles
    from kedge.bundle import Signature
    from kedge.policy.train import XGBoost
    from kedge.rollout import batch

    policy = rules()
    matrix = random.normal(size=(TRAINED, FEATURES)).astype(np.float32)
    label = matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + random.normal(size=TRAINED) > 0
    own = XGBoost()
    model = xgboost.XGBClassifier(
        n_estimators=own.trees, max_depth=own.depth, learning_rate=own.learning_rate, tree_method="hist"
    ).fit(matrix, label)
    model.get_booster().save_model(folder / "bare.ubj")
    golden = pa.table({name: matrix[:64, place] for place, name in enumerate(NAMES)})
    made = bundles.write(
        folder / "bundle", model=model, signature=Signature.of(policy.model), policy=policy, estimator="xgboost",
        golden=golden, profile=b"{}", snapshot="s",
    )  # fmt: skip
    store = opened(folder)
    bundles.publish(store, made)
    ledger = batch.Ledger(policy=policy, store=store, publish=lambda _: None)
    assert batch.begin(ledger, made, "benchmark").result == "promoted"


def bare(folder: Path) -> None:
    """Read, predict, write."""
    import xgboost

    booster = xgboost.Booster(model_file=folder / "bare.ubj")
    booster.set_param("nthread", usable_cpus())
    columns = pa.schema([("id", pa.string()), ("score", pa.float32())])
    with pq.ParquetFile(folder / "rows.parquet") as table, pq.ParquetWriter(folder / "bare.parquet", columns) as writer:
        for rows in table.iter_batches(65_536):
            matrix = np.column_stack([rows.column(name).to_numpy().astype(np.float32) for name in NAMES])
            scores = booster.inplace_predict(matrix)
            writer.write_batch(pa.record_batch([rows.column("id"), scores], schema=columns))


def by_kedge(folder: Path) -> None:
    """The same by ``kedge score``; its output and log go, so that each run is a first one."""
    import shutil

    from kedge.rollout import batch
    from kedge.scoring.score import score

    store, output = opened(folder), folder / "kedge.parquet"
    score(batch.Ledger(policy=rules(), store=store, publish=lambda _: None), str(folder / "rows.parquet"), str(output))
    output.unlink()
    for kind in ("logs", "records/m/scored"):
        shutil.rmtree(folder / "store" / kind)


def rules():
    from kedge import policy as policies

    return policies.parse({
        "model": {"name": "m", "target": "y", "features": {name: {"type": "number"} for name in NAMES}},
        "data": {"source": {"format": "parquet", "location": "-"}, "time_column": "at", "id_column": "id"},
        "release": {"mode": "batch"},
    })  # fmt: skip


def opened(folder: Path):
    from kedge.store import open_store

    return open_store(str(folder / "store"))


def peak() -> float:
    """Most memory that this process held, MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
