"""A bundle loads as MLflow's users know it."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from kedge import bundle
from kedge.bundle import mlmodel
from kedge.bundle.signature import Input, Signature
from kedge.errors import BundleError
from kedge.records import ModelState
from kedge.registry import Registry
from kedge.store import open_store
from tests.bundle import models
from tests.records.made import record
from tests.training import test_own_features as own

START = datetime(2026, 3, 2, tzinfo=UTC)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow warns of its own type hints when imported


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("kind", ["xgboost", "sklearn"])
def test_mlflow_gives_the_golden_rows_back_with_difference_zero(tmp_path, kind, task):
    import mlflow.pyfunc

    made = models.written(tmp_path / "made", kind=kind, task=task)
    model = mlflow.pyfunc.load_model(str(made.folder))
    frame = made.golden.drop_columns(["_score"]).to_pandas()
    assert model.predict(frame).tolist() == made.golden["_score"].to_pylist()


@pytest.mark.usefixtures("tracking")
def test_it_has_a_signature_and_an_input_example_that_it_can_predict(tmp_path):
    import mlflow.pyfunc

    made = models.written(tmp_path / "made")
    model = mlflow.pyfunc.load_model(str(made.folder))
    assert model.metadata.get_input_schema().input_names() == list(made.signature.names)
    shown = model.input_example
    assert list(shown.columns) == list(made.signature.names)
    assert model.predict(shown).tolist() == made.golden["_score"].to_pylist()[:5]


@pytest.mark.usefixtures("tracking")
def test_a_frame_without_a_feature_is_refused_by_its_name(tmp_path):
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    made = models.written(tmp_path / "made")
    frame = made.golden.drop_columns(["_score", "amount"]).to_pandas()
    with pytest.raises(MlflowException, match="amount"):
        mlflow.pyfunc.load_model(str(made.folder)).predict(frame)


@pytest.mark.usefixtures("tracking")
def test_an_altered_bundle_is_not_loaded(tmp_path):
    import mlflow.pyfunc

    made = models.written(tmp_path / "made")
    (made.folder / "model.ubj").write_bytes(b"another")
    with pytest.raises(BundleError, match="altered"):
        mlflow.pyfunc.load_model(str(made.folder))


def test_the_champion_loads_from_the_registry_by_its_alias(tmp_path, registry_uri, monkeypatch):
    import mlflow.pyfunc

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_uri)
    made, store = models.written(tmp_path / "made"), open_store(str(tmp_path / "store"))
    bundle.publish(store, made)
    registry = Registry(registry_uri)
    registry.register("payments", made.id, store.uri(made.address), {})
    promoted = [record(kind, f"{made.id}-1", START) for kind in ("registered", "promoted")]
    registry.publish("payments", ModelState.of(promoted))
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry_uri)  # set_registry_uri() outlives the test, in the environment
    model = mlflow.pyfunc.load_model("models:/payments@champion")
    assert model.predict(made.golden.drop_columns(["_score"]).to_pandas()).tolist() == made.golden["_score"].to_pylist()


@pytest.mark.usefixtures("tracking")
def test_own_feature_code_runs_in_it_as_in_a_slot(tmp_path, monkeypatch):
    import mlflow.pyfunc

    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")
    made, _ = own.trained(open_store(tmp_path / "store"), tmp_path, own.asked(own.written(tmp_path)))
    model = mlflow.pyfunc.load_model(str(made.folder))
    frame = made.golden.drop_columns(["_score"]).to_pandas()
    assert model.predict(frame).tolist() == made.golden["_score"].to_pylist()
    assert model.metadata.get_input_schema().input_names() == list(made.signature.names)
    assert model.predict(model.input_example).tolist() == made.golden["_score"].to_pylist()[:5]


def test_whole_numbers_and_booleans_are_printed_as_such():
    inputs = (Input(name="n", type="integer"), Input(name="x", type="number"), Input(name="b", type="boolean"))
    rows = pa.table({"n": [35.0, float("nan")], "x": [1.0, 2.5], "b": [0.0, None]})
    assert mlmodel.example(Signature(inputs), rows).endswith(b"[[35, 1.0, false], [null, 2.5, null]]}")
