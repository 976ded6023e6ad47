"""What becomes of a run whose steps cannot say it: their pods do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kedge import records, steps
from kedge.doctor import client
from kedge.doctor.steps import last_words, stuck
from kedge.errors import UsageError
from kedge.settings import Settings
from kedge.store import open_store
from kedge.store.identity import begin
from kedge.submission import submit
from tests.submission.fake_kfp import FakeKfp
from tests.training import rows

NAME = "retrain-fraud-k"
POLICY = rows.policy()
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def pod(name="train", *, began=NOW - timedelta(minutes=9), **state: Any) -> dict[str, Any]:
    place = f"retrain-x.root.exit-handler-1.{name}.executor"
    meta = {"name": f"retrain-x-{name}", "annotations": {"workflows.argoproj.io/node-name": place}}
    status = {"startTime": f"{began:%Y-%m-%dT%H:%M:%SZ}", "containerStatuses": [{"name": "main", "state": state}]}
    return {"metadata": meta, "status": status}


def waits(reason: str, message: str, **about: Any) -> dict[str, Any]:
    return pod(waiting={"reason": reason, "message": message}, **about)


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return pod(terminated={"exitCode": code, "message": message, "reason": reason})


@dataclass
class Pods:
    """A namespace with pods of one run."""

    found: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def within(self, namespace, group, version, plural, *, labels=""):
        assert (group, version, plural) == ("", "v1", "pods")
        self.asked.append((namespace, labels))
        return self.found


MISSING = waits("CreateContainerConfigError", 'secret "object-store" not found')


def test_a_missing_secret_is_told_with_step_pod_and_remedy():
    trouble = stuck(Pods([ended(0), MISSING]), "kubeflow", "r1", NOW)
    assert (trouble.step, trouble.pod) == ("train", "kubeflow/retrain-x-train")
    assert "kubectl -n kubeflow create secret generic object-store" in trouble.reason


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("CreateContainerConfigError", "couldn't find key AWS_KEY in Secret kubeflow/store", "describe secret store"),
        ("ImagePullBackOff", 'Back-off pulling image "kedge/step:9"', "get events"),
    ],
)
def test_what_else_keeps_a_step_from_beginning_is_told_with_what_to_do(reason, message, remedy):
    trouble = stuck(Pods([waits(reason, message)]), "kubeflow", "r1", NOW)
    assert message in trouble.reason
    assert remedy in trouble.reason


@pytest.mark.parametrize(
    "found",
    [
        waits("CreateContainerConfigError", "secret", began=NOW - timedelta(seconds=60)),
        waits("PodInitializing", ""),
        pod(running={}),
    ],
)
def test_a_pod_that_may_yet_begin_is_waited_for(found):
    assert stuck(Pods([found]), "kubeflow", "r1", NOW) is None


def test_the_last_words_of_a_pod_are_those_of_the_one_that_ended_badly():
    denied = "train: store s3://x: AccessDenied"
    trouble = last_words(Pods([ended(0, "well"), ended(1, denied)]), "kubeflow", "r1")
    assert str(trouble) == f"pod kubeflow/retrain-x-train: {denied}"
    assert "memory" in last_words(Pods([ended(137, reason="OOMKilled")]), "kubeflow", "r1").reason
    assert last_words(Pods([ended(1)]), "kubeflow", "r1") is None


@pytest.fixture
def kfp() -> Iterator[FakeKfp]:
    with FakeKfp() as server:
        yield server
        server.shutdown()


@pytest.fixture
def world(tmp_path, kfp, monkeypatch):
    """A run under way on KFP, whose submitter is gone, and the pods of its steps."""
    pods = Pods()
    monkeypatch.setattr(client, "KubernetesCluster", lambda _: pods)
    begin(open_store(tmp_path))
    settings = Settings(
        store=str(tmp_path), registry="http://mlflow", platform="gateway:ml", kfp_host=kfp.address,
        release_account="profile/kedge-steps",
    )  # fmt: skip
    submit.submit_retrain(settings, POLICY, reason="test", key="k", end=rows.END, wait=False)
    return settings, pods, kfp


def verdict(settings: Settings) -> records.RunFinished | None:
    found = records.find(open_store(settings.store), "fraud", records.RunFinished, NAME)
    return found.data if found is not None else None


def test_a_run_that_waits_for_a_secret_ends_with_the_reason_and_is_not_tried_again(world):
    settings, pods, kfp = world
    submit.look_after(settings, POLICY)
    assert verdict(settings) is None
    pods.found = [MISSING]
    said: list[str] = []
    submit.look_after(settings, POLICY, say=said.append)
    found = verdict(settings)
    assert (found.state, found.step, found.exit_code) == ("failed", "train", 2)
    assert found.reason.startswith("cannot begin: pod profile/retrain-x-train: CreateContainerConfigError")
    assert kfp.runs[NAME]["state"] == "CANCELING"
    assert pods.asked[-1] == ("profile", "pipeline/runid=r1")
    assert "create secret generic object-store" in said[0]
    again = submit.submit_retrain(settings, POLICY, reason="test", key="k", end=rows.END, wait=False)
    assert (again.state, len(kfp.runs)) == ("failed", 1)


def test_a_run_whose_steps_may_not_write_the_store_says_so_by_its_pod(world):
    settings, pods, kfp = world
    kfp.runs[NAME]["state"] = "FAILED"
    pods.found = [ended(1, "train: store s3://kedge: AWS Error ACCESS_DENIED")]
    submit.look_after(settings, POLICY)
    found = verdict(settings)
    assert (found.step, found.exit_code) == ("train", 2)
    assert "ACCESS_DENIED; the Secrets that cluster.secrets names" in found.reason


def test_where_no_pod_can_be_seen_a_run_ends_as_before(world, monkeypatch):
    settings, _, kfp = world

    def none(_):
        raise UsageError("no Kubernetes")

    monkeypatch.setattr(client, "KubernetesCluster", none)
    submit.look_after(settings, POLICY)
    assert verdict(settings) is None
    kfp.runs[NAME]["state"] = "FAILED"
    submit.look_after(settings, POLICY)
    assert "ended without a word" in verdict(settings).reason


def test_a_step_leaves_its_reason_in_its_pods_status(tmp_path, monkeypatch):
    log = tmp_path / "termination-log"
    monkeypatch.setattr(steps, "TERMINATION_LOG", str(log))

    def fail():
        raise UsageError("no such column")

    def run():
        with pytest.raises(UsageError):
            steps.run_step(open_store(tmp_path / "store"), "fraud", "train", fail)

    run()
    assert not log.exists()  # no pod: nothing is made
    log.touch()
    run()
    assert log.read_text() == "train: no such column"
