"""What one row costs in the predictor of each estimator, and whether it has the bits of training:
``python benchmarks/estimators.py``; ``--bits 100000``.

100 trees (or the linear model) on 10 features, 5,000 rows; one row 2,000 times where that is quick, else 50 times.
CPU time of this thread; the smallest of five repetitions, because other work on the machine only adds.

``--bits N``: N rows of numbers and categories with missing values and values that training never saw, scored by the
estimator as training does and, one by one, by the predictor that a slot loads from the bundle. ``--block K``: K at a
time, where one costs milliseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kedge import bundle
from kedge import policy as policies
from kedge.bundle import Signature
from kedge.bundle.estimators import ESTIMATORS, Rows, merge, named
from kedge.training.estimators import attempt, score

ROWS, FEATURES = 5000, 10
TREES = {"xgboost": "n_estimators", "lightgbm": "n_estimators", "catboost": "iterations", "forest": "n_estimators",
         "histogram": "max_iter"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bits", type=int, default=0, help="so many rows are compared, instead of timed")
    parser.add_argument("--block", type=int, default=1, help="so many rows are asked at once")
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS))
    asked = parser.parse_args()
    if asked.bits:
        bits(max(asked.bits, ROWS), asked.estimators, asked.block)
    else:
        cost(asked.estimators)


def bits(count: int, names: list[str], block: int) -> None:
    """Print the largest difference between training and slot."""
    categories = [f"c{code}" for code in range(12)]
    inputs = {f"x{place}": {"type": "number"} for place in range(FEATURES)}
    inputs |= {f"k{place}": {"type": "category", "values": categories} for place in range(3)}
    matrix = values(count)
    raw = np.nan_to_num(matrix[:ROWS, 0]) + np.nan_to_num(matrix[:ROWS, 1] * matrix[:ROWS, 2]) + (matrix[:ROWS, -1] > 6)
    label = np.digitize(raw + np.random.default_rng(1).logistic(size=ROWS), [0.0, 1.0])
    print("| estimator | two classes: rows that differ, by at most | three classes |\n|---|---|---|")
    for name in names:
        cells = []
        for classes in (2, 3):
            policy = policies.parse({
                "model": {"name": "m", "target": "y", "features": inputs}
                | ({"task": "multiclass", "classes": [0, 1, 2]} if classes == 3 else {}),
                "data": {"source": {"format": "log"}},
                "train": {"estimators": [name], "threads": 1},
            })  # fmt: skip
            signature = Signature.of(policy.model)
            own = (label if classes == 3 else label > 0).astype(float)
            tried = attempt(name, policy, signature, Rows(matrix[:ROWS], own, np.arange(ROWS)))
            cells.append(
                differing(tried.estimator.fit(tried.settings, tried.rows), name, policy, signature, matrix, block)
            )
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def values(count: int) -> np.ndarray:
    """Encoded rows; from row ``ROWS`` on also large, small and unseen values."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(count, FEATURES + 3)).astype(np.float32)
    matrix[:, FEATURES:] = random.integers(0, 12, (count, 3))
    late = matrix[ROWS:, :FEATURES]
    late[random.random(late.shape) < 0.05] = 1e30
    late[random.random(late.shape) < 0.05] = -1e-37
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix


def differing(
    model: Any, name: str, policy: policies.Policy, signature: Signature, matrix: np.ndarray, block: int
) -> str:
    """How many rows score otherwise in a slot, and by how much at most."""
    wanted = score(policy, model, signature, matrix)
    columns = {f"x{place}": np.zeros(1) for place in range(FEATURES)} | {f"k{place}": ["c1"] for place in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        made = bundle.write(
            Path(folder) / "made", model=model, signature=signature, policy=policy, estimator=name,
            golden=pa.table(columns), profile=b"{}", snapshot="0" * 40, commit="0",
        )  # fmt: skip
        predictor = made.load_model()
        if block == 1:
            seen = np.array([predictor.score_row(row.tobytes()) for row in matrix])
        else:
            seen = np.concatenate([predictor.score(matrix[at : at + block]) for at in range(0, len(matrix), block)])
    apart = np.abs(seen - wanted).reshape(len(matrix), -1).max(axis=1)
    return f"{(apart > 0).sum():,}, {apart.max():.1g}" if apart.any() else "0"


def cost(names: list[str]) -> None:
    """Print what a row costs."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    label = (matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + random.normal(size=ROWS) > 0).astype(float)
    table = pa.table({f"x{place}": matrix[:, place] for place in range(FEATURES)})
    print("| estimator | one member, ms | two members, ms |\n|---|---|---|")
    for name in names:
        parameters = {name: {TREES[name]: 100}} if name in TREES else {}
        features = {each: {"type": "number"} for each in table.column_names}
        policy = policies.parse({
            "model": {"name": "m", "target": "y", "features": features},
            "data": {"source": {"format": "log"}},
            "train": {"estimators": [name], "threads": 1, "parameters": parameters},
        })  # fmt: skip
        signature, rows = Signature.of(policy.model), Rows(matrix, label, np.arange(ROWS))
        tried = attempt(name, policy, signature, rows)
        models = [tried.estimator.fit(tried.settings, part) for part in (rows, rows[ROWS // 2 :])]
        cells = []
        for model in (models[0], merge(models, [0.5, 0.5], named(name))):
            with tempfile.TemporaryDirectory() as folder:
                made = bundle.write(
                    Path(folder) / "made", model=model, signature=signature, policy=policy, estimator=name,
                    golden=table, profile=b"{}", snapshot="0" * 40, commit="0",
                )  # fmt: skip
                cells.append(f"{milliseconds(made.load_model(), matrix):.3g}")
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def milliseconds(predictor: bundle.Predictor, matrix: np.ndarray) -> float:
    """CPU time of one row."""
    rows, count = [row.tobytes() for row in matrix[:50]], 40 if predictor.quick else 1
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            for row in rows:
                predictor.score_row(row)
        found.append((time.process_time() - began) / count / len(rows) * 1000)
    return min(found)


if __name__ == "__main__":
    main()
