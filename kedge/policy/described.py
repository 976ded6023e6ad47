"""Descriptions in the JSON Schema from the docstrings beneath the fields.

pydantic can do it too (``use_attribute_docstrings``), but reads the source of every class when it is made: a third of
the time it takes to import the policy, at each start of each command.
"""

from __future__ import annotations

import ast
import inspect
import textwrap


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
