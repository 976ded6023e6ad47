"""The page of a release: what KFP shows of the step, and the store keeps."""

from __future__ import annotations

import re

import pytest

from kedge.rollout import step
from kedge.rollout.release import Outcome
from kedge.rollout.rollout import run
from tests.rollout.conftest import NEW, Behaviour


def drawn(policy, store, outcome):
    return step._page(policy, store, NEW, outcome)


@pytest.mark.parametrize(("failing", "word"), [(0.0, "Promoted"), (0.5, "Rolled back")])
def test_page_draws_share_and_evidence_over_time_and_says_why_it_ended(served, release, policy, store, failing, word):
    served.behaviours[NEW] = Behaviour(failing=failing)
    outcome = run(release(served))
    html = drawn(policy, store, outcome)
    assert f"<h2>{word}</h2>" in html
    assert outcome.reason.split(":")[0] in html
    assert html.count("<svg") == 2
    assert "share of the traffic, %: candidate" in html
    assert re.search("share of the limit: errors, .*proven worse", html)
    assert "<td>canary</td>" in html
    assert re.search(r"<td>\d\d [A-Z][a-z]{2} \d\d:\d\d</td>", html)
    kept = store.get(f"reports/fraud/release-{NEW}-1.html").decode()  # with links, which a run has no use for
    assert re.sub("<nav.*?</nav>", "", kept) == html


def test_page_of_a_release_that_did_not_begin_says_why(served, policy, store):
    html = drawn(policy, store, Outcome(result="refused", reason="waits for <approval>"))
    assert "refused: waits for &lt;approval&gt;" in html
    assert "<svg" not in html


def test_page_of_a_candidate_without_traffic_shows_no_evidence(served, release, policy, store):
    served.behaviours[NEW] = Behaviour(crashes=True)
    html = drawn(policy, store, run(release(served)))
    assert "the candidate had no traffic" in html
    assert "the model cannot be read" in html
