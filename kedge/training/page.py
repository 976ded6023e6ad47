"""The bundle's own page: what was trained, on which rows, and how well it does on those it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from kedge import report
from kedge.policy import Policy

UNITS = {"binary": "mean log loss, nats", "regression": "mean squared error"}


def page(
    asked: Policy,
    estimator: str,
    metrics: Mapping[str, float],
    shares: Mapping[str, float],
    table: pa.Table,
    start: int,
) -> str:
    """HTML for people.

    Args:
        asked: The policy.
        estimator: The chosen one.
        metrics: As in the manifest.
        shares: Importance of each feature.
        table: All rows in time order.
        start: Index of the first row that was held out.
    """
    times, name = table.column("_time"), "loss_of_"
    rows = [[kind.removeprefix(name), value] for kind, value in metrics.items() if kind.startswith(name)]
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return report.page(
        f"{asked.name}: trained {estimator}",
        report.section(
            "Rows",
            report.facts(
                {
                    "trained on": start,
                    "from": times[0].as_py(),
                    "until": times[start - 1].as_py(),
                    "held out": table.num_rows - start,
                    "held out until": times[-1].as_py(),
                }
            ),
        ),
        report.section(
            "On the rows held out",
            report.table(["estimator", UNITS[asked.model.task]], [*rows, ["constant", metrics["constant_loss"]]]),
        ),
        report.section("Importance", report.table(["feature", "share"], ranked)),
        subtitle=asked.model.description,
    )
