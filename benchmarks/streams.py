"""Labelled streams with a known story, to replay policies on.

Each gives inputs (rows, k) and labels (rows,) in time order: 2,000 rows to start with, then 128 blocks of 250.

| name | what happens |
|---|---|
| stationary | nothing |
| covariate | one input moves in steps, the relation stays |
| abrupt, gradual | another relation from block 50 on; mixed over from block 40 to 80 |
| recurring | two relations take turns, 32 blocks each |
| turning | a hyperplane of ten inputs turns steadily |
| thresholds | four thresholds on a sum, 32 blocks each, 10 % of labels flipped (after W. N. Street, Y. Kim, KDD 2001) |
| noise, hopeless | from block 40 on 20 % of labels are flipped; half of them are drawn by lot: nothing can be learned |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

START, BLOCK, BLOCKS = 2000, 250, 128
ROWS = START + BLOCK * BLOCKS
CHANGE = 50
"""Block with which the abrupt change begins."""
Floats = NDArray[np.float64]


def stream(name: str, seed: int) -> tuple[Floats, Floats]:
    """Inputs and labels of a stream."""
    random = np.random.default_rng([seed, *name.encode()])
    block = np.clip((np.arange(ROWS) - START) // BLOCK, 0, BLOCKS - 1)
    if name == "turning":
        return _turning(random)
    if name == "thresholds":
        inputs = random.uniform(0, 10, (ROWS, 3))
        positive = inputs[:, 0] + inputs[:, 1] <= np.array([8.0, 9.0, 7.0, 9.5])[block // 32]
        return inputs, _flipped(random, positive.astype(float), 0.1)
    inputs = random.normal(size=(ROWS, 5))
    if name == "covariate":
        inputs[:, 4] += np.array([0.0, 0.6, -0.6, 0.3])[block // 32]
    share = {
        "abrupt": (block >= CHANGE).astype(float),
        "gradual": np.clip((block - 40) / 40, 0, 1),
        "recurring": (block // 32 % 2).astype(float),
    }.get(name, np.zeros(ROWS))
    chance = np.where(random.random(ROWS) < share, _after(inputs), _before(inputs))
    label = (random.random(ROWS) < chance).astype(float)
    late = block >= 40
    if name == "noise":
        return inputs, np.where(late, _flipped(random, label, 0.2), label)
    if name == "hopeless":
        return inputs, np.where(late & (random.random(ROWS) < 0.5), random.random(ROWS) < 0.5, label).astype(float)
    return inputs, label


def write(name: str, seed: int, path: Path, *, skip: int = 0) -> None:
    """Write a stream as Parquet, one row a minute; the first ``skip`` rows are left out."""
    inputs, label = stream(name, seed)
    table = pd.DataFrame(inputs, columns=[f"x{column}" for column in range(inputs.shape[1])])
    times = pd.date_range("2026-01-01", periods=len(label), freq="min", tz="UTC")
    table.assign(label=label.astype(int), at=times).iloc[skip:].to_parquet(path)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


def _before(x: Floats) -> Floats:
    return _sigmoid(2.1 * x[:, 0] - 1.7 * x[:, 1] + 1.3 * x[:, 2] * x[:, 3])


def _after(x: Floats) -> Floats:
    return _sigmoid(-0.9 * x[:, 0] - 1.7 * x[:, 1] + 1.9 * x[:, 2] + 1.3 * x[:, 0] * x[:, 3])


def _turning(random: np.random.Generator) -> tuple[Floats, Floats]:
    inputs, step = random.random((ROWS, 10)), np.arange(ROWS) * 1e-4
    weights = random.random((1, 10)) * np.ones((ROWS, 1))
    weights[:, 0], weights[:, 1] = 0.5 + 0.5 * np.sin(2 * step), 0.5 + 0.5 * np.cos(2.5 * step)
    positive = (inputs * weights).sum(axis=1) > weights.sum(axis=1) / 2
    return inputs, _flipped(random, positive.astype(float), 0.05)


def _flipped(random: np.random.Generator, label: Floats, share: float) -> Floats:
    return np.where(random.random(len(label)) < share, 1 - label, label)
