"""What a check saw, in the words of its reasons."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kedge.clock import span as span

if TYPE_CHECKING:
    from kedge.monitoring.alarm import Alarm
    from kedge.monitoring.check import Check
    from kedge.monitoring.regret import Regret
    from kedge.policy import Policy


def quiet(check: Check) -> str:
    """Why nothing is to be done; too few rows are named as such, never as "no drift"."""
    if check.inputs.verdict != "compared":
        drift = f"too few rows to say anything about drift: {check.rows:,}"
    else:
        drift = "no feature that matters drifted" if check.inputs.drifted else "no feature drifted"
    performance = check.performance
    if check.cohort.reason:
        return f"{drift}; {performance.verdict}: {check.cohort.reason}"
    if performance.worse is None:
        return f"{drift}; {performance.verdict}: {performance.rows:,}"
    return f"{drift}; {loss(check)}"


def loss(check: Check) -> str:
    """The labelled loss against the reference's."""
    seen = check.performance
    if seen.loss is None or seen.reference is None or seen.increase is None or seen.p_value is None:
        return f"{seen.verdict}: {seen.rows:,} labels"
    change = f"{100 * seen.increase:+.0f} %, p = {seen.p_value:.2g}"
    return f"loss {seen.loss.value:.4g} against {seen.reference.loss:.4g} when trained ({change}, {seen.rows:,} labels)"


def inputs(check: Check) -> str:
    """Which features drifted, at most five by name."""
    names = list(check.inputs.drifted)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"inputs drifted: {shown} ({100 * check.inputs.drifted_importance:.0f} % of the model's importance)"


SKEW = ", in the champion's first check already: are they computed as they were for training?"


def pairs(check: Check) -> str:
    """Which pairs of features move together otherwise, at most three."""
    shown = [
        f"{pair.first} and {pair.second} ({pair.reference_correlation:.2f} to {pair.current_correlation:.2f})"
        for pair in check.inputs.pairs[:3]
    ]
    more = len(check.inputs.pairs) - len(shown)
    return f"rank correlation changed: {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"


def scores_drifted(check: Check) -> str:
    """That the champion's answers are distributed otherwise; of several classes, most of which one."""
    column = check.scores.drifted[0]
    psi = check.scores.detail["features"][column]["psi_debiased"]
    which = f" of {column.removeprefix('_score ')}" if column != "_score" else ""
    return f"the champion's scores{which} drifted" + (f" (PSI {psi:.2g})" if psi is not None else "")


def outcomes(check: Check) -> str:
    """That outcomes are distributed otherwise; of classes, the share of the one that changed most."""
    drawn = check.outcomes.histograms.get("_label")
    kind = check.outcomes.detail.get("features", {}).get("_label", {}).get("kind")
    if drawn is not None and kind == "category":
        shares = [[height / sum(heights) for height in heights] for heights in drawn[1:]]
        name, before, now = max(zip(drawn[0], *shares, strict=True), key=lambda each: abs(each[2] - each[1]))
        return f"outcomes drifted: {now:.1%} of the judged rows are {name}, {before:.1%} when the champion was judged"
    if drawn is None or list(drawn[0]) != ["0", "1"]:
        return "outcomes drifted"
    before, now = (heights[1] / sum(heights) for heights in drawn[1:])
    return f"outcomes drifted: {now:.1%} of the judged rows are positive, {before:.1%} when the champion was judged"


def scores(check: Check) -> str:
    """That answers of the champion were no numbers."""
    return f"{check.nan_scores:,} scores of the champion are no finite number"


def estimate(check: Check) -> str:
    """That the estimated loss rose."""
    seen = check.estimate
    if seen is None or seen.loss is None or seen.increase is None:
        return "no estimate"
    return f"loss estimated without labels rose to {seen.loss.value:.4g} ({100 * seen.increase:+.0f} %)"


def times(count: int) -> str:
    """How often in a row."""
    return "1 check" if count == 1 else f"{count} checks in a row"


def moment(time: datetime) -> str:
    """A time as a reason says it: ``2026-03-02 14:00 UTC``."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def unit_of_cost(policy: Policy) -> str:
    """What a cost of 1 is, see ``costs.error`` of the policy."""
    return "wrong decisions" if policy.model.class_names else "rows as bad as the best constant"


def excess(check: Check, cost: Regret, policy: Policy) -> str:
    """That the errors above what a retraining would reach have paid for one, and what it is expected to gain."""
    since = f" since {moment(cost.change_point)}" if cost.change_point else ""
    unit, horizon = unit_of_cost(policy), policy.costs.horizon_rows
    if (probed := check.cohort.probe_cost) is not None:
        saved = (check.cohort.cost - probed) / check.cohort.rows
        return (
            f"models retrained on the way would have saved {cost.excess:,.0f} {unit}{since}, more than the "
            f"{cost.needed():,.0f} at which a retraining pays; on the newest {check.cohort.rows:,} rows {saved:.3g} a "
            f"row, which is about {max(saved, 0) * horizon:,.0f} in the next {horizon:,} rows"
        )
    tried = f", after {cost.attempts} attempts that brought no better decisions" if cost.attempts > 1 else ""
    return (
        f"the risen error has cost {cost.excess:,.0f} {unit} above the best level held "
        f"({cost.level:.3g} a row){since}, more than the {cost.needed():,.0f} at which a retraining pays{tried}; back "
        f"at that level it would save about {cost.expected_gain(policy.costs):,.0f} in the next {horizon:,} rows"
    )


def growth(cost: Regret) -> str:
    """That there are many more rows than the last training had."""
    known = cost.trained_rows + cost.judged_rows
    return f"{known:,} rows are there, {known / cost.trained_rows:.0f} times those of the last training"


def risen(alarm: Alarm, cost: Regret, policy: Policy, *, said: bool) -> str:
    """That the error rose, and why nothing is retrained yet.

    Args:
        said: Whether this check can tell what a retraining would have saved.
    """
    since = f" since {moment(alarm.since)}" if alarm.since else ""
    before = alarm.baseline.total / alarm.baseline.rows
    sentence = f"the error rose from {before:.3g} to {alarm.level:.3g} a row{since}"
    if not policy.monitor.triggers.labelled_error:
        return f"{sentence}; the policy does not retrain on it"
    if not said:
        return f"{sentence}; while it is, checks try on the newest rows what a retraining would save"
    return (
        f"{sentence}; a retraining would have saved about {cost.excess:,.0f} {unit_of_cost(policy)} so far, "
        f"{cost.needed():,.0f} pay for one"
    )
