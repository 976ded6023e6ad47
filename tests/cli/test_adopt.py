"""``kedge adopt``, against an API server that behaves, and what the monitor then does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from kedge import policy as policies
from kedge import records
from kedge.cli import build
from kedge.errors import NothingServed, UsageError, UserError
from kedge.monitoring import run as monitor
from kedge.records import Checked
from kedge.scaffold import adopt
from kedge.store import Store
from kedge.tables import appending
from tests.monitoring.world import DAY, START, rows
from tests.rollout.fake_kubernetes import BUNDLE, FakeCluster, over_http
from tests.web import kubeconfig

COLLECTOR = "http://kedge.ml:8080"
FEATURES = ("amount:number", "age:integer", "card:boolean", "land:category")


def service(**predictor) -> dict:
    return {
        "apiVersion": adopt.API,
        "kind": "InferenceService",
        "metadata": {"name": "fraud", "annotations": {BUNDLE: ""}},
        "spec": {"predictor": {"minReplicas": 2, **predictor}},
    }


SKLEARN = {"model": {"modelFormat": {"name": "sklearn"}, "runtime": "kserve-sklearn", "storageUri": "s3://m/fraud"}}


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.put("inferenceservices", service(**SKLEARN))
    return made


@pytest.fixture
def kedge(cluster, tmp_path, monkeypatch) -> Iterator:
    """The command, in an empty folder, with the time at ``START``."""
    (tmp_path / "clock").write_text(START.isoformat())
    monkeypatch.setenv("KEDGE_CLOCK", str(tmp_path / "clock"))
    monkeypatch.setenv("KEDGE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str):
        given = ["adopt", "fraud", "-n", "models", "--collector", COLLECTOR, *words]
        return CliRunner().invoke(build(["adopt"]), given)

    with over_http(cluster) as address:
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "kubeconfig", address))
        yield run


def by_feature(*words: str) -> list[str]:
    return [word for each in FEATURES for word in ("--feature", each)] + list(words)


def answered(store: Store, day: int, *, shift: float = 0.0, wrong: float = 0.2, count: int = 600) -> None:
    """A day of a server's answers and their outcomes, as the collector logs those of KServe's logger."""
    policy = policies.load(Path("fraud.yaml"))
    table = rows(count, START + day * DAY, day)
    label = table["fraud"].to_numpy().astype(float)
    turned = pa.array([(1 - y if k % 100 < 100 * wrong else y) for k, y in enumerate(label)])
    score = [0.9 if y else 0.1 for y in turned.to_pylist()]
    ids = [f"{day}-{k}" for k in range(count)]
    logged = pa.table(
        {
            "_id": ids, "_time": table["at"], "_version": pa.array([""] * count), "_score": score,
            "_prediction": turned, "amount": pa.array(table["amount"].to_numpy() + shift),
            "age": table["age"].cast(pa.float64()), "card": table["card"].cast(pa.float64()), "land": table["land"],
        }
    )  # fmt: skip
    appending.append(store, policy, "predictions", logged, writer="test", sequence=day)
    labels = pa.table({"_id": ids, "_label": label, "_observed": table["at"]})
    appending.append(store, policy, "labels", labels, writer="test", sequence=day)


def checked(store: Store, day: int) -> Checked:
    """The check of the day that ends then."""
    return monitor.run(policies.load(Path("fraud.yaml")), store, now=START + day * DAY).record.data


def test_tells_what_serves_and_prints_a_patch_that_touches_nothing_else(kedge, cluster) -> None:
    done = kedge(*by_feature())
    assert done.exit_code == 0, done.output
    assert "InferenceService models/fraud: ready" in done.output
    assert "serves    sklearn by kserve-sklearn" in done.output
    assert "requests  not logged" in done.output
    _, _, manifest = done.output.partition("<<EOF\n")
    body = yaml.safe_load(manifest.partition("EOF")[0])
    assert body["spec"] == {"predictor": {"logger": {"mode": "all", "url": COLLECTOR}}}
    assert cluster.history == []


def test_apply_adds_the_logger_and_leaves_the_model_as_it_is(kedge, cluster) -> None:
    done = kedge(*by_feature("--apply"))
    assert done.exit_code == 0, done.output
    predictor = cluster.objects["inferenceservices", "fraud"]["spec"]["predictor"]
    assert predictor == {"minReplicas": 2, **SKLEARN, "logger": {"mode": "all", "url": COLLECTOR}}
    assert cluster.history == [("PATCH", "inferenceservices", "fraud")]
    again = kedge("--apply")
    assert f"logged to {COLLECTOR} already" in again.output
    assert len(cluster.history) == 1


def test_another_logger_is_not_taken_away(kedge, cluster, tmp_path) -> None:
    cluster.put("inferenceservices", service(**SKLEARN, logger={"mode": "all", "url": "http://audit"}))
    done = kedge(*by_feature("--apply"))
    assert isinstance(done.exception, UsageError)
    assert "logged to http://audit already" in str(done.exception)
    assert not (tmp_path / "fraud.yaml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing says what the model's inputs are"),
        (("--feature", "amount"), "write NAME:TYPE, of the types number"),
        (("--feature", "amount:text"), "write NAME:TYPE, of the types number"),
        (("--reference", "nowhere.csv"), "nowhere.csv: no such file or folder"),
    ],
)
def test_what_cannot_be_known_is_asked_for(kedge, tmp_path, words, said: str) -> None:
    done = kedge(*words)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
    assert not (tmp_path / "fraud.yaml").exists()


def test_a_model_whose_name_yaml_takes_for_true_is_called_so() -> None:
    assert policies.read(adopt.policy_of_features("on", ["x:number"], None, "binary"), "on.yaml").name == "on"


def test_a_service_that_is_not_there_is_said(kedge, cluster) -> None:
    cluster.objects.clear()
    done = kedge(*by_feature())
    assert "InferenceService models/fraud: there is none" in str(done.exception)


def test_the_policy_asks_for_no_retraining_and_says_so(kedge) -> None:
    kedge(*by_feature())
    asked = policies.load(Path("fraud.yaml"))
    triggers = asked.monitor.triggers
    assert (triggers.labelled_error, triggers.drift_and_estimate) == (False, False)
    assert (triggers.max_age_seconds, triggers.new_labels) == (None, None)
    assert list(asked.model.features) == [each.partition(":")[0] for each in FEATURES]


def test_a_check_before_the_first_request_says_what_is_missing_and_fails_nothing(kedge, store) -> None:
    kedge(*by_feature("--reference-rows", "700"))
    with pytest.raises(NothingServed, match="none of the 700 requests of its reference was logged"):
        checked(store, 1)


def test_the_first_requests_are_the_reference_and_nothing_goes_beyond_a_warning(kedge, store) -> None:
    done = kedge(*by_feature("--reference-rows", "700"))
    assert "reference: the first 700 requests" in done.output
    answered(store, 0)
    first = checked(store, 1)
    assert first.verdict == "the reference is not complete: 600 of 700 requests"
    assert first.action == "none"
    answered(store, 1)
    quiet = checked(store, 2)
    assert (quiet.verdict, quiet.action) == ("quiet", "none")
    assert quiet.performance.reference.rows == 1200
    seen = []
    for day in (2, 3, 4):
        answered(store, day, shift=400.0, wrong=0.6)
        seen.append(checked(store, day + 1))
    assert [each.action for each in seen] == ["warn"] * 3
    assert "amount" in seen[0].inputs.drifted
    assert seen[2].performance.worse
    assert "the policy does not retrain on it" in " ".join(seen[2].reasons)
    assert {item.kind for item in records.read(store, "fraud")} == {"adopted", "check"}


def test_a_table_is_the_reference_from_the_first_check_on(kedge, store, tmp_path) -> None:
    pq.write_table(rows(2000, START - 10 * DAY, 7).drop_columns(["secret"]), tmp_path / "train.parquet")
    done = kedge("--reference", "train.parquet", "--target", "fraud")
    assert done.exit_code == 0, done.output
    assert "reference: train.parquet" in done.output
    answered(store, 0)
    assert checked(store, 1).verdict == "quiet"
    answered(store, 1, shift=400.0)
    drifted = checked(store, 2)
    assert (drifted.verdict, drifted.action) == ("inputs drifted", "warn")


def test_adopting_again_keeps_policy_reference_and_record(kedge, store, tmp_path) -> None:
    kedge(*by_feature("--reference-rows", "700"))
    text = (tmp_path / "fraud.yaml").read_text()
    (tmp_path / "clock").write_text((START + timedelta(days=3)).isoformat())
    done = kedge(*by_feature("--reference-rows", "900"))
    assert done.exit_code == 0
    assert "reference: the first 700 requests" in done.output
    assert (tmp_path / "fraud.yaml").read_text() == text
    assert len(records.read(store, "fraud", records.Adopted)) == 1


@pytest.mark.parametrize(
    ("predictor", "serves"),
    [
        ({"xgboost": {"storageUri": "s3://m/x"}}, "xgboost"),
        ({"containers": [{"name": "kserve-container", "image": "mine:1"}]}, "mine:1"),
        ({"model": {"modelFormat": {"name": "onnx"}, "storageUri": "pvc://m"}}, "onnx"),
    ],
)
def test_any_runtime_is_told(predictor, serves: str) -> None:
    body = service(**predictor)
    body["metadata"]["namespace"] = "models"
    assert adopt.found(body).serves == serves
