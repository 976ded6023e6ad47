"""A KFP API endpoint: start a run, ask how it goes. Every call has a deadline, because the client has none."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from components import policy as policies
from components import step
from components.errors import RunError
from pipelines.compile import compile_one

EXPERIMENT = "kedge"
SECONDS = 30.0
ENDED_BADLY = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")

State = Literal["missing", "running", "succeeded", "failed"]
Result = TypeVar("Result")


class Endpoint:
    """Runs on a KFP installation, known by their names.

    Args:
        host: Address of the API, such as ``http://ml-pipeline-ui.kubeflow``. With ``$KF_PIPELINES_SA_TOKEN_PATH`` the
            token in that file is sent along; it is read anew when it expires.
        image: The step image; default the name in the compiled spec.
        namespace: Of the runs, in a multi-user installation.
        seconds: Deadline of one call.
    """

    def __init__(
        self, host: str, *, image: str | None = None, namespace: str | None = None, seconds: float = SECONDS
    ) -> None:
        self.host = host
        self._namespace = namespace
        token = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
        self._token = Path(token) if token else None
        self._image = image
        self._seconds = seconds

    def start(self, pipeline: str, name: str, arguments: dict[str, Any], *, cached: bool = True) -> None:
        """Start a run. Not tried again: a call that was not answered may have started it.

        Args:
            pipeline: ``retrain`` or ``release``.
            name: Of the run.
            arguments: Its parameters.
            cached: Whether KFP's cache may answer for the steps that allow it.

        Raises:
            RunError: the endpoint cannot be reached, refused, or did not answer in time.
        """
        with tempfile.TemporaryDirectory(prefix="kedge-submit-") as folder:
            policy = policies.parse(arguments["policy"])  # says what the steps may use
            path = Path(folder) / f"{pipeline}.yaml"
            package = compile_one(pipeline, path, policy, image=self._image, cached=cached)
            self._call(
                f"start run {name}",
                lambda: self._client.create_run_from_pipeline_package(
                    str(package), arguments=arguments, run_name=name, experiment_name=EXPERIMENT,
                    namespace=self._namespace,
                ),
            )  # fmt: skip

    def state(self, name: str) -> State:
        """How the newest run of this name goes; asked again where KFP is away for a moment.

        Raises:
            RunError: the endpoint cannot be reached, refused, or did not answer in time.
        """
        same = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        question = {"page_size": 1, "sort_by": "created_at desc", "filter": json.dumps(same)}
        what = f"look for run {name}"
        found = step.persistent(
            what, lambda: self._call(what, lambda: self._client.list_runs(namespace=self._namespace, **question))
        )
        if not found.runs:
            return "missing"
        state = str(found.runs[0].state)
        return "succeeded" if state == "SUCCEEDED" else "failed" if state in ENDED_BADLY else "running"

    @cached_property
    def _client(self) -> Any:
        import kfp
        from kfp.client import ServiceAccountTokenVolumeCredentials

        warnings.simplefilter("ignore", FutureWarning)  # the client greets with one
        credentials = ServiceAccountTokenVolumeCredentials(str(self._token)) if self._token else None
        return kfp.Client(host=self.host, credentials=credentials)

    def _call(self, what: str, call: Callable[[], Result]) -> Result:
        """Make a call in a thread that is left behind when it hangs."""
        answer: list[Result] = []
        fault: list[BaseException] = []

        def work() -> None:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # the client prints links
                    answer.append(call())
            except BaseException as exc:  # noqa: BLE001  (handed to the caller below)
                fault.append(exc)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._seconds)
        if answer:
            return answer[0]
        if fault:
            advice = _advice(self.host, self._token, getattr(fault[0], "status", None))
            raise RunError(f"KFP at {self.host}: cannot {what}: {_first_line(fault[0])}{advice}") from fault[0]
        late = f"no answer within {self._seconds:g} s; is the address in kfp.host right, may pods reach it?"
        raise RunError(f"KFP at {self.host}: cannot {what}: {late}") from TimeoutError()


def _advice(host: str, token: Path | None, status: int | None) -> str:
    """What to do. The client asks for the API's health first and says of any answer but a good one only that it failed;
    the doctor's checks see whether nobody answers, or the token is the wrong one.
    """
    from pipelines.doctor import runs

    found = [each for each in (*runs.token(token), *runs.kfp(host, token)) if each.state == "bad"]
    if not found and status in (401, 403):
        return f"; this account may not; try: {runs.GRANT}"
    return "".join(f"; {each.what}: {each.seen}; try: {each.fix}" for each in found)


def _first_line(exc: BaseException) -> str:
    status = getattr(exc, "status", None)
    if status:
        return f"{status} {getattr(exc, 'reason', '')}".strip()
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
