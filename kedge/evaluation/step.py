"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedge import bundle as bundles
from kedge import policy as policies
from kedge import steps
from kedge.evaluation import curves
from kedge.evaluation import evaluate as stage
from kedge.evaluation.evaluation import Evaluation
from kedge.evaluation.evaluation import metrics as numbers
from kedge.metrics import confusion
from kedge.policy import Model, Policy
from kedge.store import open_store, write_file


def evaluate(
    policy: dict[str, Any], store: str, run: str, fingerprint: str, bundle: str,
    metrics: Any, curve: Any, report: Any,
) -> bool:  # fmt: skip
    """Run the step; the last three are KFP artefacts. Raises what :func:`evaluate.run` raises."""
    parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)

    def judge() -> bool:
        steps.require_artifact(opened, f"{bundles.address(parsed.name, bundle)}/bundle.json", "train")
        found = stage.run(parsed, opened, run, fingerprint, bundle)
        _show(parsed, found, metrics, curve)
        write_file(Path(report.path), opened.get(stage.report_key(parsed.name, bundle)))
        verdicts.append(found.outcome if found.passed else f"{found.outcome}: {'; '.join(found.reasons)}")
        return found.passed

    verdicts: list[str] = []
    passed = steps.run_step(opened, parsed.name, "evaluate", judge, run=run)
    steps.say(verdicts[-1])
    return passed


def _show(policy: Policy, found: Evaluation, metrics: Any, curve: Any) -> None:
    """On the run's page in Kubeflow."""
    for name, value in numbers(policy, found).items():
        metrics.log_metric(name, value)
    if policy.model.class_names:
        _draw(curve, found, policy.model)


def _draw(curve: Any, found: Evaluation, model: Model) -> None:
    points = curves.roc(found.label, found.challenger.score) if model.task == "binary" else None
    if points is not None:
        curve.log_roc_curve(
            points.false_positive_rate.tolist(), points.true_positive_rate.tolist(), points.threshold.tolist()
        )
    counts = confusion(model, found.label, found.challenger.score)
    curve.log_confusion_matrix(list(model.class_names), counts.astype(int).tolist())
