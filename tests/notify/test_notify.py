"""The last step of a run: its verdict, the card, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kedge import notify, records, steps
from kedge.notify import step
from kedge.store import open_store
from tests import web
from tests.records.made import record
from tests.training import rows

BUNDLE = "b" * 40
RUN = "retrain-fraud-k"


@pytest.fixture
def chat() -> Iterator[SimpleNamespace]:
    """A chat's incoming webhook."""
    chat = SimpleNamespace(heard=[], status=200)

    def answer(request: web.Request) -> web.Response:
        chat.heard.append(request.get_json())
        return web.said(b"", chat.status)

    with web.answering(answer) as address:
        chat.address = f"{address}/services/T0/SECRET"
        yield chat


def policy(**told):
    return rows.policy(notify={"url_variable": "CHAT_URL", **told})


def finished(state: str = "failed", **data):
    return record("run-finished", RUN, rows.END, run=RUN, state=state, **data)


def evaluated(**data):
    return record("evaluated", records.evaluation_key(BUNDLE, RUN), rows.END, run=RUN, passed=False, **data)


def test_the_verdict_is_posted_as_chats_take_it(chat) -> None:
    ended = finished(step="train", reason="no room\nfor 3 < 4 & <!channel>", exit_code=1)
    assert notify.send(policy(), ended, {"CHAT_URL": chat.address}) == "told the address in $CHAT_URL"
    words = f"fraud: run {RUN} failed in step train: no room for 3 &lt; 4 &amp; &lt;!channel&gt;"
    assert chat.heard == [{"text": words}]


def test_only_the_ends_the_policy_names_are_told(chat) -> None:
    asked = policy(states=["failed"])
    assert (
        notify.send(asked, finished("succeeded", bundle=BUNDLE), {"CHAT_URL": chat.address}) == "nobody is to be told"
    )
    assert notify.send(rows.policy(), finished(), {"CHAT_URL": chat.address}) == "nobody is to be told"
    assert chat.heard == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "$CHAT_URL holds no http(s) address"),
        ("file:///etc/passwd", "$CHAT_URL holds no http(s) address"),
        ("http://127.0.0.1:1/SECRET", "the address in $CHAT_URL did not answer (ConnectError)"),
        ("http://[::1/SECRET", "the address in $CHAT_URL did not answer (InvalidURL)"),
    ],
)
def test_a_chat_that_cannot_be_reached_is_said_without_its_address(url: str, said: str) -> None:
    answer = notify.send(policy(), finished(), {"CHAT_URL": url})
    assert said in answer
    assert "SECRET" not in answer


def test_a_chat_that_refuses_is_said_and_not_asked_twice(chat) -> None:
    chat.status = 500
    assert notify.send(policy(), finished(), {"CHAT_URL": chat.address}).endswith("answered 500")
    assert len(chat.heard) == 1


def test_a_long_reason_is_cut() -> None:
    assert len(notify.text(finished(reason="x" * 10_000))) == 2000


def test_the_card_shows_gates_and_figures_and_no_text_becomes_markup() -> None:
    gates = [
        {"name": "constant", "passed": True, "sentence": "0.2 < 0.3"},
        {"name": "champion", "passed": False, "sentence": "p = 0.3 | <script>"},
    ]
    proof = evaluated(gates=gates, metrics={"loss": 0.2})
    shown = notify.card(finished("rejected", reason="[click](http://evil)\n# big", bundle=BUNDLE), proof)
    lines = shown.splitlines()
    assert lines[0] == "# fraud: did its work, and the candidate did not pass"
    assert "| constant | passed | 0.2 &lt; 0.3 |" in lines
    assert "| champion | **rejected** | p = 0.3 \\| &lt;script&gt; |" in lines
    assert "| loss | 0.2 |" in lines
    assert "| why | \\[click\\](http://evil) \\# big |" in lines


def test_the_card_says_why_a_challenger_was_refused_once_and_why_a_release_was_beside_its_gates() -> None:
    gates = [{"name": "loss", "passed": False, "sentence": "loss 0.4, must be below 0.3"}]
    proof = evaluated(gates=gates)
    shown = notify.card(finished("rejected", step="evaluate", reason="loss 0.4, must be below 0.3"), proof)
    assert shown.count("loss 0.4, must be below 0.3") == 1
    assert "| why | too many errors |" in notify.card(
        finished("rejected", step="deploy", reason="too many errors"), proof
    )


def test_a_challenger_that_could_not_be_judged_is_told_as_such() -> None:
    gates = [{"name": "rows", "passed": False, "outcome": "inconclusive", "sentence": "90 rows: 110 more are needed"}]
    proof = evaluated(gates=gates, outcome="inconclusive")
    ended = finished("inconclusive", step="evaluate", reason="90 rows: 110 more are needed")
    assert "| rows | **inconclusive** | 90 rows: 110 more are needed |" in notify.card(ended, proof)
    assert notify.text(ended) == (
        f"fraud: run {RUN} did its work, and the rows are too few to judge the candidate: 90 rows: 110 more are needed"
    )
    assert "inconclusive" in rows.policy().notify.states


@pytest.fixture
def card(tmp_path):
    return SimpleNamespace(path=str(tmp_path / "out" / "card.md"))


def test_a_run_that_left_no_verdict_gets_one_that_status_shows(tmp_path, card, chat, monkeypatch) -> None:
    monkeypatch.setenv("CHAT_URL", chat.address)
    monkeypatch.setenv(steps.PIPELINE_RUN, "5f2b")
    store = open_store(tmp_path)
    store.put("runs/fraud/5f2b.json", b'{"state": "started", "step": "train"}')
    assert step.notify(policy().to_dict(), store.url, RUN, card) == "failed"
    (found,) = records.read(store, "fraud", records.RunFinished)
    assert (found.key, found.data.step) == (RUN, "train")
    assert "failed in step train: the step ended without a word" in str(chat.heard)
    assert Path(card.path).read_text().startswith("# fraud: failed")


def test_the_verdict_of_a_step_is_told_with_its_challengers_gates(tmp_path, card) -> None:
    store = open_store(tmp_path)
    gates = [{"name": "constant", "passed": True, "sentence": "lower"}]
    records.append(store, evaluated(gates=gates, metrics={"loss": 0.25}))
    steps.finish(store, "fraud", RUN, "succeeded", bundle=BUNDLE, version="3")
    assert step.notify(rows.policy().to_dict(), store.url, RUN, card) == "succeeded"
    shown = Path(card.path).read_text()
    assert "| version | 3 |" in shown
    assert "| loss | 0.25 |" in shown


@pytest.mark.parametrize("given", [{}, {"model": "?"}])
def test_nothing_makes_the_run_fail(given, tmp_path, card, capsys) -> None:
    assert step.notify(given, str(tmp_path), RUN, card) == "unknown"
    assert "notify: failed: PolicyError" in capsys.readouterr().out


def test_a_run_whose_candidate_did_not_pass_fails_with_the_reason_as_its_last_line(tmp_path) -> None:
    store = open_store(tmp_path)
    records.append(store, finished("rejected", step="evaluate", reason="no better than\nthe champion", bundle=BUNDLE))
    with pytest.raises(SystemExit) as ended:
        step.rejected(policy().to_dict(), str(tmp_path), RUN)
    said = str(ended.value)  # the interpreter prints it last, and exits with 1
    assert said.startswith(f"kedge: fraud: run {RUN} did its work, and the candidate did not pass")
    assert said.endswith(": no better than the champion")
