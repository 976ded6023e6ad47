"""What an evaluation found out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from kedge.evaluation import curves
from kedge.evaluation.compare import McNemar
from kedge.evaluation.gates import Measured, Verdict
from kedge.evaluation.regression import Fit, fit
from kedge.measure import Floats, wrong
from kedge.policy import Policy


@dataclass(frozen=True)
class Scored:
    """One model on the rows judged: score and loss of each, shape (rows,)."""

    bundle: str
    score: Floats
    loss: Floats


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything the step found out."""

    challenger: Scored
    champion: Scored | None
    label: Floats
    constant_score: float
    """What a model that knows nothing says: the mean label of the rows the challenger was trained on."""
    measured: Measured
    verdicts: list[Verdict]
    decisions: McNemar | None
    """None without a champion, and for a regression."""
    alternatives: dict[str, float] = field(default_factory=dict)
    """Mean loss on all held-out rows of every estimator that training tried."""
    note: str = ""
    """Which rows were judged on, where that needs a word."""

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def reasons(self) -> list[str]:
        """Why not, or what speaks for it: the sentences of the gates that decided."""
        return [verdict.sentence for verdict in self.verdicts if verdict.passed == self.passed]


def fits(found: Evaluation) -> dict[str, Fit]:
    """How far challenger, champion (where there is one) and constant guess of a regression are off on the same rows."""
    scores = {"challenger": found.challenger.score}
    if found.champion is not None:
        scores["champion"] = found.champion.score
    scores["constant"] = np.full(len(found.label), found.constant_score)
    return {name: fit(found.label, score) for name, score in scores.items()}


def metrics(policy: Policy, found: Evaluation) -> dict[str, float]:
    """The numbers a run graph shows."""
    shown = {
        "rows": float(found.measured.rows),
        "loss": found.measured.challenger_loss,
        "constant_loss": found.measured.constant_loss,
        **found.alternatives,
    }
    if found.champion is not None:
        shown["champion_loss"] = float(found.champion.loss.mean())
    if found.measured.paired is not None:
        shown |= {"improvement": found.measured.paired.improvement, "p_value": found.measured.paired.p_value}
    if policy.model.task == "binary":
        shown["wrong"] = float(wrong(found.label, found.challenger.score, policy.model.threshold).mean())
        curve = curves.roc(found.label, found.challenger.score)
        if curve is not None:
            shown["roc_area"] = curve.area
    else:
        for name, each in fits(found).items():
            of = "" if name == "challenger" else f"{name}_"
            shown |= {f"{of}{figure}": value for figure, value in asdict(each).items() if value is not None}
    return shown
