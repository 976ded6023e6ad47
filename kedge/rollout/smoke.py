"""Predictions asked of a slot's own server, past every gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson

from kedge.choice import Score
from kedge.errors import ReleaseError, SlotNotReady

HEADER = "x-kedge-smoke"
"""Marks requests that are no part of what was served; the gateways remove it from those of clients."""
TIMEOUT_SECONDS = 30
MEMORY = "process_resident_memory_bytes"


def predict(http: httpx.Client, slot: str, base: str, model: str, rows: Sequence[Mapping[str, Any]]) -> list[Score]:
    """Scores from the server at ``base``.

    Raises:
        SlotNotReady: nobody answered; ``slot`` begins the message.
        ReleaseError: the answer has not a score for each row.
    """
    url = f"{base}/v1/models/{model}:predict"
    try:
        body = orjson.dumps({"instances": list(rows)})
        answer = http.post(url, content=body, headers={HEADER: "true"}, timeout=TIMEOUT_SECONDS)
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"it answered {answer.status_code}: {answer.text[:300]}")
        scores = [_number(score) for score in answer.json()["predictions"]]
    except httpx.ReadTimeout as exc:
        raise ReleaseError(f"slot {slot} at {url} gave no answer within {TIMEOUT_SECONDS} s") from exc
    except httpx.HTTPError as exc:
        raise SlotNotReady(f"slot {slot} at {url} did not answer: {exc}") from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise ReleaseError(f"slot {slot} at {url} did not predict: {exc}") from exc
    if len(scores) != len(rows):
        raise ReleaseError(f"slot {slot} gave {len(scores)} scores for {len(rows)} rows")
    return scores


def _number(score: Any) -> Score:
    return [float(each) for each in score] if isinstance(score, list) else float(score)


def memory(http: httpx.Client, base: str) -> float:
    """Bytes that the process of the server at ``base`` has resident, by its own page of metrics.

    Raises:
        ReleaseError: it does not answer, or does not say.
    """
    try:
        answer = http.get(f"{base}/metrics", headers={HEADER: "true"}, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
    except httpx.HTTPError as exc:
        raise ReleaseError(f"{base}/metrics: {exc}") from exc
    for line in answer.text.splitlines():
        name, _, value = line.partition(" ")
        if name == MEMORY:
            return float(value)
    raise ReleaseError(f"{base}/metrics does not say {MEMORY}")
