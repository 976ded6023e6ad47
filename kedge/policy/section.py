"""What every part of a policy is: strict, frozen, described, and read under its earlier names too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, InitErrorDetails

from kedge.policy.described import docstrings

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""Of an import: module and name."""
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
MAX_SECONDS = 1e10
"""About 300 years: times that lie further away than that have no date."""
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Span = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
"""Seconds that are some."""


def fault_below(field: tuple[str, ...], seen: object, said: str) -> InitErrorDetails:
    """The fault of a field below the one that is checked, so that it is named with its own line."""
    return InitErrorDetails(type="value_error", loc=field, input=seen, ctx={"error": ValueError(said)})


class Section(BaseModel):
    """A part of the policy: unknown fields are errors, nothing changes after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    EARLIER: ClassVar[Mapping[str, str]] = {}
    """Names that earlier versions had for fields -> their names today: a policy that holds them means the same."""
    MOVED: ClassVar[Mapping[str, str]] = {}
    """Fields that have a place in another section today."""

    @model_validator(mode="before")
    @classmethod
    def _under_names_of_today(cls, value: Any) -> Any:
        if not isinstance(value, dict) or cls.EARLIER.keys().isdisjoint(value):
            return value
        for earlier, name in cls.EARLIER.items():
            if earlier in value and name in value:
                raise ValueError(f"{earlier} is the earlier name of {name}; write one of them")
        return {cls.EARLIER.get(name, name): field for name, field in value.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Each field described by the docstring beneath it."""
        reference = handler(core_schema)
        properties = handler.resolve_ref_schema(reference).get("properties", {})
        for name, text in docstrings(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        for earlier, name in cls.EARLIER.items():
            properties[earlier] = {**properties[name], "deprecated": True, "description": f"Earlier name of {name}."}
        for earlier, name in cls.MOVED.items():
            properties[earlier] = {"deprecated": True, "description": f"Earlier place of {name}."}
        return reference
