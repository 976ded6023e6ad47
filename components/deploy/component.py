"""The deploy step: a registered bundle's id in, how its release ended out. The work is in kedge/rollout."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def deploy(
    policy: dict[str, Any],
    store: str,
    registry: str,
    platform: str,
    bundle: str,
    run: str,
    report: dsl.Output[dsl.HTML],
) -> str:
    """Release a bundle by canary, or go on with a release of it.

    One unnamed result: ``promoted``, ``rolled-back``, ``not-judged`` or ``refused``.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        registry: Address of the MLflow server.
        platform: Where the model is served: a local platform's folder, gateway:NAMESPACE or knative:NAMESPACE.
        bundle: The bundle's id.
        run: Name of the run, recorded with the release; empty: the id of the pipeline's run.
        report: The candidate's share and the evidence against it over time, and what each span counted.
    """
    from kedge.rollout import step

    return step.deploy(policy, store, registry, platform, bundle, run, report)
