"""The page of one check, for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from markupsafe import Markup

from kedge.clock import span
from kedge.policy import Policy
from kedge.records import Checked, Drift, Estimate, Fairness, Mean, ModelState, Performance, Record
from kedge.records.cohort import Cohort
from kedge.report import facts, histogram_pair, line_chart, page, section, table
from kedge.report.page import small_multiples

MAX_CHECKS = 90
"""Checks the chart goes back."""
MAX_FEATURES = 100
"""Rows of the table of features: the drifted ones, then the most important."""


def html(policy: Policy, made: Record[Checked], state: ModelState) -> str:
    """The page as one self-contained document.

    Args:
        policy: Of the model.
        made: The check's record.
        state: Of the model before it: the chart shows how the loss came to be what it is.
    """
    data, window = made.data, made.data.window
    return page(
        f"{made.model}: {data.verdict}",
        section("What to do", _summary(data), *data.reasons),
        section("Loss over time", _chart(state, made)),
        section("Labelled rows", *_performance(policy, data.performance)),
        section("How outcomes arrive", *data.warnings, *_cohort(policy, data.cohort)),
        section("Expected without labels", *_estimate(data.estimate)),
        *_fairness(data.fairness),
        section("Inputs", *_inputs(data.inputs)),
        section("Scores", *_inputs(data.scores)),
        section("Outcomes", *_inputs(data.outcomes)),
        subtitle=f"Check of {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC",
    )


def _summary(data: Checked) -> Markup:
    return facts(
        {
            "action": data.action,
            "rows": data.rows,
            "labels": data.performance.rows,
            "champion": data.champion.bundle[:12],
            "champion since": data.champion.since,
            "drifted": f"{100 * data.inputs.drifted_importance:.0f} % of importance",
        }
    )


def _chart(state: ModelState, made: Record[Checked]) -> Markup | str:
    checks = [*state.checks, made][-MAX_CHECKS:]
    measured = [(item.time, _value(item.data.performance)) for item in checks]
    expected = [(item.time, _value(item.data.estimate)) for item in checks]
    if not any(value is not None for _, value in (*measured, *expected)):
        return "No loss was measured or expected yet."
    references = ((item.time, item.data.performance.reference) for item in checks)
    reference = [(time, known.loss if known is not None else None) for time, known in references]
    quarantined = [(item.time, "quarantine") for item in checks if item.data.action == "quarantine"]
    events = [*quarantined, *(event for event in _events(state) if event[0] >= checks[0].time)]
    curves = {"labelled": measured, "expected without labels": expected, "when trained": reference}
    return line_chart(curves, events=sorted(events), y_label="loss")


def _events(state: ModelState) -> Iterator[tuple[datetime, str]]:
    for run in state.runs:
        yield from ((attempt.started.time, "run") for attempt in run.attempts if attempt.started is not None)
    for release in state.releases:
        if release.promoted is not None:
            yield release.promoted.time, "promoted"
        if release.rolled_back is not None:
            yield release.rolled_back.time, "rolled back" if release.rolled_back.data.condemned else "not judged"


def _value(seen: Performance | Estimate | None) -> float | None:
    return seen.loss.value if seen is not None and seen.loss is not None else None


def _performance(policy: Policy, seen: Performance) -> list[Markup | str]:
    if seen.loss is None:
        few = seen.verdict == "too few labels"
        needed = f"; {policy.monitor.performance.min_labels:,} are needed" if few else ""
        return [f"{seen.verdict}: {seen.rows:,}{needed}."]
    rows: list[tuple[object, ...]] = [_mean("loss", seen.loss)]
    if seen.wrong:
        rows.append(_mean("wrong decisions", seen.wrong))
        rows.append(("wrong with the label before as the prediction", seen.naive_wrong, None, None))
    if seen.reference:
        rows.append(("loss when trained", seen.reference.loss, None, None))
    if seen.metric_rows not in (0, seen.rows):
        rows.append((f"over the newest {seen.metric_rows:,} judged rows:", None, None, None))
    rows += [(name, each.value, each.low, each.high) for name, each in seen.metrics.items()]
    parts: list[Markup | str] = [table(("", "figure", "95 % from", "to"), rows)]
    if seen.p_value is not None and seen.increase is not None:
        parts.append(
            f"Against the loss when trained: {100 * seen.increase:+.1f} %, one-sided p = {seen.p_value:.3g} "
            f"from {seen.loss.blocks} blocks of {seen.rows:,} rows."
        )
    return parts


def _cohort(policy: Policy, seen: Cohort | None) -> list[Markup | str]:
    """Which rows were judged and how many of them had an outcome; records of older checks do not say."""
    if seen is None or seen.start is None:
        return []
    stated = "estimated from the log" if policy.labels.due_seconds is None else "stated in the policy"
    rows = facts(
        {
            "predicted from": seen.start,
            "predicted before": seen.end,
            "verdict": seen.verdict,
            "due after": f"{_span(seen.delay_seconds)}, {stated}",
            "predictions": seen.predicted,
            "with an outcome": seen.labelled,
            "without one, taken as negative": seen.absent,
            "of earlier rows, known since": seen.late,
            "corrected after their verdict": seen.corrected,
        }
    )
    covered = [
        (group, name, each.predicted, each.labelled, each.share)
        for group, parts in seen.groups.items()
        for name, each in parts.items()
        if each.predicted
    ]
    parts: list[Markup | str] = [rows]
    if covered:
        parts.append(table(("by", "", "predictions", "with an outcome", "share"), covered))
    if seen.delays is not None and seen.delays.classes:
        delays = [
            (name or "all", each.rows, each.share, *map(_span, (each.median, each.q90, each.due)))
            for name, each in seen.delays.classes.items()
        ]
        parts.append(table(("class", "outcomes", "share of predictions", "half known after", "90 %", "95 %"), delays))
    return parts


def _fairness(seen: Fairness | None) -> list[Markup]:
    """Nothing where the policy names no protected column; records of older checks have none."""
    if seen is None:
        return []
    figures = [
        (each.column, each.name, each.value, each.low, each.high, each.limit, each.verdict, each.sentence)
        for each in seen.figures
    ]
    groups = [
        (
            column,
            each.value,
            sum(each.counts),
            sum(each.counts[2:]),
            (each.counts[1] + each.counts[3]) / sum(each.counts),
        )
        for column, counts in seen.counts.items()
        for each in counts
    ]
    return [
        section(
            "Fairness",
            f"Of the rows judged since {seen.since:%Y-%m-%d %H:%M} UTC; the intervals hold at all looks at once.",
            table(("column", "figure", "value", "from", "to", "limit", "verdict", "in words"), figures),
            table(("column", "group", "rows", "positives", "share decided positively"), groups),
        )
    ]


def _span(seconds: float) -> str:
    return span(timedelta(seconds=seconds))


def _estimate(seen: Estimate | None) -> list[Markup | str]:
    if seen is None:
        return ["There is no such estimate for a regression."]
    if seen.loss is None or seen.wrong is None:
        return [f"{seen.verdict}: {seen.rows:,}."]
    how = "calibrated scores" if seen.calibrated else "scores taken as chances, for the bundle holds no calibration"
    rows = [_mean("loss", seen.loss), _mean("wrong decisions", seen.wrong)]
    risen = (
        [f"A rise over the loss when trained: one-sided p = {seen.p_value:.3g}."] if seen.p_value is not None else []
    )
    return [
        table(("", "mean", "95 % from", "to"), rows),
        *risen,
        f"From {how}. True only while the relation between inputs and outcome holds: it warns, it never acts alone.",
    ]


def _mean(name: str, mean: Mean) -> tuple[str, float, float, float]:
    return name, mean.value, mean.low, mean.high


COLUMNS = {
    "drifted": "drifted",
    "q_value": "q-value",
    "psi_debiased": "PSI less bias",
    "ks": "KS",
    "js": "JS",
    "reference_null_rate": "missing before",
    "null_rate": "missing now",
    "new_category_share": "new",
    "out_of_range_share": "out of range",
}
"""Of a feature's comparison, what the page shows, called as the page of `kedge drift` does."""


def _inputs(seen: Drift) -> list[Markup | str]:
    detail = seen.detail.get("features", {})
    if seen.verdict != "compared" or not detail:
        return [f"{seen.verdict}: that says nothing about drift, neither way."]
    names = sorted(detail, key=lambda name: (not detail[name]["drifted"], -(detail[name].get("psi_debiased") or 0.0)))
    rows = [(name, *(detail[name].get(column) for column in COLUMNS)) for name in names[:MAX_FEATURES]]
    parts: list[Markup | str] = [table(("column", *COLUMNS.values()), rows)]
    if len(names) > MAX_FEATURES:
        parts.append(f"{len(names) - MAX_FEATURES:,} more are in the check's record.")
    return [*parts, *_pairs(seen), *_drawn(seen)]


def _pairs(seen: Drift) -> list[Markup | str]:
    if not seen.pairs:
        return []
    rows = [(each.first, each.second, each.reference_correlation, each.current_correlation) for each in seen.pairs]
    return ["Pairs that move together otherwise:", table(("first", "second", "rank correlation before", "now"), rows)]


def _drawn(seen: Drift) -> list[Markup | str]:
    """The drifted columns as small histograms, worst first; records of older checks have none."""
    if not seen.histograms:
        return []
    figures = [
        histogram_pair(*pair, caption=Markup("<b>{}</b>").format(name)) for name, pair in seen.histograms.items()
    ]
    return [
        f"Grey bars are {seen.against}, the coloured outline is the window; shares of rows with a value.",
        small_multiples(figures),
    ]
