"""What each feature adds: how much worse unseen rows are predicted while its values are shuffled among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import metrics
from kedge.bundle import Effect, Matrix, Permutation
from kedge.errors import some
from kedge.measure import Floats, losses, strided
from kedge.policy import Metric, Policy

REPEATS = 5
"""Shuffles of a feature, whose effects are averaged."""
MAX_ROWS = 5000
MIN_ROWS = 500
"""Taken even where the budget allows fewer."""
MAX_SCORED = 500_000
"""Rows that are scored in all, about: where there are many features, fewer of the rows are taken."""
DRAWS = 60
"""Of blocks of rows, for the standard error of an effect: it is right to 9 %."""
LEVEL = 0.05
MAX_NAMED = 10
Value = Callable[[Any], float | None]
"""How good scores are on some rows of those that they are of, by their places: more is better."""


def permutation(
    policy: Policy, predict: Callable[[Any], Floats], rows: pa.Table | Matrix, names: Sequence[str], label: Floats
) -> Permutation:
    """What each column of rows adds to a model that did not learn from them.

    By the policy's primary metric, or by the mean loss where there is none or it is not defined on such rows. A column
    is shuffled five times; its effect is the mean of what the model gets worse by. Block bootstrap, blocks of
    neighbouring rows drawn for both alike, gives the interval; an effect is shown where its one-sided p-value is at
    most 5 %, so that one in twenty columns that add nothing is shown to add something. Of two columns that say the
    same each may add little, because the other is still there.

    Args:
        policy: Task, primary metric and seed.
        predict: The model, of rows such as ``rows``.
        rows: In time order, a column for each name; where there are more than 5,000, or than the budget of scored rows
            allows, so many are taken at equal distances.
        names: Of the columns.
        label: Shape (n,).

    References:
        L. Breiman (2001), Random forests, Machine Learning 45, 5-32, section 10.

    >>> from kedge import policy as policies
    >>> features = {"used": {"type": "number"}, "idle": {"type": "number"}}
    >>> model = {"name": "m", "task": "regression", "target": "y", "features": features}
    >>> data = {"source": {"format": "parquet", "location": "unused"}, "time_column": "at"}
    >>> asked = policies.parse({"model": model, "data": data})
    >>> matrix = np.random.default_rng(0).random((400, 2)).astype(np.float32)
    >>> found = permutation(asked, lambda each: each[:, 0], matrix, ["used", "idle"], matrix[:, 0].astype(float))
    >>> found.idle, round(found.features["used"].value, 1)  # twice the variance
    (['idle'], 0.2)
    """
    budget = max(MIN_ROWS, MAX_SCORED // (REPEATS * len(names)))
    places = strided(len(label), min(MAX_ROWS, budget))
    rows, label = (rows.take(places) if isinstance(rows, pa.Table) else rows[places]), label[places]
    by, effects = "loss", None
    if policy.primary is not None:
        by = policy.primary.label
        effects = _effects(policy, _by_metric(policy, policy.primary, label), predict, rows, names)
    if effects is None:
        by, effects = "loss", _effects(policy, _by_loss(policy, label), predict, rows, names)
    return Permutation(metric=by, rows=len(label), repeats=REPEATS, features=effects or {})


def sentence(found: Permutation) -> str:
    """The features that add nothing, by name.

    >>> idle = Effect(value=0.0, low=-0.1, high=0.1, shown=False)
    >>> sentence(Permutation(metric="auc", rows=1200, repeats=5, features={"b": idle}))
    '1 of 1 features shows no effect on auc on 1,200 rows held out: b'
    """
    idle, count = found.idle, len(found.features)
    if not idle:
        return f"each of {count} features shows an effect on {found.metric} on {found.rows:,} rows held out"
    return (
        f"{len(idle)} of {count} features {'shows' if len(idle) == 1 else 'show'} no effect on {found.metric} on "
        f"{found.rows:,} rows held out: {some(idle, MAX_NAMED)}"
    )


def _effects(
    policy: Policy,
    valued: Callable[[Floats], Value],
    predict: Callable[[Any], Floats],
    rows: pa.Table | Matrix,
    names: Sequence[str],
) -> Mapping[str, Effect] | None:
    """By column; None where the value is not defined."""
    usual, count, effects = valued(predict(rows)), len(rows), {}
    random = np.random.default_rng(policy.train.seed)
    orders = [random.permutation(count) for _ in range(REPEATS)]
    for place, name in enumerate(names):
        shuffled = [valued(predict(_shuffled(rows, place, order))) for order in orders]

        def better(drawn: Any, shuffled: Sequence[Value] = shuffled) -> float | None:
            best, others = usual(drawn), [value(drawn) for value in shuffled]
            known = [value for value in others if value is not None]
            return None if best is None or len(known) < REPEATS else sum(best - value for value in known) / REPEATS

        found = metrics.compared(better, count, draws=DRAWS)
        if found is None:
            return None
        low, high = found.interval
        effects[name] = Effect(value=found.value, low=low, high=high, shown=found.p_better() <= LEVEL)
    return effects


def _shuffled(rows: pa.Table | Matrix, place: int, order: NDArray[np.int64]) -> pa.Table | Matrix:
    """The rows with the values of one column in another order."""
    if isinstance(rows, pa.Table):
        return rows.set_column(place, rows.schema.field(place), rows.column(place).take(order))
    changed = rows.copy()
    changed[:, place] = rows[order, place]
    return changed


def _by_loss(policy: Policy, label: Floats) -> Callable[[Floats], Value]:
    def valued(score: Floats) -> Value:
        each = losses(policy.model.objective, label, score)
        return lambda rows: -float(each[rows].mean())

    return valued


def _by_metric(policy: Policy, limits: Metric, label: Floats) -> Callable[[Floats], Value]:
    metric = metrics.named(limits.name)

    def valued(score: Floats) -> Value:
        def value(rows: Any) -> float | None:
            found = metric.formula(policy.model, limits.at, label[rows], score[rows])
            return None if found is None else metric.sign * found

        return value

    return valued
