"""What a search for a recipe costs, and what it gains: ``python benchmarks/search.py``.

Rows of 50 numbers with a binary outcome, which drifts; ``train.search`` with its defaults (20 trials, 3 folds, 100,000
rows of them) on the rows before the holdout, without the fits that follow. CPU time over the cores is what a machine
with nothing else to do would take, as far as XGBoost keeps all of them busy.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from kedge import policy as policies
from kedge.bundle import Signature
from kedge.bundle.estimators import Rows
from kedge.cpus import usable_cpus
from kedge.training.search import search

FEATURES, DAYS = 50, 90
GOAL = 900.0
"""Seconds for the whole retraining with 20 trials on 2 cores, of which this is the search."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--estimators", nargs="+", default=["xgboost"])
    asked = parser.parse_args()
    print(f"{usable_cpus()} cores, {FEATURES} features, {asked.trials} trials of {', '.join(asked.estimators)}\n")
    print("| rows | wall s | CPU s | CPU s / cores | outcome |\n|---|---|---|---|---|")
    for count in asked.rows:
        features = {f"x{each}": {"type": "number"} for each in range(FEATURES)}
        policy = policies.parse({
            "model": {"name": "m", "target": "y", "features": features},
            "data": {"source": {"format": "parquet", "location": "-"}, "time_column": "at"},
            "train": {"estimators": asked.estimators, "search": {"trials": asked.trials, "seconds": 1e6}},
        })  # fmt: skip
        began, cpu = time.perf_counter(), time.process_time()
        found = search(policy, Signature.of(policy.model), table(count))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        share = cpu / usable_cpus()
        late = "" if share <= GOAL else " **missed**"
        print(f"| {count:,} | {wall:.0f} | {cpu:.0f} | {share:.0f}{late} | {found.why} |", flush=True)


def table(count: int) -> Rows:
    """Rows of some months; the relation turns slowly."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(count, FEATURES)).astype(np.float32)
    age = np.linspace(0, 1, count)
    raw = (1 - age) * matrix[:, 0] + age * matrix[:, 1] + matrix[:, 2] * matrix[:, 3] + 0.5 * matrix[:, 4]
    label = (raw + random.logistic(size=count) > 0).astype(np.float64)
    return Rows(matrix, label, np.linspace(0, DAYS * 86_400e6, count).astype(np.int64))


if __name__ == "__main__":
    main()
