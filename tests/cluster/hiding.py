"""The cluster as it would be without some API groups: a way to it that leaves them out of what the server tells.

Whether KServe is there cannot be chosen by a test: its definitions are everybody's on a cluster.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.chart.render import tool

GROUPS = ("serving.kserve.io", "gateway.networking.k8s.io")
PASSED_ON = ("accept", "content-type")


@contextmanager
def without_groups(folder: Path) -> Iterator[Path]:
    """A kubeconfig of the cluster, through which it has neither KServe nor the Gateway API."""
    proxy = subprocess.Popen([tool("kubectl"), "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    assert proxy.stdout
    found = re.search(r"[\d.]+:\d+", proxy.stdout.readline())
    assert found, "kubectl proxy did not say where it listens"
    with httpx.Client(base_url=f"http://{found[0]}", timeout=60, trust_env=False) as upstream:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield _kubeconfig(folder / "kubeconfig", server.server_port)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            proxy.terminate()
            proxy.wait()
            proxy.stdout.close()


def _kubeconfig(path: Path, port: int) -> Path:
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
    config["clusters"] = [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}]
    config["users"] = [{"name": "u", "user": {}}]
    path.write_text(yaml.safe_dump(config))
    return path


def _handler(upstream: httpx.Client) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if any(self.path.startswith(f"/apis/{group}/") or self.path == f"/apis/{group}" for group in GROUPS):
                return self._answer(404, b"404 page not found", "text/plain")
            headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
            said = upstream.get(self.path, headers=headers)
            kind = said.headers.get("content-type", "")
            body = said.content
            if self.path.split("?")[0] in ("/apis", "/openapi/v3") and "json" in kind:
                body = json.dumps(_hidden(said.json())).encode()
            return self._answer(said.status_code, body, kind)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    return Handler


def _hidden(said: dict[str, Any]) -> dict[str, Any]:
    """A list of groups without those: as discovery gives it, old or aggregated, or as OpenAPI does."""
    for key in ("groups", "items"):
        if key in said:
            said[key] = [each for each in said[key] if (each.get("name") or each["metadata"]["name"]) not in GROUPS]
    if "paths" in said:
        said["paths"] = {path: each for path, each in said["paths"].items() if not set(path.split("/")) & set(GROUPS)}
    return said
