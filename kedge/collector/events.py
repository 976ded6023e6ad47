"""CloudEvents 1.0 over HTTP: binary, structured and batched content mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from kedge.body import json_of, shown
from kedge.collector.declared import identity_of
from kedge.collector.payloads import PREDICTION
from kedge.collector.rejection import RequestRejected, malformed

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"

STRUCTURED = b"application/cloudevents+json"
BATCHED = b"application/cloudevents-batch+json"
JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``data`` is a JSON value, or bytes where the sender's content type is not JSON."""

    id: str
    type: str
    time: str | None
    attributes: Mapping[str, Any]
    data: Any


def media_type(header: bytes) -> bytes:
    """A content type without its parameters, in lower case."""
    return header.partition(b";")[0].strip().lower()


def binary(headers: Mapping[bytes, bytes], body: bytes) -> Event:
    """An event whose attributes are ``ce-`` headers and whose data are the body."""
    found = attributes(headers)
    kind = media_type(headers.get(b"content-type", JSON))
    if not found:
        raise RequestRejected(
            "media-type",
            f"content type {shown(kind.decode('latin-1'))} without ce- headers is not a CloudEvent; send "
            "application/cloudevents+json, application/cloudevents-batch+json, or ce-id, ce-type, ce-source and "
            "ce-specversion headers",
        )
    is_json = kind == JSON or kind.endswith(b"+json")
    if not is_json and found.get("type") == PREDICTION:
        raise RequestRejected(
            "media-type", f"{PREDICTION} carries JSON, got content type {shown(kind.decode('latin-1'))}"
        )
    raw = found.get("type") in (REQUEST, RESPONSE)  # the agent labels the answer with the request's content type
    return _event(found, body if raw else json_of(body))


def attributes(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Attributes of an event in binary mode: its ``ce-`` headers."""
    return {name[3:].decode("latin-1"): _header(value) for name, value in headers.items() if name[:3] == b"ce-"}


def structured(value: Any) -> Event:
    """An event that is one JSON object."""
    if type(value) is not dict:
        raise malformed(f"a CloudEvent is a JSON object, got {shown(value)}")
    if "data_base64" in value:
        return _event(value, _decoded(value["data_base64"], value.get("type")))
    return _event(value, value.get("data"))


def _event(attributes: Mapping[str, Any], data: Any) -> Event:
    if attributes.get("specversion") != "1.0":
        raise malformed(f"CloudEvent: specversion must be '1.0', got {shown(attributes.get('specversion'))}")
    kind = attributes.get("type")
    if kind not in (PREDICTION, REQUEST, RESPONSE):
        raise RequestRejected(
            "unknown-type", f"event type {shown(kind)} is not collected; {PREDICTION}, {REQUEST} and {RESPONSE} are"
        )
    if not attributes.get("source"):
        raise malformed("CloudEvent: source is missing")
    return Event(identity_of(attributes.get("id")), kind, attributes.get("time"), attributes, data)


def _header(value: bytes) -> str:
    text = value.decode("latin-1")
    return unquote(text) if "%" in text else text


def _decoded(value: Any, kind: Any) -> Any:
    try:
        raw = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise malformed(f"CloudEvent: data_base64 is not base64: {exc}") from None
    return json_of(raw) if kind == PREDICTION else raw
