"""The train step: a snapshot's fingerprint in, a bundle's id out. The work is in kedge/training."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def train(
    policy: dict[str, Any],
    store: str,
    fingerprint: str,
    change_point: str,
    champion_until: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Fit the policy's recipe on several windows of the rows and keep it as a bundle in the store.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        fingerprint: The snapshot to train on.
        change_point: Since when the relation is another one, ISO 8601 with offset; empty: not known.
        champion_until: Newest row the champion was trained on, ISO 8601 with offset; empty: not known, or no champion.
        metrics: Losses on the rows held out, of the model and of its alternatives.
        report: What was trained on which rows.
    """
    from kedge.training import step

    return step.train(policy, store, fingerprint, change_point, champion_until, metrics, report)
