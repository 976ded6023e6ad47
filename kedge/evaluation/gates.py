"""What a challenger must prove: each gate one fact in one sentence, with its figure and its limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kedge.evaluation.compare import Paired
from kedge.policy import Gates


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

    Limits on one figure are one gate: a loss above two of them, or a difference that is neither large nor certain
    enough, would be the same bad news twice. Without a champion ``improvement`` is passed with that reason and nothing
    is said of slices; the challenger must still be better than the constant that knows nothing.
    """
    return [_rows(gates, seen), _loss(gates, seen), _improvement(gates, seen.paired), *_slices(gates, seen)]


def _rows(gates: Gates, seen: Measured) -> Verdict:
    return Verdict(
        name="rows",
        passed=seen.rows >= gates.min_rows,
        sentence=f"{seen.rows:,} rows to judge on, must be at least {gates.min_rows:,}",
    )


def _loss(gates: Gates, seen: Measured) -> Verdict:
    most = gates.max_loss
    allowed = "" if most is None else f"at most {most:.5g} and "
    return Verdict(
        name="loss",
        passed=seen.challenger_loss < seen.constant_loss and (most is None or seen.challenger_loss <= most),
        sentence=f"loss {seen.challenger_loss:.5g}, must be {allowed}below {seen.constant_loss:.5g}, that of always "
        "saying the mean of the training rows",
    )


def _improvement(gates: Gates, paired: Paired | None) -> Verdict:
    if paired is None:
        return Verdict(name="improvement", passed=True, sentence="there is no champion yet to compare with")
    way, low, high = "lower", paired.low, paired.high
    if paired.improvement < 0:
        way, low, high = "higher", -paired.high, -paired.low
    least = f"at least {gates.min_improvement:.5g} lower" if gates.min_improvement else "lower"
    return Verdict(
        name="improvement",
        passed=paired.p_value <= gates.alpha and paired.improvement >= gates.min_improvement,
        sentence=f"loss {abs(paired.improvement):.5g} {way} than the champion's (95 % interval {low:.5g} to "
        f"{high:.5g}, paired test p = {paired.p_value:.3g}), must be {least} with p at most {gates.alpha:g}",
    )


def _slices(gates: Gates, seen: Measured) -> list[Verdict]:
    if seen.paired is None:
        return []
    judged = [each for each in seen.slices if each.rows >= gates.min_slice_rows and each.increase is not None]
    if not judged:
        none = f"no slice of at least {gates.min_slice_rows:,} rows to judge"
        return [Verdict(name="slices", passed=True, sentence=none)]
    worst = max(judged, key=lambda each: each.increase or 0.0)
    increase = worst.increase or 0.0
    sentence = (
        f"worst slice {worst.feature} = {worst.value} ({worst.rows:,} rows): loss {increase:+.1%} against the "
        f"champion's, must be at most {gates.max_slice_loss_increase:+.1%}"
    )
    return [Verdict(name="slices", passed=increase <= gates.max_slice_loss_increase, sentence=sentence)]
