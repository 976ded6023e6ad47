"""A rollback by hand."""

import pytest

from kedge import records
from kedge.errors import SlotNotReady, UsageError
from kedge.rollout.model import Route
from kedge.rollout.rollback import rollback
from kedge.rollout.rollout import run
from tests.records.made import record

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def promoted(served, release):
    """NEW was released over OLD, whose slot is empty again."""
    assert run(release(served)).result == "promoted"
    served.routes.clear()
    return served


def test_champion_is_rolled_back_to_the_one_before_and_the_reason_is_kept(promoted, release, store):
    asked = release(promoted, None)
    outcome = rollback(asked, reason="complaints", actor="ada")
    assert (outcome.result, outcome.reason) == ("rolled-back", "complaints")
    assert promoted.current_route.weights == {"blue": 100}
    assert {slot: bundle for slot, (bundle, _) in promoted.slots.items()} == {"blue": OLD}
    assert asked.published == [(OLD, None)]
    kept = records.latest(store, "fraud", records.RolledBack)
    assert (kept.actor, kept.data.bundle, kept.data.previous, kept.data.reason) == (
        "ada", NEW, OLD, "complaints",
    )  # fmt: skip


def test_warm_champion_is_back_with_the_first_write_of_the_route(served, release):
    """While the candidate bakes, the old champion still runs."""
    asked = release(served)
    stop = RuntimeError("enough")

    def sleep(seconds):
        if served.current_route.rollout and served.current_route.rollout.state == "bake":
            raise stop
        served.sleep(seconds)

    asked.sleep = sleep
    with pytest.raises(RuntimeError):
        run(asked)
    served.routes.clear()
    rollback(release(served, None), reason="complaints")
    assert served.routes[0].weights == {"blue": 100}
    assert served.slots.keys() == {"blue"}


def test_rollback_ends_the_release_that_runs_in_another_process(served, release):
    asked, operator = release(served), release(served, None)

    def sleep(seconds):
        served.sleep(seconds)
        if served.current_route.rollout and served.current_route.rollout.state == "canary":
            rollback(operator, reason="seen enough", actor="ada")

    asked.sleep = sleep
    outcome = run(asked)
    assert (outcome.result, outcome.reason) == ("rolled-back", "seen enough")
    assert served.current_route == Route(weights={"blue": 100}, revision=served.current_route.revision)


def test_bundle_an_operator_took_back_is_refused(promoted, release):
    rollback(release(promoted, None), reason="complaints")
    assert "complaints" in run(release(promoted)).reason


def test_nothing_to_go_back_to_is_said(served, platform, release, store):
    with pytest.raises(UsageError, match="no bundle served before"):
        rollback(release(served, None), reason="x")
    served.current_route = Route()
    with pytest.raises(UsageError, match="no model is served"):
        rollback(release(served, None), reason="x")


def test_traffic_stays_where_it_is_when_the_old_bundle_does_not_come_up(promoted, release):
    promoted.behaviours[OLD] = type(promoted.behaviour(OLD))(crashes=True)
    with pytest.raises(SlotNotReady, match="the model cannot be read"):
        rollback(release(promoted, None), reason="x")
    assert promoted.current_route.weights == {"green": 100}


def test_rollback_killed_at_any_effect_never_goes_back_twice(served, release, request, tmp_path):
    from kedge.store import open_store

    third = "c" * 40
    for kill_at in range(1, 100):
        platform = type(served)()
        platform.slots["blue"], store = (OLD, platform.now), open_store(tmp_path / str(kill_at))
        platform.current_route = Route(weights={"blue": 100}, revision=1)
        for bundle in (OLD, NEW, third):
            for kind in ("release-started", "promoted"):
                records.append(store, record(kind, f"{bundle}-1", platform.now))
        platform.slots["blue"] = (third, platform.now)
        platform.kill_at = kill_at
        killed = False
        for _ in range(2):
            operator = release(platform, None)
            operator.store = store
            try:
                if (
                    killed
                    and platform.current_route.rollout is None
                    and platform.current_route.weights == {"green": 100}
                ):
                    break  # done: asking again would be asking for one more step back
                rollback(operator, reason="x")
                break
            except BaseException as exc:
                assert type(exc).__name__ == "Killed", exc  # noqa: PT017
                killed, platform.kill_at = True, None
        assert platform.slots == {"green": (NEW, platform.slots["green"][1])}
        if not killed:
            break
    assert kill_at > 5
