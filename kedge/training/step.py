"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedge import bundle, clock, steps
from kedge import policy as policies
from kedge.store import open_store, write_file
from kedge.training import train as stage


def train(
    policy: dict[str, Any], store: str, fingerprint: str, change_point: str, champion_until: str,
    metrics: Any, report: Any,
) -> str:  # fmt: skip
    """Run the step; ``metrics`` and ``report`` are the KFP artefacts.

    Raises:
        UsageError: a time is none.
        DataError, StoreError: as :func:`train.run`.
    """
    parsed, opened = policies.parse(policy), open_store(store)

    def fit() -> str:
        steps.require_artifact(opened, f"snapshots/{parsed.name}/{fingerprint}/snapshot.json", "validate")
        made = stage.run(
            parsed,
            opened,
            fingerprint,
            change_point=clock.parse("change_point", change_point) if change_point else None,
            champion_until=clock.parse("champion_until", champion_until) if champion_until else None,
        )
        for name, value in made.manifest.metrics.items():
            metrics.log_metric(name, value)
        write_file(Path(report.path), opened.get(f"{made.address}/{bundle.folder.REPORT}"))
        return made.id

    return steps.run_step(opened, parsed.name, "train", fit)
