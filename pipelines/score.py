"""The score pipeline: one step."""

from typing import Any

from kfp import dsl

from components.score.component import score as score_table


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="score", description="Score a table by the champion, and log its predictions."
)
def score(policy: dict[str, Any], store: str, registry: str, data: str, output: str, query: str = "") -> None:
    """Score a table by the champion, and log its predictions.

    Args:
        policy: The whole policy.
        store: Root of the store: a folder, or s3://, gs:// or abfss://...
        registry: Address of the MLflow server.
        data: The table: an address in object storage, a path on a volume, or sql:VARIABLE.
        output: A .parquet file, a Delta table's folder or prefix, or sql:VARIABLE/TABLE.
        query: For sql:VARIABLE, one SELECT; else empty.
    """
    score_table(policy=policy, store=store, registry=registry, data=data, output=output, query=query)
