"""A release on simulated traffic, and the real one on the same traffic, look by look: one judge, one verdict."""

from dataclasses import replace

import numpy as np
import pytest

from kedge.rollout import simulate
from kedge.rollout.evidence import Observed
from kedge.rollout.judge import judge
from kedge.rollout.model import Readings
from kedge.rollout.rollout import run
from tests.rollout.conftest import Platform

HARM = {"candidate_error": 0.06, "latency_ratio": 2.0, "accuracy_loss": 0.03, "score_shift": 0.3}


class Recorded(Platform):
    """Answers and outcomes as a simulated release saw them, by state, share and age of the state."""

    def __init__(self, looks, **fields):
        super().__init__(**fields)
        self._looks = looks

    def _look(self):
        rollout = self.current_route.rollout
        percent = self.current_route.weights.get(rollout.slot, 0)
        return self._looks.get((rollout.state, percent, (self.now - rollout.since).total_seconds()))

    def readings(self, mark):
        look = self._look()
        if look is None:  # the first one, at once
            return super().readings(mark)
        span = look.current.span
        return Readings(live={"green": span.candidate, "blue": span.champion})

    def observe(self, rollout, spans):
        look = self._look() if not rollout.ended else None
        if look is None:
            return [Observed(span=span) for span in spans]
        return [replace(each, span=span) for each, span in zip(look.observed, spans, strict=True)]


@pytest.mark.parametrize("seed", range(12))
def test_a_recorded_release_gets_the_same_verdict_at_the_same_look(served, release, policy, store, seed):
    random = np.random.default_rng(seed)
    harm = {name: size for name, size in HARM.items() if random.random() < 0.3}
    scenario = simulate.Scenario(
        rps=10 ** random.uniform(-0.5, 1.5), base_error=0.02, **{"candidate_error": 0.02, **harm}
    )
    looks = {}

    def recorder(evidence, policy):
        span = evidence.current.span
        looks[span.state, span.percent, evidence.seconds] = evidence
        return judge(evidence, policy)

    ended = simulate.release(policy, scenario, random, recorder)
    platform = Recorded(looks, slots=dict(served.slots), current_route=served.current_route)
    outcome = run(release(platform))
    assert outcome.result == {"promoted": "promoted", "rolled back": "rolled-back", "held": "not-judged"}[ended.result]
    if ended.result == "rolled back":
        assert outcome.reason == ended.reason
    states = [route.rollout for route in platform.routes if route.rollout]
    began = next(each.since for each in states if each.state == "canary")
    assert (next(each.since for each in states if each.ended) - began).total_seconds() == ended.seconds
