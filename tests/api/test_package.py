"""``import kedge``: light, documented, and every example of the library true."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import kedge

ROOT = Path(__file__).parents[2]
SHOWING = [path for path in sorted((ROOT / "kedge").rglob("*.py")) if ">>> " in path.read_text()]


def test_importing_kedge_imports_nothing_else():
    code = (
        "import sys; before = {*sys.modules}; import kedge;"
        "new = {*sys.modules} - before;"
        "print(sorted(name for name in new if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['kedge', 'kedge.image']"


def test_every_name_is_there_and_documented_and_an_unknown_one_is_not():
    for name in kedge.__all__:
        assert getattr(kedge, name) is not None
        assert name in dir(kedge)
    for name in kedge.HOMES:
        assert "Raises:" in getattr(kedge, name).__doc__
    with pytest.raises(AttributeError, match=r"no attribute 'profle'; it has .*profile"):
        kedge.profle  # noqa: B018


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_are_true(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    failed = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed.failed == 0
