"""A KFP API endpoint: start a run, ask how it goes. The few calls that takes, without KFP's SDK: it is large to import,
and has no deadline."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from kedge import steps
from kedge.errors import RunError
from kedge.policy import Policy
from kedge.submission.compile import ADDRESSES, compiled, names

EXPERIMENT = "kedge"
SECONDS = 30.0
UNSEEN = (403, 404)
"""Answers to one who may not look at pipelines, or from an API that keeps none."""
ENDED_BADLY = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")

State = Literal["missing", "running", "succeeded", "failed"]
Result = TypeVar("Result")
Body = dict[str, Any]


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
            token in that file is sent along; it is read anew for each call, as it expires.
        image: The step image; default the name in the compiled spec.
        namespace: Of the runs, in a multi-user installation.
        account: What the steps of a release run as, NAMESPACE/NAME or NAME; default KFP's own account.
        seconds: How long an answer may take.
    """

    def __init__(
        self,
        host: str,
        *,
        image: str | None = None,
        namespace: str | None = None,
        account: str | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.host = host
        self._base = (host if "://" in host else f"https://{host}").rstrip("/")
        self._place = {"namespace": namespace} if namespace else {}
        token = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
        self._token = Path(token) if token else None
        self._image = image
        self._account = account
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
        whole = {"pipeline_spec": dict(zip(("pipeline_spec", "platform_spec"), documents, strict=True))}
        chosen: Body = {"pipeline_version_reference": version} if version else whole
        if pipeline == "release" and self._account:
            chosen |= {"service_account": self._account.rpartition("/")[2]}
        return self._call(what, lambda: self._start(name, arguments, chosen))

    def _start(self, name: str, arguments: Body, chosen: Body) -> str:
        about = {"display_name": name, "experiment_id": self._experiment()}
        run = self._ask("POST", "runs", body=about | chosen | {"runtime_config": {"parameters": arguments}})
        return str(run["run_id"])

    def _experiment(self) -> str:
        """The id of the experiment that holds the runs; made if it is not there."""
        kept = self._ask("GET", "experiments", _named(EXPERIMENT) | self._place).get("experiments")
        about = {"display_name": EXPERIMENT, **self._place}
        experiment = kept[0] if kept else self._ask("POST", "experiments", body=about)
        return str(experiment["experiment_id"])

    def _version(self, pipeline: str, version: str) -> dict[str, str] | None:
        """A version by name, of the runs' namespace or shared by all; None where there is none, or none may be seen."""
        try:
            for place in (self._place, {}) if self._place else ({},):
                for kept in self._ask("GET", "pipelines", _named(pipeline) | place).get("pipelines", ()):
                    path = f"pipelines/{quote(kept['pipeline_id'], safe='')}/versions"
                    versions = self._ask("GET", path, _named(version)).get("pipeline_versions")
                    if versions:
                        version_id = versions[0]["pipeline_version_id"]
                        return {"pipeline_id": kept["pipeline_id"], "pipeline_version_id": version_id}
        except httpx.HTTPStatusError as exc:
            if exc.response.status_code not in UNSEEN:
                raise
        return None

    def find(self, name: str) -> Found:
        """The newest run of this name; asked for again where KFP is away for a moment.

        Raises:
            RunError: the endpoint cannot be reached, refused, or did not answer in time.
        """
        question = {"page_size": "1", "sort_by": "created_at desc"} | _named(name) | self._place
        what = f"look for run {name}"
        answer = steps.with_retries(what, lambda: self._call(what, lambda: self._ask("GET", "runs", question)))
        runs = answer.get("runs")
        if not runs:
            return Found("missing")
        run = runs[0]
        ended = run.get("state")
        state: State = "succeeded" if ended == "SUCCEEDED" else "failed" if ended in ENDED_BADLY else "running"
        return Found(state, str(run["run_id"]))

    def terminate(self, run: str) -> None:
        """End the run of an id.

        Raises:
            RunError: as for :meth:`find`.
        """
        self._call(f"end run {run}", lambda: self._ask("POST", f"runs/{quote(run, safe='')}:terminate"))

    def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None) -> Body:
        token = {"Authorization": f"Bearer {self._token.read_text().strip()}"} if self._token else {}
        address = f"{self._base}/apis/v2beta1/{path}"
        answer = httpx.request(method, address, params=query, json=body, headers=token, timeout=self._seconds)
        answered: Body = answer.raise_for_status().json()
        return answered

    def _call(self, what: str, call: Callable[[], Result]) -> Result:
        """Ask, and say what went wrong in one sentence with what to do."""
        try:
            return call()
        except httpx.TimeoutException as exc:
            reason = f"no answer within {self._seconds:g} s; is the address in kfp.host right, may pods reach it?"
            raise RunError(f"KFP at {self.host}: cannot {what}: {reason}") from exc
        except httpx.HTTPStatusError as exc:
            status = exc.response.status_code
            reason = f"{status} {exc.response.reason_phrase}{_advice(self.host, self._token, status)}"
            raise RunError(f"KFP at {self.host}: cannot {what}: {reason}") from exc
        except (httpx.HTTPError, OSError, ValueError, KeyError) as exc:
            reason = f"{_first_line(exc)}{_advice(self.host, self._token, None)}"
            raise RunError(f"KFP at {self.host}: cannot {what}: {reason}") from exc


def _named(name: str) -> dict[str, str]:
    """The question for what has this name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return {"filter": json.dumps({"predicates": [predicate]})}


def _advice(host: str, token: Path | None, status: int | None) -> str:
    """What to do: the doctor's checks see whether nobody answers, or the token is the wrong one."""
    from kedge.doctor import runs

    found = [each for each in (*runs.token(token), *runs.kfp(host, token)) if each.state == "bad"]
    if not found and status in (401, 403):
        return f"; this account may not; try: {runs.GRANT}"
    return "".join(f"; {each.what}: {each.seen}; try: {each.fix}" for each in found)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
