"""What one rule did with a history, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kedge.policy.costs import RetrainingCosts


@dataclass(frozen=True, kw_only=True)
class BlockDecision:
    """The check after one block."""

    block: int
    action: str
    """``none``, ``warn``, ``retrain`` or ``quarantine``."""
    reasons: tuple[str, ...] = ()
    promoted: bool = False


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One rule from the first block to the last."""

    rule: str
    block_costs: tuple[float, ...]
    """Of the decisions in each block, in wrong decisions."""
    block_rows: tuple[int, ...]
    wrong: float
    """Wrong decisions; of a regression the loss over the best constant's, summed."""
    runs: int
    promotions: int
    decisions: tuple[BlockDecision, ...] = field(default=())

    @property
    def accuracy(self) -> float:
        """Share of rows decided rightly; of a regression 1 - loss over the constant's, which is R²."""
        return 1 - self.wrong / sum(self.block_rows)

    def j(self, costs: RetrainingCosts) -> float:
        """The score: what the errors, the runs and the promotions cost together."""
        return costs.error * sum(self.block_costs) + costs.run * self.runs + costs.release * self.promotions

    def to_dict(self, costs: RetrainingCosts) -> dict[str, Any]:
        """As ``kedge replay --json`` prints it."""
        return {
            "errors": _plain(self.wrong),
            "runs": self.runs,
            "promotions": self.promotions,
            "j": _plain(self.j(costs)),
            "accuracy": self.accuracy,
            "decisions": [
                {
                    "block": each.block,
                    "action": each.action,
                    "reasons": list(each.reasons),
                    "promoted": each.promoted,
                }
                for each in self.decisions
            ],
        }


def best_first(walks: Sequence[Walk], costs: RetrainingCosts) -> list[Walk]:
    """Walks by their score, the lowest first."""
    return sorted(walks, key=lambda walk: walk.j(costs))


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(float(value), 6)
