"""How long a bad slot still gets requests after the verdict, and whether weights that change lose any. Prints a table.

    python benchmarks/rollback.py [--rollbacks 20] [--changes 100]

Envoy, the supervisor of `kedge up` and the releases are real, under the load of three clients; model servers are
stand-ins. Each release's candidate fails half of its requests at half of the traffic. The time is from the judge's
verdict, before anything is written, to the beginning of the last request that the bad slot answered. Weights change
between two healthy slots, each at once after the one before was applied. The goals are 1 s and no failed request.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow as pa
from release_kills import Load, serving, until, write_bundle

from kedge import policy as policies
from kedge.rollout.evidence import Observed
from kedge.rollout.local.driver import LocalDriver
from kedge.rollout.model import Route
from kedge.rollout.release import Release
from kedge.rollout.rollout import run
from kedge.store import open_store

QUIET_SECONDS = 1.5
"""Without an answer of the bad slot, after which the last one was the last."""


class Timed(LocalDriver):
    """Remembers when a verdict was given."""

    verdict = 0.0

    def set_route(self, route: Route) -> Route:
        """See :class:`LocalDriver`."""
        if route.rollout is not None and route.rollout.state == "rolled-back":
            self.verdict = time.monotonic()
        return super().set_route(route)


class Golden:
    """As much of a bundle as a release reads."""

    golden, size = pa.table({"x": [1.0], "_score": [0.5]}), 2_000_000

    def __init__(self, name: str) -> None:
        self.id = name

    def golden_rows(self) -> list[dict[str, float]]:
        """One row."""
        return [{"x": 1.0}]


def rolled_back(root: Path, load: Load, number: int) -> float:
    """Seconds from the verdict on a bad candidate to the last request that it answered."""
    name, driver = f"bad-{number}", Timed(root / "platform", "fraud")
    write_bundle(root, name, failing=0.5)
    release = Release(
        driver=driver,
        policy=policies.load(root / "fraud.yaml"),
        store=open_store(root / "store"),
        publish=lambda _state: None,
        observe=lambda _rollout, spans: [Observed(span=span) for span in spans],
        bundle=Golden(name),  # type: ignore[arg-type]
    )
    release.uri = lambda bundle: str(root / bundle)  # type: ignore[method-assign]
    outcome = run(release)
    assert outcome.result == "rolled-back", outcome.reason
    time.sleep(QUIET_SECONDS)
    return max(load.last["green"] - driver.verdict, 0.0)


def changed(root: Path, driver: LocalDriver, load: Load, changes: int) -> tuple[int, float]:
    """Requests that failed while weights changed, and how long the changes took."""
    write_bundle(root, "good")
    driver.deploy("green", "good", str(root / "good"))
    until(lambda: driver.slot("green").ready, "the second slot")
    failed, began = len(load.failed), time.monotonic()
    for number in range(changes):
        green = (5, 50, 95, 100, 0)[number % 5]
        weights = {"blue": 100 - green, "green": green}
        driver.set_route(replace(driver.route(), weights={slot: each for slot, each in weights.items() if each}))
    seconds = time.monotonic() - began
    return len(load.failed) - failed, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollbacks", type=int, default=20)
    parser.add_argument("--changes", type=int, default=100)
    options = parser.parse_args()
    with serving() as (root, _, driver, load):
        seconds = sorted(rolled_back(root, load, number) for number in range(options.rollbacks))
        failed, took = changed(root, driver, load, options.changes)
        answered = load.answered
    print("| what | seen | goal |\n|---|---|---|")
    met = "1 s" if seconds[-1] <= 1 else "1 s: **missed**"
    span = f"median {median(seconds):.3f} s, longest {seconds[-1]:.3f} s"
    print(f"| verdict to the last request on the bad slot, {len(seconds)} rollbacks | {span} | {met} |")
    lost = f"{failed} failed of {answered:,} asked in all, in {took:.1f} s"
    print(f"| {options.changes} changes of weights under load | {lost} | 0{': **missed**' if failed else ''} |")


if __name__ == "__main__":
    main()
