"""What a challenger must prove, each gate with a sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.evaluate.compare import Paired
from components.policy import Gates


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows that share a value of a feature."""

    feature: str
    value: str
    rows: int
    challenger_loss: float
    champion_loss: float | None

    @property
    def increase(self) -> float | None:
        """Share by which the challenger's loss is above the champion's; None without a champion."""
        if self.champion_loss is None:
            return None
        if self.champion_loss == 0:
            return 0.0 if self.challenger_loss == 0 else float("inf")
        return self.challenger_loss / self.champion_loss - 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on the holdout. Losses are means; ``paired`` is None without a champion."""

    rows: int
    challenger_loss: float
    constant_loss: float
    paired: Paired | None
    slices: Sequence[Slice] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate."""

    name: str
    passed: bool
    sentence: str


def judge(gates: Gates, seen: Measured) -> list[Verdict]:
    """Hold what was measured against every gate of the policy. Thresholds are inclusive.

    Without a champion the gates that compare with one are passed, with that reason; the challenger must still be
    better than the constant that knows nothing.
    """
    return [
        _rows(gates, seen),
        _constant(seen),
        *_max_loss(gates, seen),
        _improvement(gates, seen.paired),
        _min_improvement(gates, seen.paired),
        _slices(gates, seen),
    ]


def _rows(gates: Gates, seen: Measured) -> Verdict:
    return Verdict(
        name="min_rows",
        passed=seen.rows >= gates.min_rows,
        sentence=f"{seen.rows:,} rows to judge on, {gates.min_rows:,} needed",
    )


def _constant(seen: Measured) -> Verdict:
    return Verdict(
        name="constant",
        passed=seen.challenger_loss < seen.constant_loss,
        sentence=f"loss {seen.challenger_loss:.5g}, {seen.constant_loss:.5g} for always saying the mean of the "
        "training rows",
    )


def _max_loss(gates: Gates, seen: Measured) -> list[Verdict]:
    if gates.max_loss is None:
        return []
    passed = seen.challenger_loss <= gates.max_loss
    sentence = f"loss {seen.challenger_loss:.5g}, at most {gates.max_loss:.5g} allowed"
    return [Verdict(name="max_loss", passed=passed, sentence=sentence)]


def _improvement(gates: Gates, paired: Paired | None) -> Verdict:
    if paired is None:
        return _without_champion("alpha")
    return Verdict(
        name="alpha",
        passed=paired.p_value <= gates.alpha,
        sentence=f"better than the champion with p = {paired.p_value:.3g}, at most {gates.alpha:g} needed "
        f"(paired test on {paired.rows:,} rows in {paired.blocks} blocks)",
    )


def _min_improvement(gates: Gates, paired: Paired | None) -> Verdict:
    if paired is None:
        return _without_champion("min_improvement")
    return Verdict(
        name="min_improvement",
        passed=paired.improvement >= gates.min_improvement,
        sentence=f"loss improved by {paired.improvement:.5g} (95 % interval {paired.low:.5g} to {paired.high:.5g}), "
        f"at least {gates.min_improvement:g} needed",
    )


def _slices(gates: Gates, seen: Measured) -> Verdict:
    name = "max_slice_loss_increase"
    if seen.paired is None:
        return _without_champion(name)
    judged = [each for each in seen.slices if each.rows >= gates.min_slice_rows and each.increase is not None]
    if not judged:
        return Verdict(name=name, passed=True, sentence=f"no slice of at least {gates.min_slice_rows:,} rows to judge")
    worst = max(judged, key=lambda each: each.increase or 0.0)
    increase = worst.increase or 0.0
    return Verdict(
        name=name,
        passed=increase <= gates.max_slice_loss_increase,
        sentence=f"worst slice {worst.feature} = {worst.value}: loss {increase:+.1%} ({worst.rows:,} rows), at most "
        f"{gates.max_slice_loss_increase:+.1%} allowed",
    )


def _without_champion(name: str) -> Verdict:
    return Verdict(name=name, passed=True, sentence="there is no champion yet to compare with")
