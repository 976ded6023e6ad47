"""The release pipeline: one coarse step that can be resumed."""

from typing import Any

from kfp import dsl

from components.deploy.component import deploy
from components.notify.component import notify
from components.rejected.component import rejected


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="release", description="Bring a registered bundle to traffic by canary, or roll it back."
)
def release(policy: dict[str, Any], store: str, registry: str, platform: str, bundle: str, run: str = "") -> None:
    """Bring a registered bundle to traffic by canary, or roll it back; a run without a promotion fails in ``rejected``.

    Args:
        policy: The whole policy.
        store: Root of the store: a folder, or s3://, gs:// or abfss://...
        registry: Address of the MLflow server.
        platform: Where slots and route are declared: a local platform's folder, gateway:NAMESPACE or knative:NAMESPACE.
        bundle: The bundle's id.
        run: Name of the run, under which it leaves its records; empty: the id that Kubeflow Pipelines gives it.
    """
    told = notify(policy=policy, store=store, run=run)
    with dsl.ExitHandler(told, name="release"):
        ended = deploy(policy=policy, store=store, registry=registry, platform=platform, bundle=bundle, run=run)
        with dsl.If(ended.outputs["Output"] != "promoted", name="not promoted"):
            rejected(policy=policy, store=store, run=run)
