"""The notify step: the last of every run, whatever became of the others. The work is in kedge/notify."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def notify(policy: dict[str, Any], store: str, run: str, card: dsl.Output[dsl.Markdown], registry: str = "") -> str:
    """Record how the run ended if no step did, and tell those the policy names.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        run: Name of the run; empty: the id of the pipeline's run.
        card: The verdict, with the gates and figures of the challenger.
        registry: Address of the MLflow server that lists the training as a run; empty: none does.
    """
    from kedge.notify import step

    return step.notify(policy, store, run, card, registry)
