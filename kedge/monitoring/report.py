"""The page of one check, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from kedge.clock import span
from kedge.policy import Policy
from kedge.records import Record, window_of
from kedge.report import facts, histogram_pair, line_chart, page, section, table
from kedge.report.page import small_multiples

MAX_CHECKS = 90
"""Checks the chart goes back."""
MAX_FEATURES = 100
"""Rows of the table of features: the drifted ones, then the most important."""
EVENTS = {"promoted": "promoted", "rolled-back": "rolled back", "run-started": "run"}


def html(policy: Policy, made: Record, history: Sequence[Record]) -> str:
    """The page as one self-contained document.

    Args:
        policy: Of the model.
        made: The check's record.
        history: Records before it: the chart shows how the loss came to be what it is.
    """
    data = made.data
    start, end = window_of(data)
    return page(
        f"{made.model}: {data['verdict']}",
        section("What to do", _summary(data), *data["reasons"]),
        section("Loss over time", _chart([*history, made])),
        section("Labelled rows", *_performance(policy, data["performance"])),
        section("How outcomes arrive", *data.get("warnings", ()), *_cohort(data.get("cohort"))),
        section("Expected without labels", *_estimate(data["estimate"])),
        section("Inputs", *_inputs(data["inputs"])),
        section("Scores", *_inputs(data["scores"])),
        subtitle=f"Check of {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
    )


def _summary(data: Mapping[str, Any]) -> Markup:
    champion = data["champion"]
    return facts(
        {
            "action": data["action"],
            "rows": data["rows"],
            "labels": data["performance"]["rows"],
            "champion": champion["bundle"][:12],
            "champion since": datetime.fromisoformat(champion["since"]),
            "drifted": f"{100 * data['inputs']['drifted_importance']:.0f} % of importance",
        }
    )


def _chart(records: Sequence[Record]) -> Markup | str:
    checks = [item for item in records if item.kind == "check"][-MAX_CHECKS:]
    measured = [(item.time, _value(item.data["performance"])) for item in checks]
    expected = [(item.time, _value(item.data["estimate"])) for item in checks]
    if not any(value is not None for _, value in (*measured, *expected)):
        return "No loss was measured or expected yet."
    reference = [(item.time, (item.data["performance"]["reference"] or {}).get("loss")) for item in checks]
    events = [
        (item.time, EVENTS.get(item.kind, "quarantine"))
        for item in records
        if item.time >= checks[0].time and (item.kind in EVENTS or item.data.get("action") == "quarantine")
    ]
    curves = {"labelled": measured, "expected without labels": expected, "when trained": reference}
    return line_chart(curves, events=events, y_label="loss")


def _value(seen: Mapping[str, Any] | None) -> float | None:
    return seen["loss"]["value"] if seen and seen["loss"] else None


def _performance(policy: Policy, seen: Mapping[str, Any]) -> list[Markup | str]:
    if seen["loss"] is None:
        few = seen["verdict"] == "too few labels"
        needed = f"; {policy.monitor.performance.min_labels:,} are needed" if few else ""
        return [f"{seen['verdict']}: {seen['rows']:,}{needed}."]
    rows: list[tuple[object, ...]] = [_mean("loss", seen["loss"])]
    if seen["wrong"]:
        rows.append(_mean("wrong decisions", seen["wrong"]))
        rows.append(("wrong with the label before as the prediction", seen["naive_wrong"], None, None))
    if seen["reference"]:
        rows.append(("loss when trained", seen["reference"]["loss"], None, None))
    parts: list[Markup | str] = [table(("", "mean", "95 % from", "to"), rows)]
    if seen["p_value"] is not None:
        parts.append(
            f"Against the loss when trained: {100 * seen['increase']:+.1f} %, one-sided p = {seen['p_value']:.3g} "
            f"from {seen['loss']['blocks']} blocks of {seen['rows']:,} rows."
        )
    return parts


def _cohort(seen: Mapping[str, Any] | None) -> list[Markup | str]:
    """Which rows were judged and how many of them had an outcome; records of older checks do not say."""
    if not seen or seen["start"] is None:
        return []
    stated = "stated in the policy" if seen["delays"] is None else "estimated from the log"
    rows = facts(
        {
            "predicted from": datetime.fromisoformat(seen["start"]),
            "predicted before": datetime.fromisoformat(seen["end"]),
            "verdict": seen["verdict"],
            "due after": f"{span(timedelta(seconds=seen['delay_seconds']))}, {stated}",
            "predictions": seen["predicted"],
            "with an outcome": seen["labelled"],
            "without one, taken as negative": seen["absent"],
            "of earlier rows, known since": seen["late"],
            "corrected after their verdict": seen["corrected"],
        }
    )
    covered = [
        (group, name, each["predicted"], each["labelled"], each["labelled"] / each["predicted"])
        for group, parts in seen["groups"].items()
        for name, each in parts.items()
        if each["predicted"]
    ]
    parts: list[Markup | str] = [rows]
    if covered:
        parts.append(table(("by", "", "predictions", "with an outcome", "share"), covered))
    if seen["delays"] and seen["delays"]["classes"]:
        delays = [
            (name or "all", each["rows"], each["share"], *(span(timedelta(seconds=each[key])) for key in QUANTILES))
            for name, each in seen["delays"]["classes"].items()
        ]
        parts.append(table(("class", "outcomes", "share of predictions", "half known after", "90 %", "95 %"), delays))
    return parts


def _estimate(seen: Mapping[str, Any] | None) -> list[Markup | str]:
    if seen is None:
        return ["There is no such estimate for a regression."]
    if seen["loss"] is None:
        return [f"{seen['verdict']}: {seen['rows']:,}."]
    how = "calibrated scores" if seen["calibrated"] else "scores taken as chances, for the bundle holds no calibration"
    rows = [_mean("loss", seen["loss"]), _mean("wrong decisions", seen["wrong"])]
    return [
        table(("", "mean", "95 % from", "to"), rows),
        f"From {how}. True only while the relation between inputs and outcome holds: it warns, it never acts alone.",
    ]


def _mean(name: str, mean: Mapping[str, Any]) -> tuple[str, float, float, float]:
    return name, mean["value"], mean["low"], mean["high"]


QUANTILES = ("median", "q90", "due")
COLUMNS = (
    "drifted",
    "q_value",
    "psi_debiased",
    "ks",
    "js",
    "null_rate",
    "reference_null_rate",
    "new_category_share",
    "out_of_range_share",
)
"""Of a feature's comparison, what the page shows."""


def _inputs(seen: Mapping[str, Any]) -> list[Markup | str]:
    detail = seen["detail"].get("features", {})
    if seen["verdict"] != "compared" or not detail:
        return [f"{seen['verdict']}: that says nothing about drift, neither way."]
    names = sorted(detail, key=lambda name: (not detail[name]["drifted"], -(detail[name].get("psi_debiased") or 0.0)))
    rows = [(name, *(detail[name].get(column) for column in COLUMNS)) for name in names[:MAX_FEATURES]]
    parts: list[Markup | str] = [table(("column", *(column.replace("_", " ") for column in COLUMNS)), rows)]
    if len(names) > MAX_FEATURES:
        parts.append(f"{len(names) - MAX_FEATURES:,} more are in the check's record.")
    return [*parts, *_drawn(seen)]


def _drawn(seen: Mapping[str, Any]) -> list[Markup | str]:
    """The drifted columns as small histograms, worst first; records of older checks have none."""
    drawn = seen.get("histograms")
    if not drawn:
        return []
    figures = [histogram_pair(*pair, caption=Markup("<b>{}</b>").format(name)) for name, pair in drawn.items()]
    return [
        f"Grey bars are {seen['against']}, the coloured outline is the window; shares of rows with a value.",
        small_multiples(figures),
    ]
