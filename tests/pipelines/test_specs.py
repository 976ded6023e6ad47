"""The specs that the package carries, against the pipelines and components they are made of."""

from __future__ import annotations

import os

import pytest
import yaml

from kedge.submission.compile import PIPELINES, SPECS
from pipelines.compile import compile_specs


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if os.environ.get("UPDATE_GOLDEN"):
        compile_specs(SPECS)
    folder = tmp_path_factory.mktemp("specs")
    assert {path.stem for path in compile_specs(folder)} == set(PIPELINES)
    return folder


@pytest.mark.parametrize("name", PIPELINES)
def test_the_spec_that_is_shipped_is_what_the_pipeline_compiles_to(compiled, name: str) -> None:
    """After a change that is meant: `make specs` (or UPDATE_GOLDEN=1), and review the diff."""
    shipped, made = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for folder in (SPECS, compiled))
    assert shipped == made, "the pipelines changed: make specs, and review the diff"


def test_nothing_else_is_shipped() -> None:
    assert {path.name for path in SPECS.iterdir()} == {f"{name}.yaml" for name in PIPELINES}


@pytest.mark.parametrize(
    ("name", "judge", "condition"),
    [("retrain", "evaluate", "== false"), ("release", "deploy", "!= 'promoted'")],
)
def test_a_run_whose_candidate_did_not_pass_fails_in_a_step_of_that_name(compiled, name, judge, condition) -> None:
    """A skipped branch leaves a run green in the list; a failed step does not."""
    spec = yaml.safe_load((compiled / f"{name}.yaml").read_text())
    handled = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (branch,) = [
        task
        for task in handled.values()
        if "rejected" in spec["components"][task["componentRef"]["name"]].get("dag", {}).get("tasks", {})
    ]
    assert branch["dependentTasks"] == [judge]
    assert branch["triggerPolicy"]["condition"].endswith(condition)
