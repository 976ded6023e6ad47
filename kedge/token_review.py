"""Ask Kubernetes whose a token is, from within a pod."""

from __future__ import annotations

import json
import os
import ssl
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

OWN = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The collector's own token, and the authority of the API server."""
PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCOUNT = "system:serviceaccount:"
SECONDS = 5.0

Object = dict[str, Any]


def account_of(token: str, audience: str) -> str | None:
    """NAMESPACE/NAME of the account that a token was made out to, for this audience; None of one that is not good.

    Raises:
        OSError: Kubernetes does not answer, or does not let this account ask.
    """
    review: Object = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    status = _post(review).get("status") or {}
    name = (status.get("user") or {}).get("username", "")
    if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
        return None
    return str(name).removeprefix(ACCOUNT).replace(":", "/") if str(name).startswith(ACCOUNT) else None


def _post(review: Object) -> Object:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise OSError("this is no pod of Kubernetes")
    trusted = ssl.create_default_context(cafile=str(OWN / "ca.crt"))
    connection = HTTPSConnection(host, int(port), timeout=SECONDS, context=trusted)
    try:
        own = (OWN / "token").read_text().strip()  # read anew: it expires
        headers = {"Authorization": f"Bearer {own}", "Content-Type": "application/json"}
        connection.request("POST", PATH, json.dumps(review), headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status == 403:
            raise OSError("a TokenReview was answered with 403; the account needs the right to create one")
        if answer.status != 201:
            raise OSError(f"a TokenReview was answered with {answer.status} {answer.reason}")
        found: Object = json.loads(said)
    except (HTTPException, ValueError) as exc:
        raise OSError(f"no TokenReview was answered: {exc}") from exc
    finally:
        connection.close()
    return found
