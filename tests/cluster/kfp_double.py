"""A Kubeflow Pipelines API as far as kedge asks it: experiments, runs by name, who asked. Plain Python in a pod.

It keeps no pipelines: runs are sent whole."""

import base64
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

LOCK = threading.Lock()
EXPERIMENTS: dict = {}
RUNS: list = []
SEEN: list = []


def claims(header):
    """What the bearer token says about itself."""
    if not header.startswith("Bearer ") or header.count(".") != 2:
        return None
    part = header.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def wanted(query):
    """The name a filter asks for."""
    predicates = json.loads(query.get("filter", ["{}"])[0]).get("predicates", [])
    values = [each.get("stringValue", each.get("string_value")) for each in predicates]
    return values[0] if values else None


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def refused(self):
        """As in a multi-user installation: a good token of the right audience, and of an account with the rights."""
        said = claims(self.headers.get("Authorization", ""))
        if said is None or "pipelines.kubeflow.org" not in said.get("aud", []) or said["exp"] < time.time():
            self.answer(401, {"error": "no good token for pipelines.kubeflow.org"})
            return True
        if not said["sub"].endswith(":kedge-monitor"):
            self.answer(403, {"error": f"{said['sub']} may not"})
            return True
        SEEN.append(said["sub"])
        return False

    def do_GET(self):
        url = urlparse(self.path)
        query = parse_qs(url.query)
        if url.path == "/seen":
            return self.answer(200, {"runs": RUNS, "experiments": EXPERIMENTS, "subjects": sorted(set(SEEN))})
        if url.path == "/apis/v2beta1/healthz":
            return self.answer(200, {"apiServerReady": True, "apiServerTagName": "2.17.0", "multi_user": False})
        if self.refused():
            return None
        name = wanted(query)
        if url.path == "/apis/v2beta1/experiments":
            return self.answer(
                200, {"experiments": [e for e in EXPERIMENTS.values() if name in (None, e["display_name"])]}
            )
        if url.path.startswith("/apis/v2beta1/experiments/"):
            return self.answer(200, EXPERIMENTS[url.path.rsplit("/", 1)[1]])
        if url.path == "/apis/v2beta1/runs":
            return self.answer(200, {"runs": [r for r in RUNS if name in (None, r["display_name"])]})
        if url.path == "/apis/v2beta1/pipelines":
            return self.answer(200, {"pipelines": []})
        return self.answer(404, {"error": url.path})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return None
        with LOCK:
            if self.path == "/apis/v2beta1/experiments":
                made = {**body, "experiment_id": str(uuid.uuid4())}
                EXPERIMENTS[made["experiment_id"]] = made
                return self.answer(200, made)
            if self.path == "/apis/v2beta1/runs":
                made = {**body, "run_id": str(uuid.uuid4()), "state": "RUNNING"}
                RUNS.append(made)
                return self.answer(200, made)
        return self.answer(404, {"error": self.path})


if __name__ == "__main__":
    ThreadingHTTPServer(("", 3000), Handler).serve_forever()
