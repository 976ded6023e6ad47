"""A model that KServe serves already: what it is, how its requests come to be logged, its first policy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.errors import UsageError
from kedge.scaffold.guess import guess
from kedge.scaffold.look import look
from kedge.scaffold.write import policy_text
from kedge.tables.sources import source_at

API = "serving.kserve.io/v1beta1"
TYPES = ("number", "integer", "boolean", "category")


@dataclass(frozen=True, kw_only=True)
class Found:
    """An InferenceService as it is."""

    name: str
    namespace: str
    ready: bool
    serves: str
    """Model format or container image, and the runtime where it is named."""
    model: str
    """Where its model lies; empty if a container of its own holds it."""
    address: str
    logger: Mapping[str, Any]
    """What its predictor's requests are logged to now; empty: nothing."""


def found(service: Mapping[str, Any]) -> Found:
    """What an InferenceService object says."""
    predictor, status = service["spec"]["predictor"], service.get("status", {})
    model = predictor.get("model") or next(
        (part for name, part in predictor.items() if isinstance(part, dict) and "storageUri" in part), {}
    )
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return Found(
        name=service["metadata"]["name"],
        namespace=service["metadata"]["namespace"],
        ready=conditions.get("Ready") == "True",
        serves=_serves(predictor, model),
        model=model.get("storageUri", ""),
        address=status.get("url", ""),
        logger=predictor.get("logger") or {},
    )


def _serves(predictor: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    named = model.get("modelFormat", {}).get("name")
    old = next((name for name, part in predictor.items() if part is model), "")
    runtime = f" by {model['runtime']}" if model.get("runtime") else ""
    images = [each["image"] for each in predictor.get("containers", ()) if "image" in each]
    return f"{named or old}{runtime}" if model else ", ".join(images) or "unknown"


def told(service: Found) -> list[str]:
    """The same for a person."""
    log = f"{service.logger.get('mode', 'all')} to {service.logger.get('url', '?')}" if service.logger else "not logged"
    return [
        f"InferenceService {service.namespace}/{service.name}: {'ready' if service.ready else 'NOT ready'}",
        f"  serves    {service.serves}",
        f"  model     {service.model or 'in its container'}",
        f"  address   {service.address or 'none yet'}",
        f"  requests  {log}",
    ]


def patch(service: Found, collector: str) -> dict[str, Any]:
    """What makes KServe's logger send every request and answer to the collector; nothing else is touched."""
    return {
        "apiVersion": API,
        "kind": "InferenceService",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"predictor": {"logger": {"mode": "all", "url": collector}}},
    }


def logs_elsewhere(service: Found, collector: str) -> str | None:
    """Where the requests are logged already, if it is another place: taking that away is not ours to decide."""
    url = service.logger.get("url")
    return str(url) if url and url != collector else None


def policy_of_table(name: str, table: str, target: str | None) -> str:
    """A policy that watches, guessed from a table, which training may use one day.

    Raises:
        UsageError, DataError: as ``kedge init``.
    """
    seen = look(source_at(table))
    return policy_text(name, seen, guess(seen, target), table) + _watched_only()


def policy_of_features(name: str, features: Sequence[str], target: str | None, task: str) -> str:
    """A policy that watches, from features named as ``amount:number``.

    Raises:
        UsageError: a feature without type, or of one nobody knows.
    """
    lines = [
        "model:",
        f"  name: {json.dumps(name)}",
        f"  task: {task}",
        f"  target: {json.dumps(target or 'outcome')}",
        "  features:",
    ]
    for each in features:
        column, _, kind = each.rpartition(":")
        if not column or kind not in TYPES:
            raise UsageError(f"--feature {each!r}: write NAME:TYPE, of the types {', '.join(TYPES)}")
        lines.append(f"    {json.dumps(column)}: {{type: {kind}}}")
    lines += ["data:", "  source: {format: log}              # what was served, once it is to be trained", "monitor:"]
    lines += ['  schedule: "0 * * * *"', "  window_seconds: 86400"]
    return "\n".join(lines) + "\n" + _watched_only()


def _watched_only() -> str:
    return (
        "  triggers: {labelled_error: false}  # only watched: without a trigger no check ever asks for a retraining\n"
    )
