"""The score step: a table in, how many of its rows were scored out. The work is in kedge/scoring."""

from typing import Any

from kfp import dsl

from kedge.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def score(policy: dict[str, Any], store: str, registry: str, data: str, output: str, query: str) -> int:
    """Score a table by the champion of the records, and log its predictions.

    Args:
        policy: The policy as plain values.
        store: Root of the store.
        registry: Address of the MLflow server, whose aliases follow a promotion.
        data: The table: an address in object storage, a path on a volume, or sql:VARIABLE.
        output: A .parquet file, a Delta table's folder or prefix, or sql:VARIABLE/TABLE.
        query: For sql:VARIABLE, one SELECT; else empty.
    """
    from kedge.scoring import step

    return step.score(policy, store, registry, data, output, query)
