"""The train step: a snapshot's fingerprint in, a bundle's id out. The work is in kedge/training."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def train(
    policy: dict[str, Any],
    store: str,
    fingerprint: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Fit the policy's estimators on older rows and keep the better one as a bundle in the store.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        fingerprint: The snapshot to train on.
        metrics: Losses on the rows held out, of the model and of its alternatives.
        report: What was trained on which rows.
    """
    from kedge.training import step

    return step.train(policy, store, fingerprint, metrics, report)
