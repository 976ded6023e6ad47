"""docs/policy.md against the format itself."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from kedge import policy as policies
from kedge.policy import Gates, Monitor, Policy, Release, Train
from kedge.policy.section import Section
from kedge.policy.train import Search

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
BLOCKS = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
]
EXAMPLE: dict[str, Any] = {
    name: part for block in BLOCKS if not {"row_time", "freeze", "search"} & set(block) for name, part in block.items()
}
SEARCHED = next(block for block in BLOCKS if "search" in block)
HELD = next(block for block in BLOCKS if "freeze" in block)
ROW_TIME = next(block["row_time"] for block in BLOCKS if "row_time" in block)


def models(kind: Any) -> list[type[BaseModel]]:
    """The sections a field's type leads to."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in models(part)]


def shown(model: type[BaseModel], values: list[Any], found: dict[type[BaseModel], set[str]]) -> None:
    """Collect, for each section of the format, the fields its examples hold, wherever they stand."""
    found.setdefault(model, set()).update(name for value in values for name in value)
    for name, field in model.model_fields.items():
        held = [value[name] for value in values if name in value]
        for below in models(field.annotation):
            shown(below, [item for value in held for item in parts(value, below)], found)


def parts(value: Any, model: type[BaseModel]) -> list[Any]:
    """Examples of a section within a value: itself, or those in a mapping or a list of them."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and not set(value) & set(model.model_fields):
        return list(value.values())
    return [value]


def test_the_examples_together_are_one_valid_policy() -> None:
    policy = policies.parse(EXAMPLE)
    assert policy.name == "fraud"
    assert policy.model.threshold == pytest.approx(1 / 21)
    timed = {name: value for name, value in EXAMPLE["data"].items() if name != "time_column"} | {"row_time": ROW_TIME}
    assert policies.parse(EXAMPLE | {"data": timed}).data.row_time is not None
    assert policies.parse(EXAMPLE | {"release": EXAMPLE["release"] | HELD}).release.freeze
    assert policies.parse(EXAMPLE | {"train": EXAMPLE["train"] | SEARCHED}).train.search == Search()


def test_every_field_of_the_format_is_in_an_example() -> None:
    example = EXAMPLE | {"data": EXAMPLE["data"] | {"row_time": ROW_TIME}}
    found: dict[type[BaseModel], set[str]] = {}
    held = EXAMPLE | {"release": EXAMPLE["release"] | HELD, "train": EXAMPLE["train"] | SEARCHED}
    example["train"] = {name: part for name, part in EXAMPLE["train"].items() if name != "search"}
    shown(Policy, [example, held], found)
    assert {model.__name__: set(model.model_fields) - names for model, names in found.items()} == {
        model.__name__: set() for model in found
    }
    assert set(found) == set(Section.__subclasses__())


def test_the_sections_that_have_defaults_show_them() -> None:
    policy = policies.parse(EXAMPLE)
    assert (policy.train, policy.gates, policy.release, policy.monitor) == (Train(), Gates(), Release(), Monitor())
    for name, model in (("train", Train), ("gates", Gates), ("release", Release), ("monitor", Monitor)):
        assert set(EXAMPLE[name]) == set(model.model_fields)


def test_each_line_of_an_example_has_a_comment_or_is_plain() -> None:
    """A field with a rule to know says it beside it; this guards against examples that grow without words."""
    lines = [
        line for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    assert sum("#" in line for line in lines) / len(lines) > 0.75
