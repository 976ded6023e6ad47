"""What every pipeline step shares: the run it belongs to, and a failure that leaves its reason behind.

KFP's API says only that a run failed, so a step writes the reason into the records before it raises. A run is known by
its name; attempt 2 of a run whose first one died has its records under ``<run>.2``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Literal

from components import clock, record
from components.errors import KedgeError, StoreError
from components.store import Store

State = Literal["succeeded", "gated", "failed"]
MOST_REASON = 4000


@contextmanager
def recorded(store: Store, model: str, run: str, step: str) -> Iterator[None]:
    """Say in the log that a step begins and ends; if it fails, append ``run-finished`` with the reason and re-raise.

    The record's data: ``state`` "failed", ``step``, ``reason``, ``exit_code`` (2: the user's mistake, so the same run
    would fail again; 1: anything else, so it may be tried again).

    Raises:
        Whatever the step raises.
    """
    since = monotonic()
    say(f"{step}: started")
    try:
        yield
    except Exception as exc:
        code = exc.exit_code if isinstance(exc, KedgeError) else 1
        with suppress(StoreError):  # a store that is full or away must not hide what went wrong
            finish(store, model, run, "failed", step=step, reason=_reason(exc), exit_code=code)
        say(f"{step}: failed after {monotonic() - since:.1f} s")
        raise
    say(f"{step}: done in {monotonic() - since:.1f} s")


def finish(store: Store, model: str, run: str, state: State, **data: Any) -> bool:
    """Append the ``run-finished`` record of the run's current attempt; False if that attempt has one."""
    key = attempt_key(run, max(1, len(attempts(store, model, run))))
    data = {"run": run, "state": state, **data}
    return record.append(store, record.Record(model=model, kind="run-finished", key=key, time=clock.now(), data=data))


def attempts(store: Store, model: str, run: str) -> list[record.Record]:
    """The ``run-started`` records of a run, first attempt first; empty for a run nobody announced."""
    found: list[record.Record] = []
    while (begun := record.find(store, model, "run-started", attempt_key(run, len(found) + 1))) is not None:
        found.append(begun)
    return found


def attempt_key(run: str, attempt: int) -> str:
    """Record key of an attempt: the run's name, from the second attempt on with its number."""
    return run if attempt == 1 else f"{run}.{attempt}"


def say(text: str) -> None:
    """One line of progress, which `kedge submit` shows and a pod's log keeps."""
    sys.stdout.write(f"kedge: {text}\n")
    sys.stdout.flush()


def _reason(exc: Exception) -> str:
    text = str(exc) if isinstance(exc, KedgeError) else f"{type(exc).__name__}: {exc}"
    return text if len(text) <= MOST_REASON else text[: MOST_REASON - 1] + "…"
