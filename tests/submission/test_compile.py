from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kfp import components

from kedge.image import STEP_IMAGE
from kedge.submission.compile import PIPELINES, compile_all
from tests.training import rows


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    assert [path.name for path in compile_all(folder)] == ["retrain.yaml", "release.yaml", "score.yaml"]
    return folder


def spec(path: Path) -> dict:
    return next(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_install_nothing_and_run_in_one_image(compiled, name: str) -> None:
    text = (compiled / f"{name}.yaml").read_text()
    assert "pip install" not in text
    executors = spec(compiled / f"{name}.yaml")["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {STEP_IMAGE}


@pytest.mark.parametrize("name", PIPELINES)
def test_each_parameter_of_the_form_is_described(compiled, name: str) -> None:
    parameters = spec(compiled / f"{name}.yaml")["root"]["inputDefinitions"]["parameters"]
    assert all(parameter["description"] for parameter in parameters.values())


def test_the_gate_is_one_unnamed_result(compiled) -> None:
    """A named one is skipped by the local runner, and the run still called a success."""
    components = spec(compiled / "retrain.yaml")["components"]
    assert components["comp-evaluate"]["outputDefinitions"]["parameters"] == {"Output": {"parameterType": "BOOLEAN"}}


def test_no_parameter_has_a_name_that_yaml_takes_for_a_truth_value(compiled) -> None:
    for name in PIPELINES:
        parameters = spec(compiled / f"{name}.yaml")["root"]["inputDefinitions"]["parameters"]
        assert all(isinstance(key, str) and key not in ("n", "y") for key in parameters)


def test_an_image_by_digest_takes_the_place_of_the_name(tmp_path) -> None:
    image = "registry.example/kedge/step@sha256:" + "0" * 64
    path = compile_all(tmp_path, image=image)[0]
    executors = spec(path)["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}


def test_a_policy_with_line_breaks_becomes_the_default_and_the_file_is_still_yaml(tmp_path) -> None:
    policy = rows.policy(model={"description": 'first line\nsecond: "line"\n- third'})
    path = compile_all(tmp_path, policy)[0]
    default = spec(path)["root"]["inputDefinitions"]["parameters"]["policy"]["defaultValue"]
    assert default == policy.to_dict()


def required(path: Path) -> set[str]:
    """The fields without which the form's Start stays grey."""
    parameters = spec(path)["root"]["inputDefinitions"]["parameters"].items()
    return {name for name, each in parameters if "defaultValue" not in each}


def test_with_a_policy_and_the_addresses_a_retraining_is_one_click_and_a_release_asks_for_the_bundle(tmp_path) -> None:
    addresses = {"store": "s3://b/k", "registry": "http://mlflow", "platform": "gateway:ml"}
    training, release, score = compile_all(tmp_path, rows.policy(), addresses=addresses)
    assert (required(training), required(release), required(score)) == (set(), {"bundle"}, {"data", "output"})
    given = spec(release)["root"]["inputDefinitions"]["parameters"]
    assert {name: given[name]["defaultValue"] for name in addresses} == addresses
    assert given["run"]["defaultValue"] == ""


def test_what_is_not_given_has_no_default(tmp_path) -> None:
    training, release, score = compile_all(tmp_path)
    assert required(score) == {"policy", "store", "registry", "data", "output"}
    assert required(training) == {"policy", "store", "registry"}
    assert required(release) == {"policy", "store", "registry", "platform", "bundle"}


def test_kfps_sdk_reads_what_was_completed(tmp_path) -> None:
    resources = {"cluster": {"steps": {"train": {"cpu": 2, "memory": "8Gi"}}}}
    for path in compile_all(tmp_path, rows.policy(**resources), addresses={"store": "s3://b"}):
        assert components.load_component_from_file(str(path)).name == path.stem
