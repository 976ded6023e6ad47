"""Whatever the schema accepts gives valid objects, with the values as they were written: values are made from it."""

from __future__ import annotations

import json
import string
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.chart.render import CHART, Object, pods, template, validate
from tests.chart.test_values import FRAUD

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
MAX_DEPTH = 7
ODD = (
    "true",
    "null",
    "1e3",
    "0x1F",
    "1_000",
    "~",
    "on",
    "y",
    "2026-01-01",
    "1048576",
    "{a}",
    "a: b",
    "- a",
    "#",
    "'",
    '"',
)
"""Texts that YAML takes for something else where they are not quoted."""


def referred(schema: Any) -> Any:
    """A schema, or the one that it refers to, with what it adds to others."""
    while "$ref" in schema:
        node: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    if "allOf" in schema:
        parts = [referred(each) for each in schema["allOf"]]
        properties: Object = {}
        for part in parts:
            for name, each in part.get("properties", {}).items():
                properties[name] = {**properties.get(name, {}), **each}
        return {**parts[0], "properties": properties, "not": parts[-1].get("not")}
    return schema


def values_of(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """What a schema accepts, or nearly: helm judges."""
    schema = referred(schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values_of(each, depth) for each in schema["anyOf"]])
    kinds = schema.get("type", "object")
    return st.one_of([_of_kind(kind, schema, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds)])


def _of_kind(kind: str, schema: Any, depth: int) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(least), int(most)) | st.sampled_from([max(int(least), min(1_048_576, int(most)))])
        case "number":
            return st.integers(int(least), int(most)) | st.sampled_from([1_048_576, 0.5, 1e-7, 3])
        case "string":
            return _text(schema)
        case "array":
            items = values_of(schema["items"], depth + 1)
            size = {"min_size": schema.get("minItems", 0), "max_size": 0 if depth > MAX_DEPTH else 2}
            return st.lists(items, **size, unique_by=json.dumps if schema.get("uniqueItems") else None)
        case _:
            return _object(schema, depth)


def _text(schema: Any) -> st.SearchStrategy[str]:
    if "pattern" not in schema:
        plain = st.text(string.ascii_letters + string.digits + "-", max_size=12)
        return (plain | st.sampled_from(ODD)).filter(lambda text: len(text) >= schema.get("minLength", 0))
    found = st.from_regex(schema["pattern"], fullmatch=True, alphabet=string.printable)
    return found.map(lambda text: text.strip("\n")).filter(lambda text: len(text) <= schema.get("maxLength", 80))


def _object(schema: Any, depth: int) -> st.SearchStrategy[Object]:
    known = {name: each for name, each in schema.get("properties", {}).items() if each is not False}
    needed = {name: values_of(known[name], depth + 1) for name in schema.get("required", ())}
    free = {} if depth > MAX_DEPTH else {name: each for name, each in known.items() if name not in needed}
    others = {name: st.deferred(lambda each=each: values_of(each, depth + 1)) for name, each in free.items()}
    fixed = st.fixed_dictionaries(needed, optional=others)
    named = schema.get("patternProperties")
    if named is None:
        return fixed
    ((pattern, each),) = named.items()
    taken = {name for name, rule in schema.get("properties", {}).items() if rule is False}
    names = st.from_regex(pattern, fullmatch=True, alphabet=string.printable).map(str.strip)
    keys = names.filter(lambda name: len(name) < 60 and name not in taken)
    return st.dictionaries(keys, values_of(each, depth + 1), max_size=2)


SECTIONS = {name: values_of(each) for name, each in SCHEMA["properties"].items() if name not in ("models", "global")}
TABLES = st.lists(st.sampled_from([*ODD, "a", "b"]), min_size=1, max_size=3, unique=True)


@st.composite
def installations(draw: st.DrawFn) -> Object:
    """Values of one model with some of the sections."""
    name = draw(
        values_of({"type": "string", "pattern": "^[a-z]([a-z0-9-]{0,10}[a-z0-9])?$"}) | st.sampled_from(["on", "y"])
    )
    features = {"amount": {"type": "number"}, "plan": {"type": "category", "values": draw(TABLES)}}
    model = {"policy": {**FRAUD, "model": {**FRAUD["model"], "name": name, "features": features}}}
    chosen = draw(st.lists(st.sampled_from(sorted(SECTIONS)), max_size=4, unique=True))
    return {"models": [model], "serving": {"enabled": True}, **{section: draw(SECTIONS[section]) for section in chosen}}


@settings(
    max_examples=30, phases=(Phase.explicit, Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck)
)
@given(installations(), st.sampled_from(["kedge", "kedge.prod", "1kedge", "9", "1e3", "a" * 53, "kedge-true"]))
def test_what_the_schema_accepts_gives_valid_objects_with_values_as_written(tmp_path, values, release):
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))  # another library's YAML leaves texts bare that helm takes for something else
    done = template(file, release=release, check=False)
    if done.returncode:
        refused = "meet the specifications of the schema" in done.stderr or "execution error" in done.stderr
        assert refused, done.stderr
    assume(done.returncode == 0)
    objects = [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]
    assert validate(done.stdout) == len(objects)
    keys = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects]
    assert len(set(keys)) == len(keys)
    for place, pod in pods(objects):
        for (container,) in [pod["containers"]]:
            for part, name in (("env", "name"), ("volumeMounts", "mountPath")):
                names = [each[name] for each in container.get(part, ())]
                assert len(set(names)) == len(names), (place, part)
        volumes = {each["name"] for each in pod.get("volumes", ())}
        assert len(volumes) == len(pod.get("volumes", ())), place
    for found in objects:
        assert isinstance(found["metadata"]["name"], str)
        if found["kind"] == "Service":
            assert found["metadata"]["name"][0].isalpha()
            assert "." not in found["metadata"]["name"]
    policies = next(o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-policies"))
    ((_, text),) = policies["data"].items()
    assert (
        yaml.safe_load(text)["model"]["features"]["plan"] == values["models"][0]["policy"]["model"]["features"]["plan"]
    )
    asked = {**values.get("pod", {}).get("env", {}), **values.get("collector", {}).get("env", {})}
    for found in objects:
        if found["kind"] == "StatefulSet":
            env = {
                each["name"]: each.get("value") for each in found["spec"]["template"]["spec"]["containers"][0]["env"]
            }
            for name, value in asked.items():
                assert env[name] == value or json.loads(env[name]) == value
                assert not isinstance(value, int) or env[name] == json.dumps(value)
