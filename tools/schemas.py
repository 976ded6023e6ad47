"""Write JSON Schemas that kubeconform reads, strict: unknown fields are errors.

    python tools/schemas.py OUT --swagger swagger.json --crds FOLDER...

Core kinds come from the Kubernetes source's own OpenAPI document, custom ones from their definitions' YAML files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
QUANTITY = {"anyOf": [{"type": "number"}, {"type": "string"}]}


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 gives a bare `=` a type of its own, which the Prometheus operator's definitions do not mean."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


def strict(schema: Any) -> Any:
    """The schema with every object closed that says which fields it has."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return INT_OR_STRING
    closed = {key: strict(value) for key, value in schema.items() if key != "description"}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return closed


def core_kinds(swagger: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and schema of every kind of the OpenAPI document, each with the definitions it needs."""
    definitions = {name: _core(name, schema) for name, schema in swagger["definitions"].items()}
    for name, schema in swagger["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            needed = {used: definitions[used] for used in sorted(_reached(name, definitions))}
            whole = {"$ref": f"#/definitions/{name}", "definitions": needed}
            yield file_name(kind["group"], kind["version"], kind["kind"]), whole


def _reached(name: str, definitions: dict[str, Any]) -> set[str]:
    """Names of the definitions one leads to, itself included."""
    reached, ahead = set[str](), [name]
    while ahead:
        if (found := ahead.pop()) not in reached:
            reached.add(found)
            ahead += re.findall(r'"#/definitions/([^"]+)"', json.dumps(definitions[found]))
    return reached


def _core(name: str, schema: dict[str, Any]) -> Any:
    if name.endswith(".api.resource.Quantity"):
        return QUANTITY
    closed = strict(schema)
    for kind in schema.get("x-kubernetes-group-version-kind", ())[:1]:
        if "properties" in closed:
            version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
            closed["properties"] |= {"apiVersion": {"const": version}, "kind": {"const": kind["kind"]}}
    return closed


def custom_kinds(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and schema of every served version of the definitions in a YAML file."""
    for definition in yaml.load_all(file.read_bytes(), Loader=_Loader):
        if not definition or definition.get("kind") != "CustomResourceDefinition":
            continue
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # A definition leaves these to the API server.
            schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
            yield file_name(spec["group"], version["name"], spec["names"]["kind"]), schema


def file_name(group: str, version: str, kind: str) -> str:
    """As kubeconform's template `{{.ResourceKind}}{{.KindSuffix}}` has it: the group's first part only."""
    return "-".join(filter(None, (kind.lower(), group.split(".")[0], version.lower()))) + ".json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--swagger", type=Path)
    parser.add_argument("--crds", type=Path, nargs="*", default=[])
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = list(core_kinds(json.loads(chosen.swagger.read_bytes()))) if chosen.swagger else []
    for folder in chosen.crds:
        for file in sorted(folder.rglob("*.yaml")):
            found += custom_kinds(file)
    for name, schema in found:
        (chosen.out / name).write_text(json.dumps(schema), encoding="utf-8")
    print(f"{len(found)} schemas in {chosen.out}")


if __name__ == "__main__":
    main()
