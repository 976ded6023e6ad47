"""The collector, the checks, the slots: what upgrades keep, what a failure does, what the flags switch."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml
from typer.main import get_command

from kedge.cli import build
from kedge.rollout.gateway.objects import attached
from kedge.rollout.kserve.address import parse, storage
from tests.chart.answering_cluster import render_in
from tests.chart.render import CHART, helm, key, one, pods, render
from tests.chart.test_values import FRAUD

FULL = CHART / "ci" / "full-values.yaml"
VOLUME = CHART / "ci" / "volume-values.yaml"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The full scenario installed where there is nothing yet."""
    return render_in(tmp_path_factory.mktemp("first"), yaml.safe_load(FULL.read_text()), [])


def names(values):
    return [key(found) for found in render(values)]


def kinds(values):
    return {found["kind"] for found in render(values)}


def test_every_model_gets_a_check_at_its_own_time():
    jobs = {o["metadata"]["name"]: o["spec"] for o in render(FULL) if o["kind"] == "CronJob"}
    jobs = {name: spec for name, spec in jobs.items() if name.startswith("kedge-check-")}
    assert {name: (spec["schedule"], spec["suspend"]) for name, spec in jobs.items()} == {
        "kedge-check-fraud": ("0 * * * *", False),
        "kedge-check-churn": ("15 3 * * *", True),
    }


def test_the_first_training_waits_for_a_hand_and_submits_where_the_check_checks():
    objects = render(VOLUME)
    check, train = (one(objects, "CronJob", f"kedge-{what}-fraud")["spec"] for what in ("check", "train"))
    assert (train["suspend"], train["schedule"]) == (True, "@yearly")
    check, train = (spec["jobTemplate"]["spec"] for spec in (check, train))
    assert (check.pop("backoffLimit"), train.pop("backoffLimit")) == (6, 0)
    assert "activeDeadlineSeconds" in check.keys() - train.keys()  # a training takes as long as it takes
    container, trains = (job["template"]["spec"]["containers"][0] for job in (check, train))
    assert (container.pop("command"), trains.pop("command")) == (["kedge", "monitor"], ["kedge", "submit"])
    assert trains.pop("args") == [*container.pop("args"), "--key=$(KEDGE_JOB)"]
    assert [each for each in trains.pop("env") if each["name"] != "KEDGE_JOB"] == container.pop("env")
    del check["activeDeadlineSeconds"]
    assert train == check | {"template": train["template"]}
    assert train["template"]["spec"] == check["template"]["spec"]


def test_the_first_training_gives_options_that_kedge_submit_takes():
    train = one(render(VOLUME), "CronJob", "kedge-train-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    options = {name for each in get_command(build()).commands["submit"].params for name in each.opts}
    assert {word.partition("=")[0] for word in train["containers"][0]["args"]} <= options


def test_who_serves_is_guarded_each_minute_on_the_account_that_moves_traffic():
    objects = render(FULL)
    guard = one(objects, "CronJob", "kedge-guard-fraud")["spec"]
    assert (guard["schedule"], guard["concurrencyPolicy"]) == ("* * * * *", "Forbid")
    pod = guard["jobTemplate"]["spec"]["template"]["spec"]
    account = pod["serviceAccountName"]
    for binding in ("kedge-release", "kedge-submit"):  # a release begins when its training is done
        assert account in {each["name"] for each in one(objects, "RoleBinding", binding)["subjects"]}
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["env"] == check["containers"][0]["env"]
    assert float(pod["containers"][0]["args"][2].removeprefix("--seconds=")) < 60


def test_the_guard_gives_options_that_kedge_guard_takes():
    guard = one(render(FULL), "CronJob", "kedge-guard-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    options = {name for each in get_command(build()).commands["guard"].params for name in each.opts}
    assert {word.partition("=")[0] for word in guard["containers"][0]["args"]} <= options


def test_a_suspended_models_check_is_not_told_as_overdue():
    jobs = (one(render(FULL), "CronJob", f"kedge-guard-{name}") for name in ("fraud", "churn"))
    pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs]
    assert ["--no-checks" in pod["containers"][0]["args"] for pod in pods] == [False, True]


def test_a_batch_has_an_account_that_nothing_is_granted_to_and_options_that_kedge_score_takes():
    objects = render(FULL)
    job = one(objects, "CronJob", "kedge-score-churn")["spec"]
    assert (job["schedule"], job["suspend"]) == ("0 2 * * *", True)
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    bound = {each["name"] for o in objects if o["kind"] == "RoleBinding" for each in o["subjects"]}
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("kedge-score", False)
    assert "kedge-score" not in bound
    assert "kfp-token" not in yaml.safe_dump(pod)
    options = {name for each in get_command(build()).commands["score"].params for name in each.opts}
    args = dict(word.split("=", 1) for word in pod["containers"][0]["args"])
    assert args.keys() <= options
    assert args["--data"] == "sql:CHURN_DATABASE"
    secrets = [each["secretRef"]["name"] for each in pod["containers"][0]["envFrom"]]
    assert secrets == ["object-store", "mlflow", "churn-database"]


def test_what_a_query_says_is_no_variable_of_kubernetes():
    score = {"schedule": "0 2 * * *", "data": "sql:A", "output": "s3://b/c.parquet", "query": "select $(x) from y"}
    job = one(render({"models": [{"policy": FRAUD, "score": score}]}), "CronJob", "kedge-score-fraud")
    args = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[-1] == "--query=select $$(x) from y"


def test_nothing_of_batches_is_there_where_no_model_scores_a_table():
    assert [name for name in names({"models": [{"policy": FRAUD}]}) if "score" in name] == []


@pytest.mark.parametrize("off", [{"guard": {"enabled": False}}, {"serving": {"enabled": False}}])
def test_nothing_of_the_guard_is_there_where_it_is_off_or_nothing_is_served(off):
    values = {"models": [{"policy": FRAUD}], "serving": {"enabled": True}, "tools": {"enabled": False}}
    assert [name for name in names(values) if "guard" in name] == [
        "NetworkPolicy/kedge-guard",
        "CronJob/kedge-guard-fraud",
    ]
    assert [name for name in names({**values, **off}) if "guard" in name] == []
    subjects = one(render({**values, **off}), "RoleBinding", "kedge-submit")["subjects"]
    assert [each["name"] for each in subjects] == ["kedge-monitor"]


@pytest.mark.parametrize("guard", [True, False])
def test_people_type_in_a_pod_with_the_guards_environment_account_and_network(guard):
    values = yaml.safe_load(FULL.read_text()) | {"guard": {"enabled": guard}}
    objects = render(values)
    pod = one(objects, "Deployment", "kedge-tools")["spec"]["template"]
    check = one(objects, "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    env = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    of_checks = {each["name"]: each for each in check["containers"][0]["env"] if each["name"] != "KEDGE_MODEL"}
    assert env | of_checks == env
    mounts = {each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    assert env["KEDGE_POLICIES"]["value"] in mounts
    bound = [
        each["metadata"]["name"]
        for each in objects
        if each["kind"] == "RoleBinding" and pod["spec"]["serviceAccountName"] in [s["name"] for s in each["subjects"]]
    ]
    assert bound[:2] == ["kedge-submit", "kedge-release"]
    (expression,) = one(objects, "NetworkPolicy", "kedge-guard")["spec"]["podSelector"]["matchExpressions"]
    assert pod["metadata"]["labels"][expression["key"]] in expression["values"]


@pytest.mark.parametrize("off", [{"tools": {"enabled": False}}, {"serving": {"enabled": False}}, {"models": []}])
def test_no_pod_waits_where_nothing_is_released_or_nobody_wants_it(off):
    values = {"models": [{"policy": FRAUD}], "serving": {"enabled": True}, **off}
    assert not [name for name in names(values) if "tools" in name]


def test_the_pod_that_waits_ends_when_it_is_told_to_or_a_secret_changes(tmp_path):
    script = one(render(FULL), "Deployment", "kedge-tools")["spec"]["template"]["spec"]["containers"][0]["args"][0]
    (tmp_path / "KEY").write_text("old")
    script = script.replace("sleep 10", "sleep 0.1")
    run = {"env": {"KEDGE_SECRETS": str(tmp_path), "PATH": os.defpath}, "stdin": subprocess.DEVNULL}
    waiting = [subprocess.Popen(["sh", "-c", script], **run) for _ in range(2)]
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting[0].wait(0.5)
        waiting[0].terminate()
        assert waiting[0].wait(20) == 0
        (tmp_path / "KEY").write_text("new")
        assert waiting[1].wait(20) == 0
    finally:
        for each in waiting:
            each.kill()


def test_the_addresses_of_people_reach_checks_and_guard():
    values = {"models": [{"policy": FRAUD}], "serving": {"enabled": True}, "notify": {"secret": "chat"}}
    for job in ("kedge-check-fraud", "kedge-train-fraud", "kedge-guard-fraud"):
        pod = one(render(values), "CronJob", job)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "chat"}}]


def test_a_check_never_runs_beside_itself_and_never_for_ever():
    spec = one(render(VOLUME), "CronJob", "kedge-check-fraud")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Etc/UTC"
    assert spec["startingDeadlineSeconds"] == 900
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 1800
    assert spec["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] == 86400


def test_a_users_mistake_fails_the_check_at_once_and_a_drained_node_does_not():
    job = one(render(VOLUME), "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]
    first, second = job["podFailurePolicy"]["rules"]
    assert first["action"] == "FailJob"
    assert first["onExitCodes"] == {"containerName": "monitor", "operator": "In", "values": [2]}
    assert second["action"] == "Ignore"
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy needs it


def test_retries_outlast_ten_minutes_without_kubeflow_pipelines_within_the_deadline():
    job = one(render(VOLUME), "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]
    waits = [min(10 * 2**n, 360) for n in range(job["backoffLimit"])]  # the Job controller's back-off, seconds
    assert 600 < sum(waits) < job["activeDeadlineSeconds"]


def test_the_monitor_shows_kubeflow_pipelines_a_token_of_its_audience():
    spec = one(render(VOLUME), "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    mount = next(m for m in container["volumeMounts"] if m["name"] == "kfp-token")
    source = next(v for v in spec["volumes"] if v["name"] == "kfp-token")["projected"]["sources"][0]
    token = source["serviceAccountToken"]
    path = next(e["value"] for e in container["env"] if e["name"] == "KF_PIPELINES_SA_TOKEN_PATH")
    assert token["audience"] == "pipelines.kubeflow.org"
    assert path == f"{mount['mountPath']}/{token['path']}"


def test_the_monitor_links_to_the_user_interface_that_the_values_name():
    def links(values):
        job = one(render(values), "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        return next(each["value"] for each in job["containers"][0]["env"] if each["name"] == "KEDGE_KFP_UI")

    assert links(FULL) == "https://kubeflow.example/pipeline"
    assert links(VOLUME) == ""  # as good as none: links lead to the API's address


def test_a_policy_is_checked_by_the_image_that_checks_and_steps_run_from():
    """An older one that does not know a new field would fail every check after the install."""
    job = one(render(FULL), "Job", "kedge-policy-check")["spec"]["template"]["spec"]
    check = one(render(FULL), "CronJob", "kedge-check-fraud")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert job["containers"][0]["image"] == check["containers"][0]["image"]


def test_without_an_audience_no_token_is_sent():
    text = yaml.safe_dump(render({"models": [{"policy": FRAUD}], "kfp": {"audience": ""}}))
    assert "serviceAccountToken" not in text
    assert "KF_PIPELINES_SA_TOKEN_PATH" not in text


def test_the_write_ahead_log_outlives_pod_scale_and_release():
    spec = one(render(VOLUME), "StatefulSet", "kedge-collector")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    claim = spec["volumeClaimTemplates"][0]
    assert claim["metadata"].keys() == {"name"}  # claim templates cannot change: no label of a version in them
    mounts = {m["name"]: m["mountPath"] for m in spec["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert f"--spool={mounts['spool']}" in spec["template"]["spec"]["containers"][0]["args"]


def test_uninstalling_leaves_the_store():
    claim = one(render(VOLUME), "PersistentVolumeClaim", "kedge-store")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_an_installation_without_models_asks_for_no_volume():
    """helm --wait would wait for ever: many classes bind a volume only when a pod asks for it."""
    assert "PersistentVolumeClaim" not in kinds({})


def test_a_store_in_object_storage_needs_no_volume():
    assert "PersistentVolumeClaim" not in kinds(FULL)
    assert "persistentVolumeClaim:" not in yaml.safe_dump(one(render(FULL), "StatefulSet", "kedge-collector"))


def test_an_existing_claim_is_used_and_not_made():
    objects = render({"models": [{"policy": FRAUD}], "store": {"volume": {"existingClaim": "shared"}}})
    assert not [o for o in objects if o["kind"] == "PersistentVolumeClaim"]
    volumes = one(objects, "StatefulSet", "kedge-collector")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "store", "persistentVolumeClaim": {"claimName": "shared"}} in volumes


def test_a_changed_policy_rolls_the_collector():
    def stamp(psi):
        policy = {**FRAUD, "monitor": {"drift": {"min_psi": psi}}}
        return one(render({"models": [{"policy": policy}]}), "StatefulSet", "kedge-collector")["spec"]["template"]

    assert stamp(0.1) != stamp(0.2)
    assert stamp(0.1) == stamp(0.1)


def test_the_collector_reads_the_policy_of_every_model():
    container = one(render(FULL), "StatefulSet", "kedge-collector")["spec"]["template"]["spec"]["containers"][0]
    assert [a for a in container["args"] if a.startswith("--policy")] == [
        "--policy=/etc/kedge/policies/fraud.yaml",
        "--policy=/etc/kedge/policies/churn.yaml",
    ]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        ({"serviceMonitor": {"enabled": True}}, "ServiceMonitor"),
        ({"prometheusRule": {"enabled": True}}, "PrometheusRule"),
        ({"serving": {"enabled": True}}, "ServingRuntime"),
    ],
)
def test_what_needs_another_project_is_off_until_asked_for(flag, kind):
    models = {"models": [{"policy": FRAUD}]}
    assert kind not in kinds(models)
    assert kind in kinds({**models, **flag})


def test_network_policies_and_policy_check_can_be_switched_off():
    found = kinds(
        {"models": [{"policy": FRAUD}], "networkPolicy": {"enabled": False}, "policyCheck": {"enabled": False}}
    )
    assert "NetworkPolicy" not in found
    assert "Job" not in found


def test_the_collector_can_be_left_out():
    objects = render({"models": [{"policy": FRAUD}], "collector": {"enabled": False}, "serving": {"enabled": True}})
    assert not [o for o in objects if o["kind"] in ("StatefulSet", "Service")]
    assert not [o for o in objects if o["kind"] == "PodDisruptionBudget" and "collector" in o["metadata"]["name"]]
    assert "--collector" not in yaml.safe_dump(one(objects, "ServingRuntime", "kedge"))


def test_only_a_model_with_a_bundle_gets_a_first_slot_and_a_route(first):
    assert [o["metadata"]["name"] for o in first if o["kind"] == "InferenceService"] == ["fraud-blue"]
    assert [o["metadata"]["name"] for o in first if o["kind"] == "HTTPRoute"] == ["fraud"]


KSERVE = ("--api-versions", "serving.kserve.io/v1beta1", "--api-versions", "gateway.networking.k8s.io/v1")


@pytest.mark.parametrize("told", [(), KSERVE], ids=["helm template", "Argo CD"])
def test_a_rendering_without_a_cluster_resets_no_release(told):
    """Argo CD names the kinds of the cluster, and looks nothing up in it."""
    words = ["template", "kedge", CHART, "--namespace", "ml", "--kube-version", "1.36.3", "--values", FULL, *told]
    made = {o["kind"] for o in yaml.safe_load_all(helm(*words).stdout) if o}
    assert not made & {"InferenceService", "HTTPRoute"}
    assert {"ServingRuntime", "CronJob"} <= made


@pytest.mark.parametrize(
    ("there", "made"),
    [
        (["fraud-green"], []),  # a release moved on, and emptied the first slot
        (["fraud-blue"], ["HTTPRoute"]),  # routes were switched on later
        (["fraud-blue", "fraud-green"], []),
        (["churn-blue"], ["HTTPRoute", "InferenceService"]),
    ],
)
def test_an_upgrade_makes_only_what_no_release_has_touched(tmp_path, there, made):
    slots = [
        {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name}}
        for name in there
    ]
    objects = render_in(tmp_path, yaml.safe_load(FULL.read_text()), slots)
    assert sorted(o["kind"] for o in objects if o["kind"] in ("InferenceService", "HTTPRoute")) == made


def test_a_slot_is_fetched_from_the_store_and_belongs_to_releases(first):
    slot = one(first, "InferenceService", "fraud-blue")
    bundle = slot["metadata"]["annotations"]["kedge.dev/bundle"]
    assert slot["spec"]["predictor"]["model"]["storageUri"] == f"s3://kedge/prod/bundles/fraud/{bundle}"
    assert slot["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert slot["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"


@pytest.mark.parametrize(
    ("store", "fetched"),
    [
        ("gs://kedge/prod", "gs://kedge/prod"),
        ("abfss://kedge@bank.dfs.core.windows.net/prod/", "https://bank.blob.core.windows.net/kedge/prod"),
    ],
)
def test_a_slot_is_fetched_from_every_cloud_as_releases_write_it(tmp_path, store, fetched):
    values = {**yaml.safe_load(FULL.read_text()), "store": {"url": store}}
    objects = render_in(tmp_path, values, [])
    bundle = one(objects, "InferenceService", "fraud-blue")["metadata"]["annotations"]["kedge.dev/bundle"]
    uri = one(objects, "InferenceService", "fraud-blue")["spec"]["predictor"]["model"]["storageUri"]
    assert uri == f"{fetched}/bundles/fraud/{bundle}"
    assert uri == storage(parse("gateway:ml"), "fraud", bundle, f"{store.rstrip('/')}/bundles/fraud/{bundle}")


def test_a_slot_refuses_another_bundle_than_the_one_it_was_given():
    """Whoever can write the store could swap a model for another with all its hashes."""
    container = one(render(FULL), "ServingRuntime", "kedge")["spec"]["containers"][0]
    source = next(each["valueFrom"] for each in container["env"] if each["name"] == "KEDGE_BUNDLE")
    assert source == {"fieldRef": {"fieldPath": "metadata.annotations['kedge.dev/bundle']"}}
    assert "--bundle-id=$(KEDGE_BUNDLE)" in container["args"]


def test_slots_are_fetched_with_the_stores_secret_unless_another_is_named():
    serving = {
        "models": [],
        "serving": {"enabled": True},
        "store": {"url": "s3://kedge/prod", "secret": "object-store"},
    }
    assert one(render(serving), "ServiceAccount", "kedge-slots")["secrets"] == [{"name": "object-store"}]
    serving["serving"]["storageSecret"] = "read-only"
    assert one(render(serving), "ServiceAccount", "kedge-slots")["secrets"] == [{"name": "read-only"}]


def test_a_store_on_a_volume_is_an_address_that_kserve_knows(tmp_path):
    values = {"models": [{"policy": FRAUD, "bundle": "0" * 40}], "serving": {"enabled": True}}
    objects = render_in(tmp_path, values, [])
    uri = one(objects, "InferenceService", "fraud-blue")["spec"]["predictor"]["model"]["storageUri"]
    assert uri == f"pvc://kedge-store/bundles/fraud/{'0' * 40}"


def test_the_route_has_a_name_and_a_host_of_its_own(first):
    """KServe overwrites a route named like an InferenceService and wins on its host."""
    objects = first
    route = one(objects, "HTTPRoute", "fraud")
    slots = {o["metadata"]["name"] for o in objects if o["kind"] == "InferenceService"}
    assert route["metadata"]["name"] not in slots | {f"{slot}-predictor" for slot in slots}
    assert route["spec"]["hostnames"] == ["fraud.ml.models.example.com"]
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "fraud-blue-predictor"


def test_a_first_release_makes_the_route_that_the_chart_would_make(first):
    objects, made = first, {}
    for model in ("fraud", "churn"):
        job = one(objects, "CronJob", f"kedge-check-{model}")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        address = parse(next(e["value"] for e in job["containers"][0]["env"] if e["name"] == "KEDGE_PLATFORM"))
        made[model] = attached({"spec": {}}, address, model)["spec"]
    route = one(objects, "HTTPRoute", "fraud")["spec"]
    assert made["fraud"]["parentRefs"] == route["parentRefs"]
    assert made["fraud"]["hostnames"] == route["hostnames"]
    assert made["churn"]["hostnames"] == ["churn.models.example.com"]


def test_dashboards_in_the_chart_become_config_maps_for_the_sidecar():
    labels = [o["metadata"]["labels"] for o in render(FULL) if "grafana_dashboard" in o["metadata"]["labels"]]
    assert len(labels) == len(list(CHART.glob("files/dashboards/*.json")))


def alerts():
    groups = one(render(FULL), "PrometheusRule", "kedge")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_alerts_have_all_a_person_woken_by_them_needs():
    found = alerts()
    assert found
    for rule in found:
        assert rule.get("for") or "[1h]" in rule["expr"] or "kedge_check_action" in rule["expr"]  # none at a flicker
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"].keys() >= {"summary", "description", "runbook_url"}
        assert "@" not in rule["expr"]


def test_a_runbook_link_leads_to_a_heading_of_the_page():
    page = (CHART.parents[1] / "docs" / "kubernetes" / "runbook.md").read_text()
    anchors = {line.lstrip("# ").lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
    for rule in alerts():
        assert rule["annotations"]["runbook_url"].partition("#")[2] in anchors


def test_a_changed_secret_reaches_every_pod_that_outlives_it():
    """Variables are set once: the same Secrets are files beside them, which the kubelet renews and processes read."""
    values = {
        **yaml.safe_load(FULL.read_text()),
        "pod": {"secrets": ["proxy"]},
        "collector": {"secrets": ["privacy.key", "proxy"], "storeSecret": "writer"},
        "serving": {"enabled": True, "secrets": ["token"]},
    }
    seen = {}
    for place, pod in pods(render(values)):
        (container,) = pod["containers"]
        env = [each["secretRef"]["name"] for each in container.get("envFrom", ())]
        files = next((each for each in pod.get("volumes", ()) if each["name"] == "kedge-secrets"), None)
        if files is None:
            assert place.startswith(("CronJob/", "Job/", "Pod/")), place  # a new pod each time
            continue
        mount = next(each for each in container["volumeMounts"] if each["name"] == "kedge-secrets")
        assert {"name": "KEDGE_SECRETS", "value": mount["mountPath"]} in container["env"]
        assert [each["secret"]["name"] for each in files["projected"]["sources"]] == env
        seen[place] = env
    assert seen == {
        "Deployment/kedge-tools": ["object-store", "mlflow", "proxy"],
        "StatefulSet/kedge-collector": ["writer", "privacy.key", "proxy"],
        "ServingRuntime/kedge": ["token"],
    }
