"""The evaluation for people: gates, losses, slices, curves or errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from kedge import decision, measure, metrics, report
from kedge.evaluation import curves, regression
from kedge.evaluation.evaluation import Evaluation, Scored, fits
from kedge.evaluation.gates import MeasuredMetric
from kedge.measure import Floats
from kedge.policy import Policy

FIGURES = {"binary": ["wrong decisions"], "multiclass": ["wrong decisions"], "regression": ["RMSE", "MAE", "R²"]}
MAX_CLASSES = 20
"""Drawn in the table of decisions, the most frequent ones."""
Points = list[tuple[float, float]]
HEADINGS = {
    "passed": "Passed every gate",
    "rejected": "Rejected",
    "inconclusive": "Not judged: the rows are too few to tell",
}
MAX_CURVES = 6
"""Classes whose calibration is drawn."""
MAX_DOTS = 600
"""Rows drawn one by one; more hide each other."""


def page(policy: Policy, found: Evaluation) -> str:
    """A self-contained HTML page."""
    return report.page(
        f"{policy.name}: challenger {found.challenger.bundle[:12]}",
        report.section(
            HEADINGS[found.outcome],
            report.table(
                ["gate", "verdict", "why"], [[each.name, each.outcome, each.sentence] for each in found.verdicts]
            ),
            *([found.note] if found.note else []),
        ),
        _losses(policy, found),
        *_metrics(found),
        *_slices(found),
        *_fairness(found),
        *_drawn(policy, found),
        subtitle=f"against champion {found.champion.bundle[:12]}" if found.champion else "",
    )


def _losses(policy: Policy, found: Evaluation) -> Markup:
    unit = measure.unit(policy.model.objective)
    compared = report.table(["model", unit, *FIGURES[policy.model.task]], _models_and_constant(policy, found))
    parts: list[Markup | str] = [compared]
    decisions = found.measured.against.decisions if found.measured.against else None
    if decisions:
        parts.append(
            f"Only the champion decided wrongly on {decisions.only_champion_wrong:,} rows, only the challenger on "
            f"{decisions.only_challenger_wrong:,}."
        )
    alternatives = [[name.removeprefix("loss_of_"), loss] for name, loss in found.alternatives.items()]
    return report.section(
        f"On the same {found.measured.rows.judged:,} newest rows",
        *parts,
        "Estimators tried in training, on all rows held out (older rows decided which one was taken):",
        report.table(["estimator", unit], alternatives),
    )


def _models_and_constant(policy: Policy, found: Evaluation) -> list[list[object]]:
    figures = _wrong(policy, found) if policy.model.class_names else _fits(found)
    rows: list[list[object]] = [["challenger", found.measured.challenger_loss, *figures["challenger"]]]
    if found.champion:
        rows.append(["champion", float(found.champion.loss.mean()), *figures["champion"]])
    return [*rows, ["the best constant guess for these rows", found.measured.constant_loss, *figures["constant"]]]


def _metrics(found: Evaluation) -> list[Markup]:
    rows = [_metric(each) for each in found.measured.metrics]
    if not rows:
        return []
    columns = ["metric", "challenger", "from", "to", "champion", "better by", "from", "to"]
    return [
        report.section(
            "Metrics",
            "With 95 % intervals by block bootstrap: neighbouring rows are drawn together. Better is above 0, also "
            "where less is better.",
            report.table(columns, rows),
        )
    ]


def _models(found: Evaluation) -> dict[str, Scored]:
    return {"challenger": found.challenger} | ({"champion": found.champion} if found.champion else {})


def _metric(each: MeasuredMetric) -> list[object]:
    name, ours = each.limits.label, each.challenger
    return [
        f"{name} (primary)" if each.limits.primary else name,
        *(ours.value, ours.low, ours.high),
        each.champion.value if each.champion else None,
        *((each.difference.value, *each.difference.interval) if each.difference else (None, None, None)),
    ]


def _wrong(policy: Policy, found: Evaluation) -> dict[str, list[float | None]]:
    def share(score: Floats) -> float:
        return float(decision.wrong(policy.model, found.label, score).mean())

    return {**{name: [share(each.score)] for name, each in _models(found).items()}, "constant": [None]}


def _fits(found: Evaluation) -> dict[str, list[float | None]]:
    return {name: [each.rmse, each.mae, each.r_squared] for name, each in fits(found).items()}


def _slices(found: Evaluation) -> list[Markup]:
    rows = [
        [each.feature, each.value, each.rows, each.challenger_loss, each.champion_loss, each.increase]
        for each in found.measured.slices
    ]
    if not rows:
        return []
    columns = ["slice", "value", "rows", "challenger's loss", "champion's loss", "increase, as a share"]
    return [report.section("Slices", report.table(columns, rows))]


def _fairness(found: Evaluation) -> list[Markup]:
    figures = found.measured.fairness
    if not figures:
        return []
    limits = [[f"{each.name} of {each.column}", each.value, each.low, each.high, each.limit] for each in figures]
    groups = {each.column: each.groups for each in figures}
    rows = [
        [column, group.value, group.rows, group.positives, group.selected]
        for column, each in groups.items()
        for group in each
    ]
    return [
        report.section(
            "Fairness",
            "Between the groups of protected columns, with 95 % intervals by bootstrap.",
            report.table(["figure", "value", "from", "to", "limit"], limits),
            report.table(["column", "group", "rows", "positives", "share decided positively"], rows),
        )
    ]


def _drawn(policy: Policy, found: Evaluation) -> list[Markup]:
    match policy.model.task:
        case "binary":
            return _curves(policy, found)
        case "multiclass":
            return _classes(policy, found)
        case _:
            return _errors(found)


def _classes(policy: Policy, found: Evaluation) -> list[Markup]:
    """Each class of several: how well it is found, how honest its probabilities are, what it is taken for."""
    names, score = policy.model.class_names, found.challenger.score
    counts = metrics.confusion(policy.model, found.label, score)
    frequent = np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_CLASSES]
    honest = {
        names[place]: _calibration((found.label == place).astype(np.float64), score[:, place])
        for place in frequent[:MAX_CURVES]
    }
    return [
        _by_class(names, found, counts),
        _calibrations(honest, "share of the class, over its mean probability"),
        _confusion(names, counts, frequent),
    ]


def _by_class(names: Sequence[str], found: Evaluation, counts: Floats) -> Markup:
    score = found.challenger.score
    areas = [metrics.area(found.label == place, score[:, place]) for place in range(len(names))]
    figures = [counts.sum(axis=1), *metrics.by_class(counts)]
    rows = zip(names, *(each.tolist() for each in figures), areas, strict=True)
    table = report.table(["class", "rows", "precision", "recall", "F1", "AUC"], [list(row) for row in rows])
    return report.section("Classes", "AUC is that of a class against all others.", table)


def _confusion(names: Sequence[str], counts: Floats, shown: NDArray[np.intp]) -> Markup:
    rows = [[names[true], *counts[true, shown].astype(int).tolist()] for true in shown]
    few = "" if len(shown) == len(names) else f" The {len(shown)} most frequent of {len(names)} classes are drawn."
    return report.section(
        "Decisions",
        f"A row for each class that came true.{few}",
        report.table(["", *(f"said {names[place]}" for place in shown)], rows),
    )


def _calibration(label: Floats, score: Floats) -> Points:
    return [(bin.mean_score, bin.positive_share) for bin in curves.calibration(label, score)]


def _calibrations(honest: dict[str, Points], y_label: str) -> Markup:
    lines = {**honest, "perfect": [(0.0, 0.0), (1.0, 1.0)]}
    return report.section("Calibration", report.line_chart(lines, y_label=y_label))


def _curves(policy: Policy, found: Evaluation) -> list[Markup]:
    rates, honest = {}, {}
    for name, scored in _models(found).items():
        curve = curves.roc(found.label, scored.score)
        if curve is not None:
            points = zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
            rates[f"{name} (area {curve.area:.3f})"] = list(points)
        honest[name] = _calibration(found.label, scored.score)
    negative, positive = metrics.confusion(policy.model, found.label, found.challenger.score).astype(int).tolist()
    return [
        report.section("ROC", report.line_chart(rates, y_label="true positives, over the share of false positives")),
        _calibrations(honest, "share of positives, over the mean score"),
        report.section(
            f"Decisions at {policy.model.threshold:.3g}",
            report.table(
                ["", "said negative", "said positive"], [["was negative", *negative], ["was positive", *positive]]
            ),
        ),
    ]


def _errors(found: Evaluation) -> list[Markup]:
    return [_actual_values(found), _residuals(found)]


def _actual_values(found: Evaluation) -> Markup:
    label, score = found.label, found.challenger.score
    rows = len(label)
    shown = measure.strided(rows, MAX_DOTS)
    dots = list(zip(score[shown].tolist(), label[shown].tolist(), strict=True))
    few = "" if len(dots) == rows else f" {len(dots):,} of {rows:,} rows are drawn, at equal distances in time."
    return report.section(
        "Predicted and actual values",
        f"One dot a row, of the challenger; on the line both agree.{few}",
        report.scatter_chart(dots, name="challenger", diagonal="exact", y_label="actual, over the predicted value"),
    )


def _residuals(found: Evaluation) -> Markup:
    bins = {name: regression.residuals(found.label, each.score) for name, each in _models(found).items()}
    ours = bins["challenger"]
    lines = {
        **{f"{name}, mean": [(bin.mean_score, bin.mean) for bin in each] for name, each in bins.items()},
        "challenger, nine tenths are above": [(bin.mean_score, bin.low) for bin in ours],
        "challenger, nine tenths are below": [(bin.mean_score, bin.high) for bin in ours],
        "exact": [(ours[0].mean_score, 0.0), (ours[-1].mean_score, 0.0)],
    }
    return report.section(
        "Residuals",
        f"Actual less predicted value, in up to {curves.BINS} bins of equally many rows: above 0 the model says "
        "too little, below it too much.",
        report.line_chart(lines, y_label="residual, over the mean predicted value"),
    )
