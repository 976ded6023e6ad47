"""Which numbers were met before, in a few bits each: a Bloom filter (B. H. Bloom, Comm. ACM 13, 1970)."""

from __future__ import annotations

from collections.abc import Iterable

BITS_EACH = 16
"""At least; two of them are set for each number, so that 1 of 70 that were not met is taken for one that was."""


class Seen:
    """Numbers of 64 evenly spread bits. One that was added is always found; of others few are.

    >>> seen = Seen(1000)
    >>> seen.add([7, 8, 7]), seen.among([9, 8])
    ([7], [8])
    """

    def __init__(self, capacity: int) -> None:
        """Make room for ``capacity`` numbers."""
        size = 1 << (max(capacity, 1) * BITS_EACH - 1).bit_length()
        self.capacity = size // BITS_EACH
        self._mask = size - 1
        self._bits = bytearray(size // 8)

    def add(self, numbers: Iterable[int]) -> list[int]:
        """Remember numbers; those that were found to be there already."""
        bits, mask, met = self._bits, self._mask, []
        for number in numbers:
            one, two = number & mask, (number >> 32) & mask
            if bits[one >> 3] >> (one & 7) & 1 and bits[two >> 3] >> (two & 7) & 1:
                met.append(number)
            else:
                bits[one >> 3] |= 1 << (one & 7)
                bits[two >> 3] |= 1 << (two & 7)
        return met

    def among(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbers that are found."""
        bits, mask = self._bits, self._mask
        return [
            number
            for number in numbers
            if bits[(number & mask) >> 3] >> (number & 7) & 1
            and bits[(number >> 32 & mask) >> 3] >> (number >> 32 & 7) & 1
        ]
