"""What is read next, read while what was read last is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
END: Final = object()


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items in their order, each made by one other thread while the one before is used.

    Raises:
        What making an item raises, in its place.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, END)
        while (item := upcoming.result()) is not END:
            upcoming = thread.submit(next, items, END)
            yield item  # type: ignore[misc]  # not END
