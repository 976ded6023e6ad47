"""A KFP API endpoint: start a run, ask how it goes. Every call has a deadline, because the client has none."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from kedge import steps
from kedge.errors import RunError
from kedge.policy import Policy
from pipelines.compile import ADDRESSES, compiled, names, write

EXPERIMENT = "kedge"
SECONDS = 30.0
UNSEEN = (403, 404)
"""Answers to one who may not look at pipelines, or from an API that keeps none."""
ENDED_BADLY = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")

State = Literal["missing", "running", "succeeded", "failed"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Found:
    """A run as the endpoint knows it."""

    state: State
    id: str | None = None
    """By which the user interface finds it."""


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

    def start(self, pipeline: str, name: str, policy: Policy, arguments: dict[str, Any], *, cached: bool = True) -> str:
        """Start a run and return its id. Not tried again: a call that was not answered may have started it.

        It is a run of the version that ``kedge compile --kubernetes`` made of the same pipeline, policy, image and
        addresses, where KFP has that. Else the compiled pipeline is sent along: the run does the same, and nothing
        stays behind that nobody asked for, nor need the account be allowed to upload.

        Args:
            pipeline: ``retrain`` or ``release``.
            name: Of the run.
            policy: The parameter ``policy``; it also says what the steps may use.
            arguments: The other parameters.
            cached: Whether KFP's cache may answer for the steps that allow it.

        Raises:
            RunError: the endpoint cannot be reached, refused, or did not answer in time.
        """
        arguments = {"policy": policy.to_dict(), **arguments}
        addresses = {key: arguments[key] for key in ADDRESSES if key in arguments}
        documents = compiled(pipeline, policy, image=self._image, addresses=addresses, cached=cached)
        what = f"start run {name}"
        version = self._call(what, lambda: self._version(*names(pipeline, policy, documents))) if cached else None
        with tempfile.TemporaryDirectory(prefix="kedge-submit-") as folder:
            package = write(Path(folder) / f"{pipeline}.yaml", documents)
            whole = {"pipeline_package_path": str(package)}
            return self._call(what, lambda: self._start(name, arguments, version or whole))

    def _start(self, name: str, arguments: dict[str, Any], pipeline: Mapping[str, str]) -> str:
        experiment = self._client.create_experiment(name=EXPERIMENT, namespace=self._namespace)
        made = self._client.run_pipeline(experiment.experiment_id, name, params=arguments, **pipeline)
        return str(made.run_id)

    def _version(self, pipeline: str, version: str) -> dict[str, str] | None:
        """A version by name, of the runs' namespace or shared by all; None where there is none, or none may be seen."""
        try:
            for namespace in dict.fromkeys((self._namespace, None)):
                kept = self._client.list_pipelines(namespace=namespace, filter=_named(pipeline)).pipelines or ()
                for id_ in (each.pipeline_id for each in kept):
                    found = self._client.list_pipeline_versions(id_, filter=_named(version)).pipeline_versions
                    if found:
                        return {"pipeline_id": id_, "version_id": found[0].pipeline_version_id}
        except Exception as exc:
            if getattr(exc, "status", None) not in UNSEEN:
                raise
        return None

    def find(self, name: str) -> Found:
        """The newest run of this name; asked for again where KFP is away for a moment.

        Raises:
            RunError: the endpoint cannot be reached, refused, or did not answer in time.
        """
        question = {"page_size": 1, "sort_by": "created_at desc", "filter": _named(name)}
        what = f"look for run {name}"
        found = steps.with_retries(
            what, lambda: self._call(what, lambda: self._client.list_runs(namespace=self._namespace, **question))
        )
        if not found.runs:
            return Found("missing")
        run = found.runs[0]
        state: State = "succeeded" if run.state == "SUCCEEDED" else "failed" if run.state in ENDED_BADLY else "running"
        return Found(state, str(run.run_id))

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


def _named(name: str) -> str:
    """The filter of what has this name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _advice(host: str, token: Path | None, status: int | None) -> str:
    """What to do. The client asks for the API's health first and says of any answer but a good one only that it failed;
    the doctor's checks see whether nobody answers, or the token is the wrong one.
    """
    from kedge.doctor import runs

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
