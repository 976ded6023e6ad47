"""The model servers and collectors of a namespace, asked themselves, past every gateway."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import httpx
import orjson

from components.deploy.kserve import api, counters, pods
from components.deploy.model import Traffic
from components.errors import ReleaseError

SMOKE = "x-kedge-smoke"
"""Header of smoke predictions, which are no part of what was served; clients cannot send it through the gateway."""
SCRAPE_SECONDS = 5.0
FLUSH_SECONDS = 60.0


def predict(http: httpx.Client, slot: str, base: str, model: str, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Scores from the server at ``base``.

    Raises:
        ReleaseError: it did not answer, or not with a score for each row; ``slot`` begins the message.
    """
    url = f"{base}/v1/models/{model}:predict"
    try:
        body, told = orjson.dumps({"instances": list(rows)}), {SMOKE: "true"}
        answer = http.post(url, content=body, headers=told, timeout=counters.REQUEST_SECONDS)
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"it answered {answer.status_code}: {answer.text[:300]}")
        scores = [float(score) for score in answer.json()["predictions"]]
    except (httpx.HTTPError, ValueError, TypeError, KeyError) as exc:
        raise ReleaseError(f"slot {slot} at {url} did not predict: {exc}") from exc
    if len(scores) != len(rows):
        raise ReleaseError(f"slot {slot} gave {len(scores)} scores for {len(rows)} rows")
    return scores


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
    """Have each collector write what it holds; one that is down is no error."""
    token = os.environ.get("KEDGE_COLLECT_TOKEN")
    shown = {"authorization": f"Bearer {token}"} if token else {}
    with suppress(httpx.HTTPError, ReleaseError):
        for pod in cluster.list(api.PODS, labelSelector="app.kubernetes.io/component=collector"):
            if pods.ready(pod):
                http.post(f"{pods.address(pod)}/v1/flush", headers=shown, timeout=FLUSH_SECONDS)


def _counted(http: httpx.Client, pod: api.Object, bundle: str) -> Traffic:
    url = f"{pods.address(pod)}/metrics"
    try:
        answer = http.get(url, timeout=SCRAPE_SECONDS)
        answer.raise_for_status()
        return counters.traffic(answer.text, bundle)
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        name = pod["metadata"]["name"]
        raise ReleaseError(f"pod {name}: its counters at {url} cannot be read: {exc}") from exc
