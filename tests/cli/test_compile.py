from __future__ import annotations

import yaml
from typer.testing import CliRunner

from pipelines.cli import build


def test_compile_writes_both_pipelines_with_the_image_and_the_policy_asked_for(tmp_path) -> None:
    policy = tmp_path / "fraud.yaml"
    policy.write_text(
        "model: {name: fraud, target: y, features: {amount: {type: number}}}\n"
        "data: {source: {format: csv, location: /data/rows.csv}, time_column: at}\n"
    )
    out = tmp_path / "compiled"
    words = ["compile", "--out", str(out), "--policy", str(policy), "--image", "registry.example/step@sha256:00"]
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 0
    assert result.output.split() == [str(out / "retrain.yaml"), str(out / "release.yaml")]
    for path in out.iterdir():
        spec = yaml.safe_load(path.read_text())
        assert spec["root"]["inputDefinitions"]["parameters"]["policy"]["defaultValue"]["model"]["name"] == "fraud"
        images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
        assert images == {"registry.example/step@sha256:00"}
