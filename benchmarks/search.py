"""What a search for a recipe costs, and what it gains: ``python benchmarks/search.py``.

Rows of 50 numbers with a binary outcome, which drifts; ``train.search`` with its defaults (20 trials, 3 folds, 100,000
rows of them) on the rows before the holdout, without the fits that follow. CPU time over the cores is what a machine
with nothing else to do would take, as far as XGBoost keeps all of them busy.

``--streams 20``: what the searched memory is worth on generated streams that drift (``streams.py``). Each is cut at a
moment drawn by lot; XGBoost with fixed parameters learns from all rows before it, from the newest eighth, and as a run
does, which averages windows, without a search of window and half-life and with it; all are scored on the next 2,000
rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import streams

from kedge import policy as policies
from kedge import student_t
from kedge.bundle import Signature
from kedge.bundle.estimators import Rows
from kedge.cpus import usable_cpus
from kedge.measure import Floats, losses
from kedge.policy import Policy
from kedge.training.challenger import Search, fit_challenger
from kedge.training.estimators import attempt, score
from kedge.training.search import SPACES, WINDOWS, Found, Recipe, search

FEATURES, DAYS = 50, 90
GOAL = 900.0
"""Seconds for the whole retraining with 20 trials on 2 cores, of which this is the search."""
DRIFTING = ("abrupt", "gradual", "recurring", "turning", "thresholds")
NEXT = 2000
"""Rows after the cut that are scored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--estimators", nargs="+", default=["xgboost"])
    parser.add_argument("--streams", type=int, default=0, help="so many generated streams instead")
    asked = parser.parse_args()
    if asked.streams:
        memory(asked.streams, asked.trials)
    else:
        cost(asked.rows, asked.trials, asked.estimators)


def cost(counts: Sequence[int], trials: int, estimators: Sequence[str]) -> None:
    """Print what the search costs."""
    print(f"{usable_cpus()} cores, {FEATURES} features, {trials} trials of {', '.join(estimators)}\n")
    print("| rows | wall s | CPU s | CPU s / cores | outcome |\n|---|---|---|---|---|")
    for count in counts:
        policy = searching(FEATURES, trials, estimators=list(estimators))
        began, cpu = time.perf_counter(), time.process_time()
        found = search(policy, Signature.of(policy.model), table(count))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        share = cpu / usable_cpus()
        late = "" if share <= GOAL else " **missed**"
        print(f"| {count:,} | {wall:.0f} | {cpu:.0f} | {share:.0f}{late} | {found.why} |", flush=True)


def searching(features: int, trials: int, **train: object) -> Policy:
    return policies.parse({
        "model": {"name": "m", "target": "y", "features": {f"x{each}": {"type": "number"} for each in range(features)}},
        "data": {"source": {"format": "parquet", "location": "-"}, "time_column": "at"},
        "train": {"search": {"trials": trials, "seconds": 1e6}, **train},
    })  # fmt: skip


def table(count: int) -> Rows:
    """Rows of some months; the relation turns slowly."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(count, FEATURES)).astype(np.float32)
    age = np.linspace(0, 1, count)
    raw = (1 - age) * matrix[:, 0] + age * matrix[:, 1] + matrix[:, 2] * matrix[:, 3] + 0.5 * matrix[:, 4]
    label = (raw + random.logistic(size=count) > 0).astype(np.float64)
    return Rows(matrix, label, np.linspace(0, DAYS * 86_400e6, count).astype(np.int64))


WAYS = ("all", "newest eighth", "challenger without search", "challenger with search")


def memory(count: int, trials: int) -> None:
    """Print the losses of the next rows by what was learned from, and what the search saves, with intervals."""
    print(f"| stream | rows | {' | '.join(WAYS)} | chosen |\n|---|---|{'---|' * len(WAYS)}---|")
    found = np.array([stream(DRIFTING[seed % len(DRIFTING)], seed, trials) for seed in range(count)])
    print(f"| mean | | {' | '.join(f'{loss:.4f}' for loss in found.mean(axis=0))} | |\n")
    print(f"| saved against | {' | '.join(WAYS[2:])} |\n|---|{'---|' * len(WAYS[2:])}")
    for place, name in enumerate(WAYS[:2]):
        print(f"| {name} | {' | '.join(saved(found[:, place], found[:, ours]) for ours in range(2, len(WAYS)))} |")
    print(f"\na search saves a challenger {saved(found[:, 2], found[:, 3])}")


def saved(theirs: Floats, ours: Floats) -> str:
    """Mean of the differences with its 95 % interval, Student's t over the streams."""
    apart = theirs - ours
    reach = student_t.quantile(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
    low, high = apart.mean() - reach, apart.mean() + reach
    return f"{apart.mean():.4f} ({low:.4f} to {high:.4f}){'' if low > 0 else ' **not shown**'}"


def stream(name: str, seed: int, trials: int) -> list[float]:
    """Mean log loss of the rows after a cut, by each way."""
    inputs, label = streams.stream(name, seed)
    cut = streams.START + streams.BLOCK * int(np.random.default_rng(seed).integers(56, 112))
    time_of = np.arange(len(label)) * 60_000_000
    rows, later = (
        Rows(inputs[part].astype(np.float32), label[part], time_of[part])
        for part in (slice(cut), slice(cut, cut + NEXT))
    )
    fixed = dict.fromkeys(SPACES["xgboost"], 1) | {"n_estimators": 50, "learning_rate": 0.2, "depth": 4}
    policy = searching(inputs.shape[1], trials, estimators=["xgboost"], threads=1, parameters={"xgboost": fixed})
    found = search(policy, Signature.of(policy.model), rows)
    ways = [Recipe(estimator="xgboost", window=share) for share in (1.0, WINDOWS[-1])]
    each = [loss(policy, recipe, rows, later) for recipe in ways]
    each += [loss_of_challenger(policy, rows, later, wanted) for wanted in (None, partial(search, policy))]
    print(f"| {name} | {cut:,} | {' | '.join(f'{x:.4f}' for x in each)} | {memory_of(found)} |", flush=True)
    return each


def loss_of_challenger(policy: Policy, rows: Rows, later: Rows, wanted: Search | None) -> float:
    """Of the later rows, by the model that a run would serve."""
    table = pa.table({
        **{f"x{place}": column for place, column in enumerate(rows.matrix.T)},
        "y": rows.label,
        "_time": pa.array(rows.time, pa.timestamp("us", tz="UTC")),
    })  # fmt: skip
    made = fit_challenger(policy, table, search=wanted)
    scores = score(policy, made.final, made.signature, later.matrix)
    return float(losses("binary", later.label, scores).mean())


def memory_of(found: Found) -> str:
    if found.recipe is None:
        return "all"
    half_life = f", half-life {found.recipe.half_life:g} of the time" if found.recipe.half_life else ""
    return f"newest {found.recipe.window:.0%}{half_life}"


def loss(policy: Policy, recipe: Recipe, rows: Rows, later: Rows) -> float:
    """Of the later rows, by a recipe fitted on the others."""
    tuned = recipe.applied(policy, float(rows.time[-1] - rows.time[0]) / 1e6)
    learned = rows[int(len(rows) * (1 - recipe.window)) :].weighted(tuned.train.half_life_seconds)
    signature = Signature.of(policy.model)
    model = attempt("xgboost", tuned, signature, learned).fit(learned)
    return float(losses("binary", later.label, score(policy, model, signature, later.matrix)).mean())


if __name__ == "__main__":
    main()
