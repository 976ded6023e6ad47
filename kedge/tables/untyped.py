"""What columns of text are: numbers, times, truth values or words, told from the values."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from kedge.tables.columns import Kind, convert

READABLE = 0.99
"""Share of a column's values that must read as a number, a time, true or false, for the column to be one."""
LONG = r"^\s*[+-]?[0-9]{17,}\s*$"
"""More digits than a float holds: if all values are so long, they name something, as ids of posts and cards do."""
CODE = "^-?0[0-9]"
"""So begin codes, such as 01099, and no numbers."""
HEAD = 500
"""Values tried before all of an array are."""


class TextGuess:
    """What a column of text is, from as many arrays of it as are added; an empty text is a missing value.

    >>> guess = TextGuess()
    >>> guess.add(pa.array(["1.5", "", "2"]))
    >>> guess.kind
    'number'
    """

    def __init__(self) -> None:
        self._present = self._long = 0
        self._wrong: dict[Kind, int] = {"number": 0, "boolean": 0, "time": 0}
        self._read: dict[Kind, int] = dict.fromkeys(self._wrong, 0)

    def add(self, array: pa.Array) -> None:
        """Look at more values."""
        filled = pc.and_(pc.is_valid(array), pc.not_equal(array, ""))
        array = array.filter(pc.fill_null(filled, False))
        self._present += len(array)
        if "number" in self._wrong and pc.any(pc.match_substring_regex(array, CODE)).as_py():
            del self._wrong["number"]
        self._long += int(pc.sum(pc.match_substring_regex(array, LONG)).as_py() or 0)
        for kind in list(self._wrong):
            head = array.slice(0, HEAD)
            if convert(head, kind).wrong.sum() > (1 - READABLE) * len(head):
                del self._wrong[kind]
                continue
            read = convert(array, kind)
            self._wrong[kind] += int(read.wrong.sum())
            self._read[kind] += len(array) - read.values.null_count

    @property
    def kind(self) -> Kind | None:
        """``number``, ``boolean``, ``time`` or ``category``; None: not one value."""
        if not self._present:
            return None
        wrong = self._wrong | ({"number": self._present} if self._long >= READABLE * self._present else {})
        fits = (kind for kind in wrong if wrong[kind] <= (1 - READABLE) * self._present)
        return next((kind for kind in fits if self._read[kind]), "category")


def mostly_numbers(arrays: Sequence[pa.Array]) -> bool:
    """Whether more than half of the values that are there read as numbers, and none is a code.

    >>> mostly_numbers([pa.array(["1.5", "unknown", "2"])]), mostly_numbers([pa.array(["01", "7"])])
    (True, False)
    """
    whole = pa.chunked_array(arrays, pa.string()).combine_chunks()
    read = convert(whole, "number")
    codes = pc.any(pc.match_substring_regex(whole, CODE)).as_py()
    return not codes and len(read.values) - read.values.null_count > int(read.wrong.sum())
