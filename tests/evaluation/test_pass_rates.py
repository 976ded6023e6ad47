"""The benchmark of the gates with few draws: what must hardly ever pass, and what nearly always."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gates.py"


@pytest.fixture
def simulation(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_gates", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulated_gates", module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_pass_rates_at_20_000_rows(simulation) -> None:
    for world in (simulation.WORLDS[0], simulation.WORLDS[-1]):
        rng, equal, one = np.random.default_rng(7), world.error, world.error_of(1)
        cases = {
            "better": simulation.draws(world, 20_000, equal, one, rng),
            "worse": simulation.draws(world, 20_000, one, equal, rng),
            "worse than an over-confident one": simulation.draws(world, 20_000, one, equal, rng, sure=True),
        }
        passed = {name: sum(simulation.by_gates(next(source)) for _ in range(60)) for name, source in cases.items()}
        assert passed["better"] >= 54
        assert passed["worse"] == passed["worse than an over-confident one"] == 0


@pytest.mark.slow
def test_three_points_pass_at_500_rows_and_equals_hardly_in_twelve_attempts(simulation) -> None:
    world = simulation.WORLDS[0]
    rng, equal = np.random.default_rng(7), world.error
    better = simulation.draws(world, 500, equal, world.error_of(3), rng)
    assert sum(simulation.by_gates(next(better)) for _ in range(100)) >= 90
    equals = simulation.draws(world, 5000, equal, equal, rng)
    through = sum(any(simulation.by_gates(next(equals), attempt) for attempt in range(1, 13)) for _ in range(60))
    assert through <= 6


@pytest.mark.slow
def test_first_models_of_noise_do_not_pass(simulation) -> None:
    assert simulation.first_models(1000, 6)[2] == "0.0%"
