"""The bundle's own page: what was trained, on which rows, and how well it does on those it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from kedge import report
from kedge.bundle import Fits
from kedge.measure import unit
from kedge.policy import Policy
from kedge.training.search import Found


def page(
    policy: Policy,
    estimator: str,
    metrics: Mapping[str, float],
    shares: Mapping[str, float],
    fits: Fits,
    table: pa.Table,
    derived: Mapping[str, float] | None = None,
    found: Found | None = None,
) -> str:
    """HTML for people.

    Args:
        policy: The policy.
        estimator: The chosen one.
        metrics: As in the manifest.
        shares: Importance of each feature.
        fits: Which rows both fits read.
        table: All rows in time order.
        derived: Importance of each column that the team's code makes of the features.
        found: What a search for the recipe came to.
    """
    assert fits.holdout is not None
    assert fits.agreement is not None
    times, start, name = table.column("_time"), table.num_rows - fits.holdout.rows, "loss_of_"
    rows = [[kind.removeprefix(name), value] for kind, value in metrics.items() if kind.startswith(name)]
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    members = [[window.name, window.rows, window.weight] for window in fits.windows]
    return report.page(
        f"{policy.name}: trained {estimator}",
        report.section(
            "Rows",
            "The judged fit read none of the rows held out; all figures are of it. The served fit is the same recipe "
            "through the newest row.",
            report.facts(
                {
                    "judged fit trained on": start,
                    "from": times[0].as_py(),
                    "until": times[start - 1].as_py(),
                    "held out": fits.holdout.rows,
                    "served fit trained on": table.num_rows,
                    "served fit until": fits.trained_until,
                    "change point": fits.change_point or "not known",
                    "mean difference of both fits on the rows held out": fits.agreement.difference,
                    "at most": fits.agreement.bound,
                }
            ),
        ),
        *_search(found),
        report.section("Members", report.table(["window", "rows", "weight"], members)),
        report.section(
            "On the rows held out",
            report.table(["estimator", unit(policy.model.objective)], [*rows, ["constant", metrics["constant_loss"]]]),
        ),
        report.section("Importance in the served fit", report.table(["feature", "share"], ranked)),
        *([_derived(policy, derived)] if derived else []),
        subtitle=policy.model.description,
    )


def _derived(policy: Policy, shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    rows = [
        [name, "a feature as it is" if name in policy.model.features else "derived", share] for name, share in ranked
    ]
    return report.section(
        "Derived columns",
        f"What {policy.features.transform} makes of the features, and the model sees.",
        report.table(["column", "", "share of importance"], rows),
    )


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
