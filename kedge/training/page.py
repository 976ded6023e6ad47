"""The bundle's own page: what was trained, on which rows, how well it does on unseen ones, and by what."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from kedge import report
from kedge.bundle import Fits, Predictor
from kedge.errors import NotExplainable
from kedge.measure import strided, unit
from kedge.training.challenger import Challenger
from kedge.training.permutation import sentence
from kedge.training.search import Found

MAX_EXPLAINED = 200
"""Rows held out of which the contributions are averaged: those of trees cost a thousand times a score."""


def page(challenger: Challenger, served: Predictor, metrics: Mapping[str, float], fits: Fits, table: pa.Table) -> str:
    """HTML for people.

    Args:
        challenger: What was trained.
        served: Its served fit, as the bundle keeps it.
        metrics: As in the manifest.
        fits: Which rows both fits read.
        table: All rows in time order.
    """
    assert fits.holdout is not None
    assert fits.agreement is not None
    policy = challenger.policy
    times, end, name = table.column("_time"), challenger.judged_end, "loss_of_"
    tried = {kind.removeprefix(name): loss for kind, loss in metrics.items() if kind.startswith(name)}
    rows: list[list[object]] = [[kind, metrics.get(f"selection_loss_of_{kind}"), loss] for kind, loss in tried.items()]
    members = [[window.name, window.rows, window.weight] for window in fits.windows]
    return report.page(
        f"{policy.name}: trained {challenger.estimator}",
        report.section(
            "Rows",
            "The judged fit read none of the rows held out; all figures are of it. The served fit is the same recipe "
            "through the newest row.",
            report.facts(
                {
                    "judged fit trained on": end,
                    "from": times[0].as_py(),
                    "until": times[end - 1].as_py(),
                    "held out": fits.holdout.rows,
                    "served fit trained on": table.num_rows,
                    "served fit until": fits.trained_until,
                    "change point": fits.change_point or "not known",
                    "mean difference of both fits on the rows held out": fits.agreement.difference,
                    "allowed difference": fits.agreement.bound,
                }
            ),
        ),
        *_search(challenger.found),
        report.section("Members", report.table(["window", "rows", "weight"], members)),
        report.section(
            f"Estimators, by {unit(policy.model.objective)}",
            "One was chosen on rows before those held out, which only measure.",
            report.table(
                ["estimator", "where it was chosen", "held out"], [*rows, ["constant", None, metrics["constant_loss"]]]
            ),
        ),
        _features(challenger),
        _columns(challenger, served),
        subtitle=policy.model.description,
    )


def _features(challenger: Challenger) -> Markup:
    """What each feature adds, the most first."""
    found = challenger.permutation
    rows = [
        [name, each.value, each.low, each.high, "" if each.shown else "adds nothing that shows"]
        for name, each in sorted(found.features.items(), key=lambda item: -item[1].value)
    ]
    return report.section(
        "What each feature adds",
        f"How much worse the judged fit does by {found.metric} on {found.rows:,} rows held out while the values of one "
        f"feature are shuffled among them, {found.repeats} times, with 95 % intervals. Of two features that say the "
        "same each adds little, because the other is still there; and of twenty that add nothing one may seem to add.",
        f"In short: {sentence(found)}.",
        report.table(["feature", f"{found.metric} worse by", "from", "to", ""], rows),
    )


def _columns(challenger: Challenger, served: Predictor) -> Markup:
    """How much the served fit makes of each column that it sees."""
    policy, sizes = challenger.policy, _contributions(challenger, served)
    rows = [
        [name, "" if name in policy.model.features else "derived", share, sizes.get(name)]
        for name, share in sorted(challenger.column_importance.items(), key=lambda item: -item[1])
    ]
    by = f", which {policy.features.transform} makes of the features" if policy.features.transform else ""
    said = (
        f"The contribution of a column to the raw score of a row (log-odds; of a count its logarithm; or the value) is "
        f"its SHAP value, of a linear model its exact term; the mean of its size is over {MAX_EXPLAINED} rows held out "
        "at most. A slot gives those of a row at :explain."
        if sizes
        else f"A model of {challenger.estimator} cannot say what each column adds to a row's score."
    )
    return report.section(
        "Columns of the served fit",
        f"Importance is what the estimator itself says of the columns{by}. {said}",
        report.table(["column", "", "share of importance", "mean size of contribution"], rows),
    )


def _contributions(challenger: Challenger, served: Predictor) -> dict[str, float]:
    """Mean size of what each column adds to the raw score, over rows and classes; empty where the model cannot say."""
    held_out = challenger.fits.rows.matrix[challenger.holdout_start :]
    try:
        parts = served.contributions(held_out[strided(len(held_out), MAX_EXPLAINED)])
    except NotExplainable:
        return {}
    sizes = np.abs(parts).reshape(-1, parts.shape[-1]).mean(axis=0)
    return dict(zip(challenger.signature.model.names, sizes[:-1].tolist(), strict=True))


def _search(found: Found | None) -> list[str]:
    """The trials of a search, the best first."""
    if found is None:
        return []
    ranked = sorted(found.trials, key=lambda each: (each.loss is None, each.loss or 0.0))
    rows = [
        [str(each.recipe), "the policy's own" if each.own else "", "given up" if each.loss is None else each.loss]
        for each in ranked
    ]
    return [report.section("Search", found.why, report.table(["recipe", "", "mean over the folds"], rows))]
