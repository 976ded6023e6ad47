"""What a team's own pandas features cost in a slot, beside the same code and LightGBM called bare.

    .venv/bin/python benchmarks/features.py

One row and 100 rows through ``ServedModel.score`` (a row of JSON in, a decision out), beside the team's own function
and ``Booster.predict`` on a frame that is already there, and on one made of the row. Seconds of CPU, the median of
rounds that take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

os.environ["KEDGE_ALLOW_CODE"] = "1"

from kedge import bundle, policy
from kedge.bundle import packages, transform
from kedge.serving.model import ServedModel
from kedge.training.estimators import Rows, attempt

COLUMNS, ROWS, ROUNDS = 10, 5000, 60
CODE = """
def build(frame):
    return frame.assign(
        ratio=frame.x0 / (1 + frame.x1.abs()),
        large=(frame.x2 > 1).astype(float),
        rate=frame.country.map({"AT": 0.2, "BE": 0.4, "DE": 0.6}),
        pair=frame.country + "/" + frame.channel,
    ).drop(columns=["country", "channel"])
"""


def made(folder: Path) -> tuple[bundle.Bundle, object]:
    """A bundle with own features and LightGBM, and its booster."""
    (folder / "own").mkdir()
    (folder / "own" / "features.py").write_text(CODE)
    number, text = {"type": "number"}, {"type": "category"}
    names = [f"x{place}" for place in range(COLUMNS)]
    asked = policy.parse(
        {
            "model": {
                "name": "own",
                "target": "y",
                "features": {**dict.fromkeys(names, number), "country": text, "channel": text},
            },
            "data": {"source": {"format": "log"}},
            "code": str(folder / "own"),
            "features": {"transform": "own.features:build"},
            "train": {"estimators": ["lightgbm"]},
        }
    )
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=ROWS) for name in names}
    columns |= {"country": random.choice(["AT", "BE", "DE"], ROWS), "channel": random.choice(["web", "phone"], ROWS)}
    label = (columns["x0"] + random.logistic(size=ROWS) > 0).astype(float)
    table = pa.table({**columns, "y": label})
    package = packages.of(asked)
    signature, matrix = transform.encoded(asked, table, package, ROWS)
    tried = attempt("lightgbm", asked, signature.model, Rows(matrix, label, np.arange(ROWS)))
    booster = tried.fit(tried.rows)
    written = bundle.write(
        folder / "bundle", model=booster, signature=signature, policy=asked, estimator="lightgbm", golden=table,
        profile=b"{}", snapshot="0" * 40, commit="bench", package=package,
    )  # fmt: skip
    return written, booster


def seconds(work: Callable[[], object]) -> float:
    """CPU of one call."""
    began = time.process_time()
    for _ in range(20):
        work()
    return (time.process_time() - began) / 20


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        written, booster = made(Path(folder))
        served = ServedModel(written, written.load_model(), "blue")
        build, derived = written.signature.transform.run, written.signature.model
        codes = [{text: code for code, text in enumerate(each.categories)} for each in derived.inputs]

        def predicted(frame: pd.DataFrame) -> np.ndarray:
            out = build(frame)
            texts = [place for place, each in enumerate(derived.inputs) if each.type == "category"]
            coded = out.assign(**{derived.names[place]: out.iloc[:, place].map(codes[place]) for place in texts})
            return booster.predict(coded, num_threads=1)

        for rows in (written.golden_rows()[:1], (written.golden_rows() * 2)[:100]):
            frame = pd.DataFrame(rows)
            assert predicted(frame).tolist() == served.score(rows).scores
            ways = {
                "kedge": lambda rows=rows: served.score(rows),
                "bare, of a frame": lambda frame=frame: predicted(frame),
                "bare, of a row": lambda rows=rows: predicted(pd.DataFrame(rows)),
            }
            times = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, work in ways.items():
                    times[name].append(seconds(work))
            median = {name: statistics.median(each) for name, each in times.items()}
            for name, each in median.items():
                print(f"{len(rows):4} rows  {name:18} {1000 * each:7.3f} ms  {median['kedge'] / each:.2f}")


if __name__ == "__main__":
    main()
