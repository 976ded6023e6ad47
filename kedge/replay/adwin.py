"""ADWIN: a window of a stream of numbers in [0, 1] that drops its past when the mean has changed."""

from __future__ import annotations

import math

DELTA = 0.002
MAX_BUCKETS = 5
CLOCK = 32
"""Values between two looks for a change."""
GRACE, MIN_SIDE = 10, 5
"""Values before the first look, and the fewest on either side of a cut."""


class Adwin:
    """Detects a change of the mean; keeps O(log n) buckets of exponentially growing size.

    A. Bifet, R. Gavaldà (2007), Learning from time-changing data with adaptive windowing, SIAM SDM, 443-448: a cut into
    n0 older and n1 newer values is one where |m0 - m1| > sqrt(2 v d / m) + 2 d / (3 m) with 1/m = 1/n0 + 1/n1,
    d = ln(2 ln(n) / delta) and v the window's variance.
    """

    def __init__(self, delta: float = DELTA) -> None:
        self._delta = delta
        self._levels: list[list[tuple[float, float]]] = [[]]
        """By level k, oldest first, buckets of 2^k values: sum, and sum of squares."""
        self._seen = 0

    def update(self, value: float) -> int:
        """Take one value: 1 if the mean rose, -1 if it fell, 0 if nothing is known to have changed."""
        self._levels[0].append((value, value * value))
        self._compress()
        self._seen += 1
        if self._seen % CLOCK or self._rows() <= GRACE:
            return 0
        return self._cut()

    def _compress(self) -> None:
        level = 0
        while len(self._levels[level]) > MAX_BUCKETS:
            if level + 1 == len(self._levels):
                self._levels.append([])
            (a, b), (c, d) = self._levels[level][:2]
            del self._levels[level][:2]
            self._levels[level + 1].append((a + c, b + d))
            level += 1

    def _rows(self) -> int:
        return sum(len(buckets) << level for level, buckets in enumerate(self._levels))

    def _cut(self) -> int:
        direction = 0
        while (found := self._change()) != 0:
            direction = found
            self._drop_oldest()
        return direction

    def _drop_oldest(self) -> None:
        del self._levels[-1][0]
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()

    def _oldest_first(self) -> list[tuple[int, float, float]]:
        """Of each bucket how many rows it sums up, their sum and the sum of their squares."""
        levels = reversed(list(enumerate(self._levels)))
        return [(1 << level, *bucket) for level, buckets in levels for bucket in buckets]

    def _change(self) -> int:
        oldest_first = self._oldest_first()
        rows = sum(size for size, _, _ in oldest_first)
        total = sum(value for _, value, _ in oldest_first)
        if rows <= GRACE:
            return 0
        variance = max(sum(square for _, _, square in oldest_first) / rows - (total / rows) ** 2, 0.0)
        spread = math.log(2 * math.log(rows) / self._delta)
        size, older = 0, 0.0
        for count, value, _ in oldest_first[:-1]:
            size, older = size + count, older + value
            if size < MIN_SIDE or rows - size < MIN_SIDE:
                continue
            inverse = 1 / (size - MIN_SIDE + 1) + 1 / (rows - size - MIN_SIDE + 1)
            difference = (total - older) / (rows - size) - older / size
            if abs(difference) > math.sqrt(2 * inverse * variance * spread) + 2 / 3 * spread * inverse:
                return 1 if difference > 0 else -1
        return 0
