"""Simple rules to hold a policy against. Each refits on the newest rows and knows what was known by then.

``never`` keeps the first model. ``every:N`` refits after each N blocks. ``gated:N`` fits as often, on rows before the
newest block, and keeps the new model if it is not worse there; ``paired:N`` keeps it if the project's paired test says
that it is better. ``adwin`` refits when ADWIN finds that the rate of wrong decisions changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kedge import decision
from kedge.errors import UsageError
from kedge.evaluation.compare import paired
from kedge.measure import losses
from kedge.monitoring.cohort import costs
from kedge.policy import Policy
from kedge.policy.costs import RetrainingCosts
from kedge.replay.adwin import Adwin
from kedge.replay.fits import NewestFits, constant_loss, wrong_decisions
from kedge.replay.walk import BlockDecision, Walk

ALPHA = 0.05
RULE = re.compile(r"never|adwin|(every|gated|paired):[1-9]\d*")


def check(rule: str, policy: Policy) -> None:
    """Refuse what is no rule.

    Raises:
        UsageError: no such rule, or none for this task.
    """
    if RULE.fullmatch(rule) is None:
        raise UsageError(f"--vs {rule!r}: rules are never, every:N, gated:N, paired:N and adwin, N at least 1")
    if rule == "adwin" and not policy.model.class_names:
        raise UsageError("--vs adwin: it watches wrong decisions, which a regression does not make; leave it out")


def walk(rule: str, fits: NewestFits) -> Walk:
    """Walk one rule, which :func:`check` let pass, over the blocks."""
    name, _, count = rule.partition(":")
    if rule == "never":
        return _walk(rule, fits, lambda _block, _fit: None)
    if rule == "adwin":
        return _walk(rule, fits, _Adwin(fits))
    return _walk(rule, fits, {"every": _every, "gated": _not_worse, "paired": _shown_better}[name](fits, int(count)))


Choice = tuple[int, bool]
"""A fit that was made, and whether it is served from now on."""
Chooses = Callable[[int, int], Choice | None]


def _walk(rule: str, fits: NewestFits, chooses: Chooses) -> Walk:
    blocks = fits.blocks
    serving, runs, promotions = 0, 0, 0
    spent, wrong, decisions = [], 0.0, []
    for block in range(len(blocks)):
        rows = blocks.rows(block)
        scores = fits.of_rows(serving, rows)
        label = blocks.label[rows]
        spent.append(float(costs(blocks.policy.model, scores, label, constant_loss(blocks)).sum()))
        wrong += wrong_decisions(blocks.policy, blocks, scores, block)
        choice = chooses(block + 1, serving) if block + 1 < len(blocks) else None
        promoted = choice is not None and choice[1]
        if choice is not None:
            runs += 1
        if choice is not None and promoted:
            serving, promotions = choice[0], promotions + 1
        action = "none" if choice is None else "retrain"
        decisions.append(BlockDecision(block=block, action=action, promoted=promoted))
    return Walk(
        rule=rule,
        block_costs=tuple(spent),
        block_rows=tuple(np.diff(blocks.edges).tolist()),
        wrong=wrong,
        runs=runs,
        promotions=promotions,
        decisions=tuple(decisions),
    )


def _every(fits: NewestFits, count: int) -> Chooses:
    del fits
    return lambda block, _serving: (block, True) if block % count == 0 else None


def _not_worse(fits: NewestFits, count: int) -> Chooses:
    def choose(block: int, serving: int) -> Choice | None:
        if block % count:
            return None
        ours, theirs = (_cost_of_newest(fits, fit, block) for fit in (block - 1, serving))
        return block - 1, block - 1 != serving and ours <= theirs

    return choose


def _shown_better(fits: NewestFits, count: int) -> Chooses:
    def choose(block: int, serving: int) -> Choice | None:
        if block % count:
            return None
        rows = _newest(fits, block)
        if block - 1 == serving or rows.stop - rows.start < 4:
            return block - 1, False
        label, objective = fits.blocks.label[rows], fits.blocks.policy.model.objective
        theirs, ours = (losses(objective, label, fits.of_rows(fit, rows)) for fit in (serving, block - 1))
        return block - 1, paired(theirs, ours).p_value <= ALPHA

    return choose


class _Adwin:
    """Rows known since the last block are fed one by one; a change found in any of them is answered at its end."""

    def __init__(self, fits: NewestFits) -> None:
        self._fits, self._detector = fits, Adwin()

    def __call__(self, block: int, serving: int) -> Choice | None:
        fits, rows = self._fits, _newest(self._fits, block)
        first = max(rows.start, fits.blocks.known[serving])
        scores = fits.of_rows(serving, slice(first, rows.stop))
        wrong = decision.wrong(fits.blocks.policy.model, fits.blocks.label[first : rows.stop], scores)
        rose = False
        for value in wrong.tolist():
            rose |= self._detector.update(float(value)) > 0
        if not rose:
            return None
        self._detector = Adwin()
        return block, True


def _newest(fits: NewestFits, block: int) -> slice:
    """Rows whose outcome became known during the block before."""
    return slice(fits.blocks.known[block - 1], fits.blocks.known[block])


def _cost_of_newest(fits: NewestFits, fit: int, block: int) -> float:
    rows = _newest(fits, block)
    blocks = fits.blocks
    return float(costs(blocks.policy.model, fits.of_rows(fit, rows), blocks.label[rows], constant_loss(blocks)).sum())


def _path_to(fit: int, came: NDArray[np.int64]) -> set[int]:
    """A fit and those that served before it, without the first."""
    fits = set()
    while fit:
        fits.add(fit)
        fit = int(came[fit])
    return fits


def best_schedule(fits: NewestFits, prices: RetrainingCosts) -> Walk:
    """The cheapest schedule in hindsight over fits on the newest rows, by dynamic programming over the fit that serves.

    f(k, k) = min over c < k of f(c, k) + run + release, f(c, k + 1) = f(c, k) + error cost of block k by fit c.
    """
    blocks = fits.blocks
    count = len(blocks)
    table = np.array([fits.block_costs(fit) for fit in range(count)])
    spent = np.full(count, np.inf)
    spent[0] = 0.0
    came = np.zeros(count, dtype=np.int64)
    for block in range(count):
        if block:
            came[block] = int(np.argmin(spent[:block]))
            spent[block] = spent[came[block]] + prices.run + prices.release
        spent[: block + 1] += prices.error * table[: block + 1, block]
    changes = _path_to(int(np.argmin(spent)), came)
    return _walk("best schedule", fits, lambda block, _serving: (block, True) if block in changes else None)
