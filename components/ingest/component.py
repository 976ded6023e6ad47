"""The ingest step: a policy in, a snapshot's fingerprint out. The work is in kedge/data/ingest.py."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def ingest(policy: dict[str, Any], store: str, run: str, end: str, rows: dsl.Output[dsl.Dataset]) -> str:
    """Keep the training table's rows as they are now.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        run: Name of the run, for the record if the step fails; empty: the id of the pipeline's run.
        end: Point in time of the run, ISO 8601 with offset; empty: now.
        rows: The snapshot's manifest; the rows themselves lie in the store under the fingerprint returned.
    """
    from kedge.data import step

    return step.ingest(policy, store, run, end, rows)
