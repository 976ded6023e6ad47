"""Descriptions in the JSON Schema from the docstrings beneath the fields.

pydantic can do it too (``use_attribute_docstrings``), but reads the source of every class when it is made: a third of
the time it takes to import the policy, at each start of each command.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class Described:
    """Mixed into a model: its JSON Schema describes each field by the docstring beneath it."""

    EARLIER: ClassVar[Mapping[str, str]] = {}
    MOVED: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
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


def docstrings(cls: type) -> dict[str, str]:
    """Text beneath each annotated attribute of a class, of its own body alone.

    >>> from kedge.policy.model import Costs
    >>> sorted(docstrings(Costs))
    ['false_negative', 'false_positive', 'matrix']
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.get_docstring(ast.Module([below], []))
            if text is not None:
                found[field.target.id] = text
    return found
