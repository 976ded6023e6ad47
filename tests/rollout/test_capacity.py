"""What a candidate's server needs, held against limits before it has any traffic."""

import threading
import time

from kedge.errors import ReleaseError
from kedge.policy.release import Capacity
from kedge.rollout.capacity import Check, checked, open_loop
from kedge.rollout.rollout import run
from tests.rollout.conftest import START

FAST = {"requests_per_second": 500, "seconds": 0.1}


def test_a_latency_counts_from_when_its_request_was_due():
    """Ten requests, all due within 10 ms, of a server that takes 20 ms each, one after the other."""
    turn = threading.Lock()

    def send():
        with turn:
            time.sleep(0.02)

    latencies = open_loop(send, rate=1000, seconds=0.01)
    assert len(latencies) == 10
    assert max(latencies) >= 0.18


def test_a_request_that_failed_took_for_ever():
    def refuse():
        raise ReleaseError("503")

    assert open_loop(refuse, 100, 0.02) == [float("inf")] * 2


def figures(send=lambda: None, memory=lambda: 50e6, size=3e6, start=4.0, **limits):
    rules = Capacity(**FAST, **limits)
    return {each.name.split(",")[0]: each for each in checked(rules, send, memory, size=size, start_seconds=start)}


def test_only_what_has_a_limit_is_looked_at():
    assert figures() == {}
    assert list(figures(max_size_mb=3)) == ["size"]


def test_every_figure_is_told_whichever_fails():
    found = figures(max_size_mb=2, max_start_seconds=4, max_p95_ms=10_000, max_memory_mb=49)
    assert {name: each.passed for name, each in found.items()} == {
        "size": False,
        "start": True,
        "latency": True,
        "memory": False,
    }
    assert found["size"].sentence == "size 3 MB, above the limit of 2 MB"
    assert found["start"].sentence == "start 4 s, within the limit of 4 s"
    assert "95 % interval" in found["latency"].sentence


def test_a_percentile_is_above_its_limit_only_where_that_is_shown():
    shown = Check(name="latency", unit="ms", limit=10, value=15, low=11, high=20)
    assert (shown.passed, Check(name="latency", unit="ms", limit=10, value=15, low=9, high=20).passed) == (False, True)


def test_memory_that_cannot_be_read_is_said_and_held_against_nobody():
    def silent():
        raise ReleaseError("http://s/metrics: refused")

    found = figures(memory=silent, max_memory_mb=1)["memory"]
    assert found.passed
    assert found.sentence == "memory could not be measured: http://s/metrics: refused; limit 1 MB"


def test_a_candidate_above_a_limit_gets_no_traffic(served, release, change):
    said = []
    asked = release(served, policy=change(capacity=Capacity(**FAST, max_size_mb=1, max_start_seconds=100)))
    asked.say = said.append
    outcome = run(asked)
    assert (outcome.result, outcome.reason) == ("rolled-back", "capacity: size 2 MB, above the limit of 1 MB")
    assert not any(route.weights.get("green") for route in served.routes)
    assert "start 3 s, within the limit of 100 s" in said, "all are looked at"


def test_a_candidate_within_its_limits_goes_on(served, release, change):
    limits = Capacity(**FAST, max_size_mb=2, max_start_seconds=60, max_p95_ms=60_000)
    assert run(release(served, policy=change(capacity=limits))).result == "promoted"


def test_a_candidate_that_is_taken_away_while_it_is_measured_is_not_at_fault(served, release, change):
    """Its pod is evicted by the first request of the load, and back 10 s later."""
    answer, asked = served._answer, []

    def evicted(request):
        if not asked:
            now = (served.now - START).total_seconds()
            served.unready["green"] = [(now, now + 10)]
        asked.append(request)
        return answer(request)

    served._answer = evicted
    limits = Capacity(**FAST, max_p95_ms=60_000)
    outcome = run(release(served, policy=change(capacity=limits)))
    assert outcome.result == "promoted"
    assert len(asked) > 50, "it was measured again when it was back"
