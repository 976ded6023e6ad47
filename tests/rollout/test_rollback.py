"""A rollback by hand."""

import pytest

from kedge import records
from kedge.errors import SlotNotReady, UsageError
from kedge.rollout.model import Route
from kedge.rollout.rollback import rollback
from kedge.rollout.rollout import run
from tests.records.made import record
from tests.rollout.conftest import Behaviour

OLD, NEW, THIRD = "a" * 40, "b" * 40, "c" * 40


def serving(platform):
    """The bundle that has all traffic."""
    ((slot, percent),) = platform.current_route.weights.items()
    assert percent == 100
    return platform.slots[slot][0]


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


@pytest.fixture
def third_in_a_row(promoted, release):
    """THIRD serves, after OLD and NEW."""
    assert run(release(promoted, THIRD)).result == "promoted"
    promoted.sleep(86_400)
    return promoted


@pytest.mark.parametrize("actor", ["ada", "guard"])
def test_second_rollback_of_one_incident_changes_nothing_and_says_what_goes_further(third_in_a_row, release, actor):
    assert rollback(release(third_in_a_row, None), reason="complaints", actor=actor).reason == "complaints"
    third_in_a_row.sleep(90)
    again = rollback(release(third_in_a_row, None), reason="complaints")
    assert again.reason == (
        f"nothing was changed: bundle {THIRD[:12]} was rolled back 1.5 min ago by {actor}: complaints; "
        f"{NEW[:12]} serves since; `kedge rollback --to {OLD[:12]}` goes further back"
    )
    assert serving(third_in_a_row) == NEW
    with pytest.raises(UsageError, match=f"--to '{THIRD}': a rollback leads to bundle {OLD[:12]} now"):
        rollback(release(third_in_a_row, None), reason="x", to=THIRD)
    for _ in range(2):
        rollback(release(third_in_a_row, None), reason="it is bad too", to=OLD[:8])
        assert serving(third_in_a_row) == OLD


def test_rollback_long_after_another_goes_further_back(third_in_a_row, release):
    rollback(release(third_in_a_row, None), reason="complaints")
    third_in_a_row.sleep(3600)
    rollback(release(third_in_a_row, None), reason="others")
    assert serving(third_in_a_row) == OLD


def test_rollback_just_after_the_judges_own_leaves_the_champion(third_in_a_row, release):
    third_in_a_row.behaviours["d" * 40] = Behaviour(failing=0.5)
    assert run(release(third_in_a_row, "d" * 40)).result == "rolled-back"
    rollback(release(third_in_a_row, None), reason="I saw it too")
    assert serving(third_in_a_row) == THIRD


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

    for kill_at in range(1, 100):
        platform = type(served)()
        platform.slots["blue"], store = (OLD, platform.now), open_store(tmp_path / str(kill_at))
        platform.current_route = Route(weights={"blue": 100}, revision=1)
        for bundle in (OLD, NEW, THIRD):
            for kind in ("release-started", "promoted"):
                records.append(store, record(kind, f"{bundle}-1", platform.now))
        platform.slots["blue"] = (THIRD, platform.now)
        platform.kill_at = kill_at
        killed = False
        for _ in range(2):
            operator = release(platform, None)
            operator.store = store
            try:
                rollback(operator, reason="x")
                break
            except BaseException as exc:
                assert type(exc).__name__ == "Killed", exc  # noqa: PT017
                killed, platform.kill_at = True, None
        assert platform.slots == {"green": (NEW, platform.slots["green"][1])}
        if not killed:
            break
    assert kill_at > 5
