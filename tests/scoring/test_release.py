"""A release without a server: both score the same tables, the records say whose answers count."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from kedge import clock
from kedge.cli.status import look, screen
from kedge.errors import NothingServed, UsageError
from kedge.rollout import batch, progress, step
from kedge.settings import Settings
from kedge.tables import MIRRORED
from tests.scoring.conftest import ROWS, rules


def scored_beside(world):
    """A better candidate that has scored a table beside the champion, whose outcomes are known a night later."""
    candidate = world.bundle(6.0)
    world.release(candidate)
    world.night()
    world.score(world.table())
    world.outcomes()
    world.night()
    return candidate


def test_the_first_model_is_promoted_at_once(world):
    made = world.bundle()
    ended = world.release(made)
    assert (ended.result, world.state.champion_bundle) == ("promoted", made.id)
    assert world.published[-1].champion_bundle == made.id


def test_both_score_and_the_champions_answers_are_written(world, champion):
    candidate = world.bundle(5.0)
    assert world.release(candidate).result == "begun"
    world.night()
    done = world.score(world.table(), world.folder / "scores.parquet")
    assert (done.bundle, done.candidate) == (champion.id, candidate.id)
    assert set(pq.read_table(world.folder / "scores.parquet")["version"].to_pylist()) == {champion.id}
    logged = world.log().to_pylist()
    of_candidate = {row["_id"] for row in logged if row["_version"] == candidate.id}
    assert of_candidate == {f"rows-{row}{MIRRORED}" for row in range(ROWS)}
    assert len(logged) == 2 * ROWS


def test_a_better_candidate_is_promoted_once_outcomes_rule_out_harm(world, champion):
    candidate = world.bundle(6.0)
    world.release(candidate)
    world.night()
    assert world.score(world.table()).release == ""  # nothing is known yet
    world.outcomes()
    world.night()
    done = world.score(world.table("next"))
    assert done.bundle == candidate.id == world.state.champion_bundle
    assert "promoted: no worse than the champion on the same 600 rows" in done.release
    (ended,) = [each.promoted for each in world.state.releases if each.bundle == candidate.id]
    assert ended.data.evidence[0]["same_rows"]["labelled"] == ROWS


def test_a_worse_candidate_is_rolled_back_and_never_answered(world, champion):
    candidate = world.bundle(-3.0)
    world.release(candidate)
    world.night()
    done = world.score(world.table())
    assert done.release == ""
    world.outcomes()
    world.night()
    done = world.score(world.table("next"))
    assert (done.bundle, done.candidate) == (champion.id, "")
    assert "rolled back: " in done.release
    assert "cost of decisions on the same rows" in done.release
    assert world.release(candidate).result == "refused"


def test_few_outcomes_promote_nobody_and_condemn_nobody(world, champion):
    candidate = world.bundle(6.0)
    world.release(candidate)
    world.night()
    world.score(world.table())
    world.outcomes(rows=150)
    assert batch.look(world.ledger, world.now) is None
    assert world.state.open_release.data.bundle == candidate.id
    world.now += world.now - world.now.replace(year=2025)
    assert batch.look(world.ledger, world.now).result == "not-judged"
    assert world.state.champion_bundle == champion.id
    assert world.release(candidate).result == "begun"  # it is not condemned


def test_as_many_tables_as_the_policy_asks_for_are_waited_for(world, champion):
    world.policy = rules(release={"mode": "batch", "batch": {"min_batches": 2}})
    candidate = world.bundle(6.0)
    world.release(candidate)
    for name in ("one", "two"):
        world.night()
        assert world.score(world.table(name)).bundle == champion.id
        world.outcomes(name)
    world.night()
    assert world.score(world.table("three")).bundle == candidate.id


def test_a_second_candidate_waits_for_the_first(world, champion):
    first = world.bundle(5.0)
    world.release(first)
    ended = world.release(world.bundle(6.0))
    assert ended.result == "refused"
    assert first.id[:12] in ended.reason
    assert world.release(first).result == "begun"


def test_a_rollback_rolls_the_candidate_back_once_for_one_incident(world, champion):
    candidate = world.bundle(6.0)
    world.release(candidate)
    assert batch.rollback(world.ledger, reason="complaints").reason == "complaints"
    assert world.state.champion_bundle == champion.id
    again = batch.rollback(world.ledger, reason="complaints")
    assert again.reason.startswith(f"nothing was changed: bundle {candidate.id[:12]} was rolled back 0 s ago by ")
    world.night()
    with pytest.raises(UsageError, match="no bundle served before"):
        batch.rollback(world.ledger, reason="complaints")


def test_a_rollback_lets_the_bundle_before_answer_the_next_table(world, champion):
    candidate = scored_beside(world)
    assert world.score(world.table("next")).bundle == candidate.id
    world.night()
    with pytest.raises(UsageError, match=f"a rollback leads to bundle {champion.id[:12]} now"):
        batch.rollback(world.ledger, reason="complaints", to=candidate.id[:7])
    batch.rollback(world.ledger, reason="complaints", to=champion.id[:8])
    assert world.score(world.table("after")).bundle == champion.id
    assert world.release(candidate).result == "refused"


def test_nothing_is_rolled_back_before_the_first_promotion(world):
    with pytest.raises(UsageError, match="no model was promoted"):
        batch.rollback(world.ledger, reason="complaints")


def test_a_candidate_whose_golden_rows_differ_here_is_rolled_back_and_the_champion_scores(world, champion, monkeypatch):
    candidate = world.bundle(6.0)
    world.release(candidate)
    world.night()
    monkeypatch.setattr(batch, "golden_difference", lambda bundle, _: 0.25 if bundle.id == candidate.id else 0.0)
    done = world.score(world.table())
    assert (done.bundle, done.candidate) == (champion.id, "")
    assert "golden rows" in done.release


def test_an_approval_is_waited_for(world):
    world.policy = rules(release={"mode": "batch", "approval": "manual"})
    made = world.bundle()
    assert world.release(made).result == "refused"
    with pytest.raises(NothingServed, match=f"bundle {made.id[:12]} waits for `kedge approve`"):
        world.score(world.table())


def test_a_freeze_holds_the_promotion_not_the_scoring(world, champion):
    world.policy = rules(release={"mode": "batch", "suspend": True})
    scored_beside(world)
    assert world.score(world.table("next")).bundle == champion.id
    assert world.state.open_release is not None


def test_private_features_do_not_keep_two_bundles_from_being_compared(world):
    features = {"x": {"type": "number", "privacy": "drop"}, "country": {"type": "category", "values": ["AT", "BE"]}}
    world.policy = rules(model={"name": "churn", "target": "left", "features": features})
    world.release(world.bundle())
    candidate = scored_beside(world)
    assert world.score(world.table("next")).bundle == candidate.id


def test_the_release_step_begins_it_and_leaves_a_page(world, monkeypatch):
    class Nowhere:
        """A registry that nobody asks."""

        def __init__(self, _address):
            pass

        def publish(self, _model, _state):
            pass

    monkeypatch.setattr(step, "Registry", Nowhere)
    world.now = clock.now()
    asked = [world.policy.to_dict(), world.store.url, "nowhere", ""]
    for slope, result in ((3.0, "promoted"), (6.0, "begun")):
        page = SimpleNamespace(path=str(world.folder / "page.html"))
        assert step.deploy(*asked, world.bundle(slope).id, f"release-{slope:g}", page) == result
        assert "<html" in (world.folder / "page.html").read_text()
    world.night()
    world.score(world.table())
    world.outcomes()
    world.night()
    champion = world.score(world.table("next")).bundle
    assert step.deploy(*asked, champion, "release-again", page) == "promoted"
    assert "no worse than the champion" in (world.folder / "page.html").read_text()
    settings = Settings(store=world.store.url, registry="nowhere", platform="", kfp_host=None)
    ended = step.rollback(world.policy, settings, reason="complaints")
    assert (ended.result, world.state.champion_bundle == champion) == ("rolled-back", False)


def test_a_table_that_is_dated_before_the_release_began_judges_nobody(world, champion):
    world.night()
    world.release(world.bundle(6.0))
    world.now = world.now.replace(day=2)
    assert world.score(world.table()).release == ""


def test_a_release_that_goes_on_says_what_it_waits_for(world, champion):
    world.release(world.bundle(6.0))
    world.night()
    world.score(world.table())
    seen = progress.read(world.store, "churn")
    assert "batch: 0 of 200 labels, 1 of 1 tables" in progress.words(seen, world.now)
    assert "at most 2 days" in progress.words(seen, world.now)
    status = look("churn", world.state, world.policy, None, world.now, seen)
    assert "beside the champion: batch" in "\n".join(screen(status))
