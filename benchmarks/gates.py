"""How often the gates let a challenger through, by simulation. Prints tables in Markdown.

    python benchmarks/gates.py             over an hour on a busy core
    python benchmarks/gates.py --quick     a minute: fewer draws, one world
    python benchmarks/gates.py --parts ranking

Outcomes are drawn with log-odds from a normal law. A model sees them with a normal error and says the probability that
goes with what it sees, so that it is calibrated; the larger its error, the more decisions are wrong, and the size is
solved for so many points. Champion and challenger share a part of their errors, as models of much the same rows do. An
over-confident champion says what it sees as if it did not err, times 1.3.

The gates are the ones a run meets (``kedge.evaluation.measure``
with the policy's defaults); beside them, on the same draws, stands the rule of most peers: the new model is kept if it
is not worse on the holdout, by its loss or by its accuracy. First models are trained on features of noise. ``tasks``
asks the same of three classes, and of a regression, in which a point is one of R².
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from kedge import bundle
from kedge import policy as policies
from kedge.evaluation import measure
from kedge.evaluation.compare import paired
from kedge.evaluation.evaluate import held_out, judge
from kedge.measure import losses, outcomes
from kedge.metrics import area, difference, named
from kedge.policy import Metric, Policy
from kedge.store import open_store
from kedge.tables import snapshot, sources
from kedge.training import train

Floats = NDArray[np.float64]
PARTS = ("noise", "ranking", "worlds", "tasks")
ATTEMPTS = 12
SURE = 1.3
SEED = 20_262


def policy_of(features: Mapping[str, Any], location: str, **model: Any) -> Policy:
    return policies.parse(
        {
            "model": {"name": "simulated", "target": "y", "features": features, **model},
            "data": {"source": {"format": "parquet", "location": location}, "time_column": "at"},
        }
    )


POLICY = policy_of({"x": {"type": "number"}}, "unused")


@dataclass(frozen=True)
class World:
    """Where outcomes come from, and how two models err."""

    name: str
    centre: float
    spread: float
    """Mean and standard deviation of the log-odds."""
    error: float
    """Standard deviation of the better model's error, in log-odds."""
    common: float
    """Share of the errors' variance that both models have in common."""

    def odds(self, rng: np.random.Generator, rows: int) -> Floats:
        return self.centre + self.spread * rng.standard_normal(rows)

    def seen(self, odds: Floats, error: float, common: Floats, rng: np.random.Generator) -> Floats:
        """Log-odds that a model sees with such an error."""
        own = rng.standard_normal(len(odds))
        return odds + error * (math.sqrt(self.common) * common + math.sqrt(1 - self.common) * own)

    def calibrated(self, raw: Floats, error: float) -> Floats:
        """Log-odds that go with those seen."""
        slope = self.spread**2 / (self.spread**2 + error**2)
        rest = self.spread**2 * (1 - slope)
        return (self.centre + slope * (raw - self.centre)) / math.sqrt(1 + math.pi * rest / 8)

    def error_of(self, points: float) -> float:
        """The error with which so many more decisions in a hundred are wrong than with ``self.error``."""
        rng = np.random.default_rng(1)
        odds, chance = self.odds(rng, 400_000), rng.standard_normal(400_000)

        def wrong_share(error: float) -> float:
            positive = self.calibrated(self.seen(odds, error, chance, np.random.default_rng(2)), error) > 0
            return float(np.where(positive, expit(-odds), expit(odds)).mean())

        low, high, wanted = self.error, 20.0, wrong_share(self.error) + points / 100
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if wrong_share(middle) < wanted else (low, middle)
        return low


WORLDS = (
    World("27 % wrong, errors alike", 0.0, 2.0, 1.0, 0.8),
    World("20 % wrong, errors alike", 0.0, 3.0, 0.8, 0.8),
    World("16 % wrong of 18 % positives, errors alike", -2.0, 2.0, 0.7, 0.8),
    World("24 % wrong, errors half alike", 0.0, 2.0, 0.5, 0.5),
    World("27 % wrong, errors apart", 0.0, 2.0, 1.0, 0.0),
)


@dataclass(frozen=True)
class Draw:
    """One judgement: outcomes and the scores of both models."""

    label: Floats
    challenger: Floats
    champion: Floats
    stale: bool = False


def draws(
    world: World,
    rows: int,
    challenger: float,
    champion: float,
    rng: np.random.Generator,
    *,
    sure: bool = False,
    stale: bool = False,
) -> Iterator[Draw]:
    """Judgements without end; errors in log-odds."""
    while True:
        odds, common = world.odds(rng, rows), rng.standard_normal(rows)
        label = (rng.random(rows) < expit(odds)).astype(np.float64)
        ours, theirs = (world.seen(odds, error, common, rng) for error in (challenger, champion))
        said = SURE * theirs if sure else world.calibrated(theirs, champion)
        yield Draw(label, expit(world.calibrated(ours, challenger)), expit(said), stale)


def by_gates(draw: Draw, attempt: int = 1) -> bool:
    """Whether the gates let the challenger through. The improvement is tested first: of most draws nothing else is."""
    ours, theirs = (losses("binary", draw.label, score) for score in (draw.challenger, draw.champion))
    if not draw.stale and paired(theirs, ours).p_value > POLICY.gates.alpha:  # no attempt's level is above alpha
        return False
    return measure(POLICY, draw.label, draw.challenger, draw.champion, attempt=attempt, stale=draw.stale).passed


def by_loss(draw: Draw, attempt: int = 1) -> bool:
    ours, theirs = (losses("binary", draw.label, score).mean() for score in (draw.challenger, draw.champion))
    return bool(ours <= theirs)


def by_accuracy(draw: Draw, attempt: int = 1) -> bool:
    ours, theirs = (np.mean((score >= 0.5) != (draw.label > 0.5)) for score in (draw.challenger, draw.champion))
    return bool(ours <= theirs)


RULES: tuple[Callable[[Draw, int], bool], ...] = (by_gates, by_loss, by_accuracy)


def shares(source: Iterator[Draw], count: int, attempts: int = 1) -> list[str]:
    """Share of judgements, or of rows of attempts in which any, that each rule lets through."""
    passed = np.zeros(len(RULES))
    for _ in range(count):
        tried = [next(source) for _ in range(attempts)]
        passed += [any(rule(draw, attempt) for attempt, draw in enumerate(tried, 1)) for rule in RULES]
    return [f"{share:.2%}" for share in (passed / count).tolist()]


def compared(world: World, count: int) -> Iterator[list[str]]:
    """The lines of one world."""
    rng, equal = np.random.default_rng([SEED, *map(ord, world.name)]), world.error
    one, three = world.error_of(1), world.error_of(3)
    cases = [
        (f"equal, {ATTEMPTS} attempts, any passes", "at most 5 %", draws(world, 20_000, equal, equal, rng), ATTEMPTS),
        ("1 point worse", "at most 0.1 %", draws(world, 20_000, one, equal, rng), 1),
        ("1 point better", "at least 90 %", draws(world, 20_000, equal, one, rng), 1),
        (
            "1 point worse, champion over-confident",
            "at most 0.1 %",
            draws(world, 20_000, one, equal, rng, sure=True),
            1,
        ),
        ("decides alike, champion over-confident", "", draws(world, 20_000, equal, equal, rng, sure=True), 1),
        ("equal, champion stale", "", draws(world, 20_000, equal, equal, rng, stale=True), 1),
        ("1 point worse, champion stale", "", draws(world, 20_000, one, equal, rng, stale=True), 1),
        ("500 rows, 3 points better", "at least 90 %", draws(world, 500, equal, three, rng), 1),
    ]
    for name, goal, source, attempts in cases:
        yield [name, goal, *shares(source, count if attempts == 1 else max(50, count // 4), attempts)]


UNDERSAMPLED = 20
"""A model that learned from one negative row in so many, and says what it saw there."""
RARE = World("5 % positives", -4.5, 2.0, 1.0, 0.8)
PRIMARIES = [Metric(name=name, primary=True) for name in ("auc", "pr_auc", "recall")]
PRIMARIES += [Metric(name="recall_at_precision", at=0.3, primary=True)]


def ranked(judgements: int) -> Iterator[list[str]]:
    """Share of calibrated challengers that the gates let through by a primary metric and by the loss, against a
    champion that was trained on undersampled negatives and never calibrated, so that its loss is far the worse one."""
    rng, weaker = np.random.default_rng([SEED, UNDERSAMPLED]), RARE.error + 0.4
    cases = [
        ("ranks less well", "at most 5 %", weaker, RARE.error, judgements),
        ("ranks as well", "at most 5 %", RARE.error, RARE.error, judgements),
        ("ranks better", "", RARE.error, weaker, judgements // 4),
    ]
    for name, goal, ours, theirs, count in cases:
        passed, areas = np.zeros(len(PRIMARIES) + 1), np.zeros(2)
        for draw, _ in zip(draws(RARE, 4000, ours, theirs, rng), range(count), strict=False):
            odds = np.log(draw.champion / (1 - draw.champion)) + math.log(UNDERSAMPLED)
            draw = Draw(draw.label, draw.challenger, expit(odds))
            areas += [area(draw.label > 0.5, score) or math.nan for score in (draw.challenger, draw.champion)]
            passed += [*(by_primary(draw, metric) for metric in PRIMARIES), by_gates(draw)]
        ours, theirs = areas / count
        yield [f"{name}: AUC {ours:.3f} against {theirs:.3f}", goal, *(f"{x:.1%}" for x in passed / count)]


def by_primary(draw: Draw, metric: Metric) -> bool:
    """Whether the gates let the challenger through by this metric. The improvement is tested first, as above."""
    policy, formula = POLICY.model_copy(update={"metrics": (metric,)}), named(metric.name).formula
    scores = draw.challenger, draw.champion
    ours, theirs = (formula(POLICY.model, metric.at, draw.label, each) for each in scores)
    if ours is None or theirs is None or ours <= theirs:  # passes at no level
        return False
    better = difference(metric, POLICY.model, draw.label, *scores)
    if better is None or better.p_better() > POLICY.gates.alpha:
        return False
    return measure(policy, draw.label, draw.challenger, draw.champion).passed


@dataclass(frozen=True)
class Task:
    """Outcomes of another kind than yes and no, and models that see what they come from with an error."""

    policy: Policy
    spread: float = 2.0
    common: float = 0.8
    ERROR = 1.0
    """Of the better model."""

    @property
    def width(self) -> int:
        """Numbers that an outcome comes from: a log-odds of each class, or the value."""
        return len(self.policy.model.classes) or 1

    def outcomes(self, rng: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
        """What outcomes come from, shape (rows, width), and the outcomes."""
        cause = self.spread * rng.standard_normal((rows, self.width))
        if self.width == 1:
            return cause, cause[:, 0] + rng.standard_normal(rows)
        return cause, (cause + rng.gumbel(size=cause.shape)).argmax(axis=1).astype(np.float64)

    def said(self, cause: Floats, error: float, common: Floats, rng: np.random.Generator, slope: float = 0.0) -> Floats:
        """Scores of a model with such an error; what it sees is shrunk by the slope that is right on average."""
        own = rng.standard_normal(cause.shape)
        seen = cause + error * (math.sqrt(self.common) * common + math.sqrt(1 - self.common) * own)
        shrunk = (slope or self.slope(error)) * seen
        return shrunk[:, 0] if self.width == 1 else softmax(shrunk, axis=1)

    def slope(self, error: float) -> float:
        if self.width == 1:
            return self.spread**2 / (self.spread**2 + error**2)
        return self._points(error)[1]

    def _points(self, error: float) -> tuple[float, float]:
        """Points of R², or decisions in a hundred that are right, and the slope of the least loss."""
        rng = np.random.default_rng(1)
        cause, label = self.outcomes(rng, 100_000)
        common = rng.standard_normal(cause.shape)

        def scores(slope: float) -> Floats:
            return self.said(cause, error, common, np.random.default_rng(2), slope)

        if self.width == 1:
            return 100 * (1 - float(np.square(label - scores(self.slope(error))).mean() / label.var())), 0.0
        least = minimize_scalar(
            lambda slope: losses("multiclass", label, scores(slope)).mean(),
            bounds=(0.05, 1.0), method="bounded", options={"xatol": 0.01},
        ).x  # fmt: skip
        return 100 * float((scores(least).argmax(axis=1) == label).mean()), float(least)

    def error_of(self, points: float) -> float:
        """The error that costs so many points against ``ERROR``."""
        low, high, wanted = self.ERROR, 8.0, self._points(self.ERROR)[0] - points
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if self._points(middle)[0] > wanted else (low, middle)
        return low

    def passes(self, rows: int, ours: float, theirs: float, count: int, attempts: int = 1) -> str:
        """Share of judgements, or of rows of attempts in which any, that the gates let through."""
        rng, passed = np.random.default_rng([SEED, self.width, rows]), 0
        slopes = [self.slope(error) for error in (ours, theirs)]
        for _ in range(count):
            for attempt in range(1, attempts + 1):
                cause, label = self.outcomes(rng, rows)
                common = rng.standard_normal(cause.shape)
                challenger, champion = (
                    self.said(cause, error, common, rng, slope)
                    for error, slope in zip((ours, theirs), slopes, strict=True)
                )
                gained = [losses(self.policy.model.objective, label, scores) for scores in (champion, challenger)]
                if paired(*gained).p_value > self.policy.gates.alpha:  # as in by_gates
                    continue
                if measure(self.policy, label, challenger, champion, attempt=attempt).passed:
                    passed += 1
                    break
        return f"{passed / count:.2%}"

    def lines(self, count: int) -> Iterator[list[str]]:
        equal, one, three = self.ERROR, self.error_of(1), self.error_of(3)
        few = max(20, count // 10)
        yield [f"equal, {ATTEMPTS} attempts, any passes", "5 %", self.passes(20_000, equal, equal, few, ATTEMPTS)]
        yield ["1 point worse", "0.1 %", self.passes(20_000, one, equal, count)]
        yield ["1 point better", "at least 90 %", self.passes(20_000, equal, one, few)]
        yield ["500 rows, 3 points better", "at least 90 %", self.passes(500, equal, three, count)]
        yield ["500 rows, 3 points worse", "0.1 %", self.passes(500, three, equal, count)]
        yield [f"500 rows, equal, {ATTEMPTS} attempts", "5 %", self.passes(500, equal, equal, few, ATTEMPTS)]


TASKS = {
    "three classes": {"task": "multiclass", "classes": ["a", "b", "c"]},
    "regression": {"task": "regression"},
}


def first_models(rows: int, tables: int, **model: Any) -> list[str]:
    """Share of first models that each rule lets through, trained by a run's own step on features of pure noise."""
    passed = np.zeros(2)
    for seed in range(tables):
        rng = np.random.default_rng([SEED, rows, seed])
        columns = {f"x{index}": rng.standard_normal(rows) for index in range(8)}
        times = pa.array(np.arange(rows) * 60_000_000, pa.timestamp("us", tz="UTC"))
        noise = pa.table({"at": times, **columns, "y": _noise(rng, rows, **model)})
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            file = f"{folder}/rows.parquet"
            parquet.write_table(noise, file)
            policy = policy_of({name: {"type": "number"} for name in columns}, file, **model)
            store = open_store(f"{folder}/store")
            source = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
            taken = snapshot.take(source, policy, store, end=None)
            made = train.run(policy, store, taken.fingerprint)
            challenger = bundle.fetch(store, policy.name, made.id, Path(folder) / "cache")
            label = outcomes(snapshot.read(store, taken, ["y"]), "y")
            newest = snapshot.newest(store, taken, held_out(challenger))
            found = judge(policy, challenger, None, newest, label)
        passed += found.passed, challenger.manifest.metrics["loss"] < challenger.manifest.metrics["constant_loss"]
    return [
        f"first model of noise, {tables} tables of {rows:,} rows",
        "at most 5 %",
        *(f"{x / tables:.1%}" for x in passed),
    ]


def _noise(rng: np.random.Generator, rows: int, task: str = "binary", classes: Iterable[str] = ()) -> pa.Array:
    if task == "regression":
        return pa.array(rng.standard_normal(rows))
    return pa.array(rng.choice(list(classes), rows) if classes else (rng.random(rows) < 0.3).astype(np.int64))


def table(columns: list[str], rows: Iterable[list[str]]) -> None:
    print("|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("|", " | ".join(row), "|", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few draws, one world")
    parser.add_argument("--draws", type=int, default=4000, help="judgements a line")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    if "noise" in given.parts:
        tables = [(1000, 10)] if given.quick else [(1000, 200), (5000, 60)]
        table(
            ["challenger", "goal", "gates", "below the training rows' mean"], (first_models(*each) for each in tables)
        )
    if "ranking" in given.parts:
        print("**Champion undersampled and uncalibrated, 5 % positives, 4,000 rows**\n")
        columns = ["challenger", "goal", *(f"primary `{each.label}`" for each in PRIMARIES), "loss decides"]
        table(columns, ranked(20 if given.quick else 400))
    if "tasks" in given.parts:
        for name, model in TASKS.items():
            print(f"**{name}**\n")
            table(
                ["challenger", "goal", "gates"],
                Task(policy_of({"x": {"type": "number"}}, "-", **model)).lines(20 if given.quick else 1000),
            )
            table(
                ["challenger", "goal", "gates", "below the training rows' guess"],
                [first_models(1000, 5 if given.quick else 60, **model)],
            )
    if "worlds" not in given.parts:
        return
    for world in WORLDS[:1] if given.quick else WORLDS:
        print(f"**{world.name}**\n")
        columns = ["challenger", "goal", "gates", "loss not higher", "accuracy not lower"]
        table(columns, compared(world, 300 if given.quick else given.draws))


if __name__ == "__main__":
    main()
