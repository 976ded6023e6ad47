"""A check in its CronJob, made by hand, against a Kubeflow Pipelines API that notes who asked for what."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import policy, records
from kedge.store import open_store
from kedge.tables import snapshot
from kedge.tables.sources import open_source
from tests.chart.render import Object, tool
from tests.cluster.kubernetes import IMAGES, TAG, Namespace, sleeper, small, until
from tests.monitoring.world import DAY, RULES, START, rows
from tests.records.made import record

LAKE = {"format": "parquet", "location": "s3://lake/fraud.parquet"}
STALE = {
    **RULES,
    "data": {**RULES["data"], "source": LAKE},
    "monitor": {"triggers": {"max_age_seconds": 86400}, "schedule": "0 0 1 1 *"},
}
"""A champion trained in March 2026 is older than a day: every check asks for a retraining."""
STORES = "/var/lib/kedge/store"
TAKE = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall(sys.argv[1])"


def service(name: str, app: str) -> Object:
    """A Service on port 80, as Kubeflow's, before the pods of an app."""
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 3000}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def kfp(make_namespace):
    """The double in a namespace of its own, and two addresses where nobody answers."""
    namespace = make_namespace("kfp")
    program = Path(__file__).with_name("kfp_double.py").read_text()
    pod = sleeper("kfp", {"app": "kfp"})
    pod["spec"]["containers"][0] |= {"command": ["python", "-u", "-c", program]}
    pod["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/seen", "port": 3000}, "periodSeconds": 1}
    services = [service("ml-pipeline-ui", "kfp"), service("away", "nobody"), service("returning", "nobody")]
    namespace.kubectl("create", "--filename=-", given=[pod, *services])
    namespace.kubectl("wait", "--for=condition=Ready", "pod/kfp", "--timeout=120s")
    return namespace


def address(kfp: Namespace, name: str = "ml-pipeline-ui") -> str:
    return f"http://{name}.{kfp.name}.svc.cluster.local"


def seen(kfp: Namespace):
    """What the double was asked."""
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:3000/seen').read().decode())"
    return json.loads(kfp.python("kfp", program))


def runs(kfp: Namespace, store: str) -> list[Object]:
    """The runs that were submitted for a store."""
    return [run for run in seen(kfp)["runs"] if run["runtime_config"]["parameters"]["store"] == f"{STORES}/{store}"]


@pytest.fixture(scope="module")
def champion(tmp_path_factory) -> bytes:
    """A store with a promoted model, packed."""
    from kedge.training import train

    folder = tmp_path_factory.mktemp("store")
    table = folder / "x.parquet"
    pq.write_table(pa.concat_tables([rows(200, START - n * DAY, 100 + n) for n in range(5, 0, -1)]), table)
    data = {**STALE["data"], "source": {"format": "parquet", "location": str(table)}}
    asked = policy.parse({**STALE, "data": data})
    store = open_store(folder / "store")
    source = open_source(asked.data.source, asked.data, store=store, model=asked.model)
    made = train.run(asked, store, snapshot.take(source, asked, store, end=START).fingerprint)
    promoted = record("promoted", f"{made.id}-1", START)
    records.append(store, promoted)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "store", ".")
    return packed.getvalue()


@pytest.fixture(scope="module")
def ml(make_namespace, kfp):
    namespace = make_namespace("monitor")
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "privacy"}}  # the policy hashes a column
    namespace.kubectl("create", "--filename=-", given={**key, "stringData": {"KEDGE_HASH_KEY": "a key of the test"}})
    values = small(models=[{"policy": STALE}], kfp={"host": address(kfp)})
    values["collector"]["secrets"] = ["privacy"]
    namespace.install(values)
    return namespace


@pytest.fixture
def store(request, ml, champion) -> str:
    """The name of a store of the test's own, with a champion in it, on the release's volume."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:30].strip("-")
    words = ["--namespace", ml.name, "exec", "-i", "kedge-collector-0", "--", "python", "-c", TAKE, f"{STORES}/{name}"]
    subprocess.run([tool("kubectl"), *words], input=champion, check=True, timeout=120)
    return name


def start(
    namespace: Namespace,
    store: str,
    *,
    what: str = "check",
    tries: int = 1,
    change: Callable[[Object], Any] | None = None,
    **env: str,
) -> str:
    """Make the CronJob's job by hand, on another store and with what else a test changes; its name."""
    name = f"{store}-{uuid.uuid4().hex[:4]}"
    words = ["create", "job", name, f"--from=cronjob/kedge-{what}-fraud", "--dry-run=client", "--output=json"]
    job = json.loads(namespace.kubectl(*words))
    job["metadata"].pop("ownerReferences", None)
    job["spec"]["backoffLimit"] = tries - 1
    pod = job["spec"]["template"]["spec"]
    env = {"KEDGE_STORE": f"{STORES}/{store}", **env}
    for each in pod["containers"][0]["env"]:
        if each["name"] in env:
            each["value"] = env[each["name"]]
    if change:
        change(pod)
    namespace.kubectl("create", "--filename=-", given=job)
    return name


def end(namespace: Namespace, job: str) -> tuple[str, str]:
    """Wait for a job's end; its last condition, and all that its pods said."""

    def over():
        conditions = namespace.get("job", job)["status"].get("conditions", [])
        return [each for each in conditions if each["status"] == "True" and each["type"] in ("Complete", "Failed")]

    (last,) = until(f"the end of job {job}", over, seconds=600)
    log = namespace.kubectl("logs", "--selector", f"job-name={job}", "--tail=-1", check=False)
    return last["type"] if last["type"] == "Complete" else last["reason"], log


def check(namespace: Namespace, store: str, **changes: Any) -> tuple[str, str]:
    return end(namespace, start(namespace, store, **changes))


def test_a_check_submits_one_run_with_its_own_token_and_again_it_submits_none(ml, kfp, store):
    ended, log = check(ml, store)
    assert ended == "Complete", log
    assert "action: retrain" in log
    (run,) = runs(kfp, store)
    assert run["display_name"].startswith("retrain-fraud-")
    found = seen(kfp)
    assert f"system:serviceaccount:{ml.name}:kedge-monitor" in found["subjects"]
    (experiment,) = found["experiments"].values()
    assert (experiment["display_name"], run["experiment_id"]) == ("kedge", experiment["experiment_id"])

    parameters = run["runtime_config"]["parameters"]
    assert policy.parse(parameters["policy"]) == policy.parse(STALE)  # helm sorts features by name
    assert parameters["run"] == run["display_name"]
    spec = run["pipeline_spec"].get("pipeline_spec", run["pipeline_spec"])  # beside it: what its steps use
    steps = spec["deploymentSpec"]["executors"].values()
    assert {step["container"]["image"] for step in steps} == {f"{IMAGES['step']}:{TAG}"}

    ended, log = check(ml, store)
    assert ended == "Complete", log
    assert len(runs(kfp, store)) == 1


def test_a_first_training_is_submitted_under_the_name_of_its_job(ml, kfp, store):
    job = start(ml, store, what="train")
    (run,) = until("the run", lambda: runs(kfp, store), seconds=300)
    assert run["display_name"] == f"retrain-fraud-{ml.get('job', job)['metadata']['uid']}"
    ml.kubectl("delete", "job", job)


def test_kubeflow_away_for_longer_than_the_tries_is_a_failed_job_and_for_a_moment_none(ml, kfp, store):
    never = start(ml, store, tries=2, KEDGE_KFP_HOST=address(kfp, "away"))
    other = f"{store}-later"
    ml.python("kedge-collector-0", f"import shutil; shutil.copytree('{STORES}/{store}', '{STORES}/{other}')")
    later = start(ml, other, tries=6, KEDGE_KFP_HOST=address(kfp, "returning"))
    until("a try that finds nobody", lambda: ml.get("job", later)["status"].get("failed"), seconds=300)
    back = json.dumps({"spec": {"selector": {"app": "kfp"}}})
    kfp.kubectl("patch", "service", "returning", "--patch", back)

    ended, log = end(ml, later)
    assert ended == "Complete", log
    assert len(runs(kfp, other)) == 1

    ended, log = end(ml, never)
    assert ended == "BackoffLimitExceeded"  # what the alert on failed jobs sees
    assert ml.get("job", never)["status"]["failed"] == 2
    assert "is the address in kfp.host right, may pods reach it?" in log
    assert runs(kfp, store) == []


def test_an_expired_token_is_named_with_what_renews_it(ml, kfp, store):
    claims = {"aud": ["pipelines.kubeflow.org"], "exp": 1, "sub": f"system:serviceaccount:{ml.name}:kedge-monitor"}
    token = f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.e30"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stale"}, "stringData": {"token": token}}
    ml.kubectl("create", "--filename=-", given=secret)

    def stale(pod):
        volumes = [each for each in pod["volumes"] if each["name"] != "kfp-token"]
        pod["volumes"] = [*volumes, {"name": "kfp-token", "secret": {"secretName": "stale"}}]

    ended, log = check(ml, store, change=stale)
    assert ended == "BackoffLimitExceeded"
    assert re.search(r"401 Unauthorized; token: expired \d+ s ago; try: kubectl delete pod", log), log
    assert runs(kfp, store) == []


def test_an_account_without_the_rights_is_told_which_values_grant_them(ml, kfp, store):
    ended, log = check(ml, store, change=lambda pod: pod.update(serviceAccountName="default"))
    assert ended == "BackoffLimitExceeded"
    assert "403 Forbidden; this account may not; try: helm upgrade ... --set" in log, log
    assert runs(kfp, store) == []


def test_a_store_that_is_read_only_is_named_and_nothing_is_submitted(ml, kfp, store):
    def closed(pod):
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "store")
        mount["readOnly"] = True

    ended, log = check(ml, store, change=closed)
    assert ended == "BackoffLimitExceeded"
    told = rf"error: store ({STORES}/\S+): cannot write \S+: Read-only file system; mount \1 to be written to, or name"
    assert re.search(told, log), log
    assert runs(kfp, store) == []


def test_a_check_before_the_first_release_succeeds_and_says_what_comes_first(ml):
    began = "import pathlib, sys; place = pathlib.Path(sys.argv[1]); place.mkdir(); "
    began += """(place / "store.json").write_text("{\\"id\\": \\"1\\"}")"""
    ml.kubectl("exec", "kedge-collector-0", "--", "python", "-c", began, f"{STORES}/began")
    ended, log = end(ml, start(ml, "began"))
    assert ended == "Complete", log
    assert "`kedge submit` trains and releases a first one" in log


def test_an_empty_store_is_a_fault_and_no_beginning(ml):
    ended, log = end(ml, start(ml, "empty", KEDGE_STORE="/tmp/empty"))
    assert ended == "BackoffLimitExceeded", log
    assert "error: store /tmp/empty is empty" in log


def test_a_policy_nobody_can_check_fails_once_and_is_not_tried_again(ml):
    """Exit code 2 is the user's to mend: here, a policy that is not there."""

    def misnamed(pod):
        pod["containers"][0]["args"][0] = "--policy=/etc/kedge/policies/fraudd.yaml"

    job = start(ml, "misnamed", tries=6, change=misnamed)
    ended, log = end(ml, job)
    assert ended == "PodFailurePolicy", log
    assert "error: /etc/kedge/policies/fraudd.yaml: cannot be read" in log
    assert ml.get("job", job)["status"]["failed"] == 1
