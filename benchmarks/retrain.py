"""What a retraining costs against reading and fitting bare: ``python benchmarks/retrain.py``.

1,000,000 rows of 50 numbers with a binary outcome, XGBoost as the policy's defaults have it, on as many threads. kedge:
ingest, validate, train, evaluate and register with MLflow on SQLite, each in a process of its own, as on a cluster.
Bare: pandas reads the table, XGBoost fits. "the same fits" are those that training made (its windows, stopped by their
newest fifth, judged and served), on as many of the newest rows; "one model" is all rows, stopped by the newest fifth
and fitted again, whose ratio says what judging and windows cost besides. CPU time is all cores' together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kedge.cpus import PATIENT, usable_cpus

FEATURES = 50
NAMES = [f"x{place}" for place in range(FEATURES)]
START = datetime(2026, 3, 2, tzinfo=UTC)
STEPS = ("ingest", "validate", "train", "evaluate", "register")
BARE = ("the same fits", "one model")
TIME_GOAL, MEMORY_GOAL = 1.3, 1.5


def main() -> None:
    """Prepare, run each part in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the table and the store are made (default: temporary)")
    parser.add_argument("--only", choices=("prepare", *STEPS, *BARE), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        part(asked.only, asked.folder, asked.rows)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        used = {name: run(name, Path(place), asked.rows) for name in ("prepare", *STEPS, *BARE)}
    print(f"{asked.rows:,} rows of {FEATURES} numbers, {usable_cpus()} cores\n")
    print("| | wall s | CPU s | peak MB |\n|---|---|---|---|")
    for name in STEPS:
        print(row(name, used[name]))
    kedge = [sum(used[name][0] for name in STEPS), sum(used[name][1] for name in STEPS)]
    kedge.append(max(used[name][2] for name in STEPS))
    print(row("kedge", kedge))
    for name in BARE:
        print(row(f"bare, {name}", used[name]))
        print(ratios(name, kedge, used[name]))


def run(name: str, folder: Path, rows: int) -> list[float]:
    """Seconds, seconds of CPU and most MB of a process that does one part."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder), "--rows", str(rows)]
    patient = {**os.environ, **PATIENT}  # threads that spin would count other work as ours
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=patient)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: ended with {os.waitstatus_to_exitcode(status)}")
    return [time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]


def row(name: str, used: list[float]) -> str:
    return f"| {name} | {used[0]:.1f} | {used[1]:.1f} | {used[2]:,.0f} |"


def ratios(name: str, kedge: list[float], bare: list[float]) -> str:
    found = [ours / theirs for ours, theirs in zip(kedge, bare, strict=True)]
    goals = (TIME_GOAL, TIME_GOAL, MEMORY_GOAL) if name == BARE[0] else (float("inf"),) * 3
    cells = [f"{each:.2f}{'' if each <= goal else ' **missed**'}" for each, goal in zip(found, goals, strict=True)]
    return f"| ratio, {name} | {' | '.join(cells)} |"


def part(name: str, folder: Path, rows: int) -> None:
    """One part, in this process."""
    if name == "prepare":
        prepare(folder, rows)
    elif name in BARE:
        bare(folder, name)
    else:
        (folder / f"{name}.out").write_text(str(step(name, folder)))


def prepare(folder: Path, rows: int) -> None:
    """The table: numbers of which three tell of the outcome."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from mlflow import MlflowClient

    random = np.random.default_rng(0)
    times = np.datetime64(START.replace(tzinfo=None), "us") + np.linspace(0, 90 * 86_400e6, rows).astype(np.int64)
    matrix = random.normal(size=(FEATURES, rows))
    label = matrix[0] + matrix[1] * matrix[2] + random.normal(size=rows) > 0
    columns = dict(zip(NAMES, matrix, strict=True)) | {"y": label.astype(np.int64)}
    MlflowClient(registry_of(folder)).search_registered_models(max_results=1)  # the tables of a registry are there
    pq.write_table(pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")), **columns}), folder / "rows.parquet")


def step(name: str, folder: Path) -> Any:
    """One step as the pipeline runs it, and what it passes on."""
    policy, store = rules(folder), str(folder / "store")
    took = {each: (folder / f"{each}.out").read_text() for each in STEPS if (folder / f"{each}.out").exists()}
    made = SimpleNamespace(path=str(folder / f"{name}.artefact"), metadata={}, log_metric=lambda *_: None)
    made.log_roc_curve = made.log_confusion_matrix = lambda *_: None
    if name in ("ingest", "validate"):
        from kedge.data import step as data

        if name == "ingest":
            return data.ingest(policy, store, "run", str(START + timedelta(days=91)), made)
        return data.validate(policy, store, took["ingest"], made, made)
    if name == "train":
        from kedge.training import step as training

        with Recorded(folder / "fits.json"):
            return training.train(policy, store, took["validate"], "", "", made, made)
    if name == "evaluate":
        from kedge.evaluation import step as evaluation

        return evaluation.evaluate(policy, store, "run", took["validate"], took["train"], made, made, made)
    from kedge.registry import step as registry

    return registry.register(policy, store, registry_of(folder), "run", took["train"])


def registry_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def rules(folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": "m", "target": "y", "features": {name: {"type": "number"} for name in NAMES}},
        "data": {"source": {"format": "parquet", "location": str(folder / "rows.parquet")}, "time_column": "at"},
        "train": {"estimators": ["xgboost"]},
    }


class Recorded:
    """Writes down rows, trees and stopping rows of each fit of XGBoost."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        import xgboost

        self._train, fits = xgboost.train, []

        def train(parameters: Any, rows: Any, trees: int, **more: Any) -> Any:
            newer = more["evals"][0][0].num_row() if "evals" in more else 0
            fits.append({"rows": rows.num_row(), "trees": trees, "newer": newer})
            self._file.write_text(json.dumps(fits))
            return self._train(parameters, rows, trees, **more)

        xgboost.train = train

    def __exit__(self, *_: object) -> None:
        import xgboost

        xgboost.train = self._train


def bare(folder: Path, name: str) -> None:
    """Read the table and fit."""
    import pandas as pd

    frame = pd.read_parquet(folder / "rows.parquet")
    matrix, label = frame[NAMES].to_numpy(np.float32), frame["y"].to_numpy()
    if name == "one model":
        stopped = len(label) // 5
        trees = fit(matrix, label, 200, stopped)
        fit(matrix, label, trees, 0)
        return
    for each in json.loads((folder / "fits.json").read_text()):
        newest = each["rows"] + each["newer"]
        fit(matrix[-newest:], label[-newest:], each["trees"], each["newer"])


def fit(matrix: Any, label: Any, trees: int, newer: int) -> int:
    """One fit, stopped by the ``newer`` last rows if there are any; how many trees it kept."""
    import xgboost

    older = len(label) - newer
    rows = xgboost.DMatrix(matrix[:older], label[:older], nthread=usable_cpus())
    parameters = {
        "objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.1, "tree_method": "hist",
        "nthread": usable_cpus(),
    }  # fmt: skip
    if not newer:
        return int(xgboost.train(parameters, rows, trees).num_boosted_rounds())
    stop = xgboost.DMatrix(matrix[older:], label[older:], nthread=usable_cpus())
    made = xgboost.train(parameters, rows, trees, evals=[(stop, "newer")], verbose_eval=False, early_stopping_rounds=20)
    return int(made.best_iteration) + 1


if __name__ == "__main__":
    main()
