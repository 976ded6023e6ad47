"""How soon releases judge, and how often wrongly, by simulation. Prints tables in Markdown.

    python benchmarks/release.py             on all processors; the equal candidates take most of its time
    python benchmarks/release.py --quick     a minute: fewer releases

The judge is the rollout's own, under the policy's defaults; the seeds are none of those that its stakes were chosen on.
Beside it, on the same simulated traffic, stand the documented examples of two peers:

- Flagger's canary: a look a minute, ten failed looks end it, +2 % a look up to 50 %, at least 99 % of the candidate's
  requests of that minute without a failure.
- Argo Rollouts' background analysis: a look each five minutes, more than three failed looks end it, at least 95 % of
  the candidate's requests of those minutes without a failure; steps of 20, 40, 60 and 80 %, ten minutes each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import numpy as np

from kedge import policy as policies
from kedge.cpus import usable_cpus
from kedge.rollout.simulate import Scenario, Service, simulate, summary

DAY = 86_400
SEED = 4711
DEFAULTS = policies.parse(
    {
        "model": {"name": "m", "target": "y", "features": {"x": {"type": "number"}}},
        "data": {"source": {"format": "log"}},
    }
)
EQUAL = Scenario(rps=10, base_error=0.01, candidate_error=0.01, bake_outage=600, wander=0.5)


def flagger(service: Service) -> tuple[bool, int, int, int]:
    """Rolled back, requests and failed requests of the candidate, seconds."""
    return _fixed(service, weights=list(range(2, 51, 2)), seconds=60, least=0.99, limit=10, waits=True)


def argo(service: Service) -> tuple[bool, int, int, int]:
    """Rolled back, requests and failed requests of the candidate, seconds."""
    weights = [20, 20, 40, 40, 60, 60, 80, 80]
    return _fixed(service, weights=weights, seconds=300, least=0.95, limit=4, waits=False)


def _fixed(
    service: Service, *, weights: list[int], seconds: int, least: float, limit: int, waits: bool
) -> tuple[bool, int, int, int]:
    requests = bad = failed = looks = at = 0
    while at < len(weights):
        candidate, _ = service.look(seconds, weights[at])
        requests, bad, looks = requests + candidate.requests, bad + candidate.errors, looks + 1
        if candidate.requests and 1 - candidate.errors / candidate.requests < least:
            failed += 1
            if failed >= limit:
                return True, requests, bad, looks * seconds
            if waits:  # a failed look does not raise the weight
                continue
        at += 1
    return False, requests, bad, looks * seconds


def row(name: str, scenario: Scenario, rollouts: int, seed: int) -> str:
    """One line of the table of this project's judge."""
    ended = list(simulate(DEFAULTS, scenario, rollouts=rollouts, seed=seed, processes=usable_cpus()))
    figures = summary(ended)
    taken = [each for each in ended if each.result == "rolled back"]
    rows = sorted(each.rows for each in taken)
    spent = "- | - | - | -"
    if taken:
        late = rows[min(int(0.95 * len(rows)), len(rows) - 1)]
        spent = (
            f"{figures['median_candidate_requests']:,.0f} | {figures['median_bad_answers']:,.0f} | "
            f"{figures['median_seconds']:,.0f} | {median(rows):,.0f}, {late:,}"
        )
    quick = sum(each.result == "promoted" and each.seconds <= 5 * DAY for each in ended) / len(ended)
    return (
        f"| {name} | {rollouts:,} | {figures['rolled_back']:.1%} | {figures['promoted']:.1%} ({quick:.1%}) "
        f"| {figures['held']:.1%} | {spent} |"
    )


def peer(
    name: str, rule: Callable[[Service], tuple[bool, int, int, int]], scenario: Scenario, rollouts: int, seed: int
) -> str:
    """One line of the table of the peers."""
    streams = np.random.SeedSequence(seed).spawn(rollouts)
    ended = [rule(Service(scenario, np.random.default_rng(stream))) for stream in streams]
    taken = [each for each in ended if each[0]]
    spent = " | ".join(f"{median(each[place] for each in taken):,.0f}" if taken else "-" for place in (1, 2, 3))
    return f"| {name} | {rollouts:,} | {len(taken) / rollouts:.1%} | {spent} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer releases")
    parser.add_argument("--rollouts", type=int, default=5000, help="of equal candidates; a tenth of it of worse ones")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    equal, seed = 60 if options.quick else options.rollouts, options.seed
    worse = max(equal // 10, 40)
    small = max(equal // 25, 10)

    def at(**fields: float) -> Scenario:
        return Scenario(**{"rps": 10, "base_error": 0.01, "candidate_error": 0.01, **fields})

    print("| candidate, 10 requests a second | releases | rolled back | promoted (in five days) | held ", end="")
    print("| its requests | failed of them | seconds | rows with an outcome, 95 % within |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, scenario, rollouts in (
        ("equal; wandering rate, outage of both in the bake", EQUAL, equal),
        ("fails 5 % against 1 %", at(candidate_error=0.05), worse),
        ("fails 3 % against 1 %", at(candidate_error=0.03), worse),
        ("latency doubled", at(latency_ratio=2), worse),
        ("scores moved by half their sd", at(score_shift=0.5), worse),
        ("3 points less accurate", at(accuracy_loss=0.03), worse),
        ("equal, 100 requests a day, labels after a day", at(rps=100 / DAY, label_delay=DAY), small),
        ("equal, 500 requests a day, labels after a day", at(rps=500 / DAY, label_delay=DAY), small),
    ):
        print(row(name, scenario, rollouts, seed), flush=True)
    print("\n| documented example, 10 requests a second | releases | rolled back | its requests | failed | seconds |")
    print("|---|---|---|---|---|---|")
    for name, rule in (("Flagger", flagger), ("Argo Rollouts", argo)):
        print(peer(f"{name}: 5 % against 1 %", rule, at(candidate_error=0.05), worse, seed))
        print(peer(f"{name}: equal, 1 %", rule, at(), worse, seed))
        print(peer(f"{name}: equal, 0.5 %", rule, at(base_error=0.005, candidate_error=0.005), worse, seed), flush=True)


if __name__ == "__main__":
    main()
