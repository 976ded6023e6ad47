"""From the scores of two models on the same rows to the verdicts of the gates. Needs no store and no bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kedge import decision
from kedge import metrics as named_metrics
from kedge.bundle import Agreement
from kedge.evaluation import curves, decisions, gates
from kedge.evaluation.compare import paired
from kedge.evaluation.gates import Against, Measured, MeasuredMetric, Rows, Slice, Verdict
from kedge.evaluation.regression import Fit, fit
from kedge.fairness import fairness
from kedge.measure import Floats, best_constant, losses, repeated
from kedge.metrics import Figure
from kedge.policy import Metric, Policy
from kedge.records.kinds import Outcome

MIN_ROWS = 4
"""The paired test needs two blocks of two rows."""


@dataclass(frozen=True)
class Scored:
    """One model on the rows judged: score and loss of each, shape (rows,); of several classes scores are (rows,
    classes)."""

    bundle: str
    score: Floats
    loss: Floats


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything the step found out."""

    challenger: Scored
    champion: Scored | None
    label: Floats
    constant_score: Floats
    """The best constant guess for the judged rows, see :func:`kedge.measure.best_constant`: what a model that knows
    nothing could say at best."""
    measured: Measured
    verdicts: list[Verdict]
    alternatives: dict[str, float] = field(default_factory=dict)
    """Mean loss on all held-out rows of every estimator that training tried."""
    shift: Floats | None = None
    """How much higher the fit that will serve scores these rows than the champion, on average; of several classes of
    each. The judged fit would say too little: of a change among the newest rows it has learned the least."""
    note: str = ""
    """Which rows were judged on, where that needs a word."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return gates.outcome(self.verdicts)

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return self.outcome == "passed"

    @property
    def reasons(self) -> list[str]:
        """Why it ended so: the sentences of the gates that decided and, where nothing is decided, what to do."""
        decisive = [verdict.sentence for verdict in self.verdicts if verdict.outcome == self.outcome]
        return [*decisive, self._advice()] if self.outcome == "inconclusive" else decisive

    @property
    def rows_needed(self) -> int:
        """About so many more judged rows would make an inconclusive one conclusive; 0 where rows alone do not."""
        return max(verdict.rows_needed for verdict in self.verdicts)

    def _advice(self) -> str:
        if not self.rows_needed and all(each.outcome == "passed" for each in self.verdicts if each.name == "outcomes"):
            return "nothing is decided: more rows would not tell; change the limit under gates"
        if not self.rows_needed:
            return "nothing is decided: say in data.time_column when each row happened, and train again"
        return (
            f"nothing is decided: train again when about {self.rows_needed:,} more rows to judge on have their "
            "outcome, or lower the limit under gates"
        )


def measure(
    policy: Policy,
    label: Floats,
    challenger: Floats,
    champion: Floats | None = None,
    *,
    table: pa.Table | None = None,
    earlier_label: Floats | None = None,
    unseen: int | None = None,
    attempt: int = 1,
    stale: bool = False,
    prove_decisions: bool = False,
    agreement: Agreement | None = None,
    bundles: tuple[str, str] = ("", ""),
) -> Evaluation:
    """Hold the scores of two models on the same rows against the policy's gates.

    Args:
        policy: Its task, costs, slices and gates.
        label: Outcomes in time order, shape (n,), n at least 4.
        challenger, champion: Scores of these rows; without a champion nothing is compared.
        table: The same rows with the columns of ``policy.model.slices`` and of ``policy.gates.fairness``; None: neither
            is looked at.
        earlier_label: Outcomes of the rows before them, to see a table that is not in the order of time.
        unseen: How many of the rows the champion was not trained on; None: all.
        attempt: How many challengers were tried since the alarm that asked for this one; 1: it is the first.
        stale: The champion's training rows are older than they may be: not to be worse is enough.
        prove_decisions: Better decisions must be shown, see :class:`Measured`.
        agreement: Of the challenger's judged and served fit, where there are two.
        bundles: Ids of challenger and champion, for the records.

    Raises:
        ValueError: there are fewer than 4 rows, or the attempt is below 1.
    """
    objective = policy.model.objective
    ours = Scored(bundles[0], challenger, losses(objective, label, challenger))
    theirs = None if champion is None else Scored(bundles[1], champion, losses(objective, label, champion))
    guess = best_constant(objective, label, len(policy.model.classes))
    constant = losses(objective, label, repeated(guess, len(label)))
    measured = Measured(
        rows=_rows(policy, label, earlier_label, len(label) if unseen is None else unseen),
        challenger_loss=float(ours.loss.mean()),
        constant_loss=float(constant.mean()),
        constant=paired(constant, ours.loss),
        against=None if theirs is None else _against(policy, label, ours, theirs),
        slices=[] if table is None else list(_slices(policy, table, ours, theirs)),
        metrics=[_metric(policy, limits, label, ours, theirs) for limits in policy.metrics],
        fairness=[] if table is None else list(fairness(policy, label, challenger, table)),
        attempt=attempt,
        stale=stale,
        prove_decisions=prove_decisions,
        agreement=agreement,
    )
    return Evaluation(
        challenger=ours,
        champion=theirs,
        label=label,
        constant_score=guess,
        measured=measured,
        verdicts=gates.judge(policy.gates, measured),
    )


def _metric(
    policy: Policy, limits: Metric, label: Floats, challenger: Scored, champion: Scored | None
) -> MeasuredMetric:
    model = policy.model
    constant = repeated(named_metrics.constant_for(limits, model, label), len(label))
    return MeasuredMetric(
        limits=limits,
        challenger=named_metrics.figure(limits, model, label, challenger.score),
        champion=None if champion is None else named_metrics.figure(limits, model, label, champion.score),
        difference=None
        if champion is None
        else named_metrics.difference(limits, model, label, challenger.score, champion.score),
        over_constant=named_metrics.difference(limits, model, label, challenger.score, constant)
        if limits.primary
        else None,
    )


def _rows(policy: Policy, label: Floats, earlier: Floats | None, unseen: int) -> Rows:
    rows = Rows(judged=len(label), unseen=unseen, earlier=0 if earlier is None else len(earlier))
    names = policy.model.class_names
    if names:
        before = np.empty(0) if earlier is None else earlier
        counts = {name: (int((label == k).sum()), int((before == k).sum())) for k, name in enumerate(names)}
        return replace(rows, classes=counts)
    if earlier is None or not len(earlier):
        return rows
    return replace(
        rows,
        apart=bool(label.min() > earlier.max() or label.max() < earlier.min()),
        one_value=bool(label.min() == label.max() and earlier.min() < earlier.max()),
    )


def _against(policy: Policy, label: Floats, challenger: Scored, champion: Scored) -> Against:
    limits = policy.gates
    return Against(
        champion_loss=float(champion.loss.mean()),
        difference=paired(champion.loss, challenger.loss),
        within_margin=paired((1 + limits.margin) * champion.loss, challenger.loss),
        decisions=decisions.decide(policy.model, label, challenger.score, champion.score, limits.max_cost_increase)
        if policy.model.class_names
        else None,
    )


def _slices(policy: Policy, table: pa.Table, challenger: Scored, champion: Scored | None) -> Iterator[Slice]:
    allowed = 1 + policy.gates.max_slice_loss_increase
    for name in policy.model.slices:
        column = table.column(name)
        for value in sorted(column.unique().to_pylist(), key=str):
            rows = _equal(column, value)
            ours, theirs = challenger.loss[rows], None if champion is None else champion.loss[rows]
            yield Slice(
                feature=name,
                value="missing" if value is None else _shown(policy, name, value),
                rows=len(ours),
                challenger_loss=float(ours.mean()),
                champion_loss=None if theirs is None else float(theirs.mean()),
                p_value=None if theirs is None or len(ours) < MIN_ROWS else paired(ours, allowed * theirs).p_value,
            )


def _equal(column: pa.ChunkedArray, value: Any) -> Any:
    found = column.is_null() if value is None else pc.fill_null(pc.equal(column, value), False)
    return found.to_numpy()


def _shown(policy: Policy, name: str, value: Any) -> str:
    feature = policy.model.features.get(name)
    return ("true" if value else "false") if feature is not None and feature.type == "boolean" else str(value)


def fits(found: Evaluation) -> dict[str, Fit]:
    """How far challenger, champion (where there is one) and best constant guess of a regression are off on the same
    rows."""
    scores = {"challenger": found.challenger.score}
    if found.champion is not None:
        scores["champion"] = found.champion.score
    scores["constant"] = repeated(found.constant_score, len(found.label))
    return {name: fit(found.label, score) for name, score in scores.items()}


def metrics(policy: Policy, found: Evaluation) -> dict[str, float]:
    """The numbers a run graph shows; ``loss_low`` and ``loss_high`` are the 95 % interval of the loss."""
    interval = paired(found.challenger.loss, np.zeros(len(found.label)))
    shown = {
        "rows": float(found.measured.rows.judged),
        "loss": found.measured.challenger_loss,
        "loss_low": interval.low,
        "loss_high": interval.high,
        "constant_loss": found.measured.constant_loss,
        **found.alternatives,
    }
    against = found.measured.against
    if against is not None:
        shown |= {
            "champion_loss": against.champion_loss,
            "improvement": against.difference.improvement,
            "p_value": against.difference.p_value,
        }
    if found.shift is not None:
        shown |= {f"score_shift{f'_{k}' if found.shift.ndim else ''}": float(v) for k, v in enumerate(found.shift.flat)}
    if against is not None and against.decisions is not None:
        shown |= {
            "cost": against.decisions.challenger_cost,
            "champion_cost": against.decisions.champion_cost,
            "only_champion_wrong": float(against.decisions.only_champion_wrong),
            "only_challenger_wrong": float(against.decisions.only_challenger_wrong),
            "saved": against.decisions.saved,
            "saved_error": against.decisions.saved_error,
        }
    for fair in found.measured.fairness:
        name = f"{fair.name.replace(' ', '_')}_{fair.column}"
        ends = {name: fair.value, f"{name}_low": fair.low, f"{name}_high": fair.high}
        shown |= {key: value for key, value in ends.items() if value is not None}
    for metric in found.measured.metrics:
        shown |= _named("", metric.challenger) | _named("champion_", metric.champion)
    if policy.model.class_names:
        shown["wrong"] = float(decision.wrong(policy.model, found.label, found.challenger.score).mean())
        curve = curves.roc(found.label, found.challenger.score) if policy.model.task == "binary" else None
        if curve is not None:
            shown["roc_area"] = curve.area
    else:
        for name, each in fits(found).items():
            of = "" if name == "challenger" else f"{name}_"
            shown |= {f"{of}{figure}": value for figure, value in asdict(each).items() if value is not None}
    return shown


def _named(of: str, seen: Figure | None) -> dict[str, float]:
    """A figure and the ends of its interval, those that are numbers."""
    if seen is None:
        return {}
    values = {"": seen.value, "_low": seen.low, "_high": seen.high}
    return {
        f"{of}{seen.name}{part}": value for part, value in values.items() if value is not None and np.isfinite(value)
    }
