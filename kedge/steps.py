"""What every pipeline step shares: the run it belongs to, another try after a fault that passes, a reason left behind.

KFP's API says only that a run failed, and its own retries do nothing as it is shipped, so both are done here. A run is
known by its name; attempt 2 of a run whose first one died has its records under ``<run>.2``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from kedge import clock, records
from kedge.errors import KedgeError, RunError, StoreError, UsageError, UserError
from kedge.records import Record, RunFinished, RunStarted, RunState
from kedge.store import Store

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")

PIPELINE_RUN = "KEDGE_PIPELINE_RUN"
"""Environment variable with the id of the pipeline's run: the pod's label on a cluster, set by the local runner. It is
no parameter, because a step's parameters are the key of KFP's cache."""
MAX_REASON = 4000
TERMINATION_LOG = "/dev/termination-log"
"""What a container writes here, Kubernetes keeps in its status."""
TRIES = 5
MAX_WAIT = 30.0
"""Seconds between two tries; the first wait is at most 2 s, and each is a random share of its limit."""
MAX_TRYING = 600.0
"""Seconds after which nothing is tried again."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that may be others in a moment."""
PASSING = frozenset(
    {
        "builtins.ConnectionError",
        "builtins.TimeoutError",
        "httpx.TransportError",
        "obstore.exceptions.GenericError",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "socket.gaierror",
        "urllib3.exceptions.MaxRetryError",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.TimeoutError",
    }
)
"""Faults of the network by their names: what raises them is imported only where it is used."""
SPEAKERS = ("pyarrow", "deltalake", "_internal", "sqlalchemy", "builtins")
"""Modules whose errors tell a passing fault only in words."""
WORDS = re.compile(
    "AWS Error (NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT)"
    "|error sending request|timed out|connection (refused|reset)|database is locked|server closed the connection",
    re.IGNORECASE,
)
PERMANENT = re.compile(
    "SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied|NoSuchBucket|ExpiredToken"
    "|AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|NO_SUCH_BUCKET|INVALID_CLIENT_TOKEN_ID)"
)
"""Words of a store that refuses whoever asks."""


def run_step(store: Store, model: str, step: str, work: Callable[[], Result], *, run: str | None = None) -> Result:
    """Do a step's work: say that it begins and ends, try again after a passing fault, leave the reason if it fails.

    Every step may be done again from its beginning, which is what a new try does: snapshots, bundles and records lie
    under the hash of what they are, a registered bundle keeps its version, a release goes on where it stood.

    A step that knows its run ends it with a ``run-finished`` record: ``state`` "failed", ``step``, ``reason``,
    ``exit_code`` (2: the user's mistake, so the same run would fail again; 1: anything else). Of a step that does not,
    because KFP may answer for it from another run's result, :func:`finalize_run` finds the reason later.

    Raises:
        Whatever the work raises.
    """
    since = monotonic()
    _note(store, model, step=step, state="started")
    say(f"{step}: started")
    try:
        result = with_retries(step, work)
    except Exception as exc:
        failure = {"step": step, "reason": _reason(exc), "exit_code": _exit_code(exc)}
        _tell_kubernetes(f"{step}: {failure['reason']}")
        _note(store, model, state="failed", **failure)
        if run is not None:
            with suppress(StoreError):  # a store that is full or away must not hide what went wrong
                finish(store, model, run, "failed", **failure)
        say(f"{step}: failed after {monotonic() - since:.1f} s")
        raise
    _note(store, model, step=step, state="done")
    say(f"{step}: done in {monotonic() - since:.1f} s")
    return result


def with_retries(what: str, work: Callable[[], Result]) -> Result:
    """Do what may safely be done twice, again as long as it ends with a passing fault: ``TRIES`` times at most."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
    from tenacity.wait import wait_random_exponential

    trying = Retrying(
        retry=retry_if_exception(transient),
        stop=stop_after_attempt(TRIES) | stop_after_delay(MAX_TRYING),
        wait=wait_random_exponential(multiplier=2, max=MAX_WAIT),
        sleep=lambda seconds: time.sleep(seconds),
        before_sleep=partial(_say_again, what),
        reraise=True,
    )
    return trying(work)


def _say_again(what: str, state: RetryCallState) -> None:
    assert state.outcome is not None
    assert state.next_action is not None
    fault = state.outcome.exception()
    waits = f"try {state.attempt_number + 1} of {TRIES} in {state.next_action.sleep:.1f} s"
    say(f"{what}: {waits}, after a fault that may pass: {_reason(fault)[:300] if fault else ''}")


def transient(exc: BaseException) -> bool:
    """Whether a fault lies between here and a service and may pass: no connection, no answer in time, 429, 5xx.

    >>> transient(TimeoutError()), transient(ValueError())
    (True, False)
    """
    for cause in _causes(exc):
        status = _status(cause)
        if status is not None:
            return status in AGAIN
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(cause).__mro__}
        if kinds & PASSING or (type(cause).__module__.split(".")[0] in SPEAKERS and WORDS.search(str(cause))):
            return True
    return False


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    met: set[int] = set()
    while exc is not None and id(exc) not in met:
        met.add(id(exc))
        yield exc
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)


def _status(exc: BaseException) -> int | None:
    """The HTTP status an error of MLflow, Kubernetes or an HTTP client carries."""
    asked = getattr(exc, "get_http_status_code", None)
    if callable(asked):
        return int(asked())
    said = getattr(exc, "status", None) or getattr(getattr(exc, "response", None), "status_code", None)
    return said if isinstance(said, int) else None


def require_artifact(store: Store, key: str, step: str) -> None:
    """Refuse to go on from a result that is not in the store (any more), though a step named it.

    Raises:
        RunError: KFP's cache may have answered for the step; another attempt of the run does not ask it.
    """
    try:
        store.get(key)
    except KeyError as exc:
        raise RunError(
            f"store {store.url}: {key} is not there, though {step} named it; was it deleted, and {step} answered for "
            "by the cache of Kubeflow Pipelines? The next attempt of this run runs every step"
        ) from exc


def run_name(given: str) -> str:
    """The name of the run a step belongs to: the one given or, of a run that was given none, the pipeline's run's id.

    Raises:
        UsageError: there is neither.
    """
    name = given or os.environ.get(PIPELINE_RUN)
    if not name:
        raise UsageError(f"the run has no name: give the parameter `run`, because ${PIPELINE_RUN} holds no id either")
    return name


def finish(store: Store, model: str, run: str, state: RunState, **said: Any) -> bool:
    """Append the ``run-finished`` record of the run's current attempt; False if that attempt has one.

    Args:
        said: Other fields of :class:`RunFinished`.
    """
    key = attempt_key(run, max(1, len(attempts(store, model, run))))
    data = RunFinished(run=run, state=state, **said)
    return records.append(store, Record(model=model, key=key, time=clock.now(), data=data))


def finalize_run(store: Store, model: str, run: str) -> Record[RunFinished]:
    """The verdict of the run's current attempt; if no step left one, it failed, and what is known of why is recorded.

    Called when nothing of the run goes on any more.
    """
    key = attempt_key(run, max(1, len(attempts(store, model, run))))
    found = records.find(store, model, RunFinished, key)
    if found is None:
        finish(store, model, run, "failed", **_failure_reason(store, model))
        found = records.find(store, model, RunFinished, key)
    assert found is not None
    return found


def _failure_reason(store: Store, model: str) -> dict[str, Any]:
    """Step, reason and exit code from what the steps of this pipeline's run noted."""
    try:
        noted = orjson.loads(store.get(_note_key(model)))
    except (KeyError, ValueError):
        noted = {"state": "unknown"}
    if noted["state"] == "failed":
        return {name: noted[name] for name in ("step", "reason", "exit_code")}
    if noted["state"] == "started":
        reason = "the step ended without a word; was it killed, for its memory or its time limit?"
        return {"step": noted["step"], "reason": reason, "exit_code": 1}
    after = f"after {noted['step']} " if "step" in noted else ""
    return {
        "reason": f"{after}no step left a verdict: one could not be started, or a branch was skipped",
        "exit_code": 1,
    }


def _tell_kubernetes(reason: str) -> None:
    """Leave the reason in the pod's status, where it is found also when the store takes none: it may be the fault."""
    with suppress(OSError):  # nothing is made where this is no pod
        file = os.open(TERMINATION_LOG, os.O_WRONLY)
        try:
            os.write(file, reason.encode()[:MAX_REASON])
        finally:
            os.close(file)


def _note(store: Store, model: str, **said: Any) -> None:
    """Note how far this pipeline's run is, where it has an id. No step fails for want of its note."""
    if os.environ.get(PIPELINE_RUN):
        with suppress(StoreError):
            store.put(_note_key(model), orjson.dumps(said))


def _note_key(model: str) -> str:
    return f"runs/{model}/{os.environ.get(PIPELINE_RUN) or 'unknown'}.json"


def attempts(store: Store, model: str, run: str) -> list[Record[RunStarted]]:
    """The ``run-started`` records of a run, first attempt first; empty for a run nobody announced."""
    found: list[Record[RunStarted]] = []
    while (begun := records.find(store, model, RunStarted, attempt_key(run, len(found) + 1))) is not None:
        found.append(begun)
    return found


def attempt_key(run: str, attempt: int) -> str:
    """Record key of an attempt: the run's name, from the second attempt on with its number."""
    return run if attempt == 1 else f"{run}.{attempt}"


def say(text: str) -> None:
    """One line of progress, which `kedge submit` shows and a pod's log keeps."""
    sys.stdout.write(f"kedge: {text}\n")
    sys.stdout.flush()


def _exit_code(exc: Exception) -> int:
    if permanent(exc):
        return UserError.exit_code
    return exc.exit_code if isinstance(exc, KedgeError) and not transient(exc) else 1


def permanent(exc: BaseException) -> bool:
    """Whether a fault of a store or registry cannot pass by itself: who asks is not known or not allowed, or the bucket
    is not there.

    >>> permanent(OSError("AWS Error ACCESS_DENIED during PutObject")), permanent(OSError("timed out"))
    (True, False)
    """
    if transient(exc):
        return False
    return any(
        PERMANENT.search(str(cause)) or (_status(cause) in (401, 403) and not isinstance(cause, KedgeError))
        for cause in _causes(exc)
    )


def _reason(exc: BaseException) -> str:
    text = str(exc) if isinstance(exc, KedgeError) else f"{type(exc).__name__}: {exc}"
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
