"""A policy and simple rules over one history, with one set of fits, and the best schedule in hindsight."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kedge.bundle import packages
from kedge.errors import UsageError
from kedge.policy.costs import RetrainingCosts
from kedge.replay import rules
from kedge.replay.blocks import Blocks
from kedge.replay.fits import NewestFits
from kedge.replay.policy_walk import PolicyWalk
from kedge.replay.walk import Walk

RULES = ("never", "every:1", "every:5", "gated:5", "paired:5", "adwin")
"""What a policy is held against unless others are named."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of it."""

    blocks: Blocks
    costs: RetrainingCosts
    policy: Walk
    rules: tuple[Walk, ...]
    best_schedule: Walk
    same_as_before: float | None
    """Accuracy of saying the label of the row before: a persistent series hands it to everybody. None: regression."""

    @property
    def best_rule(self) -> Walk:
        """The cheapest of the simple rules."""
        return min(self.rules, key=lambda walk: walk.j(self.costs))

    def regret(self, walk: Walk) -> float:
        """What a walk cost above the best schedule in hindsight over fits on the newest rows."""
        return walk.j(self.costs) - self.best_schedule.j(self.costs)

    @property
    def sentence(self) -> str:
        """What the policy would have won or lost."""
        ours = self.policy.j(self.costs)
        words = []
        for walk in [self.best_rule, *(walk for walk in self.rules if walk.rule == "never")]:
            difference = walk.j(self.costs) - ours
            what = f"{abs(difference):,.0f} {'less' if difference >= 0 else 'more'} than {walk.rule!r}"
            if what not in words:
                words.append(what)
        runs, promotions = _count(self.policy.runs, "run"), _count(self.policy.promotions, "promotion")
        return (
            f"Over {len(self.blocks):,} blocks the policy would have cost {ours:,.0f} with {runs} and {promotions}: "
            f"{', '.join(words)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``kedge replay --json`` prints it."""
        walks = (self.policy, *self.rules)
        return {
            "blocks": len(self.blocks),
            "rows": int(self.blocks.edges[-1] - self.blocks.edges[0]),
            "costs": self.costs.model_dump(),
            "rules": {walk.rule: walk.to_dict(self.costs) | {"regret": round(self.regret(walk), 6)} for walk in walks},
            "best_schedule": self.best_schedule.to_dict(self.costs),
            "same_label_as_before": self.same_as_before,
        }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def replay(
    blocks: Blocks,
    names: Sequence[str] = RULES,
    *,
    folder: Path | None = None,
    progress: Callable[[int], Callable[[], None]] = lambda _total: lambda: None,
) -> Replay:
    """Walk the policy and the rules over the blocks.

    Args:
        blocks: History and policy; its ``costs`` are what J counts.
        names: Rules to compare with, see :mod:`kedge.replay.rules`.
        folder: Keeps what was fitted: a replay that was killed goes on from there; None: nothing is kept.
        progress: Is told how many parts there are, and gives what advances by one.

    Raises:
        UsageError: no such rule.
        DataError: a model cannot be trained on the first rows.
    """
    if not names:
        raise UsageError("--vs: name at least one rule to hold the policy against, such as never")
    if len(set(names)) != len(names):
        raise UsageError(f"--vs {','.join(names)}: a rule is given twice")
    for name in names:
        rules.check(name, blocks.policy)
    blocks = _single_threaded(blocks)
    fits = NewestFits(blocks, None if folder is None else folder / _digest(blocks))
    advance = progress(2 * len(blocks))
    with fits.made_meanwhile(range(len(blocks)), advance):
        walked = PolicyWalk(blocks).walk(advance)
    walks = tuple(rules.walk(name, fits) for name in names)
    best = rules.best_schedule(fits, blocks.policy.costs)
    return Replay(
        blocks=blocks,
        costs=blocks.policy.costs,
        policy=walked,
        rules=walks,
        best_schedule=best,
        same_as_before=_same_as_before(blocks),
    )


def _single_threaded(blocks: Blocks) -> Blocks:
    """The blocks with fits of one thread each, unless the policy says how many: side by side they use all processors,
    and on few rows several threads wait more than they work."""
    train = blocks.policy.train
    one = train.model_copy(update={"threads": train.threads or 1})
    return replace(blocks, policy=blocks.policy.model_copy(update={"train": one}))


def _digest(blocks: Blocks) -> str:
    """Names the fits: what they learn from, and how."""
    policy = blocks.policy
    package = packages.of(policy)
    code = package.digest if package is not None else ""
    asked = f"{policy.model.model_dump_json()}{policy.train.model_dump_json()}{blocks.start_rows}{blocks.known}{code}"
    digest = hashlib.sha256(asked.encode())
    for column in blocks.table.itercolumns():
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
    return digest.hexdigest()[:16]


def _same_as_before(blocks: Blocks) -> float | None:
    if not blocks.policy.model.class_names:
        return None
    label = blocks.label[blocks.edges[0] - 1 :]
    return float(np.mean(label[1:] == label[:-1]))
