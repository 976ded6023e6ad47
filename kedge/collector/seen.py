"""Which numbers were met before, in a few bits each: a Bloom filter (B. H. Bloom, Comm. ACM 13, 1970).

All bits of a number lie in one word (a blocked filter: F. Putze et al., J. Exp. Algorithmics 14, 2009), chosen from a
table of patterns, so that Python looks one up with three operations.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

BITS_EACH = 24
"""At least; up to four of them are set for each number, so that about 1 of 400 that were not met is taken for one that
was."""


def _pattern(number: int) -> int:
    """Up to four bits of a word; the same in every process, since words are kept in files."""
    return sum({1 << (byte & 63) for byte in blake2b(number.to_bytes(2, "big"), digest_size=4).digest()})


PATTERNS = [_pattern(number) for number in range(4096)]


class Seen:
    """Numbers of 64 evenly spread bits. One that was added is always found; of others few are.

    >>> seen = Seen(1000)
    >>> seen.add([7, 8, 7]), seen.among([9, 8])
    ([7], [8])
    """

    def __init__(self, capacity: int, bits: bytes | None = None) -> None:
        """Make room for ``capacity`` numbers, or go on with the ``bits`` of another one that had as much."""
        count = 1 << (max(capacity * BITS_EACH // 64, 2) - 1).bit_length()
        self._words = array("Q", (0,)) * count if bits is None else array("Q", bits)
        self._mask = len(self._words) - 1

    @property
    def bits(self) -> memoryview:
        """What it holds, in place."""
        return memoryview(self._words).cast("B")

    def add(self, numbers: Iterable[int]) -> list[int]:
        """Remember numbers; those that were found to be there already."""
        words, mask, patterns, met = self._words, self._mask, PATTERNS, []
        for number in numbers:
            place, pattern = number & mask, patterns[number >> 52 & 4095]
            word = words[place]
            if word & pattern == pattern:
                met.append(number)
            else:
                words[place] = word | pattern
        return met

    def among(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbers that are found."""
        words, mask, patterns = self._words, self._mask, PATTERNS
        return [
            number for number in numbers if words[number & mask] & (pattern := patterns[number >> 52 & 4095]) == pattern
        ]
