"""Names that an earlier version used on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kedge.errors import UsageError


def refuse_earlier_names(words: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Refuse words of a command line that have other names now, and say those.

    Raises:
        UsageError: one of the words is such a name, perhaps with its value.

    >>> refuse_earlier_names(["--out=specs"], {"--out": "--output"})
    Traceback (most recent call last):
    kedge.errors.UsageError: --out is called --output now
    """
    for word in words:
        name = word.partition("=")[0]
        if name in renamed:
            raise UsageError(f"{name} is called {renamed[name]} now")
