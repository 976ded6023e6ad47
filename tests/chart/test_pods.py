"""One setting reaches every pod: of the chart, of the slots that chart and drivers make, of the steps of runs, and of
the overlays. One table."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from kedge import policy
from kedge.rollout.gateway import objects as gateway
from kedge.rollout.knative import objects as knative
from kedge.rollout.kserve.address import parse
from kedge.submission.compile import PIPELINES, compiled
from tests.chart.answering_cluster import render_in
from tests.chart.render import CHART, ROOT, Object, containers, one, render
from tests.chart.test_values import FRAUD
from tests.manifests.build import build, copied

NIGHTLY = {"schedule": "0 2 * * *", "data": "s3://lake/{date}/*.parquet", "output": "s3://lake/scores/{date}.parquet"}
BASE: Object = {
    "models": [{"policy": FRAUD, "bundle": "a" * 40, "score": NIGHTLY}],
    "store": {"url": "s3://kedge/prod"},
    "serving": {"enabled": True},
}
TAINT = {"key": "pool", "operator": "Equal", "value": "ml", "effect": "NoSchedule", "tolerationSeconds": 2592000}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [ZONE]}]}
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 7, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}}
        ]
    },
}
SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]
NOBODY = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
CERTIFICATES = [{"name": "authority", "configMap": {"name": "authority"}}]
MOUNTS = [{"name": "authority", "mountPath": "/etc/ssl/authority", "readOnly": True}]

SETTINGS: dict[str, Object] = {
    "imagePullSecrets": {"images": {"pullSecrets": ["registry"]}},
    "imagePullPolicy": {"images": {"pullPolicy": "Always"}},
    "labels": {"pod": {"labels": {"team": "1"}}},
    "annotations": {"pod": {"annotations": {"example.com/scrape": "true"}}},
    "nodeSelector": {"pod": {"nodeSelector": {"pool": "ml"}}},
    "tolerations": {"pod": {"tolerations": [TAINT]}},
    "affinity": {"pod": {"affinity": AFFINITY}},
    "topologySpreadConstraints": {"pod": {"topologySpreadConstraints": SPREAD}},
    "priorityClassName": {"pod": {"priorityClassName": "high"}},
    "runtimeClassName": {"pod": {"runtimeClassName": "gvisor"}},
    "schedulerName": {"pod": {"schedulerName": "volcano"}},
    "dnsPolicy": {"pod": {"dnsPolicy": "None"}},
    "dnsConfig": {"pod": {"dnsConfig": {"nameservers": ["10.0.0.10"]}}},
    "hostAliases": {"pod": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["store"]}]}},
    "terminationGracePeriodSeconds": {"pod": {"terminationGracePeriodSeconds": 77}},
    "user of the platform": {"pod": {"securityContext": NOBODY}},
    "user": {"pod": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000}}},
    "capabilities": {"pod": {"containerSecurityContext": {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}}},
    "env": {"pod": {"env": {"LIMIT": 1048576, "SHARE": 0.5, "ON": True, "TEXT": "007"}}},
    "code": {"allowCode": True},
    "secrets": {"pod": {"secrets": ["proxy"]}},
    "volumes": {"pod": {"volumes": CERTIFICATES, "volumeMounts": MOUNTS}},
    "limits.cpu": {"pod": {"resources": {"limits": {"cpu": "1"}}}},
}
NOT_OF_STEPS = {
    "topologySpreadConstraints", "priorityClassName", "runtimeClassName", "schedulerName", "dnsPolicy", "dnsConfig",
    "hostAliases", "terminationGracePeriodSeconds", "capabilities", "secrets", "volumes",
}  # fmt: skip
"""What the platform spec of Kubeflow Pipelines 2.17 has no field for; Secrets and claims are each policy's."""
FIELDS = {
    "activeDeadlineSeconds", "fieldPathAsEnv", "imagePullPolicy", "imagePullSecret", "nodeAffinity", "nodeSelector",
    "podAffinity", "podMetadata", "pvcMount", "secretAsEnv", "securityContext", "tolerations",
}  # fmt: skip
"""Names of its message KubernetesExecutorConfig; an unknown one fails a run."""
NOT_OF_KNATIVE = {"terminationGracePeriodSeconds"}


def holds(setting: str, meta: Object, pod: Object) -> bool:
    """Whether a pod has what a setting asks for."""
    every = containers(pod)
    match setting:
        case "labels":
            return bool((meta.get("labels") or {}).get("team") == "1")
        case "annotations":
            return bool((meta.get("annotations") or {}).get("example.com/scrape") == "true")
        case "imagePullSecrets":
            return bool(pod.get("imagePullSecrets") == [{"name": "registry"}])
        case "imagePullPolicy":
            return all(each.get("imagePullPolicy") == "Always" for each in every)
        case "user of the platform":
            contexts = [pod.get("securityContext") or {}, *(each.get("securityContext") or {} for each in every)]
            none = not any({"runAsUser", "runAsGroup", "fsGroup"} & context.keys() for context in contexts)
            return none and any(context.get("runAsNonRoot") is True for context in contexts)
        case "user":
            context = {**(pod.get("securityContext") or {}), **(every[0].get("securityContext") or {})}
            return bool(context.get("runAsUser") == 1000)
        case "capabilities":
            return all(
                each.get("securityContext", {}).get("capabilities", {}).get("add") == ["CHOWN"] for each in every
            )
        case "env":
            env = {each["name"]: each.get("value") for each in every[0].get("env", ())}
            wanted = {"LIMIT": "1048576", "SHARE": "0.5", "ON": "true", "TEXT": "007"}
            return bool(env | wanted == env)
        case "code":
            return {"name": "KEDGE_ALLOW_CODE", "value": "1"} in every[0].get("env", ())
        case "secrets":
            return {"secretRef": {"name": "proxy"}} in every[0].get("envFrom", ())
        case "volumes":
            mounted = all(mount in every[0].get("volumeMounts", ()) for mount in MOUNTS)
            return mounted and all(volume in pod.get("volumes", ()) for volume in CERTIFICATES)
        case "limits.cpu":
            return all(each["resources"]["limits"].get("cpu") == "1" for each in every)
        case _:
            return bool(pod.get(setting) == SETTINGS[setting]["pod"][setting])


def merged(base: Object, over: Object) -> Object:
    """Values over values."""
    both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys() if isinstance(over[key], dict)}
    return {**base, **over, **both}


def of_charts_objects(objects: list[Object]) -> dict[str, tuple[Object, Object]]:
    """Metadata and specification of every pod that objects make, by place."""
    found = {}
    for each in objects:
        place, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        match each["kind"]:
            case "Pod":
                found[place] = (each["metadata"], spec)
            case "StatefulSet" | "Deployment" | "Job":
                found[place] = (spec["template"].get("metadata", {}), spec["template"]["spec"])
            case "CronJob":
                template = spec["jobTemplate"]["spec"]["template"]
                found[place] = (template["metadata"], template["spec"])
    return found


def slot(runtime: Object, predictor: Object) -> tuple[Object, Object]:
    """The pod that KServe makes: the runtime's, and over it the predictor's."""
    spec, model = runtime["spec"], predictor["model"]
    meta = {part: {**spec.get(part, {}), **predictor.get(part, {})} for part in ("labels", "annotations")}
    server = {**spec["containers"][0], **({"resources": model["resources"]} if "resources" in model else {})}
    named = {key: value for key, value in predictor.items() if key not in ("model", "labels", "annotations")}
    return meta, {**spec, **named, "containers": [server]}


def step(documents: list[Object], name: str) -> tuple[Object, Object]:
    """A step's pod as Kubeflow Pipelines makes it of the compiled pipeline."""
    config = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][name]
    assert config.keys() <= FIELDS
    container = documents[0]["deploymentSpec"]["executors"][name]["container"]
    pull_policy = config.get("imagePullPolicy")
    limits = {"cpu": container.get("resources", {}).get("resourceCpuLimit")}
    pod: dict[str, Any] = {
        "imagePullSecrets": [{"name": each["secretName"]} for each in config.get("imagePullSecret", ())],
        "nodeSelector": config.get("nodeSelector", {}).get("labels"),
        "tolerations": [
            {**each, **({"tolerationSeconds": int(each["tolerationSeconds"])} if "tolerationSeconds" in each else {})}
            for each in config.get("tolerations", ())
        ],
        "containers": [
            {"env": container.get("env", ()), "resources": {"limits": limits}, "imagePullPolicy": pull_policy}
        ],
        "securityContext": {
            key: int(value) if key != "runAsNonRoot" else value for key, value in config["securityContext"].items()
        },
    }
    nodes, neighbours = config.get("nodeAffinity"), config.get("podAffinity")
    if nodes == [{"matchExpressions": [ZONE]}] and neighbours == [
        {"matchPodLabels": {"a": "b"}, "topologyKey": "zone", "weight": 7, "anti": True}
    ]:
        pod["affinity"] = AFFINITY
    return config.get("podMetadata", {}), pod


def every_pod(values: Object, folder: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Object, Object]]:
    """Every pod there is of some values, by place."""
    objects = render_in(folder, values, [])
    found = of_charts_objects([*render(values), *objects])  # hooks are of the first only
    runtime = one(objects, "ServingRuntime", "kedge")
    first = one(objects, "InferenceService", "fraud-blue")["spec"]["predictor"]
    found["first slot by chart"] = slot(runtime, first)
    template = json.loads(one(objects, "ConfigMap", "kedge-slots")["data"]["predictor.json"])
    address = parse("gateway:ml?slots=kedge-slots")
    made = gateway.inference_service(address, "fraud", "green", "b" * 40, "s3://kedge/b", template)
    found["slot by the gateway driver"] = slot(runtime, made["spec"]["predictor"])
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value", "") for each in check["containers"][0]["env"]}
    monkeypatch.setenv("KEDGE_STEP_POD", env["KEDGE_STEP_POD"])
    for pipeline in PIPELINES:
        documents = compiled(pipeline, policy.parse(FRAUD))
        for name in documents[0]["deploymentSpec"]["executors"]:
            found[f"{pipeline}: {name}"] = step(documents, name)
    return found


def test_every_value_for_pods_is_in_the_table():
    values = yaml.safe_load((CHART / "values.yaml").read_text())["pod"]
    assert values.keys() - {"serviceAccount"} == {name for each in SETTINGS.values() for name in each.get("pod", ())}


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_setting_reaches_every_pod(setting, tmp_path, monkeypatch):
    found = every_pod(merged(BASE, SETTINGS[setting]), tmp_path, monkeypatch)
    assert len(found) == 8 + 2 + 11  # objects of the chart, slots, steps
    steps = {name for name in found if ": " in name} if setting in NOT_OF_STEPS else set()
    assert [name for name in found.keys() - steps if not holds(setting, *found[name])] == []


def test_no_pod_has_a_setting_that_nobody_asked_for(tmp_path, monkeypatch):
    """Else the test above could not fail."""
    found = every_pod(BASE, tmp_path, monkeypatch)
    of_images = {("user of the platform", name) for name in found if ": " in name}  # a step runs as its image says
    had = {(setting, name) for setting in SETTINGS for name in found if holds(setting, *found[name])}
    assert had == of_images


@pytest.mark.parametrize("setting", sorted(SETTINGS.keys() - NOT_OF_KNATIVE))
def test_a_slot_in_knative_mode_has_it_too(setting):
    values = merged(merged(BASE, SETTINGS[setting]), {"serving": {"deploymentMode": "Knative"}})
    objects = render(values)
    template = json.loads(one(objects, "ConfigMap", "kedge-slots")["data"]["predictor.json"])
    placed = knative.Placed(bundle="b" * 40, storage="s3://kedge/b")
    address = parse("knative:ml?slots=kedge-slots")
    made = knative.inference_service(address, "fraud", "blue", placed, None, None, template)
    assert holds(setting, *slot(one(objects, "ServingRuntime", "kedge"), made["spec"]["predictor"]))


@pytest.mark.parametrize(
    "component", ["collector", "monitor", "guard", "tools", "score", "policyCheck", "test", "serving"]
)
def test_a_component_adds_to_what_all_pods_have_and_replaces_lists(component, tmp_path, monkeypatch):
    own = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsUser": 7},
    }
    shared = {"nodeSelector": {"pool": "ml"}, "tolerations": [TAINT]}
    found = every_pod(merged(BASE, {"pod": shared, component: own}), tmp_path, monkeypatch)
    changed = {
        name
        for name, (_, pod) in found.items()
        if pod["nodeSelector"] == {"pool": "ml", "disk": "ssd"}
        and pod["tolerations"] == [{"operator": "Exists"}]
        and pod["securityContext"]["runAsUser"] == 7
    }
    places = {
        "collector": {"StatefulSet/kedge-collector"},
        "monitor": {"CronJob/kedge-check-fraud", "CronJob/kedge-train-fraud"},
        "guard": {"CronJob/kedge-guard-fraud"},
        "tools": {"Deployment/kedge-tools"},
        "score": {"CronJob/kedge-score-fraud"},
        "policyCheck": {"Job/kedge-policy-check"},
        "test": {"Pod/kedge-test"},
        "serving": {"first slot by chart", "slot by the gateway driver"},
    }
    assert changed == places[component]
    assert {pod["tolerations"][0]["key"] for name, (_, pod) in found.items() if name not in changed} == {"pool"}


def test_an_account_takes_labels_annotations_and_another_name():
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/kedge"}
    given = {"pod": {"serviceAccount": {"annotations": role}}, "monitor": {"serviceAccount": {"name": "mine"}}}
    objects = render(merged(BASE, given))
    accounts = {o["metadata"]["name"]: o for o in objects if o["kind"] == "ServiceAccount"}
    assert "kedge-monitor" not in accounts
    for name in ("kedge-collector", "kedge-slots", "kedge-release"):
        assert accounts[name]["metadata"]["annotations"].items() >= role.items()
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert check["serviceAccountName"] == "mine"
    subjects = one(objects, "RoleBinding", "kedge-submit")["subjects"]
    assert [each["name"] for each in subjects] == ["mine", "kedge-release"]


COMPONENTS = {
    "imagePullSecrets": "pull-secrets", "nodeSelector": "node-selector", "tolerations": "tolerations",
    "affinity": "affinity", "topologySpreadConstraints": "spread", "priorityClassName": "priority-class",
    "hostAliases": "host-aliases", "user of the platform": "security-context", "runtimeClassName": "runtime-class",
    "schedulerName": "scheduler", "dnsPolicy": "dns-policy", "dnsConfig": "dns-config",
    "terminationGracePeriodSeconds": "grace-period",
}  # fmt: skip
"""The overlays' part of the table: setting -> folder in manifests/components/pods."""
OF_RUNTIME = {"imagePullSecrets", "nodeSelector", "tolerations", "affinity", "schedulerName"}
"""What a ServingRuntime has a field for; the rest of a slot is in predictor.json."""


def test_one_file_of_an_overlay_reaches_its_pods(tmp_path):
    overlay = copied(tmp_path, "overlays/prod")
    pod, folder = (yaml.safe_load((overlay / name).read_text()) for name in ("pod.yaml", "kustomization.yaml"))
    for setting in COMPONENTS.keys() - {"user of the platform"}:
        pod["spec"][setting] = SETTINGS[setting].get("pod", {}).get(setting, [{"name": "registry"}])
    for name in NOBODY:
        del pod["spec"]["securityContext"][name]
    folder["patches"] = [
        each for each in folder["patches"] if "affinity" not in each.get("patch", "")
    ]  # the overlay's own wins
    folder["components"] += [f"../../components/pods/{each}" for each in COMPONENTS.values()]
    (overlay / "pod.yaml").write_text(yaml.safe_dump(pod))
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(folder))
    objects = build(overlay)
    found = of_charts_objects(objects)
    assert {name.split("/")[0] for name in found} == {"StatefulSet", "Deployment", "CronJob"}
    runtime = slot(one(objects, "ServingRuntime", "kedge"), {"model": {}})
    lacking = {(setting, name) for setting in COMPONENTS for name in found if not holds(setting, *found[name])}
    assert lacking | {(setting, "runtime") for setting in OF_RUNTIME if not holds(setting, *runtime)} == set()


def test_every_component_for_pods_is_in_the_table():
    folders = {each.parent.name for each in (ROOT / "manifests/components/pods").glob("*/kustomization.yaml")}
    assert folders == set(COMPONENTS.values())
