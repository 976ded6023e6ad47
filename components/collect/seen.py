"""Which numbers were met before, in a few bits each: a Bloom filter (B. H. Bloom, Comm. ACM 13, 1970)."""

from __future__ import annotations

from collections.abc import Iterable

BITS_EACH = 24
"""At least; three of them are set for each number, so that 1 of 600 that were not met is taken for one that was."""


class Seen:
    """Numbers of 64 evenly spread bits. One that was added is always found; of others few are.

    >>> seen = Seen(1000)
    >>> seen.add([7, 8, 7]), seen.among([9, 8])
    ([7], [8])
    """

    def __init__(self, capacity: int, bits: bytearray | None = None) -> None:
        """Make room for ``capacity`` numbers, or go on with the ``bits`` of another one that had as much."""
        self.bits = bytearray(1 << (max(capacity, 1) * BITS_EACH // 8 - 1).bit_length()) if bits is None else bits
        self._mask = 8 * len(self.bits) - 1

    def add(self, numbers: Iterable[int]) -> list[int]:
        """Remember numbers; those that were found to be there already."""
        bits, mask, met = self.bits, self._mask, []
        for number in numbers:
            step = number >> 32
            one = number & mask
            two = (one + step) & mask
            three = (two + step) & mask
            first, second, third = 1 << (one & 7), 1 << (two & 7), 1 << (three & 7)
            if bits[one >> 3] & first and bits[two >> 3] & second and bits[three >> 3] & third:
                met.append(number)
            else:
                bits[one >> 3] |= first
                bits[two >> 3] |= second
                bits[three >> 3] |= third
        return met

    def among(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbers that are found."""
        bits, mask = self.bits, self._mask
        found = [number for number in numbers if bits[(number & mask) >> 3] >> (number & 7) & 1]
        for times in (1, 2):
            places = [((number & mask) + times * (number >> 32) & mask, number) for number in found]
            found = [number for place, number in places if bits[place >> 3] >> (place & 7) & 1]
        return found
