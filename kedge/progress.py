"""How far long work has come, on a terminal's standard error; silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Sized(Protocol):
    """A batch of rows."""

    num_rows: int


Batch = TypeVar("Batch", bound=Sized)


def watched(batches: Iterable[Batch], what: str) -> Iterable[Batch]:
    """The batches as they are; on a terminal the rows read so far are shown while they pass."""
    return _counted(batches, what) if sys.stderr.isatty() else batches


def _counted(batches: Iterable[Batch], what: str) -> Iterator[Batch]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn(what), TextColumn("{task.completed:,} rows"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        for batch in batches:
            yield batch
            progress.advance(task, batch.num_rows)


@contextmanager
def bar(
    what: str, total: int, say: Callable[[str], None]
) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """A bar of ``total`` parts: yields what advances it by one, and what prints a line above it.

    Away from a terminal the lines go to ``say`` and there is no bar.
    """
    if not sys.stderr.isatty():
        yield (lambda: None), say
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield (
            (lambda: progress.advance(task)),
            (lambda line: progress.console.print(line, markup=False, highlight=False)),
        )
