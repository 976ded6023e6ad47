"""Models fitted on the newest rows known at each edge of the blocks: what simple rules serve. Each is made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from kedge import decision, measure
from kedge.bundle import packages, transform
from kedge.cpus import usable_cpus
from kedge.measure import Floats
from kedge.monitoring.cohort import costs
from kedge.policy import Policy
from kedge.replay.blocks import Blocks
from kedge.training.challenger import WindowFits
from kedge.training.estimators import Rows


@dataclass
class NewestFits:
    """Fit k learns from the newest ``start_rows`` rows known at edge k, with the policy's recipe."""

    blocks: Blocks
    folder: Path | None = None
    """Keeps scores, so that a replay that was killed goes on where it was; None: they are not kept."""
    _scores: dict[int, Floats] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        policy, table = self.blocks.policy, self.blocks.table
        signature, matrix = transform.encoded(policy, table, packages.of(policy), self.blocks.known[0])
        rows = Rows(matrix, self.blocks.label, self.blocks.microseconds)
        self._fits = WindowFits(policy, signature.model, rows, None)

    def scores(self, fit: int) -> Floats:
        """Scores that fit k gives the rows from ``known[k]`` on."""
        if fit not in self._scores:
            found = self._kept(fit)
            if found is None:
                found = self._made(fit)
                self._keep(fit, found)
            with self._lock:
                self._scores[fit] = found
        return self._scores[fit]

    def of_rows(self, fit: int, rows: slice) -> Floats:
        """Scores that fit k gives these rows, none of which it has read."""
        first = self.blocks.known[fit]
        return self.scores(fit)[rows.start - first : rows.stop - first]

    @contextmanager
    def made_meanwhile(self, wanted: Iterable[int], advance: Callable[[], None]) -> Iterator[None]:
        """Make these fits on all processors beside what the caller does; at its end they are there."""
        with ThreadPoolExecutor(usable_cpus()) as pool:
            making = [pool.submit(self.scores, fit) for fit in wanted]
            for each in making:
                each.add_done_callback(lambda _: advance())
            try:
                yield
                for each in making:
                    each.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def block_costs(self, fit: int) -> Floats:
        """Cost of every block's decisions by fit k, shape (blocks,); infinite before it is there."""
        blocks = self.blocks
        found = np.full(len(blocks), np.inf)
        for block in range(fit, len(blocks)):
            found[block] = block_cost(blocks, self.of_rows(fit, blocks.rows(block)), block)
        return found

    def _made(self, fit: int) -> Floats:
        end = self.blocks.known[fit]
        start = max(0, end - self.blocks.start_rows)
        policy, fits = self.blocks.policy, self._fits
        if not fits.learnable(start, end):  # one class: the constant it suggests
            model = self.blocks.policy.model
            constant = measure.best_constant(model.objective, self.blocks.label[start:end], len(model.classes))
            return measure.repeated(constant, len(self.blocks.label) - end)
        candidates = {name: fits.candidate(name, start, end) for name in policy.train.estimators}
        chosen = (
            min(candidates, key=lambda name: candidates[name].rank) if len(candidates) > 1 else next(iter(candidates))
        )
        return fits.score(fits.model(chosen, start, end), end, len(self.blocks.label))

    def _kept(self, fit: int) -> Floats | None:
        path = self._path(fit)
        if path is None or not path.is_file():
            return None
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError):  # cut off by a kill: made again
            return None
        return np.asarray(found, np.float64) if len(found) == len(self.blocks.label) - self.blocks.known[fit] else None

    def _keep(self, fit: int, scores: Floats) -> None:
        path = self._path(fit)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, scores)
        os.replace(part, path)

    def _path(self, fit: int) -> Path | None:
        return None if self.folder is None else self.folder / f"newest-{self.blocks.known[fit]}.npy"


def block_cost(blocks: Blocks, scores: Floats, block: int) -> float:
    """Cost of deciding a block's rows by these scores, in wrong decisions."""
    label = blocks.label[blocks.rows(block)]
    return float(costs(blocks.policy.model, scores, label, constant_loss(blocks)).sum())


def constant_loss(blocks: Blocks) -> float | None:
    """Mean loss of the best constant on the rows to start with (regression); None: classes."""
    if blocks.policy.model.task != "regression":
        return None
    return measure.constant_loss(blocks.policy.model.objective, blocks.label[: blocks.known[0]]) or None


def wrong_decisions(policy: Policy, blocks: Blocks, scores: Floats, block: int) -> float:
    """Wrong decisions in a block, all of one cost; of a regression its cost."""
    label = blocks.label[blocks.rows(block)]
    if not policy.model.class_names:
        return block_cost(blocks, scores, block)
    return float(decision.wrong(policy.model, label, scores).sum())
