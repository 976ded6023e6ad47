"""The collector's OpenAPI description, made of the types it reads and answers with; tests fuzz the service with it."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from kedge.collector.payloads import Accepted, Batch, Check, Flushed, Labels, Prediction, Readiness
from kedge.collector.rejection import Refusal

TYPES = (Prediction, Batch, Labels, Check, Accepted, Flushed, Readiness, Refusal)
REFUSALS = {
    "400": "Malformed.",
    "401": "The bearer token is missing or wrong.",
    "403": "The account of the token may not send this.",
    "405": "A method that is not served at this address.",
    "408": "The body came too slowly.",
    "413": "Too large.",
    "415": "A content type that is not read here.",
    "422": "A model nobody declared, or a field that is missing, of the wrong type or out of bounds.",
    "503": "Send again after Retry-After seconds.",
}
FILES = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet")
ROWS = {"type": "string", "contentMediaType": "application/octet-stream"}
TEXT = {"type": "string"}


@cache
def document() -> bytes:
    """OpenAPI 3.1, as JSON."""
    schemas, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "kedge collector", "version": "1", "description": "Predictions, labels and checks in."},
            "paths": _paths(dict(zip(TYPES, schemas, strict=True))),
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"token": []}],
        }
    )


def _paths(schema: dict[Any, Any]) -> dict[str, Any]:
    """What is served, by address; ``schema`` is a type's."""
    refusals = {status: _answer(text, schema[Refusal]) for status, text in REFUSALS.items()}
    return {
        "/": {
            "post": {
                "summary": "CloudEvents 1.0 in binary, structured or batched mode; acknowledged when durable.",
                "description": "In a batch the good events are kept and the answer names the others.",
                "requestBody": _body(
                    {
                        "application/cloudevents+json": schema[Prediction],
                        "application/cloudevents-batch+json": schema[Batch],
                    }
                ),
                "responses": {"202": {"description": "Durable."}, **refusals},
            }
        },
        "/v1/labels": {
            "post": {
                "summary": "Outcomes of predictions; all are taken or none.",
                "parameters": [
                    _query("model", TEXT, "For files: the model the labels are of."),
                    _query("require_known", {"type": "boolean"}, "Refuse ids without a prediction."),
                ],
                "requestBody": _body({"application/json": schema[Labels], **dict.fromkeys(FILES, ROWS)}),
                "responses": {"202": _answer("Durable.", schema[Accepted]), **refusals},
            }
        },
        "/v1/checks": {
            "post": {
                "summary": "The newest monitoring check of a model, for /metrics.",
                "requestBody": _body({"application/json": schema[Check]}),
                "responses": {"202": {"description": "Durable."}, **refusals},
            }
        },
        "/v1/flush": {
            "post": {
                "summary": "Append everything acknowledged to the prediction log now.",
                "responses": {
                    "200": _answer("Done.", schema[Flushed]),
                    **{status: refusals[status] for status in ("400", "401", "403", "503")},
                },
            }
        },
        "/readyz": _open(
            "Whether events can be acknowledged, and what is wrong.",
            {
                "200": _answer("Ready.", schema[Readiness]),
                "503": _answer("Nothing can be acknowledged.", schema[Readiness]),
            },
        ),
        "/healthz": _plain("The process answers.", TEXT, "text/plain"),
        "/metrics": _plain("Prometheus metrics.", TEXT, "text/plain"),
        "/openapi.json": _plain("This document.", {"type": "object"}),
    }


def _open(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    """Something to look at without a token."""
    return {"get": {"summary": summary, "security": [], "responses": responses}}


def _plain(summary: str, schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    return _open(summary, {"200": _answer(summary, schema, media_type)})


def _body(schemas: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema} for media_type, schema in schemas.items()}}


def _answer(description: str, schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
