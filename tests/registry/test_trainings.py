"""Each training is a run of MLflow, and none is lost by an MLflow that was away."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from kedge import bundle, records
from kedge.errors import RegistryError
from kedge.notify import step
from kedge.registry import Registry, register, trainings
from kedge.submission.commit import policy_commit
from tests.bundle import models
from tests.records.made import HOUR, record
from tests.registry.test_registry import NOW

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POLICY = models.payments_policy()


@pytest.fixture
def uri(registry_uri) -> str:
    return registry_uri


def trained(store, folder, key="k", *, state="rejected", metrics=None, **data):
    """The records of a training that ended, but for how it ended if it passed."""
    run = f"retrain-payments-{key}"
    begun = {"pipeline": "retrain", "reason": "loss rose", "commit": COMMIT}
    records.append(store, record("run-started", run, NOW, model="payments", run=run, **begun))
    if state != "failed":
        made = models.written(folder / f"made-{key}", metrics={"loss": 0.25, "rows": 300})
        bundle.publish(store, made)
        page = f"reports/payments/evaluate-{made.id}.html"
        store.put(page, b"<p>judged</p>")
        said = {"bundle": made.id, "passed": state == "succeeded", "reasons": ["loss too high"], "run": run,
                "gates": [{"name": "constant", "passed": True, "sentence": "..."}], "report": page,
                "metrics": {"loss": 0.5, "f1": 0.75, "recall_at_precision@0.9": 0.4, **(metrics or {})}}  # fmt: skip
        records.append(store, record("evaluated", f"{made.id}-{run}", NOW, model="payments", **said))
        data["bundle"] = made.id
    if state != "succeeded":
        ended = record("run-finished", run, NOW + HOUR, model="payments", run=run, state=state, **data)
        records.append(store, ended)
    return run, data.get("bundle")


def told(folder, store, uri, run, capsys=None):
    state = step.notify(POLICY.to_dict(), store.url, run, SimpleNamespace(path=str(folder / "card.md")), uri)
    return state, capsys.readouterr().out if capsys else ""


def runs(uri, model="payments"):
    """What MLflow's users see in the experiment of the model."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(model)
    return client, [] if experiment is None else client.search_runs([experiment.experiment_id])


def test_a_training_that_passed_is_a_run_to_which_its_version_leads(tmp_path, store, uri) -> None:
    run, made = trained(store, tmp_path, state="succeeded")
    version = register.run(POLICY, store, Registry(uri), run, made)
    client, (found,) = runs(uri)
    assert client.get_model_version("payments", version).run_id == found.info.run_id
    assert (found.info.run_name, found.info.status) == (run, "FINISHED")
    assert found.data.metrics.items() >= {"loss": 0.5, "f1": 0.75, "recall_at_precision_0.9": 0.4}.items()
    assert found.data.metrics["holdout/loss"] == 0.25
    assert found.data.params.items() >= {"estimator": "xgboost", "train.seed": "0", "task": "binary"}.items()
    manifest = bundle.fetch(store, "payments", made, tmp_path / "cache").manifest
    assert found.data.tags.items() >= {
        "kedge.outcome": "succeeded", "kedge.bundle": made, "kedge.snapshot": "0" * 40, "kedge.why": "loss rose",
        "kedge.commit": "c0ffee", "kedge.policy_commit": COMMIT, "mlflow.source.git.commit": COMMIT,
    }.items()  # fmt: skip
    (used,) = found.inputs.dataset_inputs
    assert json.loads(used.dataset.source)["uri"] == store.uri(f"snapshots/payments/{'0' * 40}")
    names = [column["name"] for column in json.loads(used.dataset.schema)["mlflow_colspec"]]
    assert names == list(manifest.signature.names)
    assert [each.path for each in client.list_artifacts(found.info.run_id)] == ["evaluation.html", "training.html"]
    (version,) = Registry(uri).versions("payments")
    assert version.tags["kedge.policy_commit"] == COMMIT


def test_a_training_that_was_rejected_is_a_run_too(tmp_path, store, uri) -> None:
    run, _ = trained(store, tmp_path, reason="loss too high")
    assert told(tmp_path, store, uri, run)[0] == "rejected"
    _, (found,) = runs(uri)
    assert (found.data.tags["kedge.outcome"], found.data.tags["kedge.reason"]) == ("rejected", "loss too high")
    assert found.info.status == "FINISHED"
    assert found.info.end_time - found.info.start_time == HOUR.total_seconds() * 1000


def test_one_that_failed_is_a_failed_run_with_its_reason(tmp_path, store, uri) -> None:
    run, _ = trained(store, tmp_path, state="failed", reason="no rows", exit_code=2)
    told(tmp_path, store, uri, run)
    _, (found,) = runs(uri)
    assert (found.info.status, found.data.tags["kedge.reason"]) == ("FAILED", "no rows")
    assert found.data.params["train.seed"] == "0"


def test_telling_twice_makes_one_run_and_one_line(tmp_path, store, uri, capsys) -> None:
    run, _ = trained(store, tmp_path)
    _, said = told(tmp_path, store, uri, run, capsys)
    assert "mlflow: 1 training logged" in said
    _, said = told(tmp_path, store, uri, run, capsys)
    assert "mlflow" not in said
    assert len(runs(uri)[1]) == 1


def test_an_mlflow_that_is_away_loses_no_training_and_ends_none(tmp_path, store, uri, capsys) -> None:
    first, _ = trained(store, tmp_path, "1")
    (tmp_path / "mlflow.db").write_text("not a database")
    state, said = told(tmp_path, store, uri, first, capsys)
    assert state == "rejected"
    assert "mlflow: this training is not logged yet, the next one logs it too: registry sqlite" in said
    (tmp_path / "mlflow.db").unlink()
    second, _ = trained(store, tmp_path, "2", state="failed", reason="killed")
    state, said = told(tmp_path, store, uri, second, capsys)
    assert (state, "mlflow: 2 trainings logged" in said) == ("failed", True)
    assert {each.info.run_name for each in runs(uri)[1]} == {first, second}


def test_a_run_that_mlflow_lost_half_of_is_completed(tmp_path, store, uri, monkeypatch) -> None:
    run, _ = trained(store, tmp_path)
    registry = Registry(uri)
    registry.runs("payments")  # opens the client
    with monkeypatch.context() as away:
        away.setattr(registry._client, "log_inputs", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
        with pytest.raises(RegistryError, match=f"cannot log the training {run} of payments"):
            trainings.bring_after(POLICY, store, registry)
    assert runs(uri)[1][0].info.status == "RUNNING"
    assert trainings.bring_after(POLICY, store, registry) == 1
    _, (found,) = runs(uri)
    assert (found.info.status, len(found.inputs.dataset_inputs)) == ("FINISHED", 1)


def test_pages_that_mlflow_does_not_take_cost_no_run(tmp_path, store, uri, monkeypatch) -> None:
    trained(store, tmp_path)
    registry = Registry(uri)
    registry.runs("payments")
    monkeypatch.setattr(registry._client, "log_text", lambda *_: (_ for _ in ()).throw(OSError("no bucket")))
    assert trainings.bring_after(POLICY, store, registry) == 1
    assert runs(uri)[1][0].info.status == "FINISHED"


def test_releases_are_no_trainings(tmp_path, store, uri) -> None:
    name = "release-payments-1"
    begun = record("run-started", name, NOW, model="payments", run=name, pipeline="release", bundle="1" * 40)
    ended = record("run-finished", name, NOW, model="payments", run=name, state="succeeded", outcome="promoted")
    for each in (begun, ended):
        records.append(store, each)
    assert trainings.bring_after(POLICY, store, Registry(uri)) == 0


def test_a_training_whose_bundle_is_gone_keeps_what_the_records_say(tmp_path, store, uri) -> None:
    _, made = trained(store, tmp_path)
    for key in list(store.keys(f"bundles/payments/{made}")):
        store.delete(key)
    trainings.bring_after(POLICY, store, Registry(uri))
    _, (found,) = runs(uri)
    assert found.data.metrics["f1"] == 0.75


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_policys_own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("KEDGE_POLICY_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    file = tmp_path / "team" / "policy.yaml"
    file.parent.mkdir()
    file.write_text("a: 1")
    assert policy_commit(file) == ""
    git(file.parent, "init", "-q")
    git(file.parent, "add", ".")
    git(file.parent, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    commit = policy_commit(file)
    assert len(commit) == 40
    file.write_text("a: 2")
    assert policy_commit(file) == f"{commit}-dirty"
    monkeypatch.setenv("KEDGE_POLICY_COMMIT", COMMIT)
    assert policy_commit(file) == policy_commit(None) == COMMIT
