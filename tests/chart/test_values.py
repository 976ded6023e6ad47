"""The values: every one commented, every one in the schema, every typo named."""

from __future__ import annotations

import json
import os
import re
import shutil
from itertools import pairwise

import pytest
import yaml
from typer.testing import CliRunner

from kedge import policy
from kedge.cli import build
from tests.chart.kubernetes_schema import definitions
from tests.chart.render import (
    CHART,
    SCENARIOS,
    TOOLS,
    TOOLS_COME_FROM,
    absent,
    helm,
    refusal,
    render,
    template,
    validate,
)
from tests.chart.table import rows, table

SCHEMA = CHART / "values.schema.json"
FRAUD = {
    "model": {"name": "fraud", "target": "is_fraud", "features": {"amount": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
}

BLUE = {**FRAUD, "model": {**FRAUD["model"], "name": "fraud-blue"}}
TWICE = [{"name": "a", "configMap": {"name": "b"}}, {"name": "a", "secret": {"secretName": "c"}}]
MOUNTED_TWICE = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/a/"}]
LONG = {**FRAUD, "model": {**FRAUD["model"], "name": "fraud-in-payments"}}


def paths(node, prefix=()):
    if isinstance(node, dict):
        for name, value in node.items():
            yield (*prefix, name)
            yield from paths(value, (*prefix, name))


def referred(schema):
    """A schema, or the one that it refers to."""
    while "$ref" in schema:
        node = json.loads(SCHEMA.read_text())
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    return schema


def declared(schema, path):
    for name in path:
        schema = referred(schema)
        if schema.get("patternProperties"):
            return True
        if name not in schema.get("properties", {}):
            return "additionalProperties" in schema or schema.get("properties") is None
        schema = schema["properties"][name]
    return True


def test_every_value_stands_in_the_schema():
    schema = json.loads(SCHEMA.read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [".".join(path) for path in paths(values) if not declared(schema, path)] == []


def test_every_property_of_the_schema_has_a_value():
    """A property that values.yaml does not show is one that nobody finds; what each pod takes it shows once."""
    schema = json.loads(SCHEMA.read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    unseen = [
        f"{section}.{name}"
        for section, rules in schema["properties"].items()
        for name, rule in referred(rules).get("properties", {}).items()
        if rule is not False and name not in values[section] and name not in values["pod"]
    ]
    assert unseen == []
    assert set(schema["properties"]) - {"global"} == set(values)


def test_every_component_takes_what_all_pods_take():
    schema = json.loads(SCHEMA.read_text())
    every = set(schema["$defs"]["Pod"]["properties"])
    assert every == set(yaml.safe_load((CHART / "values.yaml").read_text())["pod"])
    for component in ("collector", "monitor", "guard", "serving", "policyCheck", "test"):
        assert every <= set(schema["properties"][component]["properties"]), component
    assert every - {"serviceAccount"} <= set(schema["properties"]["tools"]["properties"])  # the guard's
    assert set(schema["properties"]["steps"]["properties"]) <= every


def test_what_goes_into_an_object_as_it_is_has_kubernetes_own_schema():
    schema = json.loads(SCHEMA.read_text())
    if not (TOOLS / "schemas" / "pod-v1.json").exists():
        absent(f"no schemas of Kubernetes; {TOOLS_COME_FROM}")
    wanted = definitions(TOOLS / "schemas")
    if os.environ.get("UPDATE_GOLDEN"):
        others = {name: each for name, each in schema["$defs"].items() if not name.startswith("k8s.")}
        SCHEMA.write_text(json.dumps({**schema, "$defs": {**others, **wanted}}, indent=2) + "\n")
    assert {name: each for name, each in schema["$defs"].items() if name.startswith("k8s.")} == wanted


def test_every_value_is_commented():
    lines = (CHART / "values.yaml").read_text().splitlines()
    beneath = re.compile(r" +(requests|limits|ports):")  # the comment stands above the value they belong to
    below = re.compile(r" {4,}(runAs|fsGroup|seccomp|allowPriv|readOnly|capabil|- to)")
    bare = [
        line
        for before, line in pairwise(lines)
        if not below.match(line)
        and re.match(r" *[a-zA-Z]+: *\S", line)
        and not beneath.match(line)
        and not before.lstrip().startswith("# --")
    ]
    assert bare == []


def test_every_value_is_read_by_a_template():
    """Values nobody reads promise what they do not do."""
    text = "".join(p.read_text() for p in CHART.glob("templates/**/*") if p.is_file())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    leaves = {path[-1] for path in paths(values) if len(path) <= 3 and path[0] not in ("models",)}
    free = {"requests", "limits", "cpu", "memory", "matchLabels", "grafana_dashboard", "step", "serve", "collect"}
    free |= set(values["pod"]["securityContext"]) | set(values["pod"]["containerSecurityContext"])  # read as one
    assert sorted(name for name in leaves - free if f".{name}" not in text and f'"{name}"' not in text) == []


def test_a_model_in_the_values_has_the_policys_own_schema():
    schema = json.loads(SCHEMA.read_text())
    own = policy.schema()
    del own["$schema"]
    wanted = {**own.pop("$defs"), "Policy": own}
    if os.environ.get("UPDATE_GOLDEN"):
        schema["$defs"] |= wanted
        SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
    assert {name: schema["$defs"].get(name) for name in wanted} == wanted, "UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colector": {}}, "'colector' not allowed"),
        ({"collector": {"replica": 2}}, "'replica' not allowed"),
        ({"collector": {"port": "http"}}, "at '/collector/port'"),
        ({"collector": {"replicas": 0}}, "at '/collector/replicas'"),
        ({"store": {"url": "az://container"}}, "at '/store/url'"),
        ({"store": {"url": "gs://me:secret@bucket"}}, "at '/store/url'"),
        ({"store": {"secret": "Not A Name"}}, "at '/store/secret'"),
        ({"pod": {"tolerations": [{"efect": "NoSchedule"}]}}, "'efect' not allowed"),
        ({"collector": {"tolerations": [{"effect": "NoScedule"}]}}, "at '/collector/tolerations/0/effect'"),
        ({"pod": {"labels": {"app.kubernetes.io/name": "mine"}}}, "at '/pod/labels/app.kubernetes.io~1name'"),
        ({"monitor": {"env": {"KEDGE_STORE": "s3://other"}}}, "at '/monitor/env/KEDGE_STORE'"),
        ({"collector": {"env": {"LIMIT": 12345678901234567890}}}, "at '/collector/env/LIMIT'"),
        ({"pod": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}}, "'hostPath' not allowed"),
        ({"steps": {"priorityClassName": "high"}}, "'priorityClassName' not allowed"),
        ({"nameOverride": "Not.A.Name"}, "at '/nameOverride'"),
        ({"models": [{"policy": {**FRAUD, "model": {**FRAUD["model"], "name": "Fraud"}}}]}, "/policy/model/name'"),
        ({"registry": {"uri": "http://me:secret@mlflow:5000"}}, "registry.uri holds a password"),
        ({"images": {"step": {"digest": "sha256:short"}}}, "at '/images/step/digest'"),
        ({"models": [{}]}, "missing property 'policy'"),
        ({"models": [{"policy": {**FRAUD, "monitr": {}}}]}, "'monitr' not allowed"),
        ({"models": [{"policy": {**FRAUD, "monitor": {"min_rows": 1}}}]}, "at '/models/0/policy/monitor/min_rows'"),
        ({"models": [{"policy": {"model": FRAUD["model"]}}]}, "missing property 'data'"),
        ({"models": [{"policy": FRAUD, "bundle": "latest"}]}, "at '/models/0/bundle'"),
        ({"models": [{"policy": FRAUD}, {"policy": FRAUD}]}, '"fraud" is there twice'),
        ({"fullnameOverride": "a-name-of-twenty-nine-letters", "models": [{"policy": LONG}]}, "set a shorter"),
        ({"route": {"enabled": True}}, "set serving.enabled too"),
        ({"models": [{"policy": BLUE}, {"policy": FRAUD}]}, 'also what the slot blue of "fraud" is called'),
        ({"pod": {"volumes": TWICE}, "models": [{"policy": FRAUD}]}, 'volumes: name "a" is there twice'),
        ({"pod": {"volumes": [{**TWICE[0], "name": "kedge-secrets"}]}}, "at '/pod/volumes/0'"),
        ({"test": {"volumeMounts": MOUNTED_TWICE}, "models": [{"policy": FRAUD}]}, 'mountPath "/a" is there twice'),
        ({"pod": {"env": {"KEDGE_SECRETS": "/etc"}}}, "at '/pod/env/KEDGE_SECRETS'"),
        ({"release": {"subjects": [{"kind": "User", "name": "a", "namespace": "b"}]}}, "at '/release/subjects/0"),
        ({"release": {"subjects": [{"kind": "ServiceAccount", "name": "A B"}]}}, "at '/release/subjects/0/name'"),
        ({"store": {"volume": {"accessModes": ["ReadWriteOncePod"]}}}, "at '/store/volume/accessModes/0'"),
        ({"collector": {"tokens": {"senders": [{"namespace": "a", "name": "b", "may": ["write"]}]}}}, "/may/0'"),
        ({"collector": {"tokens": {"audience": "a b"}}}, "at '/collector/tokens/audience'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_values_is_refused_and_named(values, named):
    assert named in refusal(values)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda p: p.stem)
def test_helm_lint_finds_nothing(scenario):
    said = helm("lint", CHART, "--strict", "--kube-version", "1.36.0", "--values", scenario).stdout
    assert "0 chart(s) failed" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda p: p.stem)
def test_a_policy_comes_out_of_the_values_as_it_went_in(scenario, tmp_path):
    given = {m["policy"]["model"]["name"]: m["policy"] for m in yaml.safe_load(scenario.read_text()).get("models", ())}
    written = {
        name.removesuffix(".yaml"): text
        for found in render(scenario)
        if found["kind"] == "ConfigMap" and found["metadata"]["name"] == "kedge-policies"
        for name, text in found["data"].items()
    }
    assert written.keys() == given.keys()
    for name, text in written.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        assert policy.load(file).hash == policy.parse(given[name]).hash


def test_kedge_init_writes_values_that_the_chart_takes_as_they_are(tmp_path):
    table, file, values = (tmp_path / name for name in ("payments.csv", "payments.yaml", "values.yaml"))
    rows = (
        f"{n},2026-01-{1 + n % 28:02}T00:00:00Z,{n % 7}.5,{'AT' if n % 3 else 'on'},{int(n % 4 == 0)}"
        for n in range(400)
    )
    table.write_text("\n".join(("id,at,amount,country,returned", *rows)))
    words = ["init", table, "--target", "returned", "-o", file, "--values", values]
    done = CliRunner().invoke(build(), [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert f"wrote {values}" in done.output
    assert "is of this machine" in values.read_text()
    (made,) = [o for o in render(values) if o["kind"] == "ConfigMap" and o["metadata"]["name"] == "kedge-policies"]
    (text,) = made["data"].values()
    assert policy.parse(yaml.safe_load(text)).hash == policy.parse(yaml.safe_load(file.read_text())).hash
    full = {**yaml.safe_load(values.read_text()), "serving": {"enabled": True}, "route": {"enabled": True}}
    assert validate(template(full).stdout)
    again = CliRunner().invoke(build(), [str(word) for word in [*words[:5], tmp_path / "other.yaml", *words[6:]]])
    assert "values.yaml: exists" in str(again.exception)


def test_numbers_survive_the_way_through_helm(tmp_path):
    """Helm reads numbers as floats: great ones and small ones must come out as they were meant."""
    given = {
        **FRAUD,
        "train": {"min_rows": 1_000_000},
        "gates": {"min_improvement": 1e-7},
        "release": {"bake_seconds": 2_419_200, "smoke_tolerance": 1e-6},
    }
    file = tmp_path / "fraud.yaml"
    file.write_text(
        next(o for o in render({"models": [{"policy": given}]}) if o["kind"] == "ConfigMap")["data"]["fraud.yaml"]
    )
    assert policy.load(file) == policy.parse(given)


def notes(values, folder):
    """NOTES.txt as an installation shows it: helm itself renders it only when it has a cluster."""
    chart = folder / "kedge"
    shutil.copytree(CHART, chart)
    (chart / "NOTES.txt").write_text((CHART / "templates" / "NOTES.txt").read_text())
    (chart / "templates" / "notes.yaml").write_text(
        'kind: Notes\ntext: |\n{{- tpl (.Files.Get "NOTES.txt") . | nindent 2 }}'
    )
    done = helm("template", "kedge", chart, "--namespace", "ml", "--kube-version", "1.36.0", values=values)
    return next(o["text"] for o in yaml.safe_load_all(done.stdout) if o["kind"] == "Notes")


def test_the_notes_name_the_next_command(tmp_path):
    text = notes({"models": [{"policy": FRAUD}]}, tmp_path)
    assert "kubectl --namespace ml create job fraud-now --from cronjob/kedge-check-fraud" in text
    assert "kubectl --namespace ml create job first --from cronjob/kedge-train-fraud\n" in text
    assert "http://kedge-collector.ml.svc:8080" in text
    for command in ("status", "history"):
        assert f"kubectl --namespace ml exec statefulset/kedge-collector -- kedge {command} --model fraud\n" in text
    assert "PersistentVolumeClaim kedge-store) stays" in text
    assert "no KServe" in text


def test_the_notes_say_how_to_look_approve_and_roll_back_where_something_is_released(tmp_path):
    text = notes({"models": [{"policy": FRAUD}], "serving": {"enabled": True}}, tmp_path)
    pod = "kubectl --namespace ml exec deploy/kedge-tools -- "
    for command in ("status", "history"):
        assert f"{pod}kedge {command} --model fraud\n" in text
    for command in ("approve --model fraud BUNDLE", 'rollback --model fraud --reason "..."'):
        assert f'{pod}env KEDGE_ACTOR="$USER" kedge {command}\n' in text


def test_the_notes_of_an_empty_installation_say_how_to_begin(tmp_path):
    text = notes({}, tmp_path)
    assert "watches nothing yet" in text
    assert "kedge policy schema" in text


def test_defaults_render_without_a_cluster():
    assert template({}).returncode == 0


def test_the_readme_has_every_value_with_its_default():
    readme = CHART / "README.md"
    text, heading, _ = readme.read_text().partition("## Values\n")
    wanted = f"{text}{heading}{table(CHART / 'values.yaml')}"
    if os.environ.get("UPDATE_GOLDEN"):
        readme.write_text(wanted)
    assert readme.read_text() == wanted, "UPDATE_GOLDEN=1 writes it anew"


def test_every_value_is_in_the_readmes_table():
    leaves = {".".join(path) for path in paths(yaml.safe_load((CHART / "values.yaml").read_text()))}
    told = {name for name, _, _ in rows(CHART / "values.yaml")}
    untold = {leaf for leaf in leaves if not any(leaf == name or leaf.startswith(f"{name}.") for name in told)}
    assert {leaf for leaf in untold if not any(name.startswith(f"{leaf}.") for name in told)} == set()
