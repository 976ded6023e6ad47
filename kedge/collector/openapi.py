"""The collector's OpenAPI description: ``openapi.yaml`` with the types it reads and answers with; tests fuzz it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import yaml

from kedge.collector.payloads import Accepted, Check, Flushed, Labels, Prediction, Readiness
from kedge.collector.rejection import Refusal

TYPES = (Prediction, Labels, Check, Accepted, Flushed, Readiness, Refusal)


@cache
def document() -> bytes:
    """OpenAPI 3.1, as JSON."""
    served = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text())
    _, schemas = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    served["components"]["schemas"] = schemas
    return msgspec.json.encode(served)
