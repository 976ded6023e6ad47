"""What the pages of Kubeflow Pipelines show of a run."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import dsl
from sklearn.metrics import confusion_matrix, roc_auc_score

from kedge.data import step as ingest
from kedge.data import step as validate
from kedge.errors import DataError
from kedge.evaluation import step as evaluate
from kedge.policy import Model
from kedge.training import step as train
from tests.training import rows

RUN = "by-hand"


@pytest.fixture
def world(tmp_path, monkeypatch) -> SimpleNamespace:
    """A table, its policy and the artefacts of a run."""
    pq.write_table(rows.table(), tmp_path / "rows.parquet")
    policy = rows.policy(tmp_path / "rows.parquet").to_dict()

    def artefact(kind: type, name: str):
        return kind(name=name, uri=str(tmp_path / "artefacts" / name), metadata={})

    return SimpleNamespace(policy=policy, store=str(tmp_path / "store"), artefact=artefact, folder=tmp_path)


def test_a_run_shows_datasets_metrics_curves_and_pages(world) -> None:
    dataset, metrics, curve, page = (
        world.artefact(kind, kind.__name__) for kind in (dsl.Dataset, dsl.Metrics, dsl.ClassificationMetrics, dsl.HTML)
    )
    name = ingest.ingest(world.policy, world.store, RUN, rows.END.isoformat(), dataset)
    assert dataset.metadata["fingerprint"] == name
    assert json.loads(Path(dataset.path).read_text())["rows"] == dataset.metadata["rows"] > 0

    good = validate.validate(world.policy, world.store, name, dataset, page)
    assert "<html" in Path(page.path).read_text()

    bundle = train.train(world.policy, world.store, good, "", "", metrics, page)
    assert 0 < metrics.metadata["loss"] < metrics.metadata["constant_loss"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.metadata.values())
    assert "<html" in Path(page.path).read_text()

    figures = world.artefact(dsl.Metrics, "figures")
    passed = evaluate.evaluate(world.policy, world.store, RUN, good, bundle, figures, curve, page)
    assert passed
    assert all(math.isfinite(value) for value in figures.metadata.values())
    assert "<html" in Path(page.path).read_text()
    json.dumps(curve.metadata, allow_nan=False)  # an infinite threshold would be no JSON, and no curve would be drawn


def test_the_curve_and_the_confusion_are_those_of_scikit_learn(world) -> None:
    random = np.random.default_rng(3)
    label = (random.random(500) < 0.3).astype(np.float64)
    score = np.clip(0.3 * label + random.random(500), 0, 1)
    curve = world.artefact(dsl.ClassificationMetrics, "curve")
    costs = {"false_positive": 0.6, "false_negative": 0.4}  # a threshold of 0.6
    model = Model(name="m", target="y", costs=costs, features={"x": {"type": "number"}})
    evaluate._draw(curve, SimpleNamespace(label=label, challenger=SimpleNamespace(score=score)), model)

    points = curve.metadata["confidenceMetrics"]
    rates = [(each["falsePositiveRate"], each["recall"]) for each in points]
    assert rates[0] == (0, 0)
    assert rates[-1] == (1, 1)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(rates))
    assert area == pytest.approx(roc_auc_score(label, score), abs=0.01)

    matrix = curve.metadata["confusionMatrix"]
    assert [each["displayName"] for each in matrix["annotationSpecs"]] == ["negative", "positive"]
    assert [each["row"] for each in matrix["rows"]] == confusion_matrix(label, score >= 0.6).tolist()


def test_a_page_is_there_too_where_the_rows_did_not_pass(world) -> None:
    table = rows.table(600)
    at = table.schema.get_field_index("y")
    pq.write_table(table.set_column(at, "y", [[1] * 600]), world.folder / "rows.parquet")
    dataset, page = world.artefact(dsl.Dataset, "rows"), world.artefact(dsl.HTML, "page")
    name = ingest.ingest(world.policy, world.store, RUN, rows.END.isoformat(), dataset)
    with pytest.raises(DataError, match="one class"):
        validate.validate(world.policy, world.store, name, dataset, page)
    assert "one class" in Path(page.path).read_text()
