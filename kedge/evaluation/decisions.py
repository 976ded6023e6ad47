"""Whether a challenger that predicts classes decides worse than the champion, whatever its loss says. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kedge import decision
from kedge.evaluation.compare import paired
from kedge.measure import Floats, calibrated, calibration, losses, temperature, tempered
from kedge.policy import Model


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the decisions of both models cost on the same rows, and whether the challenger's are dearer.

    A champion that is too sure of itself loses the log loss to a challenger that tells the classes apart less well.
    Two tests see that. The plain one is of the costs themselves, which differ only on the few rows that both decide
    differently. The sharper one is of the log loss after each model was calibrated on these rows (Platt; of several
    classes by a temperature), so that being
    too sure counts no more and what is left is how well the classes are told apart. It stands in for the costs: around
    a threshold a loss that is higher by two hundredths goes with about one more wrong decision in a hundred.
    """

    challenger_cost: float
    champion_cost: float
    """Mean cost a row, in the unit of ``model.costs``."""
    only_challenger_wrong: int
    only_champion_wrong: int
    """Rows on which exactly one of both decided wrongly."""
    saved: float
    """The champion's costs less the challenger's, summed over the rows."""
    saved_error: float
    """Standard deviation of ``saved`` if both decided equally well."""
    p_cost: float
    """Chance of such a rise of the cost beyond the margin, or a larger one, if there were none."""
    p_calibrated: float
    """The same of the loss after calibration."""

    @property
    def increase(self) -> float:
        """Share by which the challenger's cost is above the champion's."""
        if self.champion_cost == 0:
            return 0.0 if self.challenger_cost == 0 else float("inf")
        return self.challenger_cost / self.champion_cost - 1

    def saves(self, errors: float) -> bool:
        """Whether the challenger's decisions are cheaper by so many standard deviations."""
        return self.saved > 0 and self.saved >= errors * self.saved_error

    def harm(self, level: float) -> bool:
        """Whether one of both tests shows harm at this level; calibrated loss says nothing where costs are shown to be
        lower."""
        return self.p_cost <= level or (self.p_calibrated <= level and self.p_cost < 1 - level)


def decide(model: Model, label: Floats, challenger: Floats, champion: Floats, margin: float) -> Decisions:
    """Compare the decisions of two models at the policy's threshold.

    Args:
        model: Costs and threshold.
        label: Codes of the classes, in time order, shape (n,), n at least 4.
        challenger, champion: Scores of the same rows.
        margin: Share of the champion's cost, and of its calibrated loss, by which the challenger's may be higher.

    >>> rng = np.random.default_rng(0)
    >>> odds = rng.normal(size=4000) * 2
    >>> label = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    >>> sure, noisy = 1 / (1 + np.exp(-3 * odds)), 1 / (1 + np.exp(-(odds + rng.normal(size=4000))))
    >>> bool(losses("binary", label, noisy).mean() < losses("binary", label, sure).mean())
    True
    >>> model = Model(name="m", target="y", features={"x": {"type": "number"}})
    >>> decide(model, label, noisy, sure, 0.0).harm(0.01)
    True
    """
    ours, theirs = (decision.costs(model, label, score) for score in (challenger, champion))
    challenger_wrong, champion_wrong = (decision.wrong(model, label, score) for score in (challenger, champion))
    p_calibrated = 1.0
    if label.min() < label.max():
        p_calibrated = _rise(_calibrated(label, challenger), _calibrated(label, champion), margin)
    return Decisions(
        challenger_cost=float(ours.mean()),
        champion_cost=float(theirs.mean()),
        only_challenger_wrong=int(np.sum(challenger_wrong & ~champion_wrong)),
        only_champion_wrong=int(np.sum(champion_wrong & ~challenger_wrong)),
        saved=float(np.sum(theirs - ours)),
        saved_error=float(np.sqrt(np.sum((theirs - ours) ** 2))),
        p_cost=_rise(ours, theirs, margin),
        p_calibrated=p_calibrated,
    )


def _rise(ours: Floats, theirs: Floats, margin: float) -> float:
    return paired(ours, (1 + margin) * theirs).p_value


def _calibrated(label: Floats, score: Floats) -> Floats:
    """Log loss of each row once the model is calibrated on these rows."""
    if score.ndim > 1:
        return losses("multiclass", label, tempered(score, temperature(label, score)[0]))
    return losses("binary", label, calibrated(score, *calibration(label, score)))
