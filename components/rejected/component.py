"""The rejected step: fails with the reason, where the candidate did not pass. The work is in kedge/notify."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def rejected(policy: dict[str, Any], store: str, run: str) -> None:
    """Fail with the reason as the last line: Kubeflow's list of runs knows two ends, and nothing else of them.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        run: Name of the run; empty: the id of the pipeline's run.
    """
    from kedge.notify import step

    step.rejected(policy, store, run)
