"""Kubeflow Pipelines: the API, its version, the token it is shown."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from kedge.doctor.finding import Finding, bad, good, skipped, warning

AUDIENCE = "pipelines.kubeflow.org"
GRANT = f"helm upgrade ... --set kfp.audience={AUDIENCE} --set kfp.rbac=true; kfp.namespace: the profile"
SECONDS = 10.0
MAX_SKEW = timedelta(seconds=30)


def kfp(host: str | None, token: Path | None) -> list[Finding]:
    """The API answers, in a version kedge is tested with."""
    what = "kubeflow pipelines"
    if not host:
        return [skipped(what, "no address: runs go to the local runner", "export KEDGE_KFP_HOST=http://...")]
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token and token.is_file() else {}
    address = f"{host.rstrip('/')}/apis/v2beta1/healthz"
    try:
        answer = httpx.get(address, headers=headers, timeout=SECONDS)
    except httpx.HTTPError as exc:
        return [bad(what, f"{host}: {exc}", "is the address in kfp.host right, may pods reach it?")]
    if answer.status_code in (401, 403):
        return [bad(what, f"{host}: {answer.status_code}", GRANT)]
    try:
        said = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return [bad(what, f"{address}: {answer.status_code}, not its API", "is this the API's address?")]
    return [_version(host, said), *skew(what, answer.headers.get("date"))]


def _version(host: str, said: dict[str, Any]) -> Finding:
    """The user interface passes the API on and answers for its health itself, in words of its own, well or not."""
    if said.get("apiServerReady") is False:
        seen = f"{host}: the user interface answers, the API behind it does not"
        return bad("kubeflow pipelines", seen, "kubectl --namespace kubeflow rollout status deployment/ml-pipeline")
    version = str(said.get("tag_name") or said.get("apiServerTagName") or "unknown")
    many = "multi-user" if said.get("multi_user") else "single-user"
    if version.split(".")[:1] != ["2"]:
        return warning(
            "kubeflow pipelines", f"version {version}; kedge is tested with 2.17", "upgrade it to 2.17 or newer"
        )
    return good("kubeflow pipelines", f"{version}, {many}, at {host}")


def skew(whose: str, date: str | None, now: datetime | None = None) -> list[Finding]:
    """Clocks far apart make tokens and event times wrong. ``date`` is a header of an answer."""
    try:
        theirs = datetime.strptime(date or "", "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC)
    except ValueError:
        return []
    apart = abs((now or datetime.now(UTC)) - theirs)
    seen = f"{apart.total_seconds():.0f} s apart from that of {whose}"
    return [bad("clock", seen, "timedatectl set-ntp true") if apart > MAX_SKEW else good("clock", seen)]


def token(path: Path | None, *, now: datetime | None = None) -> list[Finding]:
    """The projected token is there, for the right audience, and not expired. Its signature is the API's to check."""
    what, fix = "token", f"helm upgrade ... --set kfp.audience={AUDIENCE}"
    if path is None:
        return [skipped(what, "none is sent; a single-user installation needs none", fix)]
    try:
        claims = _claims(path.read_text().strip())
    except OSError as exc:
        return [bad(what, f"{path}: cannot be read: {exc.strerror}", fix)]
    except ValueError:
        return [bad(what, f"{path}: not a service account token", fix)]
    audiences = [claims["aud"]] if isinstance(claims.get("aud"), str) else list(claims.get("aud", ()))
    if AUDIENCE not in audiences:
        return [bad(what, f"its audience is {', '.join(audiences) or 'none'}, not {AUDIENCE}", fix)]
    left = datetime.fromtimestamp(claims.get("exp", 0), UTC) - (now or datetime.now(UTC))
    seconds = left.total_seconds()
    if seconds <= 0:
        return [bad(what, f"expired {-seconds:.0f} s ago", "kubectl delete pod ...: the kubelet renews it")]
    return [good(what, f"audience {AUDIENCE}, {seconds / 60:.0f} minutes left")]


def _claims(text: str) -> dict[str, Any]:
    """What a JSON web token says.

    Raises:
        ValueError: it is none.
    """
    parts = text.split(".")
    if len(parts) != 3:
        raise ValueError("three parts expected")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise ValueError("not base64") from exc
    if not isinstance(claims, dict):
        raise ValueError("not an object")
    return claims
