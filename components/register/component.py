"""The register step: a bundle's id in, its version out. The work is in kedge/registry."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def register(policy: dict[str, Any], store: str, registry: str, run: str, bundle: str) -> str:
    """Register a bundle that passed its gates as the challenger, with its lineage.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        registry: Address of the MLflow server.
        run: Name of the run, recorded with the version; empty: the id of the pipeline's run.
        bundle: The bundle's id.
    """
    from kedge.registry import step

    return step.register(policy, store, registry, run, bundle)
