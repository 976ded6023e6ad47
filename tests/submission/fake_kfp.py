"""A KFP API server that knows runs, experiments and pipelines, as much as a submitter needs."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class FakeKfp(http.server.ThreadingHTTPServer):
    """Runs start as RUNNING; whoever holds the server changes ``runs[name]["state"]``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: list[dict[str, Any]] = []
        self.pipelines: dict[str, list[str]] = {}
        """Names of the versions kept, by their pipeline's; ids are ``id of NAME``."""
        self.hides_pipelines = False
        """Whether who submits may not look at pipelines."""
        self.shared_only = False
        """Whether pipelines belong to no profile."""
        self.tokens: set[str | None] = set()
        self.namespaces: set[str | None] = set()
        """Those that experiments and runs were looked for in."""
        self.unwell: list[int] = []
        """Status codes of the next answers to a look for a run."""
        self.refuses: int | None = None
        """The status of every answer but that to a question after its health."""
        self.page: bytes | None = None
        """Answers everything in its place: a sign-in page."""
        self.audience: str | None = None
        """Whom tokens must be for, and not be expired, as in a multi-user installation; None: anybody may ask."""
        self.hangs = threading.Event()
        self.hangs.set()  # cleared: every call waits
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def keep(self, pipeline: str, version: str) -> None:
        """Keep a version, as after ``kubectl apply`` or an upload."""
        self.pipelines.setdefault(pipeline, []).append(version)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeKfp

    def do_GET(self) -> None:
        self._begin()
        path = urlsplit(self.path)
        if path.path.endswith(("/experiments", "/runs")):
            self.server.namespaces.add(parse_qs(path.query).get("namespace", [None])[0])
        if path.path.endswith("/healthz"):
            self._answer({"apiServerReady": True, "apiServerTagName": "2.17.0", "multi_user": False})
        elif refused := self._refused():
            self._answer({"error": "refused"}, refused)
        elif path.path.endswith("/experiments"):
            name = _wanted(parse_qs(path.query))
            self._answer({"experiments": [each for each in self.server.experiments if each["display_name"] == name]})
        elif self.server.unwell:
            self._answer({}, self.server.unwell.pop(0))
        elif "/pipelines" in path.path:
            self._pipelines(path.path, parse_qs(path.query))
        else:
            found = self.server.runs.get(_wanted(parse_qs(path.query)))
            self._answer({"runs": [found] if found else []})

    def _pipelines(self, path: str, query: dict[str, list[str]]) -> None:
        name = _wanted(query)
        if self.server.hides_pipelines:
            self._answer({"error": "not yours"}, 403)
        elif path.endswith("/versions"):
            of = unquote(path.split("/")[-2]).removeprefix("id of ")
            found = [each for each in self.server.pipelines[of] if each == name]
            versions = [{"display_name": each, "pipeline_version_id": f"id of {each}"} for each in found]
            self._answer({"pipeline_versions": versions})
        else:
            seen = name in self.server.pipelines and not (self.server.shared_only and "namespace" in query)
            self._answer({"pipelines": [{"display_name": name, "pipeline_id": f"id of {name}"}] if seen else []})

    def do_POST(self) -> None:
        self._begin()
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        if self.path.endswith(":terminate"):
            ended = self.path.rsplit("/", 1)[1].removesuffix(":terminate")
            for run in self.server.runs.values():
                run["state"] = "CANCELING" if run["run_id"] == ended else run["state"]
            return self._answer({})
        if self.path.endswith("/experiments"):
            self.server.experiments.append(body | {"experiment_id": f"e{len(self.server.experiments) + 1}"})
            return self._answer(self.server.experiments[-1])
        run = {**body, "run_id": f"r{len(self.server.runs) + 1}", "state": "RUNNING"}
        self.server.runs[body["display_name"]] = run
        return self._answer(run)

    def _refused(self) -> int | None:
        """Everything of a token but its signature is judged."""
        if self.server.audience:
            said = _claims(self.headers.get("Authorization") or "")
            if self.server.audience not in said.get("aud", ()) or said.get("exp", 0) < time.time():
                return 401
        return self.server.refuses

    def _begin(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        self.server.hangs.wait()

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        raw = self.server.page or json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *words: object) -> None:
        pass


def _claims(header: str) -> dict[str, Any]:
    """What a bearer token says of itself; nothing if there is none."""
    parts = header.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return {}
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    return claims


def _wanted(query: dict[str, list[str]]) -> str:
    """The name a filter asks for."""
    wanted = json.loads(query["filter"][0])["predicates"][0]
    assert wanted["key"] == "display_name"
    return str(wanted.get("stringValue") or wanted["string_value"])
