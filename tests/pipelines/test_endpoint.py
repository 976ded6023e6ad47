"""Submitting to a KFP endpoint, against a server that behaves like one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components import record, step
from components.errors import RunError
from components.store import open_store
from pipelines import submit
from pipelines.doctor.runs import AUDIENCE
from pipelines.endpoint import Endpoint
from pipelines.settings import Settings
from tests.pipelines.fake_kfp import FakeKfp
from tests.train import rows

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
    return Settings(store=str(tmp_path), registry="http://mlflow", platform=tmp_path, kfp_host=kfp.address, image="i@x")


def retrain(settings: Settings, *, wait: bool = False) -> submit.RunOutcome:
    return submit.submit_retrain(settings, POLICY, reason="test", key="k", end=rows.END, wait=wait)


def test_a_run_arrives_whole_and_once(kfp, settings) -> None:
    assert retrain(settings).state == "running"
    assert retrain(settings).state == "running"
    assert list(kfp.runs) == [NAME]
    sent = kfp.runs[NAME]
    assert sent["runtime_config"]["parameters"]["policy"] == POLICY.to_dict()
    assert sent["runtime_config"]["parameters"]["end"] == rows.END.isoformat()
    spec = sent["pipeline_spec"]["pipeline_spec"] if "pipeline_spec" in sent["pipeline_spec"] else sent["pipeline_spec"]
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"i@x"}


def test_the_outcome_is_read_from_the_records_the_steps_wrote(kfp, settings) -> None:
    retrain(settings)
    step.finish(open_store(settings.store), POLICY.name, NAME, "gated", step="evaluate", reason="p = 0.3")
    kfp.runs[NAME]["state"] = "SUCCEEDED"
    outcome = retrain(settings, wait=True)
    assert (outcome.state, outcome.reason) == ("gated", "p = 0.3")


def test_a_run_that_succeeded_without_a_verdict_failed_and_is_tried_again(kfp, settings) -> None:
    retrain(settings)
    kfp.runs[NAME]["state"] = "SUCCEEDED"
    assert retrain(settings).state == "running"
    (finished,) = record.read(open_store(settings.store), POLICY.name, ["run-finished"])
    assert "a branch was skipped" in finished.data["reason"]
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
    monkeypatch.setattr(step.time, "sleep", lambda seconds: None)
    retrain(settings)
    kfp.unwell = [503, 502]
    assert Endpoint(kfp.address).state(NAME) == "running"
    kfp.unwell = [404, 503]
    with pytest.raises(RunError, match="cannot look for run"):
        Endpoint(kfp.address).state(NAME)
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
    assert Endpoint(kfp.address).state("nothing") == "missing"
    assert "Bearer projected" in kfp.tokens


def unsigned(**claims: object) -> str:
    """A token whose signature nobody checks."""
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.e30"


@pytest.mark.parametrize(
    ("status", "claims", "said"),
    [
        (401, {"aud": [AUDIENCE], "exp": 1}, r"401 Unauthorized; token: expired \d+ s ago; try: kubectl delete pod"),
        (401, {"aud": ["other"], "exp": 1e10}, f"its audience is other, not {AUDIENCE}; try: helm upgrade"),
        (403, {"aud": [AUDIENCE], "exp": 1e10}, "403 Forbidden; this account may not; try: .*kfp.rbac=true"),
    ],
)
def test_a_refusal_says_what_to_do(kfp, tmp_path: Path, monkeypatch, status, claims, said) -> None:
    (tmp_path / "token").write_text(unsigned(**claims))
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    kfp.refuses = status
    with pytest.raises(RunError, match=said):
        Endpoint(kfp.address).state("some")


def test_an_endpoint_that_never_answers_is_given_up(kfp, monkeypatch) -> None:
    monkeypatch.setattr(step.time, "sleep", lambda seconds: None)
    endpoint = Endpoint(kfp.address, seconds=0.5)
    assert Endpoint(kfp.address).state("nothing") == "missing"  # imports the client: not part of the deadline
    kfp.hangs.clear()
    with pytest.raises(RunError, match=r"cannot look for run some: no answer within 0\.5 s"):
        endpoint.state("some")


def test_an_endpoint_that_is_away_is_said_and_the_next_submission_goes_on(kfp, settings) -> None:
    kfp.shutdown()
    kfp.server_close()
    with pytest.raises(RunError, match=r"cannot start run retrain-fraud-k: .* may pods reach it\?"):
        retrain(settings)
    (finished,) = record.read(open_store(settings.store), POLICY.name, ["run-finished"])
    assert finished.data["reason"].startswith("not submitted: KFP at http://127.0.0.1")
    assert finished.data["exit_code"] == 1
