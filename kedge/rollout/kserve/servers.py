"""The model servers and collectors of a namespace, asked themselves, past every gateway."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext, suppress

import httpx

from kedge import collect_token
from kedge.errors import ReleaseError
from kedge.rollout.kserve import api, counters, pods
from kedge.rollout.model import Traffic

SCRAPE_SECONDS = 5.0
FLUSH_SECONDS = 60.0


def counted(http: httpx.Client, found: Iterable[api.Object], bundle: str) -> dict[str, Traffic]:
    """What each pod of a bundle counted since it started; what a pod that ended had counted is lost.

    Raises:
        ReleaseError: a pod that takes requests does not tell.
    """
    told = {}
    for pod in pods.running(found, bundle):
        with nullcontext() if pods.ready(pod) else suppress(ReleaseError):  # one that is not up may not answer
            told[pods.process(pod)] = _counted(http, pod, bundle)
    return told


def flush(http: httpx.Client, cluster: api.Api) -> None:
    """Have each collector write what it holds; one that cannot be asked writes it later by itself."""
    with suppress(ReleaseError, OSError):
        shown = collect_token.shown() or _requested_token(cluster)
        for pod in cluster.list(api.PODS, labelSelector="app.kubernetes.io/component=collector"):
            if pods.ready(pod):
                with suppress(httpx.HTTPError):
                    http.post(f"{pods.address(pod)}/v1/flush", headers=shown, timeout=FLUSH_SECONDS)


def _requested_token(cluster: api.Api) -> dict[str, str]:
    account, _, audience = os.environ.get(collect_token.REQUESTED, "").partition("@")
    return {"authorization": f"Bearer {cluster.token(account, audience)}"} if audience else {}


def _counted(http: httpx.Client, pod: api.Object, bundle: str) -> Traffic:
    url = f"{pods.address(pod)}/metrics"
    try:
        answer = http.get(url, timeout=SCRAPE_SECONDS)
        answer.raise_for_status()
        return counters.traffic(answer.text, bundle)
    except (httpx.HTTPError, ValueError, OverflowError, KeyError) as exc:
        name = pod["metadata"]["name"]
        raise ReleaseError(f"pod {name}: its counters at {url} cannot be read: {exc}") from exc
