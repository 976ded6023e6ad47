"""The one exception tree.

    KedgeError                   exit code 1: kedge could not do its work
    ├── UserError                exit code 2: something the reader of the message can mend
    │   ├── PolicyError          a policy file, or a field of it
    │   ├── DataError            a table, a column, rows
    │   ├── BundleError          a model bundle: missing, altered, made by other libraries
    │   ├── TransformError       a team's feature code that raises, or breaks its promises
    │   ├── CodeNotAllowed       code that a policy names, where the installation runs none
    │   └── UsageError           a command's words, a name that does not exist, an address
    │       └── NothingServed    asked about a model that was never released
    ├── NotExplainable           a model that cannot say what its features add
    ├── StoreError               the store could not be read or written
    ├── RegistryError            the model registry
    ├── RunError                 a pipeline run that could not be submitted or did not succeed
    └── ReleaseError             slots, routes, a rollout
        ├── SlotNotReady         a slot that did not come up; says what its pods or process said
        └── Conflict             someone else changed the object first

A message names the thing, the place, what was seen, what is allowed and what to do; it is written for the person who
must act. The cause is chained beneath.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

PASSWORD = re.compile(r"(?<=://)[^/\s@:]*:(?!\d+/)\S*@|(?<=https://)[^/\s@]+@|(?<=http://)[^/\s@]+@")
SECRET = re.compile(r"(?i)([?&;][\w-]*(?:password|passwd|pwd|token|secret|signature|sig|key)=)[^&;\s]+")


def without_passwords(text: str) -> str:
    """A text whose addresses show no user and password, and none among what they ask.

    >>> without_passwords("http://bob:hunt@er2@mlflow:5000: refused; abfss://kedge@bank.dfs.core.windows.net/x")
    'http://mlflow:5000: refused; abfss://kedge@bank.dfs.core.windows.net/x'
    >>> without_passwords("https://token@mlflow/x; postgresql://u:a/b@db/x?sslmode=off&password=hunter2")
    'https://mlflow/x; postgresql://db/x?sslmode=off&password=...'
    """
    return SECRET.sub(r"\1...", PASSWORD.sub("", text))


def cause(exc: OSError, place: object) -> str:
    """Why the system refused something at a place, and what to do where that is known.

    >>> cause(OSError(errno.EROFS, "Read-only file system"), "/spool")
    'Read-only file system; mount /spool to be written to, or name another place'
    """
    what = exc.strerror or str(exc)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"{what}; give it to user {os.getuid()}: chown -R {os.getuid()} {place}"
    return f"{what}; mount {place} to be written to, or name another place" if exc.errno == errno.EROFS else what


def some(names: Iterable[object], most: int = 20) -> str:
    """Names for a message, the first ones where there are many.

    >>> some(["AT", "BE"]), some(range(1500), 2)
    ('AT, BE', '0, 1 and 1,498 more')
    """
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


class KedgeError(Exception):
    """Anything kedge raises on purpose; what it says has no password of an address."""

    exit_code = 1

    def __str__(self) -> str:
        return without_passwords(super().__str__())


class UserError(KedgeError):
    """The reader of the message can mend it."""

    exit_code = 2


class PolicyError(UserError):
    """A policy file, or a field of it."""


class DataError(UserError):
    """A table, a column, rows."""


class BundleError(UserError):
    """A model bundle that is missing, altered or made by other libraries."""


class TransformError(UserError):
    """A team's code raises, or breaks what it promises: one row out for each row in, from that row alone."""


class CodeNotAllowed(UserError):
    """A policy names code, and this installation runs none."""


class UsageError(UserError):
    """A command's words, a name that does not exist, an address."""


class NothingServed(UsageError):
    """Asked about a model that was never released; a scheduled check calls that no failure."""


class NotExplainable(KedgeError):
    """A model that cannot say what each feature adds to its score."""


class StoreError(KedgeError):
    """The store could not be read or written."""


class RegistryError(KedgeError):
    """The model registry could not be reached or refused."""


class RunError(KedgeError):
    """A pipeline run that could not be submitted or did not succeed."""


class ReleaseError(KedgeError):
    """Slots, routes, a rollout."""


class SlotNotReady(ReleaseError):
    """A slot that did not come up."""


class Conflict(ReleaseError):
    """Someone else changed the object first; read it again and decide anew."""
