"""The validate step: a snapshot's fingerprint in, that of its good rows out. The work is in kedge/data/validate.py."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def validate(
    policy: dict[str, Any],
    store: str,
    fingerprint: str,
    rows: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Leave invalid rows out up to the share the policy allows; above it the step fails.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        fingerprint: The snapshot to look at.
        rows: The manifest of the snapshot returned.
        report: What was wrong with which row; written whether or not the rows pass.
    """
    from kedge.data import step

    return step.validate(policy, store, fingerprint, rows, report)
