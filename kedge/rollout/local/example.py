"""Commands that a person can copy to try a model that is served: one of its golden rows, and an outcome for it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from kedge import clock
from kedge.bundle import manifest, mlmodel
from kedge.errors import BundleError

ID = "try-1"
JSON = "-H 'content-type: application/json'"


def commands(folder: Path, gateway: str, collector: str) -> list[str]:
    """A request and the outcome of it, for the shell; empty where the bundle holds no example.

    Args:
        folder: Of the bundle.
        gateway, collector: Their addresses.
    """
    try:
        example = json.loads((folder / mlmodel.EXAMPLE).read_bytes())
        about = manifest.parse((folder / manifest.NAME).read_bytes(), str(folder / manifest.NAME))
        row = dict(zip(example["columns"], example["data"][0], strict=True))
    except (OSError, ValueError, LookupError, BundleError):  # a bundle of an earlier version
        return []
    label = {"id": ID, "label": _outcome(about), "observed_at": clock.now().isoformat(timespec="seconds")}
    return [
        f"curl -s {gateway}/v1/models/{about.name}:predict {JSON} -H 'ce-id: {ID}' -d {_quoted({'instances': [row]})}",
        f"curl -s {collector}/v1/labels {JSON} -d {_quoted({'model': about.name, 'labels': [label]})}",
    ]


def _outcome(about: manifest.Manifest) -> Any:
    """One that the model's collector takes."""
    if about.classes:
        return about.classes[0]
    model = about.policy.get("model")
    return model.get("positive_label", 1) if isinstance(model, dict) and about.task == "binary" else 1


def _quoted(body: object) -> str:
    return shlex.quote(json.dumps(body, ensure_ascii=False))
