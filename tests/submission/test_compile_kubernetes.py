"""What a compiled pipeline asks of a cluster, and the objects that kubectl applies."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from kedge.errors import UsageError
from kedge.policy import Policy
from kedge.policy.cluster import Cluster
from kedge.submission.compile import PIPELINES, compile_all, compile_objects
from tests.training import rows

CLUSTER = {
    "steps": {
        "train": {
            "cpu": 1.5, "memory": "8Gi", "max_seconds": 7200, "node_selector": {"pool": "large"}, "tolerations": [],
        },
        "deploy": {"max_seconds": 400_000},
    },
    "node_selector": {"pool": "batch"},
    "tolerations": [{"key": "batch", "value": "true", "effect": "NoSchedule"}, {"key": "spot"}],
    "secrets": [{"name": "object-store", "keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}],
    "volumes": [{"claim": "warehouse", "path": "/data"}],
}  # fmt: skip
STEPS = {
    "retrain": {"ingest", "validate", "train", "evaluate", "register", "rejected", "notify"},
    "release": {"deploy", "rejected", "notify"},
    "score": {"score"},
}  # fmt: skip
DIGEST = "registry.example/kedge/step@sha256:" + "0" * 64


class KubectlYaml(yaml.SafeLoader):
    """Reads plain ``y`` and ``1e3`` as YAML 1.1 and Go's parser do, not as Python's does."""

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}


KubectlYaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))
KubectlYaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile("^[0-9]+[eE][0-9]+$"), list("0123456789"))


def policy(**sections: Any) -> Policy:
    return Policy.model_validate(rows.policy().to_dict() | {"cluster": CLUSTER} | sections)


def read(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), Loader=KubectlYaml))


def executors(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name.removeprefix("exec-"): each for name, each in document["deploymentSpec"]["executors"].items()}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    paths = compile_all(tmp_path_factory.mktemp("compiled"), policy())
    return {path.stem: read(path) for path in paths}


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    paths = compile_objects(tmp_path_factory.mktemp("objects"), policy(), namespace="ml")
    return {path.stem: read(path) for path in paths}


def on_kubernetes(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return executors(documents[1]["platforms"]["kubernetes"])


def test_the_policy_names_exactly_the_steps_there_are(compiled) -> None:
    assert {name: set(on_kubernetes(documents)) for name, documents in compiled.items()} == STEPS
    names, _ = get_args(Cluster.model_fields["steps"].annotation)
    assert set(get_args(names)) == set.union(*STEPS.values())


def test_a_limit_holds_for_the_step_it_is_written_for(compiled) -> None:
    containers = {name: each["container"] for name, each in executors(compiled["retrain"][0]).items()}
    given = containers["train"]["resources"]
    assert {key: value for key, value in given.items() if key.startswith("resource")} == {
        "resourceCpuRequest": "1.5", "resourceCpuLimit": "1.5",
        "resourceMemoryRequest": "8Gi", "resourceMemoryLimit": "8Gi",
    }  # fmt: skip
    assert [name for name, each in containers.items() if "resources" in each] == ["train"]
    limits = {name: use.get("activeDeadlineSeconds") for name, use in on_kubernetes(compiled["retrain"]).items()}
    assert limits == dict.fromkeys(STEPS["retrain"]) | {"train": "7200"}
    assert on_kubernetes(compiled["release"])["deploy"]["activeDeadlineSeconds"] == "400000"


def test_nodes_of_a_step_take_the_place_of_those_for_all(compiled) -> None:
    steps = on_kubernetes(compiled["retrain"])
    assert steps["train"]["nodeSelector"] == {"labels": {"pool": "large"}}
    assert "tolerations" not in steps["train"]
    assert steps["ingest"]["nodeSelector"] == {"labels": {"pool": "batch"}}
    assert steps["ingest"]["tolerations"] == [
        {"key": "batch", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    ]


def test_secrets_and_claims_reach_every_step_by_name(compiled) -> None:
    for use in (use for documents in compiled.values() for use in on_kubernetes(documents).values()):
        secret, claim = use["secretAsEnv"][0], use["pvcMount"][0]
        assert secret["secretName"] == "object-store"
        assert [(each["secretKey"], each["envVar"]) for each in secret["keyToEnv"]] == [
            ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
        ]
        assert (claim["constant"], claim["mountPath"]) == ("warehouse", "/data")


def tasks(dag: dict[str, Any], spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task of a pipeline that is a container, at whatever depth."""
    found: dict[str, dict[str, Any]] = {}
    for name, task in dag["tasks"].items():
        below = spec["components"][task["componentRef"]["name"]]
        found |= tasks(below["dag"], spec) if "dag" in below else {name: task}
    return found


def spec_of(folder: Path, name: str, image: str | None) -> dict[str, Any]:
    paths = {path.stem: path for path in compile_all(folder, policy(), image=image)}
    return read(paths[name])[0]


def cached(spec: dict[str, Any]) -> set[str]:
    """The tasks for which KFP asks its cache."""
    found = tasks(spec["root"]["dag"], spec).items()
    return {name for name, task in found if task.get("cachingOptions", {}).get("enableCache")}


def cache_key(spec: dict[str, Any], step: str, values: dict[str, Any]) -> str:
    """What KFP 2.17 takes a step for: image, command, arguments, values of its parameters, names of its artefacts."""
    component = spec["components"][f"comp-{step}"]
    container = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    given = {name: values[name] for name in component["inputDefinitions"]["parameters"]}
    assert "artifacts" not in component["inputDefinitions"]  # their names would be part of it
    return json.dumps([container["image"], container["command"], container["args"], given], sort_keys=True)


def test_steps_with_side_effects_or_inputs_that_no_parameter_holds_are_never_answered_by_the_cache(tmp_path) -> None:
    assert cached(spec_of(tmp_path, "retrain", DIGEST)) == {"validate", "train"}
    assert cached(spec_of(tmp_path, "release", DIGEST)) == set()


def test_without_a_digest_the_cache_cannot_tell_new_code_and_is_not_asked(tmp_path) -> None:
    assert cached(spec_of(tmp_path, "retrain", None)) == set()
    assert cached(spec_of(tmp_path, "retrain", "registry.example/kedge/step:latest")) == set()


@pytest.mark.parametrize("step", ["validate", "train"])
def test_the_same_rows_policy_and_code_are_the_same_step_in_every_run(tmp_path, step: str) -> None:
    spec = spec_of(tmp_path, "retrain", DIGEST)
    asked = {"policy": policy().to_dict(), "store": "s3://b", "run": "one", "end": "2026-03-02", "fingerprint": "f1"}
    asked |= {"change_point": "", "champion_until": ""}
    key = cache_key(spec, step, asked)
    assert cache_key(spec, step, asked | {"run": "two", "end": "2026-03-03"}) == key
    for other in ({"fingerprint": "f2"}, {"policy": policy(train={"seed": 1}).to_dict()}, {"store": "s3://c"}):
        assert cache_key(spec, step, asked | other) != key
    newer = spec_of(tmp_path / "newer", "retrain", DIGEST.replace("0", "1"))
    assert cache_key(newer, step, asked) != key


def test_every_step_learns_the_pipelines_run_from_its_pod_and_not_from_a_parameter(compiled) -> None:
    for use in (use for documents in compiled.values() for use in on_kubernetes(documents).values()):
        said = [(each["name"], each["fieldPath"]) for each in use["fieldPathAsEnv"]]
        assert said == [("KEDGE_PIPELINE_RUN", "metadata.labels['pipeline/runid']")]


@pytest.mark.parametrize("name", ["retrain", "release"])
def test_notify_comes_last_whatever_became_of_the_others(compiled, name: str) -> None:
    root = compiled[name][0]["root"]["dag"]["tasks"]
    assert root["notify"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    (handled,) = set(root) - {"notify"}
    assert root["notify"]["dependentTasks"] == [handled]


def test_no_step_may_run_as_root_whatever_the_policy_says(tmp_path) -> None:
    for path in compile_all(tmp_path):
        uses = on_kubernetes(read(path))
        assert set(uses) == STEPS[path.stem]
        assert {name: use for name, use in uses.items() if use["securityContext"] != {"runAsNonRoot": True}} == {}


def test_the_objects_hold_what_the_spec_and_its_settings_say(compiled, objects) -> None:
    for name in PIPELINES:
        version = objects[f"{name}-fraud"][1]["spec"]
        assert [version["pipelineSpec"], version["platformSpec"]] == compiled[name]


def test_names_and_display_names_are_equal_and_the_version_belongs_to_its_pipeline(objects) -> None:
    assert set(objects) == {"retrain-fraud", "release-fraud", "score-fraud"}
    for name, (pipeline, version) in objects.items():
        assert pipeline["metadata"] == {"name": name, "namespace": "ml"}
        assert pipeline["spec"]["displayName"] == name
        assert version["spec"]["pipelineName"] == name
        assert re.fullmatch(name + "-[0-9a-f]{12}", version["metadata"]["name"])
        assert version["spec"]["displayName"] == version["metadata"]["name"]


def test_a_version_has_one_name_as_long_as_nothing_in_it_changes(tmp_path, objects) -> None:
    def version(made: Policy, image: str | None = None) -> str:
        return read(compile_objects(tmp_path, made, image=image, namespace="other")[0])[1]["metadata"]["name"]

    same = objects["retrain-fraud"][1]["metadata"]["name"]
    assert version(policy()) == same
    changed = {
        version(policy(), "registry.example/step@sha256:00"),
        version(policy(train={"seed": 1})),
        version(policy(cluster={})),
    }
    assert len(changed | {same}) == 4


def test_without_policy_and_namespace_the_objects_are_for_any_model_and_the_current_namespace(tmp_path) -> None:
    pipeline, version = read(compile_objects(tmp_path)[0])
    assert pipeline["metadata"] == {"name": "retrain"}
    assert "namespace" not in version["metadata"]
    assert "defaultValue" not in version["spec"]["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]["policy"]


def test_text_that_looks_like_a_truth_value_or_a_number_stays_text(tmp_path) -> None:
    made = rows.policy().to_dict()
    model = {"name": "fraud", "target": "n", "positive_label": "1e3", "features": {"y": {"type": "number"}}}
    odd = Policy.model_validate(made | {"model": model})
    assert yaml.load("[y, 1e3]", Loader=KubectlYaml) == [True, 1000.0]
    for path, place in ((compile_all(tmp_path, odd)[0], 0), (compile_objects(tmp_path / "objects", odd)[0], 1)):
        document = read(path)[place]
        spec = document["spec"]["pipelineSpec"] if place else document
        assert spec["root"]["inputDefinitions"]["parameters"]["policy"]["defaultValue"] == odd.to_dict()


def closed(schema: Any) -> Any:
    """A structural schema that refuses what the API server would drop in silence."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    below = {name: closed(each) for name, each in schema.items()}
    return below | ({"additionalProperties": False} if "properties" in schema else {})


@pytest.mark.parametrize(("kind", "place"), [("pipelines", 0), ("pipelineversions", 1)])
def test_the_objects_are_valid_by_the_definitions_of_kubeflow_pipelines(objects, kind: str, place: int) -> None:
    folder = os.environ.get("KEDGE_TEST_CRDS")
    file = Path(folder or ".") / "kubeflow-pipelines" / f"pipelines.kubeflow.org_{kind}.yaml"
    if not file.is_file():
        pytest.skip("no definitions of Kubeflow Pipelines: set KEDGE_TEST_CRDS")
    served = {each["name"]: each for each in yaml.safe_load(file.read_text())["spec"]["versions"]}
    for made in objects.values():
        group, version = made[place]["apiVersion"].split("/")
        assert group == "pipelines.kubeflow.org"
        Draft202012Validator(closed(served[version]["schema"]["openAPIV3Schema"])).validate(made[place])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "not JSON"),
        ('{"tolerations": "all"}', "tolerations"),
        ('{"priorityClassName": "high"}', "priorityClassName: .* a step's pod has labels, annotations"),
    ],
)
def test_what_a_steps_pod_cannot_have_is_refused_with_what_it_can(tmp_path, monkeypatch, given, said) -> None:
    monkeypatch.setenv("KEDGE_STEP_POD", given)
    with pytest.raises(UsageError, match=f"KEDGE_STEP_POD: .*{said}"):
        compile_all(tmp_path)


def test_the_policys_own_nodes_and_amounts_come_before_the_installations(tmp_path, monkeypatch) -> None:
    pod = {
        "nodeSelector": {"pool": "any"},
        "tolerations": [{"operator": "Exists"}],
        "resources": {"limits": {"cpu": 1}},
    }
    monkeypatch.setenv("KEDGE_STEP_POD", json.dumps(pod))
    documents = read(compile_all(tmp_path, policy())[0])
    assert on_kubernetes(documents)["train"]["nodeSelector"] == {"labels": {"pool": "large"}}
    assert "tolerations" not in on_kubernetes(documents)["train"]  # the policy says: none for this step
    containers = {name: each["container"]["resources"] for name, each in executors(documents[0]).items()}
    assert (containers["train"]["resourceCpuLimit"], containers["ingest"]["resourceCpuLimit"]) == ("1.5", "1")
