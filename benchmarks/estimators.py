"""What one row costs in the predictor of each estimator: ``python benchmarks/estimators.py``.

100 trees (or the linear model) on 10 features, 5,000 rows; one row 2,000 times where that is quick, else 50 times.
CPU time of this thread; the smallest of five repetitions, because other work on the machine only adds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from kedge import bundle
from kedge import policy as policies
from kedge.bundle import Signature
from kedge.bundle.estimators import ESTIMATORS, Rows, merge, named
from kedge.training.estimators import attempt

ROWS, FEATURES = 5000, 10
TREES = {"xgboost": "n_estimators", "lightgbm": "n_estimators", "catboost": "iterations", "forest": "n_estimators",
         "histogram": "max_iter"}  # fmt: skip


def main() -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    label = (matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + random.normal(size=ROWS) > 0).astype(float)
    table = pa.table({f"x{place}": matrix[:, place] for place in range(FEATURES)})
    print("| estimator | one member, ms | two members, ms |\n|---|---|---|")
    for name in ESTIMATORS:
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
