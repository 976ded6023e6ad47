"""The evaluation for people: gates, losses, slices, curves."""

from __future__ import annotations

from markupsafe import Markup

from components import report
from components.evaluate import curves
from components.evaluate.evaluation import Evaluation, Scored
from components.measure import Floats, wrong
from components.policy import Policy

UNITS = {"binary": "mean log loss, nats", "regression": "mean squared error"}


def page(policy: Policy, found: Evaluation) -> str:
    """A self-contained HTML page."""
    return report.page(
        f"{policy.name}: challenger {found.challenger.bundle[:12]}",
        report.section(
            "Passed every gate" if found.passed else "Refused",
            report.table(
                ["gate", "verdict", "why"],
                [[each.name, "passed" if each.passed else "failed", each.sentence] for each in found.verdicts],
            ),
            *([found.note] if found.note else []),
        ),
        _losses(policy, found),
        *_slices(found),
        *(_curves(policy, found) if policy.model.task == "binary" else ()),
        subtitle=f"against champion {found.champion.bundle[:12]}" if found.champion else "there is no champion yet",
    )


def _losses(policy: Policy, found: Evaluation) -> Markup:
    rows: list[list[object]] = [["challenger", *_figures(policy, found.label, found.challenger)]]
    if found.champion:
        rows.append(["champion", *_figures(policy, found.label, found.champion)])
    rows.append(["always the mean of the training rows", found.measured.constant_loss, None])
    parts = [report.table(["model", UNITS[policy.model.task], "wrong decisions"], rows)]
    if found.decisions:
        parts.append(
            Markup("<p>{}</p>").format(
                f"Only the champion decided wrongly on {found.decisions.only_champion_wrong:,} rows, only the "
                f"challenger on {found.decisions.only_challenger_wrong:,} (McNemar, exact, two-sided: "
                f"p = {found.decisions.p_value:.3g})."
            )
        )
    alternatives = [[name.removeprefix("loss_of_"), loss] for name, loss in found.alternatives.items()]
    return report.section(
        f"On the same {found.measured.rows:,} newest rows",
        *parts,
        "Estimators tried in training, on all rows held out:",
        report.table(["estimator", UNITS[policy.model.task]], alternatives),
    )


def _figures(policy: Policy, label: Floats, scored: Scored) -> tuple[float, float | None]:
    if policy.model.task != "binary":
        return float(scored.loss.mean()), None
    return float(scored.loss.mean()), float(wrong(label, scored.score, policy.model.threshold).mean())


def _slices(found: Evaluation) -> list[Markup]:
    rows = [
        [each.feature, each.value, each.rows, each.challenger_loss, each.champion_loss, each.increase]
        for each in found.measured.slices
    ]
    if not rows:
        return []
    columns = ["slice", "value", "rows", "challenger's loss", "champion's loss", "increase, as a share"]
    return [report.section("Slices", report.table(columns, rows))]


def _curves(policy: Policy, found: Evaluation) -> list[Markup]:
    models = {"challenger": found.challenger} | ({"champion": found.champion} if found.champion else {})
    rates, honest = {}, {}
    for name, scored in models.items():
        curve = curves.roc(found.label, scored.score)
        if curve is not None:
            points = zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
            rates[f"{name} (area {curve.area:.3f})"] = list(points)
        honest[name] = [(bin.mean_score, bin.positive_share) for bin in curves.calibration(found.label, scored.score)]
    threshold = policy.model.threshold
    counts = curves.confusion(found.label, found.challenger.score, threshold).tolist()
    return [
        report.section("ROC", report.line_chart(rates, y_label="true positives, over the share of false positives")),
        report.section(
            "Calibration",
            report.line_chart(
                {**honest, "perfect": [(0.0, 0.0), (1.0, 1.0)]}, y_label="share of positives, over the mean score"
            ),
        ),
        report.section(
            f"Decisions at {threshold:.3g}",
            report.table(
                ["", "said negative", "said positive"],
                [["was negative", *counts[0]], ["was positive", *counts[1]]],
            ),
        ),
    ]
