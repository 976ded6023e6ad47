"""The collector's OpenAPI description, which tests fuzz the service with."""

from __future__ import annotations

from typing import Any

from kedge.collector.events import PREDICTION

TIME = {"type": "string", "format": "date-time"}
ID = {"type": "string", "minLength": 1, "maxLength": 256}
ERROR = {
    "description": "Not taken; the message names the fault.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
            }
        }
    },
}
REFUSALS = {
    "400": "Malformed.",
    "401": "The bearer token is missing or wrong.",
    "405": "A method that is not served at this address.",
    "408": "The body came too slowly.",
    "409": "Another payload was acknowledged under this id.",
    "413": "Too large.",
    "415": "A content type that is not read here.",
    "422": "A model nobody declared, or a field that is missing, of the wrong type or out of bounds.",
    "503": "Send again after Retry-After seconds.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "kedge collector", "version": "1", "description": "Predictions, labels and checks in."},
        "paths": {
            "/": {"post": _events()},
            "/v1/labels": {"post": _labels()},
            "/v1/checks": {"post": _checks()},
            "/v1/flush": {"post": _flush()},
            "/healthz": {"get": _plain("The process answers.", "text/plain", {"type": "string"})},
            "/readyz": {"get": _ready()},
            "/metrics": {"get": _plain("Prometheus metrics.", "text/plain", {"type": "string"})},
            "/openapi.json": {"get": _plain("This document.", "application/json", {"type": "object"})},
        },
        "components": {
            "schemas": {"Prediction": _prediction(), "Label": _label()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _events() -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/Prediction"}
    return {
        "summary": "CloudEvents 1.0 in binary, structured or batched mode; acknowledged when durable.",
        "description": "In a batch the good events are kept and the answer names the others.",
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": event},
                "application/cloudevents-batch+json": {"schema": {"type": "array", "items": event, "maxItems": 10_000}},
            },
        },
        "responses": {"202": {"description": "Durable."}, **_refusals()},
    }


def _labels() -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["model", "labels"],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string"},
            "labels": {"type": "array", "items": {"$ref": "#/components/schemas/Label"}},
        },
    }
    rows = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "summary": "Outcomes of predictions; all are taken or none.",
        "parameters": [
            _query("model", {"type": "string"}, "For files: the model the labels are of."),
            _query("require_known", {"type": "boolean"}, "Refuse ids without a prediction."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": body},
                "application/x-ndjson": {"schema": rows},
                "text/csv": {"schema": rows},
                "application/vnd.apache.parquet": {"schema": rows},
            },
        },
        "responses": {"202": _answer("Durable.", {"accepted": {"type": "integer"}}), **_refusals()},
    }


def _checks() -> dict[str, Any]:
    figures = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 64,
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
        "additionalProperties": {"type": "number"},
    }
    body = {
        "type": "object",
        "required": ["model", "figures"],
        "properties": {"model": {"type": "string"}, "figures": figures},
    }
    return {
        "summary": "The newest monitoring check of a model, for /metrics.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"202": {"description": "Durable."}, **_refusals()},
    }


def _flush() -> dict[str, Any]:
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    answer = {
        "appended": {"type": "integer"},
        "labels_without_prediction": counts,
        "unmatched": {"type": "integer"},
    }
    return {
        "summary": "Append everything acknowledged to the prediction log now.",
        "responses": {"200": _answer("Done.", answer), **_refusals("400", "401", "503")},
    }


def _ready() -> dict[str, Any]:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    answer = {"ready": {"type": "boolean"}, "faults": texts}
    return {
        "summary": "Whether events can be acknowledged, and what is wrong.",
        "security": [],
        "responses": {"200": _answer("Ready.", answer), "503": _answer("Nothing can be acknowledged.", answer)},
    }


def _prediction() -> dict[str, Any]:
    short = {"type": "string", "maxLength": 128}
    value = {"type": ["number", "string", "boolean", "null"]}
    data = {
        "type": "object",
        "required": ["model", "features", "score"],
        "properties": {
            "model": {"type": "string"},
            "version": short,
            "slot": short,
            "features": {"type": "object", "additionalProperties": value},
            "score": {"type": "number"},
            "prediction": {"type": "number"},
            "latency_ms": {"type": "number"},
        },
    }
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": ID,
            "source": {"type": "string", "minLength": 1},
            "type": {"const": PREDICTION},
            "time": TIME,
            "datacontenttype": {"const": "application/json"},
            "data": data,
        },
    }


def _label() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "label"],
        "additionalProperties": False,
        "properties": {"id": ID, "label": {"type": ["number", "string", "boolean"]}, "observed_at": TIME},
    }


def _plain(summary: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"summary": summary, "security": [], "responses": {"200": answer}}


def _answer(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: {**ERROR, "description": REFUSALS[status]} for status in statuses or REFUSALS}
