"""Who may send what: accounts by the tokens of their pods, the shared token, KServe's logger where it is let in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kedge import token_review
from kedge.collector.admission import AT_ONCE, MAX_KNOWN, Admission, senders_of
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import UsageError
from kedge.tables import log
from tests.collector.test_kserve import headers as logged

SLOTS, OUTCOMES = "ml/kedge-slots", "billing/outcomes"
SENDERS = senders_of([f"{SLOTS}=events", f"{OUTCOMES}=labels"])
STRUCTURED = {"content-type": "application/cloudevents+json"}
DAY = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))


@dataclass
class Kubernetes:
    """Answers TokenReviews: it knows tokens as ``account@audience``."""

    asked: list[str] = field(default_factory=list)
    away: bool = False

    def review(self, review):
        spec = review["spec"]
        self.asked.append(spec["token"])
        if self.away:
            raise OSError("timed out")
        account, _, audience = spec["token"].partition("@")
        if audience not in spec["audiences"]:
            return {"status": {"error": "invalid bearer token"}}
        name = f"system:serviceaccount:{account.replace('/', ':')}" if "/" in account else account
        return {"status": {"authenticated": True, "audiences": [audience], "user": {"username": name}}}


@pytest.fixture
def kubernetes(monkeypatch):
    made = Kubernetes()
    monkeypatch.setattr(token_review, "_post", made.review)
    return made


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def test_an_account_sends_what_it_may_and_nothing_else(start, event, kubernetes):
    label = {"model": "payments", "labels": [{"id": "a", "label": 1}]}
    with start(senders=SENDERS) as client:
        slots, outcomes = bearer(f"{SLOTS}@kedge-collector"), bearer(f"{OUTCOMES}@kedge-collector")
        for _ in range(3):
            assert client.post("/", json=event("a"), headers=STRUCTURED | slots).status_code == 202
        assert client.post("/v1/labels", json=label, headers=outcomes).status_code == 202
        refused = client.post("/", json=event("b"), headers=STRUCTURED | outcomes)
        assert refused.status_code == 403
        assert refused.json()["reason"] == "forbidden"
        assert f"--sender {OUTCOMES}=events" in refused.json()["error"]
        assert client.post("/v1/labels", json=label, headers=slots).status_code == 403
        assert client.get("/readyz").status_code == client.get("/metrics").status_code == 200
    assert len(kubernetes.asked) == 2  # once a token


@pytest.mark.parametrize(
    "token", ["", f"{SLOTS}@https://kubernetes.default.svc", "somebody@kedge-collector", "ml/other@kedge-collector"]
)
def test_a_token_for_another_audience_or_of_another_account_lets_nobody_in(start, event, kubernetes, token):
    with start(senders=SENDERS) as client:
        shown = bearer(token) if token else {}
        assert client.post("/", json=event("a"), headers=STRUCTURED | shown).status_code in (401, 403)
        assert client.post("/v1/flush", headers=shown).status_code in (401, 403)


def test_nobody_suppresses_a_prediction_by_telling_another_under_its_id_first(
    start, event, kubernetes, store, declared
):
    with start(senders=SENDERS, untokened_logger=frozenset()) as client:
        assert client.post("/", json=event("a", score=0.99), headers=STRUCTURED).status_code == 401
        for kind, body in (("request", {"instances": [[1, "DE"]]}), ("response", {"predictions": [0.99]})):
            assert client.post("/", json=body, headers=logged(kind)).status_code == 401
        own = bearer(f"{SLOTS}@kedge-collector")
        assert client.post("/", json=event("a", score=0.25), headers=STRUCTURED | own).status_code == 202
    rows = log.read_window(store, declared(), *DAY, labels="none").to_pylist()
    assert [(row["_id"], row["_score"]) for row in rows] == [("a", 0.25)]


def test_kserves_logger_is_let_in_for_the_models_that_say_so_and_by_no_other_way(start, event, declared, kubernetes):
    policies = declared(), declared("churn")
    request = {"instances": [[1, "DE"]]}
    with start(*policies, senders=SENDERS, untokened_logger=frozenset({"payments"})) as client:
        assert client.post("/", json=request, headers=logged("request")).status_code == 202
        other = logged("request", **{"Ce-Inferenceservicename": "churn-blue"})
        assert client.post("/", json=request, headers=other).status_code == 401
        for kind in ("application/cloudevents+json", "application/cloudevents-batch+json"):
            body = event("a") if "batch" not in kind else [event("a")]
            disguised = logged("request") | {"Content-Type": kind}
            assert client.post("/", json=body, headers=disguised).status_code == 401
        own = logged("request") | {"Ce-Type": "dev.kedge.prediction"}
        assert client.post("/", json=event()["data"], headers=own).status_code == 401
        assert client.post("/v1/labels", json={}, headers=logged("request")).status_code == 401


def test_the_shared_token_still_opens_everything_beside_the_accounts(start, event, kubernetes):
    with start(senders=SENDERS, token="a-secret-of-some-length") as client:
        shown = bearer("a-secret-of-some-length")
        assert client.post("/", json=event("a"), headers=STRUCTURED | shown).status_code == 202
        assert client.post("/v1/flush", headers=shown).status_code == 200
    assert kubernetes.asked == []


def test_a_collector_that_may_not_ask_says_so_where_it_says_how_it_is_until_it_may(start, event, kubernetes):
    own = STRUCTURED | bearer(f"{SLOTS}@kedge-collector")
    with start(senders=SENDERS) as client:
        kubernetes.away = True
        refused = client.post("/", json=event("a"), headers=own)
        assert (refused.status_code, refused.json()["reason"]) == (503, "busy")
        assert "timed out" in client.get("/readyz").json()["faults"]["tokens"]
        kubernetes.away = False
        assert client.post("/", json=event("a"), headers=own).status_code == 202
        assert client.get("/readyz").json()["faults"] == {}


@dataclass
class Clock:
    now: float = 0.0


def admission(kubernetes, clock, **options):
    settings = Settings(spool="spool", senders=SENDERS, **options)
    return Admission(settings, {}, {}, monotonic=lambda: clock.now)


def admitted(gate, token, work="events"):
    asyncio.run(gate.admit({b"authorization": f"Bearer {token}".encode()}, work))


def test_an_answer_of_kubernetes_holds_for_minutes_and_longer_while_it_is_away(kubernetes):
    clock, token = Clock(), f"{SLOTS}@kedge-collector"
    gate = admission(kubernetes, clock)
    for clock.now in (0, 299):
        admitted(gate, token)
    assert len(kubernetes.asked) == 1
    clock.now = 301
    admitted(gate, token)
    assert len(kubernetes.asked) == 2
    kubernetes.away = True
    for clock.now in (3000, 3001, 3029):
        admitted(gate, token)
    assert len(kubernetes.asked) == 3  # not each event waits for one that is away
    clock.now = 8000
    with pytest.raises(RequestRejected, match="cannot be asked") as caught:
        admitted(gate, token)
    assert caught.value.reason == "busy"  # senders try again


def test_many_events_at_once_ask_once(kubernetes):
    gate, shown = admission(kubernetes, Clock()), {b"authorization": f"Bearer {SLOTS}@kedge-collector".encode()}

    async def many():
        await asyncio.gather(*(gate.admit(shown, "events") for _ in range(100)))

    asyncio.run(many())
    assert len(kubernetes.asked) <= AT_ONCE


def test_strangers_push_out_strangers_and_nobody_who_may_send(kubernetes):
    gate, token = admission(kubernetes, Clock()), f"{SLOTS}@kedge-collector"
    admitted(gate, token)

    async def strangers():
        for number in range(MAX_KNOWN + 5):
            with pytest.raises(RequestRejected, match="none that Kubernetes knows"):
                await gate.admit({b"authorization": b"Bearer stranger-%d" % number}, "events")

    asyncio.run(strangers())
    asked = len(kubernetes.asked)
    admitted(gate, token)
    assert len(kubernetes.asked) == asked
    assert len(gate._known) <= MAX_KNOWN


@pytest.mark.parametrize("text", ["ml=events", "ml/a", "ml/a=", "ml/a=write", "/a=events", "ml/a=events,events"])
def test_a_sender_that_is_none_is_refused_with_what_may_be_written(text):
    with pytest.raises(UsageError, match="write NAMESPACE/NAME=WORK"):
        senders_of([text])


def test_a_logger_of_a_model_that_no_policy_declares_is_refused(start):
    with pytest.raises(UsageError, match="no policy declares it"), start(untokened_logger=frozenset({"fraud"})):
        pass


@pytest.mark.parametrize(
    ("status", "said"), [(403, "answered with 403; the account needs the right"), (429, "answered with 429 Busy$")]
)
def test_only_who_may_not_ask_is_told_that_it_needs_the_right(monkeypatch, tmp_path, status, said):
    (tmp_path / "token").write_text("own")
    answer = SimpleNamespace(status=status, reason="Busy", read=lambda: b"{}")
    connection = SimpleNamespace(request=lambda *_: None, getresponse=lambda: answer, close=lambda: None)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(token_review, "OWN", tmp_path)
    monkeypatch.setattr(token_review.ssl, "create_default_context", lambda cafile: None)
    monkeypatch.setattr(token_review, "HTTPSConnection", lambda *_, **__: connection)
    with pytest.raises(OSError, match=said):
        token_review.account_of("token", "kedge-collector")


def test_outside_of_a_pod_kubernetes_is_away_and_nobody_is_let_in(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(OSError, match="no pod of Kubernetes"):
        token_review.account_of("token", "kedge-collector")
