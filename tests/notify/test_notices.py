"""What people are told between two runs, each cause once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kedge import notify
from kedge.records import ModelState
from kedge.store import open_store
from tests.records.made import check, record
from tests.training import rows

NOW = rows.END
HOUR = timedelta(hours=1)
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def told(tmp_path):
    """Tell notices as one process after another would; what was posted."""
    posted = []

    def post(_policy, line):
        posted.append(line)
        return "told the address"

    def tell(given, kinds=notify.OF_CHECK, *, post=post, **settings):
        policy = rows.policy(notify={"url_variable": "CHAT_URL", **settings})
        notify.tell(policy, open_store(tmp_path), list(given), kinds, post)
        seen = posted[:]
        posted.clear()
        return seen

    return tell


def checked(action="warn", verdict="inputs drifted", **data):
    """What the newest check of a model has people told."""
    newest = check(NOW, action=action, verdict=verdict, reasons=("amount: PSI 0.4",), **data)
    policy = rows.policy(release={"approval": "manual"})
    return notify.of_check(policy, newest, ModelState.of([newest]))


def guarded(*known, now=NOW, scheduled=True):
    return notify.of_records(rows.policy(), ModelState.of(known), now, scheduled=scheduled)


def test_a_cause_is_told_once_while_it_lasts_and_again_when_it_comes_back(told):
    assert told(checked()) == ["fraud: warning: inputs drifted: amount: PSI 0.4; see "]
    assert told(checked()) == []
    assert len(told(checked(verdict="error rose"))) == 1  # another cause
    assert told(checked("none", "quiet")) == []
    assert len(told(checked(verdict="error rose"))) == 1


def test_a_quarantined_feed_and_what_waits_for_an_approval_are_told(told):
    (line,) = told(checked("quarantine", "corrupt feed"))
    assert line.startswith("fraud: quarantine: corrupt feed: amount")
    waits = checked("retrain", "error rose", decision_key="k" * 12, approval_wanted=True)
    (line,) = told(waits)
    assert "kedge approve --model fraud kkkkkkkkkkkk" in line
    passed = record("registered", NEW, NOW, bundle=NEW, version="2")
    policy = rows.policy(release={"approval": "manual"})
    (line,) = told(notify.of_records(policy, ModelState.of([passed]), NOW, scheduled=False), notify.OF_GUARD)
    assert f"kedge approve --model fraud {NEW[:12]}" in line


def test_who_could_not_be_told_is_told_at_the_next_look(told):
    assert told(checked(), post=lambda *_: "nobody was told: the address did not answer") == []
    assert len(told(checked())) == 1


def test_only_the_causes_that_the_policy_names_are_told(told):
    assert told(checked(), notices=["overdue"]) == []
    assert told(checked(), url_variable=None) == []


def test_one_process_forgets_nothing_of_what_another_knows(told):
    assert len(told(checked())) == 1
    assert told([], notify.OF_GUARD) == []
    assert told(checked()) == []


def test_a_champion_that_was_rolled_back_is_told_and_a_candidate_by_its_run(told):
    first = record("promoted", f"{OLD}-1", NOW - 9 * HOUR, bundle=OLD)
    champion = record("promoted", f"{NEW}-1", NOW - 2 * HOUR, bundle=NEW, previous=OLD)
    back = record("rolled-back", f"{NEW}-1", NOW, bundle=NEW, previous=OLD, reason="guard: failed requests")
    assert list(guarded(first, record("rolled-back", f"{NEW}-1", NOW, bundle=NEW), check(NOW))) == []
    (notice,) = guarded(first, champion, back, check(NOW))
    assert notice.line == f"fraud: champion {NEW[:12]} was rolled back: guard: failed requests"
    later = NOW + timedelta(days=2)
    assert list(guarded(first, champion, back, check(later), now=later)) == []


@pytest.mark.parametrize(
    ("passed", "scheduled", "overdue"),
    [(HOUR, True, False), (HOUR * 1.2, True, False), (HOUR * 1.5, True, True), (HOUR * 9, False, False)],
)
def test_a_check_that_does_not_come_is_told(passed, scheduled, overdue):
    notices = guarded(check(NOW), now=NOW + passed, scheduled=scheduled)
    assert [each.kind for each in notices] == ["overdue"] * overdue


def test_a_first_check_that_never_came_is_overdue_by_the_promotion():
    first = record("promoted", f"{OLD}-1", NOW - 9 * HOUR, bundle=OLD)
    (notice,) = guarded(first)
    assert "there was none yet" in notice.line
