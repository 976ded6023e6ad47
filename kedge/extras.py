"""Packages that come only with an extra of kedge: which is missing, and what installs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from kedge.errors import UsageError


@contextmanager
def needed_by(what: str, extra: str) -> Iterator[None]:
    """Say of a package that is missing inside which extra brings it.

    Raises:
        UsageError: in the place of the ``ModuleNotFoundError``.

    >>> with needed_by("kedge drift", "data"):
    ...     import pyarrows
    Traceback (most recent call last):
    kedge.errors.UsageError: kedge drift needs pyarrows, which is not installed here; try: pip install 'kedge[data]'
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == "kedge":
            raise
        raise _missing(what, extra, exc.name) from exc


def require(what: str, extra: str, modules: Iterable[str]) -> None:
    """Refuse before anything is done what would miss one of these modules in the middle of its work.

    Raises:
        UsageError: names the first that is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(what, extra, module)


def _missing(what: str, extra: str, module: str) -> UsageError:
    return UsageError(f"{what} needs {module}, which is not installed here; try: pip install 'kedge[{extra}]'")
