"""The cluster as it would be without some API groups: a way to it that leaves them out of what the server tells.

Whether KServe is there cannot be chosen by a test: its definitions are everybody's on a cluster.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.chart.render import tool
from tests.web import Request, Response, answering, kubeconfig

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
        try:
            with answering(partial(_answer, upstream)) as address:
                yield Path(kubeconfig(folder / "kubeconfig", address))
        finally:
            proxy.terminate()
            proxy.wait()
            proxy.stdout.close()


def _answer(upstream: httpx.Client, request: Request) -> Response:
    path = request.path
    if any(path.startswith(f"/apis/{group}/") or path == f"/apis/{group}" for group in GROUPS):
        return Response("404 page not found", 404, content_type="text/plain")
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    found = upstream.get(path, params=request.args.to_dict(flat=False), headers=headers)
    kind, body = found.headers.get("content-type", ""), found.content
    if path in ("/apis", "/openapi/v3") and "json" in kind:
        body = json.dumps(_hidden(found.json())).encode()
    return Response(body, found.status_code, content_type=kind)


def _hidden(said: dict[str, Any]) -> dict[str, Any]:
    """A list of groups without those: as discovery gives it, old or aggregated, or as OpenAPI does."""
    for key in ("groups", "items"):
        if key in said:
            said[key] = [each for each in said[key] if (each.get("name") or each["metadata"]["name"]) not in GROUPS]
    if "paths" in said:
        said["paths"] = {path: each for path, each in said["paths"].items() if not set(path.split("/")) & set(GROUPS)}
    return said
