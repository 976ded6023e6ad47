"""The evaluate step: a bundle's id in, whether it passed its gates out. The work is in kedge/evaluation."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def evaluate(
    policy: dict[str, Any],
    store: str,
    run: str,
    fingerprint: str,
    bundle: str,
    metrics: dsl.Output[dsl.Metrics],
    curve: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> bool:
    """Score champion and challenger on the same newest rows and hold the difference against the policy's gates.

    One unnamed result: a named one makes the local runner skip the branch that asks for it.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        run: Name of the run, for the record; empty: the id of the pipeline's run.
        fingerprint: The snapshot the challenger was trained on; its newest rows were held out.
        bundle: The challenger's id.
        metrics: Losses, improvement, p-value; wrong decisions and ROC area (binary); RMSE, MAE, R² (regression).
        curve: ROC and confusion matrix (binary).
        report: Every gate with a sentence, slices, curves or errors.
    """
    from kedge.evaluation import step

    return step.evaluate(policy, store, run, fingerprint, bundle, metrics, curve, report)
