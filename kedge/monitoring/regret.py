"""What serving the champion has cost above the best level a champion held, and whether that pays for a retraining.

A retraining has a price: a run, and a release if it brings something. Waiting has one too: the decisions that a better
model would not have got wrong. The rule is that of somebody who rents until the rent paid would have bought the thing
(A. Karlin et al., Competitive snoopy caching, Algorithmica 3, 1988): pay once the excess has added up to the price, so
that never more than about twice the cheapest schedule is spent. Pure: ``kedge replay`` folds the same states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from kedge.policy.costs import RetrainingCosts

Result = Literal["promoted", "rejected", "nothing shown"]

MIN_SERVED_CHECKS = 3
"""Checks that a champion has served before its mean counts as a level held: one lucky check is none."""
CERTAINTY = 1.0
"""Standard errors of the excess that are asked for on top of the price."""
FAILURE_FACTOR = 3.0
"""How the price grows with an attempt that brought no better decisions."""
PRICE_HALF_LIFE = 0.8
"""Share of ``horizon_rows`` judged rows after which half of the growth is gone."""
USEFUL = 0.5
"""Standard errors by which a challenger decides better for the attempt to count as one that brought something."""


@dataclass(frozen=True, kw_only=True)
class Regret:
    """The state after a check. Costs are in units of one wrong decision, levels in cost a row."""

    level: float
    """Lowest mean cost that any champion of this model held: never raised, so a poor champion is no yardstick."""
    price: float
    """What the excess must reach now."""
    floor: float
    """What the price falls back to with the rows judged."""
    cheapest: float | None = None
    """Price of a run and a release by the policy of the newest check; None: written by an earlier version."""
    excess: float = 0.0
    """What probes would have saved since the last retraining was asked for, or since ``drift`` was last gone; without
    probes the cost above ``level``."""
    drift: float = 0.0
    """Cost above ``level``, not paid off by retrainings: zero says when the rise began (E. S. Page, Biometrika 41,
    1954)."""
    change_point: datetime | None = None
    """End of the last check at which ``drift`` was zero: what came later is the new relation."""
    rows_since_change: int = 0
    rising: bool = False
    """Whether the newest check lay above the level and the slack: one that did not starts nothing."""
    variance: float = 0.0
    """Of the cost of one row, from the tenure's rows."""
    served_checks: int = 0
    served_rows: int = 0
    served_cost: float = 0.0
    served_square: float = 0.0
    tenure_id: str = ""
    trained_rows: int = 0
    """Rows known at the last retraining: those of the first model, and all that were judged by then."""
    judged_rows: int = 0
    """Judged since."""
    attempts: int = 0
    """Retrainings since the rise began that brought no better decisions: they share one error budget."""
    decision_key: str = ""
    """Of the retraining that was decided on last, until it ended."""
    pending: bool = False
    """A retraining that the excess asked for has not ended yet."""
    loss_only: bool = False
    """One of them was promoted for its loss: the next must show better decisions."""

    @classmethod
    def start(
        cls, costs: RetrainingCosts, *, level: float, tenure_id: str, trained_rows: int, since: datetime
    ) -> Regret:
        """Before the first check of a model: ``level`` is the reference's mean cost a row."""
        price = cheapest(costs)
        return cls(
            level=level,
            price=price,
            floor=price,
            cheapest=price,
            tenure_id=tenure_id,
            trained_rows=trained_rows,
            change_point=since,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Regret:
        """As :meth:`to_dict` wrote it; fields of other versions are left out."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        moment = known.get("change_point")
        return cls(**{**known, "change_point": datetime.fromisoformat(moment) if moment else None})

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"change_point": self.change_point.isoformat() if self.change_point else None}

    def needed(self) -> float:
        """Excess at which a retraining pays: the price and ``CERTAINTY`` standard errors of the excess.

        >>> from kedge.policy.costs import RetrainingCosts
        >>> start = Regret.start(
        ...     RetrainingCosts(), level=0.2, tenure_id="", trained_rows=2000, since=datetime(2026, 1, 1)
        ... )
        >>> start.needed()
        30.0
        """
        return self.price + CERTAINTY * math.sqrt(self.variance * self.rows_since_change)

    def expected_gain(self, costs: RetrainingCosts) -> float:
        """Cost that a model back at ``level`` would save over the policy's horizon, at the pace since the change."""
        return 0.0 if not self.rows_since_change else self.drift / self.rows_since_change * costs.horizon_rows


def cheapest(costs: RetrainingCosts) -> float:
    """Price of a run and a release in wrong decisions.

    >>> cheapest(RetrainingCosts(error=2, run=20, release=10))
    15.0
    """
    return (costs.run + costs.release) / costs.error if costs.error else 0.0


def observe(
    regret: Regret,
    costs: RetrainingCosts,
    *,
    rows: int,
    cost: float,
    square: float,
    end: datetime,
    probe_cost: float | None = None,
    by_level: bool = True,
) -> Regret:
    """Fold the rows that one check judged.

    Args:
        regret: State before.
        costs: What a run and a release cost, and the rows within which they must pay.
        rows: Judged rows.
        cost: Sum of their costs, in wrong decisions.
        square: Sum of the squares of their costs.
        end: Of the check.

    Formula: with slack = (run + release) / horizon_rows and x = cost - rows (level + slack),
    excess' = max(0, excess + x) and drift' = max(0, drift + x): a rise that would not pay within the horizon never
    adds up. price' = floor + (price - floor) 2^(-rows / (0.8 horizon_rows)).
    """
    if not rows:
        return regret
    checks = regret.served_checks + 1
    served_rows, served_cost = regret.served_rows + rows, regret.served_cost + cost
    served_square = regret.served_square + square
    mean = served_cost / served_rows
    level = min(regret.level, mean) if checks >= MIN_SERVED_CHECKS else regret.level
    slack = rows * cheapest(costs) / costs.horizon_rows
    above = cost - rows * level - slack
    saved = cost - probe_cost - slack if probe_cost is not None else above if by_level else 0.0
    drift = max(0.0, regret.drift + above)
    faded = 0.5 ** (rows / (PRICE_HALF_LIFE * costs.horizon_rows))
    after = replace(
        regret,
        level=level,
        price=regret.floor + (regret.price - regret.floor) * faded,
        excess=max(0.0, regret.excess + saved) if drift > 0 else 0.0,
        drift=drift,
        rising=saved > 0,
        rows_since_change=regret.rows_since_change + rows,
        variance=max(served_square / served_rows - mean * mean, 0.0),
        served_checks=checks,
        served_rows=served_rows,
        served_cost=served_cost,
        served_square=served_square,
        judged_rows=regret.judged_rows + rows,
    )
    if drift > 0:
        return after
    return replace(after, change_point=end, rows_since_change=0, attempts=0, loss_only=False)


def repriced(regret: Regret, costs: RetrainingCosts) -> Regret:
    """By the costs of today's policy: what attempts made of the price stays, as a factor.

    >>> from kedge.policy.costs import RetrainingCosts
    >>> start = Regret.start(
    ...     RetrainingCosts(), level=0.2, tenure_id="", trained_rows=2000, since=datetime(2026, 1, 1)
    ... )
    >>> repriced(replace(start, price=90.0), RetrainingCosts(run=50, release=10)).price
    180.0
    """
    now, before = cheapest(costs), regret.cheapest
    if before is None or before == now:
        return replace(regret, cheapest=now)
    if not before:
        return replace(regret, cheapest=now, price=now, floor=now)
    return replace(regret, cheapest=now, price=regret.price * now / before, floor=regret.floor * now / before)


def pays(regret: Regret, costs: RetrainingCosts, min_rows: int) -> bool:
    """Whether the excess has paid for a retraining, with at least ``min_rows`` rows since the change to learn from."""
    return (
        costs.error > 0 and regret.rising and regret.excess > regret.needed() and regret.rows_since_change >= min_rows
    )


def outgrown(regret: Regret, growth: float | None) -> bool:
    """Whether ``growth`` times the rows of the last training are there by now."""
    known = regret.trained_rows + regret.judged_rows
    return growth is not None and 0 < growth * regret.trained_rows <= known


def asked(regret: Regret, decision_key: str, *, by_excess: bool) -> Regret:
    """After a retraining was decided on: what was paid for is gone."""
    return replace(
        regret,
        excess=0.0,
        decision_key=decision_key,
        pending=by_excess,
        attempts=regret.attempts + 1,
        trained_rows=regret.trained_rows + regret.judged_rows if regret.trained_rows else 0,
        judged_rows=0,
    )


def ended(regret: Regret, costs: RetrainingCosts, result: Result, *, useful: bool) -> Regret:
    """After a retraining ended.

    Only one that the excess asked for moves the price. What was inconclusive, or failed for no fault of the model's,
    has shown nothing, and leaves the price and the error budget as they were.

    Args:
        result: What became of its challenger.
        useful: On the judged rows it also decided better, by ``USEFUL`` standard errors at least.
    """
    regret = replace(regret, decision_key="")
    if result == "nothing shown":
        return replace(regret, pending=False, attempts=max(0, regret.attempts - 1))
    if not regret.pending:
        return regret
    if result == "promoted" and useful:
        return replace(
            regret,
            pending=False,
            floor=cheapest(costs),
            attempts=0,
            loss_only=False,
        )
    return replace(
        regret,
        pending=False,
        floor=regret.floor * FAILURE_FACTOR,
        price=regret.price * FAILURE_FACTOR,
        loss_only=regret.loss_only or result == "promoted",
    )


def begin_tenure(regret: Regret, tenure_id: str, since: datetime) -> Regret:
    """After another bundle became champion: its own rows count from here, against the level that was held before."""
    return replace(
        regret,
        tenure_id=tenure_id,
        excess=0.0,
        drift=0.0,
        rising=False,
        change_point=since,
        rows_since_change=0,
        served_checks=0,
        served_rows=0,
        served_cost=0.0,
        served_square=0.0,
    )
