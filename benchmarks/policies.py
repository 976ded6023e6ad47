"""What the default policy costs on streams with a known story, beside simple rules and the best schedule.

    python benchmarks/policies.py [--seeds 0,1] [--streams abrupt,sea] [--offsets 0,2,4] [--data elec.csv] [--quick]

J = wrong decisions + 20 a run + 10 a promotion, averaged over the offsets (blocks that the start is moved by). The
regret is J above that of the best schedule in hindsight over fits on the newest 2,000 rows. Of the abrupt change it
also prints what is served eight blocks later, beside a model that is fitted on the newest 2,000 rows at every block.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import streams

from kedge import policy as policies
from kedge.policy import Policy
from kedge.replay import blocks as cutting
from kedge.replay import history, replay

RULES = ("never", "every:1", "every:2", "every:5", "every:10", "every:20", "gated:5", "paired:5", "adwin")
DRIFTING = ("abrupt", "gradual", "recurring", "turning", "thresholds")
LATER = 8
"""Blocks after the abrupt change: a model on the newest 2,000 rows has read nothing older than the change by then."""
CONTROLS = ("stationary", "covariate", "noise", "hopeless")


def main() -> None:
    """Print one line a stream, then the sums."""
    arguments = _arguments()
    totals: dict[str, float] = defaultdict(float)
    later: list[tuple[float, float]] = []
    print(f"{'stream':<16}{'policy':>8}{'runs':>6}{'prom.':>6}{'best rule':>20}{'best schedule':>15}{'share':>7}")
    for name, policy, table, block in _histories(arguments):
        rows = defaultdict(list)
        for offset in arguments.offsets:
            cut = cutting.cut(
                policy, table.slice(offset * block), block=str(block), start_rows=streams.START, label_delay_seconds=0
            )
            result = replay(cut, RULES, folder=arguments.cache)
            walks = {walk.rule: walk for walk in (result.policy, *result.rules)}
            for rule, walk in walks.items():
                rows[rule].append(walk.j(result.costs))
            rows["best schedule"].append(result.best_schedule.j(result.costs))
            rows["runs"].append(walks["policy"].runs)
            rows["promotions"].append(walks["policy"].promotions)
            if name.startswith("abrupt"):
                place = streams.CHANGE + LATER - offset
                later.append((walks["policy"].block_costs[place] / block, walks["every:1"].block_costs[place] / block))
        mean = {rule: sum(values) / len(values) for rule, values in rows.items()}
        _line(name, mean)
        for rule, value in mean.items():
            totals[rule] += value
    _line("sum", totals)
    print(", ".join(f"{rule} {totals[rule]:,.0f}" for rule in RULES))
    if later:
        _eight_blocks_later(later)


def _eight_blocks_later(wrong: list[tuple[float, float]]) -> None:
    """Print shares of wrong decisions, each of the policy and of a model on the newest 2,000 rows."""
    served, newest = (100 * sum(values) / len(wrong) for values in zip(*wrong, strict=True))
    apart = [100 * (ours - theirs) for ours, theirs in wrong]
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else float("nan")
    print(
        f"abrupt change, {LATER} blocks after, {len(wrong)} replays: {served:.1f} % of the served decisions are wrong, "
        f"{newest:.1f} % of a model's on the newest 2,000 rows: {served - newest:+.1f} points (error {error:.1f})"
    )


def _line(name: str, mean: dict[str, float]) -> None:
    best = min(RULES, key=lambda rule: mean[rule])
    regret = mean[best] - mean["best schedule"]
    share = (mean["policy"] - mean["best schedule"]) / regret if regret > 0 else float("nan")
    print(
        f"{name:<16}{mean['policy']:>8,.0f}{mean['runs']:>6.1f}{mean['promotions']:>6.1f}"
        f"{best + f' {mean[best]:,.0f}':>20}{mean['best schedule']:>15,.0f}{share:>7.2f}",
        flush=True,
    )


def _histories(arguments: argparse.Namespace) -> list[tuple[str, Policy, pa.Table, int]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.streams:
            for seed in arguments.seeds:
                path = Path(folder) / f"{name}-{seed}.parquet"
                streams.write(name, seed, path)
                policy = _policy(name, path, streams.stream(name, seed)[0].shape[1])
                found.append((f"{name} {seed}", policy, history.read(policy), streams.BLOCK))
    if arguments.data is not None:
        policy = policies.load(arguments.policy)
        policy = history.with_source(_defaults(policy), str(arguments.data))
        found.append((arguments.data.stem, policy, history.read(policy), arguments.block))
    return found


def _policy(name: str, path: Path, inputs: int) -> Policy:
    return policies.parse(
        {
            "model": {
                "name": name,
                "target": "label",
                "features": {f"x{column}": {"type": "number"} for column in range(inputs)},
            },
            "data": {"source": {"format": "parquet", "location": str(path)}, "time_column": "at"},
            "train": {"estimators": ["xgboost"]},
        }
    )


def _defaults(policy: Policy) -> Policy:
    """A policy's model and data with the default of everything else."""
    plain = policy.to_dict()
    kept = {part: plain[part] for part in ("model", "data")}
    return policies.parse({**kept, "train": {"estimators": ["xgboost"]}})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[20, 21])
    parser.add_argument("--streams", type=lambda text: text.split(","), default=[*DRIFTING, *CONTROLS])
    parser.add_argument("--offsets", type=lambda text: [int(offset) for offset in text.split(",")], default=[0, 2, 4])
    parser.add_argument("--data", type=Path, help="also this table")
    parser.add_argument("--policy", type=Path, help="its policy, of which model and data are taken")
    parser.add_argument("--block", type=int, default=336, help="rows of a block of --data")
    parser.add_argument("--cache", type=Path, help="keeps fits between two calls")
    parser.add_argument("--quick", action="store_true", help="two streams, one seed, one offset")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.streams, arguments.seeds, arguments.offsets = ["abrupt", "stationary"], [20], [0]
    return arguments


if __name__ == "__main__":
    main()
