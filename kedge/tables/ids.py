"""Which rows bear the same id: the core of the log's join, whose ids outweigh most other columns together.

Ids of one length are hashed 8 bytes at a time and meet in a table of slots, all with numpy; that costs about a fifth of
numbering them by a dictionary. Rows whose hashes agree are compared byte by byte, so that a shared hash joins nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MIX = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)
WORD = 8
BLOCK = 8_192
"""Rows at a time: few enough for their bytes to stay in the processor's cache while they are worked on."""
ROUNDS = 24
"""Random hashes need about six; ids made up to share slots are looked up in a dictionary instead."""

Rows = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Texts = NDArray[np.void]
"""Texts of one length, their UTF-8 bytes as they are."""


def match(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> tuple[Rows, Rows]:
    """For each row of ``ids``, and for each of ``others``, the first row of ``ids`` with the same text.

    Rows of ``others`` without one get -1. No text is null.

    >>> first, found = match(pa.chunked_array([["b", "a"], ["b"]]), pa.chunked_array([["c", "b"]]))
    >>> first.tolist(), found.tolist()
    ([0, 1, 0], [-1, 0])
    """
    of_length, looked_for = dict(_by_length(ids)), dict(_by_length(others))
    if len(of_length) == 1 and of_length.keys() == looked_for.keys():
        (texts, _), (wanted, _) = *of_length.values(), *looked_for.values()
        return _match(texts, wanted)
    first, found = np.arange(len(ids)), np.full(len(others), -1)
    for length, (texts, rows) in of_length.items():
        wanted, places = looked_for.get(length, (texts[:0], rows[:0]))
        same, hits = _match(texts, wanted)
        first[rows] = rows[same]
        found[places] = np.where(hits >= 0, rows[hits], -1)
    return first, found


def held(hashes: Hashes, others: Hashes) -> NDArray[np.bool_]:
    """Which of the others are among the hashes, which are in order."""
    places = np.searchsorted(hashes, others)
    known: NDArray[np.bool_] = places < len(hashes)
    known[known] = hashes[places[known]] == others[known]
    return known


def hashes_of(ids: pa.ChunkedArray | pa.Array) -> Hashes:
    """A hash of each text, never 0; the same texts have the same hash in every call. Missing ones count as empty."""
    hashes = np.empty(len(ids), np.uint64)
    for _, (texts, rows) in _by_length(pc.fill_null(ids, "")):
        hashes[rows] = _hashes(texts)
    return np.maximum(hashes, np.uint64(1))


def _by_length(ids: pa.ChunkedArray | pa.Array) -> Iterator[tuple[int, tuple[Texts, Rows]]]:
    """The texts of each length that occurs, and where they stand."""
    flat = ids.cast(pa.large_string())
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    if not len(flat):
        return
    _, offsets, data = flat.buffers()
    ends = np.frombuffer(offsets, np.int64)[flat.offset : flat.offset + len(flat) + 1]
    letters = np.frombuffer(data or b"", np.uint8)
    lengths = np.diff(ends)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        yield longest, (_texts(letters[ends[0] : ends[-1]], len(flat), longest), np.arange(len(flat)))
        return
    order = np.argsort(lengths.astype(np.min_scalar_type(longest)), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[rows[0]])
        yield length, (_texts(_letters_from(letters, ends[rows], length), len(rows), length), rows)


def _letters_from(letters: NDArray[np.uint8], starts: Rows, length: int) -> NDArray[np.uint8]:
    """As many letters from each start, which may be anywhere."""
    if not length:
        return letters[:0]
    begin_anywhere = np.ndarray((len(letters) - length + 1,), f"V{length}", letters, 0, (1,))
    return begin_anywhere[starts].view(np.uint8)


def _texts(letters: NDArray[np.uint8], count: int, length: int) -> Texts:
    """Bytes of texts one after the other, cut into texts; short ones are filled up to a word."""
    if length < WORD:
        padded = np.zeros((count, WORD), np.uint8)
        padded[:, :length] = letters.reshape(count, length)
        letters, length = padded.reshape(-1), WORD
    return letters.view(f"V{length}")


def _match(texts: Texts, others: Texts) -> tuple[Rows, Rows]:
    """What :func:`match` gives, for texts of one length."""
    met = _meet(_hashes(texts), _hashes(others))
    if met is not None:
        first, found = met
        repeated, hits = np.flatnonzero(first != np.arange(len(first))), np.flatnonzero(found >= 0)
        if _equal(texts, repeated, texts, first[repeated]) and _equal(others, hits, texts, found[hits]):
            return first, found
    seen: dict[bytes, int] = {}
    numbers: Any = [seen.setdefault(text, row) for row, text in enumerate(texts.tolist())]
    return np.array(numbers, np.int64), np.array([seen.get(text, -1) for text in others.tolist()], np.int64)


def _hashes(texts: Texts) -> Hashes:
    length = texts.dtype.itemsize
    letters = texts.view(np.uint8)
    hashes = np.full(len(texts), length, np.uint64)
    moved = np.empty(BLOCK, np.uint64)
    for begin in range(0, len(texts), BLOCK):
        block = hashes[begin : begin + BLOCK]
        for at in [length - WORD, *range(0, length - WORD, WORD)]:
            block ^= np.ndarray(block.shape, np.uint64, letters, begin * length + at, (length,))
            _mix(block, moved[: len(block)])
    return hashes


def _mix(values: Hashes, moved: Hashes | None = None) -> None:
    """One to one, so that equal values stay equal and others stay different."""
    values *= MIX
    values ^= np.right_shift(values, SHIFT, out=moved)


def _meet(hashes: Hashes, others: Hashes, rounds: int = ROUNDS) -> tuple[Rows, Rows] | None:
    """What :func:`match` gives, for hashes; None if too many share slots, which random ones do not.

    The table has at least twice as many slots as rows; a slot keeps the first row that falls into it. All rows of that
    hash are done. The others of the slot meet again, mixed anew, in a smaller table; one of ``others`` that finds its
    slot empty has no partner.
    """
    if not rounds:
        return None
    bits = len(hashes).bit_length() + 1
    table = np.full(1 << bits, -1, np.int32)
    slots = _slots(hashes, bits)
    table[slots[::-1]] = np.arange(len(hashes) - 1, -1, -1, dtype=np.int32)
    first = table[slots].astype(np.int64)
    again = np.flatnonzero(hashes[first] != hashes)
    found = table[_slots(others, bits)].astype(np.int64)
    other = hashes[found] != others  # where the slot is empty too: -1 is the last row, whose slot is not
    later = np.flatnonzero(other & (found >= 0))
    found[other] = -1
    if len(again):
        left, right = hashes[again], others[later]
        _mix(left)
        _mix(right)
        met = _meet(left, right, rounds - 1)
        if met is None:
            return None
        first[again] = again[met[0]]
        found[later] = np.where(met[1] >= 0, again[met[1]], -1)
    return first, found


def _slots(hashes: Hashes, bits: int) -> Rows:
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)


def _equal(texts: Texts, rows: Rows, others: Texts, places: Rows) -> bool:
    """Whether the texts in these rows are, one by one, the other texts in those places."""
    for begin in range(0, len(rows), BLOCK):
        block = slice(begin, begin + BLOCK)
        one, other = texts[rows[block]].view(np.uint8), others[places[block]].view(np.uint8)
        if not np.array_equal(one, other):
            return False
    return True
