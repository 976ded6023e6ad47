"""Submitting to a KFP endpoint, against a server that behaves like one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kedge import records, steps
from kedge.doctor.runs import AUDIENCE
from kedge.errors import RunError
from kedge.policy import Policy
from kedge.rollout import progress
from kedge.rollout.model import Rollout
from kedge.settings import Settings
from kedge.store import open_store
from kedge.store.identity import begin
from kedge.submission import submit
from kedge.submission.compile import compiled, names
from kedge.submission.endpoint import Endpoint
from tests.records.made import record
from tests.submission.fake_kfp import FakeKfp
from tests.submission.steps import BUNDLE
from tests.training import rows

POLICY = rows.policy()
NAME = "retrain-fraud-k"


@pytest.fixture
def kfp() -> Iterator[FakeKfp]:
    with FakeKfp() as server:
        yield server
        server.hangs.set()
        server.shutdown()


@pytest.fixture
def settings(tmp_path, kfp) -> Settings:
    begin(open_store(tmp_path))
    return Settings(
        store=str(tmp_path), registry="http://mlflow", platform="gateway:ml", kfp_host=kfp.address, image="i@x"
    )


def retrain(settings: Settings, *, wait: bool = False) -> submit.RunOutcome:
    return submit.submit_retrain(settings, POLICY, reason="test", key="k", end=rows.END, wait=wait)


def test_a_run_arrives_whole_and_once(kfp, settings) -> None:
    assert retrain(settings).state == "running"
    assert retrain(settings).state == "running"
    assert list(kfp.runs) == [NAME]
    sent = kfp.runs[NAME]
    assert sent["runtime_config"]["parameters"]["policy"] == POLICY.to_dict()
    assert sent["runtime_config"]["parameters"]["end"] == rows.END.isoformat()
    assert sent["runtime_config"]["parameters"]["change_point"] == ""
    spec = sent["pipeline_spec"]["pipeline_spec"] if "pipeline_spec" in sent["pipeline_spec"] else sent["pipeline_spec"]
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"i@x"}


def test_a_submission_does_not_read_its_policy_again_whether_it_arrives_or_fails(kfp, settings, monkeypatch) -> None:
    def read_again(*_: object) -> None:
        raise AssertionError("the policy was read again")

    monkeypatch.setattr(Policy, "model_validate", read_again)
    assert retrain(settings).state == "running"
    kfp.refuses = 403
    with pytest.raises(RunError, match="403"):
        submit.submit_retrain(settings, POLICY, reason="test", key="k2", end=rows.END, wait=False)


def test_the_experiment_of_the_runs_is_made_once_in_their_namespace(kfp, settings) -> None:
    profile = replace(settings, kfp_namespace="team-a")
    for key in ("one", "two"):
        submit.submit_retrain(profile, POLICY, reason="test", key=key, end=rows.END, wait=False)
    assert kfp.experiments == [{"display_name": "kedge", "namespace": "team-a", "experiment_id": "e1"}]
    assert {run["experiment_id"] for run in kfp.runs.values()} == {"e1"}


def test_a_release_runs_as_the_account_that_is_named_and_a_retraining_as_kubeflows(kfp) -> None:
    endpoint = Endpoint(kfp.address, account="kubeflow/kedge-ml-steps")
    for pipeline in ("release", "retrain"):
        endpoint.start(pipeline, f"{pipeline}-fraud-k", POLICY, {})
    accounts = {name: run.get("service_account") for name, run in kfp.runs.items()}
    assert accounts == {"release-fraud-k": "kedge-ml-steps", "retrain-fraud-k": None}


def test_a_page_to_sign_in_is_not_taken_for_the_api(kfp) -> None:
    kfp.page = b"<html>Sign in</html>"
    with pytest.raises(RunError, match=r"cannot look for run some: .*not its API; try: is this the API's address\?"):
        Endpoint(kfp.address).find("some")


def kept(kfp: FakeKfp, settings: Settings, policy: Policy = POLICY, **addresses: str) -> str:
    """Keep the pipeline that `kedge compile --kubernetes` makes, and return its version's name."""
    given = {"store": settings.store, "registry": settings.registry} | addresses
    pipeline, version = names("retrain", policy, compiled("retrain", policy, image=settings.image, addresses=given))
    kfp.keep(pipeline, version)
    return version


def test_a_version_that_was_applied_is_run_by_its_name_and_nothing_else_is_sent(kfp, settings) -> None:
    version = kept(kfp, settings)
    retrain(settings)
    sent = kfp.runs[NAME]
    assert sent["pipeline_version_reference"] == {
        "pipeline_id": "id of retrain-fraud", "pipeline_version_id": f"id of {version}",
    }  # fmt: skip
    assert "pipeline_spec" not in sent
    assert sent["runtime_config"]["parameters"]["run"] == NAME


@pytest.mark.parametrize("other", [{"policy": rows.policy(train={"seed": 9})}, {"store": "s3://another"}])
def test_a_version_of_another_content_is_not_run(kfp, settings, other) -> None:
    kept(kfp, settings, **other)
    retrain(settings)
    assert "pipeline_version_reference" not in kfp.runs[NAME]
    assert "pipeline_spec" in kfp.runs[NAME]


def test_a_run_that_is_tried_again_is_sent_whole_because_its_version_asks_the_cache(kfp, settings) -> None:
    kept(kfp, settings)
    retrain(settings)
    kfp.runs[NAME]["state"] = "FAILED"
    retrain(settings)
    assert "pipeline_spec" in kfp.runs[f"{NAME}.2"]


def test_who_may_not_look_at_pipelines_sends_the_run_whole(kfp, settings) -> None:
    kept(kfp, settings)
    kfp.hides_pipelines = True
    assert retrain(settings).state == "running"
    assert "pipeline_spec" in kfp.runs[NAME]


def test_a_profile_finds_its_own_versions_and_those_shared_by_all(kfp, settings) -> None:
    kept(kfp, settings)
    kfp.shared_only = True
    retrain(replace(settings, kfp_namespace="team-a"))
    assert "pipeline_version_reference" in kfp.runs[NAME]


def test_the_runs_page_is_said_when_it_starts_and_when_it_is_found_again(kfp, settings) -> None:
    said: list[str] = []
    page = f"{kfp.address}/#/runs/details/r1"
    begun = submit.submit_retrain(settings, POLICY, reason="t", key="k", end=rows.END, wait=False, say=said.append)
    assert said == [f"run {NAME}: started, {page}"]
    assert begun.address == retrain(settings).address == page
    seen = retrain(replace(settings, kfp_ui="https://kubeflow.example/_/pipeline/")).address
    assert seen == "https://kubeflow.example/_/pipeline/#/runs/details/r1"


def test_the_outcome_is_read_from_the_records_the_steps_wrote(kfp, settings) -> None:
    retrain(settings)
    steps.finish(open_store(settings.store), POLICY.name, NAME, "rejected", step="evaluate", reason="p = 0.3")
    kfp.runs[NAME]["state"] = "SUCCEEDED"
    outcome = retrain(settings, wait=True)
    assert (outcome.state, outcome.reason) == ("rejected", "p = 0.3")


def test_a_run_that_succeeded_without_a_verdict_failed_and_is_tried_again(kfp, settings) -> None:
    retrain(settings)
    kfp.runs[NAME]["state"] = "SUCCEEDED"
    assert retrain(settings).state == "running"
    (finished,) = records.read(open_store(settings.store), POLICY.name, records.RunFinished)
    assert "a branch was skipped" in finished.data.reason
    assert list(kfp.runs) == [NAME, f"{NAME}.2"]


def caching(run: dict) -> set[bool]:
    spec = run["pipeline_spec"].get("pipeline_spec", run["pipeline_spec"])
    dags = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    options = [task.get("cachingOptions", {}) for dag in dags for task in dag["tasks"].values()]
    return {each.get("enableCache", False) for each in options}


def test_a_run_that_is_tried_again_asks_the_cache_nothing(kfp, settings) -> None:
    pinned = replace(settings, image="registry.example/step@sha256:" + "0" * 64)
    retrain(pinned)
    kfp.runs[NAME]["state"] = "FAILED"
    retrain(pinned)
    assert caching(kfp.runs[NAME]) == {True, False}
    assert caching(kfp.runs[f"{NAME}.2"]) == {False}


def test_runs_are_in_the_profile_of_a_multi_user_installation(kfp, settings) -> None:
    profile = replace(settings, kfp_namespace="team-a")
    retrain(profile)
    assert retrain(profile).state == "running"
    assert kfp.namespaces == {"team-a"}


def test_a_look_at_a_run_is_tried_again_when_kfp_is_away_for_a_moment(kfp, settings, monkeypatch) -> None:
    monkeypatch.setattr(steps.time, "sleep", lambda seconds: None)
    retrain(settings)
    kfp.unwell = [503, 502]
    assert Endpoint(kfp.address).find(NAME).state == "running"
    kfp.unwell = [404, 503]
    with pytest.raises(RunError, match="cannot look for run"):
        Endpoint(kfp.address).find(NAME)
    assert kfp.unwell == [503]


def test_a_run_that_could_not_be_submitted_is_told_to_those_the_policy_names(kfp, settings, monkeypatch) -> None:
    kfp.shutdown()
    kfp.server_close()
    monkeypatch.setenv("CHAT_URL", "http://127.0.0.1:1/SECRET")
    said: list[str] = []
    asked = rows.policy(notify={"url_variable": "CHAT_URL"})
    with pytest.raises(RunError):
        submit.submit_retrain(settings, asked, reason="test", key="k", end=rows.END, say=said.append)
    assert said == ["notify: nobody was told: the address in $CHAT_URL did not answer (ConnectError)"]


def test_a_run_that_failed_without_a_word_is_tried_again(kfp, settings) -> None:
    retrain(settings)
    kfp.runs[NAME]["state"] = "FAILED"
    assert retrain(settings).state == "running"
    assert list(kfp.runs) == [NAME, f"{NAME}.2"]


def test_the_projected_token_is_sent(kfp, settings, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "token").write_text("projected")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert Endpoint(kfp.address).find("nothing").state == "missing"
    assert "Bearer projected" in kfp.tokens


def unsigned(**claims: object) -> str:
    """A token whose signature nobody checks."""
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.e30"


@pytest.fixture
def projected(tmp_path: Path, monkeypatch):
    """Writes the claims of the token that a pod is given."""
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    return lambda **claims: (tmp_path / "token").write_text(unsigned(**claims))


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": [AUDIENCE], "exp": 1}, r"401 Unauthorized; token: expired \d+ s ago; try: kubectl delete pod"),
        ({"aud": ["other"], "exp": 1e10}, f"401 .*its audience is other, not {AUDIENCE}; try: helm upgrade"),
    ],
)
def test_a_token_that_the_api_does_not_take_is_named_with_what_renews_it(kfp, projected, claims, said) -> None:
    kfp.audience = AUDIENCE
    projected(**claims)
    with pytest.raises(RunError, match=said):
        Endpoint(kfp.address).find("some")
    projected(aud=[AUDIENCE], exp=1e10)
    assert Endpoint(kfp.address).find("some").state == "missing"


def test_an_account_without_the_rights_is_told_what_grants_them(kfp, projected) -> None:
    kfp.refuses = 403
    projected(aud=[AUDIENCE], exp=1e10)
    with pytest.raises(RunError, match=r"403 Forbidden; this account may not; try: .*kfp\.rbac=true"):
        Endpoint(kfp.address).find("some")


def test_an_endpoint_that_never_answers_is_given_up(kfp, monkeypatch) -> None:
    monkeypatch.setattr(steps.time, "sleep", lambda seconds: None)
    endpoint = Endpoint(kfp.address, seconds=0.5)
    assert Endpoint(kfp.address).find("nothing").state == "missing"  # imports the client: not part of the deadline
    kfp.hangs.clear()
    with pytest.raises(RunError, match=r"cannot look for run some: no answer within 0\.5 s"):
        endpoint.find("some")


def test_an_endpoint_that_is_away_is_said_and_the_next_submission_goes_on(kfp, settings) -> None:
    kfp.shutdown()
    kfp.server_close()
    with pytest.raises(RunError, match=r"cannot start run retrain-fraud-k: .* may pods reach it\?"):
        retrain(settings)
    (finished,) = records.read(open_store(settings.store), POLICY.name, records.RunFinished)
    assert finished.data.reason.startswith("not submitted: KFP at http://127.0.0.1")
    assert finished.data.submitted is False
    assert finished.data.exit_code == 1


@pytest.mark.parametrize(
    ("reasons", "tries"), [(["KeyError: 'a'"] * 9, 2), ([f"killed {number}" for number in range(9)], 3)]
)
def test_a_step_that_fails_each_time_is_tried_three_times_and_twice_where_it_fails_alike(
    kfp, settings, monkeypatch, reasons, tries
) -> None:
    store = open_store(settings.store)

    def fail(_: float) -> None:
        for run in kfp.runs.values():
            if run["state"] == "RUNNING":
                reason = reasons[len(kfp.runs)]
                steps.finish(store, POLICY.name, NAME, "failed", step="train", reason=reason, exit_code=1)
                run["state"] = "FAILED"

    monkeypatch.setattr(submit.time, "sleep", fail)
    outcome = retrain(settings, wait=True)
    assert (outcome.state, len(kfp.runs)) == ("failed", tries)
    assert outcome.reason == f"{reasons[tries]} (tried {tries} times; another key tries anew)"
    assert retrain(settings, wait=True).reason == outcome.reason
    assert len(kfp.runs) == tries


def test_a_release_is_told_of_while_it_is_waited_for(kfp, settings, monkeypatch) -> None:
    store, now = open_store(settings.store), datetime(2026, 3, 2, tzinfo=UTC)
    records.append(store, record("registered", BUNDLE, now, bundle=BUNDLE))
    rollout = Rollout(
        bundle=BUNDLE, uri="", slot="green", champion="a" * 40, attempt=1, run="", started=now, since=now,
        state="canary",
    )  # fmt: skip
    progress.write(store, POLICY.name, progress.of(POLICY, rollout, now))
    name = submit.run_name("release", POLICY.name, BUNDLE[:12])

    def end(_: float) -> None:
        steps.finish(store, POLICY.name, name, "rejected", outcome="rolled-back", reason="worse")

    monkeypatch.setattr(submit.time, "sleep", end)
    said: list[str] = []
    assert submit.submit_release(settings, POLICY, BUNDLE, say=said.append).state == "rejected"
    assert [line for line in said if line.startswith("canary 5 %")]
