from __future__ import annotations

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from kedge.cli import build
from kedge.errors import UsageError


def invoke(*words: object) -> Result:
    return CliRunner().invoke(build(), ["compile", *map(str, words)])


def test_compile_writes_the_pipelines_with_the_image_and_the_policy_asked_for(tmp_path) -> None:
    policy = tmp_path / "fraud.yaml"
    policy.write_text(
        "model: {name: fraud, target: y, features: {amount: {type: number}}}\n"
        "data: {source: {format: csv, location: /data/rows.csv}, time_column: at}\n"
    )
    out = tmp_path / "compiled"
    result = invoke("--output", out, "--policy", policy, "--image", "registry.example/step@sha256:00")
    assert result.exit_code == 0
    assert result.output.split() == [str(out / f"{name}.yaml") for name in ("retrain", "release", "score")]
    for path in out.iterdir():
        spec = next(yaml.safe_load_all(path.read_text()))
        assert spec["root"]["inputDefinitions"]["parameters"]["policy"]["defaultValue"]["model"]["name"] == "fraud"
        images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
        assert images == {"registry.example/step@sha256:00"}


def test_the_objects_lie_in_a_folder_of_their_own_so_that_kubectl_takes_it_whole(tmp_path) -> None:
    result = invoke("-o", tmp_path, "--kubernetes", "--namespace", "ml")
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "kubernetes").iterdir() if path.suffix != ".yaml"] == []
    for path in (tmp_path / "kubernetes").iterdir():
        assert str(path) in result.output.split()
        made = list(yaml.safe_load_all(path.read_text()))
        assert [each["kind"] for each in made] == ["Pipeline", "PipelineVersion"]
        assert {each["metadata"]["namespace"] for each in made} == {"ml"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--namespace", "ml"], "give both"),
        (["--kubernetes", "--namespace", "Team_A"], "namespace 'Team_A' must be 1 to 63 lower-case letters"),
    ],
)
def test_a_namespace_that_cannot_be_is_refused_before_anything_is_written(tmp_path, words, message) -> None:
    result = invoke("-o", tmp_path / "out", *words)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def defaults(path) -> dict[str, object]:
    given = next(yaml.safe_load_all(path.read_text()))["root"]["inputDefinitions"]["parameters"]
    return {name: each["defaultValue"] for name, each in given.items() if "defaultValue" in each}


def test_addresses_are_taken_from_the_options_before_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KEDGE_STORE", "s3://from/environment")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("KEDGE_PLATFORM", "gateway:ml")
    assert invoke("-o", tmp_path, "--store", "s3://given").exit_code == 0
    addresses = {"store": "s3://given", "registry": "http://mlflow:5000"}
    assert defaults(tmp_path / "retrain.yaml") == addresses | {
        "run": "",
        "end": "",
        "change_point": "",
        "champion_until": "",
    }
    assert defaults(tmp_path / "release.yaml") == addresses | {"platform": "gateway:ml", "run": ""}


@pytest.mark.parametrize("secret", ["me:hunter2@mlflow:5000", "hunter2@mlflow:5000", "mlflow?api_token=hunter2"])
def test_a_password_in_an_address_is_not_written_where_everybody_reads_it(secret, tmp_path) -> None:
    result = invoke("-o", tmp_path / "out", "--registry", f"http://{secret}")
    assert isinstance(result.exception, UsageError)
    assert "address of the registry holds a password" in str(result.exception)
    assert "hunter2" not in str(result.exception)
    assert not (tmp_path / "out").exists()
