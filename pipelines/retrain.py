"""The retrain pipeline, as the sentence one would say."""

from typing import Any

from kfp import dsl

from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.notify.component import notify
from components.register.component import register
from components.rejected.component import rejected
from components.train.component import train
from components.validate.component import validate


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="retrain", description="Train on fresh rows; a challenger that passes its gates is registered."
)
def retrain(
    policy: dict[str, Any],
    store: str,
    registry: str,
    run: str = "",
    end: str = "",
    change_point: str = "",
    champion_until: str = "",
) -> None:
    """Train on the rows up to ``end``; a challenger that passes its gates is registered, else the run fails in
    ``rejected``.

    Args:
        policy: The whole policy.
        store: Root of the store: a folder, or s3://, gs:// or abfss://...
        registry: Address of the MLflow server.
        run: Name of the run, under which it leaves its records; empty: the id that Kubeflow Pipelines gives it.
        end: Point in time of the run, ISO 8601 with offset; empty: now.
        change_point: Since when the relation is another one, ISO 8601 with offset; empty: not known.
        champion_until: Newest row the champion was trained on, ISO 8601 with offset; empty: not known, or no champion.
    """
    told = notify(policy=policy, store=store, run=run, registry=registry)
    with dsl.ExitHandler(told, name="retrain"):
        rows = ingest(policy=policy, store=store, run=run, end=end)
        good = validate(policy=policy, store=store, fingerprint=rows.outputs["Output"])
        fit = train(
            policy=policy, store=store, fingerprint=good.outputs["Output"],
            change_point=change_point, champion_until=champion_until,
        )  # fmt: skip
        gate = evaluate(
            policy=policy, store=store, run=run, fingerprint=good.outputs["Output"], bundle=fit.outputs["Output"]
        )
        with dsl.If(gate.outputs["Output"] == True, name="gates passed"):  # noqa: E712
            register(policy=policy, store=store, registry=registry, run=run, bundle=fit.outputs["Output"])
        with dsl.If(gate.outputs["Output"] == False, name="gates not passed"):  # noqa: E712
            rejected(policy=policy, store=store, run=run)
