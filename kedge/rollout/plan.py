"""What a release will be like at a service's traffic, before it is begun: by simulating it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import islice
from statistics import median

from kedge.clock import span
from kedge.policy import Policy
from kedge.rollout.simulate import Ended, Scenario, planned_spans, simulate

FOUND = 0.95
"""Share of the releases with a harm that must be rolled back for it to count as found."""
FAILURES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Sizes of harm: shares of requests that fail, beyond the champion's."""
LATENCIES = (2.0, 3.0, 5.0, 10.0)
"""Times the champion's latency."""
LOSSES = (0.02, 0.03, 0.05, 0.1, 0.2)
"""Shares of decisions that are wrong, beyond the champion's."""
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A release at one rate of requests."""

    rps: float
    promoted: float
    """Share of candidates that are no worse that are promoted."""
    steps: Mapping[str, float | None]
    """Median seconds of each span with traffic, of a candidate that is no worse; None: half of them never end it."""
    failures: float | None
    """Least share of failing requests that is found; None: none of those tried is."""
    latency: float | None
    """Least ratio of the latencies that is found."""
    decisions: float | None
    """Least increase of the share of wrong decisions that is found, where outcomes come as the policy says."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """In words."""
        found = {
            "failing requests": "none" if self.failures is None else f"from {self.failures:.1%} on",
            "latency": "none" if self.latency is None else f"from {self.latency:g} times the champion's on",
            "wrong decisions": "none" if self.decisions is None else f"from {self.decisions:+.0%} on",
        }
        return [
            f"at {self.rps:g} requests a second, a candidate that is no worse is promoted in {self.promoted:.0%}",
            *(
                f"  {name}: {'never ends' if seconds is None else span(timedelta(seconds=seconds))}"
                for name, seconds in self.steps.items()
            ),
            f"rolled back in {FOUND:.0%} and more of releases:",
            *(f"  {name}: {words}" for name, words in found.items()),
        ]


def plan(policy: Policy, *, rps: float, base_error: float = 0.01, rollouts: int = 40) -> Plan:
    """Simulate releases of candidates that are no worse, and of worse ones in a few sizes.

    Args:
        rps: Requests a second, of both bundles together.
        base_error: Share of the champion's requests that fail.
        rollouts: Releases to simulate a question.

    Raises:
        UsageError: the policy releases by tables, which have no requests.
    """
    delay = policy.labels.due_seconds or 0.0
    equal = Scenario(rps=rps, base_error=base_error, candidate_error=base_error, label_delay=delay)

    def least(worse: Sequence[tuple[float, Scenario]]) -> float | None:
        for size, scenario in worse:
            ended = simulate(policy, scenario, rollouts=rollouts, seed=SEED)
            missed = (one for one in ended if one.result != "rolled back")
            allowed = math.floor((1 - FOUND) * rollouts + 1e-9)
            if next(islice(missed, allowed, None), None) is None:
                return size
        return None

    ended = list(simulate(policy, equal, rollouts=rollouts, seed=SEED))
    failing = [min(base_error + more, 1.0) for more in FAILURES]
    return Plan(
        rps=rps,
        promoted=sum(one.result == "promoted" for one in ended) / len(ended),
        steps=_steps(policy, ended),
        failures=least([(rate, replace(equal, candidate_error=rate)) for rate in failing]),
        latency=least([(ratio, replace(equal, latency_ratio=ratio)) for ratio in LATENCIES]),
        decisions=least([(loss, replace(equal, accuracy_loss=loss)) for loss in LOSSES]),
    )


def _steps(policy: Policy, ended: Sequence[Ended]) -> dict[str, float | None]:
    steps: dict[str, float | None] = {}
    for place, (state, percent) in enumerate(planned_spans(policy)):
        lasted = [one.steps[place] for one in ended if len(one.steps) > place]
        steps[f"{state} {percent} %"] = median(lasted) if 2 * len(lasted) >= len(ended) else None
    return steps
