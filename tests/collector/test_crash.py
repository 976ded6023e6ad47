"""The crash benchmark with a few rounds."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crash.py"


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_doubled_when_the_process_is_killed_again_and_again(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("crash", SCRIPT)
    crash = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "crash", crash)  # dataclasses look their module up there
    spec.loader.exec_module(crash)
    counted = crash.crash(3, tmp_path, seed=1)
    assert counted["predictions acknowledged"] > 0
    assert counted["labels acknowledged"] > 0
    assert {name: value for name, value in counted.items() if name.endswith(("lost", "duplicated"))} == {
        "predictions lost": 0,
        "predictions duplicated": 0,
        "labels lost": 0,
        "labels duplicated": 0,
    }
