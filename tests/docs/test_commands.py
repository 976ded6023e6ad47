"""What a page says to type is typed, and the notebook run cell by cell, in a folder as a reader has it."""

from __future__ import annotations

import ast
import doctest
import json
import re
from itertools import pairwise

import pytest

from tests.docs import runnable

pytestmark = pytest.mark.timeout(600)
FENCED = re.compile(r"(?ms)^```([^\n]*)\n(.*?)^```$")
NUMBER = re.compile(r"\b[0-9a-f]{12,40}\b|\d[\d,.]*")
"""Ids and figures, which are a machine's own."""
of_readme = pytest.mark.xdist_group("readme")  # one worker: the notebook needs what README's commands make


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    folder = runnable.checkout(tmp_path_factory.mktemp("readme"))
    return folder, runnable.run(runnable.ROOT / "README.md", folder)


@pytest.mark.slow
@of_readme
def test_the_commands_of_the_readme_run_as_they_stand(readme):
    folder, printed = readme
    assert "payments.yaml: good (payments: 8 features, binary)" in printed
    assert "succeeded, bundle " in printed
    assert (folder / "drift.html").is_file()


@pytest.mark.ci
@pytest.mark.parametrize(
    "page", [page for page in runnable.pages() if page.name != "README.md"], ids=lambda page: page.name
)
def test_the_commands_of_a_page_run_as_they_stand_and_print_what_it_shows(page, tmp_path):
    printed = NUMBER.sub("#", runnable.run(page, runnable.checkout(tmp_path)))
    fenced = FENCED.findall(page.read_text())
    outputs = [text for (before, _), (language, text) in pairwise(fenced) if before == "sh runnable" and not language]
    shown = [line.strip() for text in outputs for line in text.splitlines()]
    assert [line for line in shown if line != "..." and NUMBER.sub("#", line) not in printed] == []


@pytest.mark.slow
@of_readme
def test_the_notebook_runs_cell_by_cell(readme, monkeypatch):
    folder, _ = readme
    monkeypatch.chdir(folder / "examples")
    seen: dict[str, object] = {}
    shown = [displayed(cell, seen) for cell in code_cells(folder / "examples" / "payments.ipynb")]
    assert seen["quiet"].drifted == []
    assert seen["drift"].drifted == ["amount"]
    assert seen["scored"].groupby("returned")["score"].mean().is_monotonic_increasing
    assert sum("<svg" in each for each in shown) == 2
    assert sum("registered as version 1" in each for each in shown) == 1


@pytest.mark.slow
@of_readme
def test_the_examples_in_python_are_true(readme, monkeypatch):
    folder, _ = readme
    monkeypatch.chdir(folder)
    page = (runnable.ROOT / "docs" / "python.md").read_text()
    examples = doctest.DocTestParser().get_doctest(re.sub("(?m)^```.*", "", page), {}, "python.md", None, 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


def code_cells(path):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def displayed(source, names):
    """Run a cell; what a notebook would show of its last expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if last is None:
        return ""
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)
