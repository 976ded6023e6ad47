"""A check in its CronJob, made by hand, against a Kubeflow Pipelines API that notes who asked for what."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components import policy, record
from components.record import Record
from components.store import open_store
from components.tables import snapshot
from components.tables.sources import open_source
from tests.chart.render import tool
from tests.cluster.kubernetes import IMAGES, TAG, Namespace, sleeper, small, until
from tests.monitor.world import DAY, RULES, START, rows

LAKE = {"format": "parquet", "location": "s3://lake/fraud.parquet"}
STALE = {
    **RULES,
    "data": {**RULES["data"], "source": LAKE},
    "monitor": {"triggers": {"max_age_seconds": 86400}, "schedule": "0 0 1 1 *"},
}
"""A champion trained in March 2026 is older than a day: every check asks for a retraining."""
TAKE = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/var/lib/kedge/store')"


@pytest.fixture(scope="module")
def kfp(make_namespace):
    """The double in a namespace of its own, behind a Service on port 80 as the real one is."""
    namespace = make_namespace("kfp")
    program = Path(__file__).with_name("kfp_double.py").read_text()
    pod = sleeper("kfp", {"app": "kfp"})
    pod["spec"]["containers"][0] |= {"command": ["python", "-u", "-c", program]}
    pod["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/seen", "port": 3000}, "periodSeconds": 1}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ml-pipeline-ui"}}
    service["spec"] = {"selector": {"app": "kfp"}, "ports": [{"port": 80, "targetPort": 3000}]}
    namespace.kubectl("create", "--filename=-", given=[pod, service])
    namespace.kubectl("wait", "--for=condition=Ready", "pod/kfp", "--timeout=120s")
    return namespace


def seen(kfp: Namespace):
    """What the double was asked."""
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:3000/seen').read().decode())"
    return json.loads(kfp.python("kfp", program))


def champion(folder: Path) -> bytes:
    """A store with a promoted model, packed."""
    from components.train import train

    table = folder / "x.parquet"
    pq.write_table(pa.concat_tables([rows(200, START - n * DAY, 100 + n) for n in range(5, 0, -1)]), table)
    data = {**STALE["data"], "source": {"format": "parquet", "location": str(table)}}
    asked = policy.parse({**STALE, "data": data})
    store = open_store(folder / "store")
    source = open_source(asked.data.source, asked.data, store=store, model=asked.model)
    made = train.run(asked, store, snapshot.take(source, asked, store, end=START).fingerprint)
    promoted = Record(model="fraud", kind="promoted", key=f"{made.id}-1", time=START, data={"bundle": made.id})
    record.append(store, promoted)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "store", ".")
    return packed.getvalue()


@pytest.fixture(scope="module")
def ml(make_namespace, kfp, tmp_path_factory):
    namespace = make_namespace("monitor")
    host = f"http://ml-pipeline-ui.{kfp.name}.svc.cluster.local"
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "privacy"}}  # the policy hashes a column
    namespace.kubectl("create", "--filename=-", given={**key, "stringData": {"KEDGE_HASH_KEY": "a key of the test"}})
    values = small(models=[{"policy": STALE}], kfp={"host": host})
    values["collector"]["secrets"] = ["privacy"]
    namespace.install(values)
    words = [tool("kubectl"), "-n", namespace.name, "exec", "-i", "kedge-collector-0", "--", "python", "-c", TAKE]
    subprocess.run(words, input=champion(tmp_path_factory.mktemp("store")), check=True, timeout=60)
    return namespace


def check(namespace: Namespace, name: str) -> str:
    """Make the CronJob's job by hand, wait for its end; its log."""
    namespace.kubectl("create", "job", name, "--from=cronjob/kedge-check-fraud")

    def ended():
        conditions = namespace.get("job", name)["status"].get("conditions", [])
        return {each["type"] for each in conditions if each["status"] == "True"} & {"Complete", "Failed"}

    state = until(f"job {name}", ended, seconds=240)
    log = namespace.kubectl("logs", f"job/{name}")
    assert "Complete" in state, log + namespace.state()
    return log


def test_a_check_submits_one_run_with_its_own_token_and_again_it_submits_none(ml, kfp):
    log = check(ml, "first")
    assert "action: retrain" in log
    found = seen(kfp)
    (run,) = found["runs"]
    assert run["display_name"].startswith("retrain-fraud-")
    assert found["subjects"] == [f"system:serviceaccount:{ml.name}:kedge-monitor"]
    (experiment,) = found["experiments"].values()
    assert (experiment["display_name"], run["experiment_id"]) == ("kedge", experiment["experiment_id"])

    parameters = run["runtime_config"]["parameters"]
    assert policy.parse(parameters["policy"]) == policy.parse(STALE)  # helm sorts features by name
    assert parameters["run"] == run["display_name"]
    assert parameters["store"] == "/var/lib/kedge/store"
    steps = run["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {step["container"]["image"] for step in steps} == {f"{IMAGES['step']}:{TAG}"}

    check(ml, "second")
    assert len(seen(kfp)["runs"]) == 1


def test_a_policy_nobody_can_check_fails_once_and_is_not_tried_again(ml):
    """Exit code 2 is the user's to mend: here, a store in which nothing was ever promoted."""
    job = json.loads(
        ml.kubectl("create", "job", "empty", "--from=cronjob/kedge-check-fraud", "--dry-run=client", "--output=json")
    )
    container = job["spec"]["template"]["spec"]["containers"][0]
    next(each for each in container["env"] if each["name"] == "KEDGE_STORE")["value"] = "/tmp/empty"
    job["metadata"].pop("ownerReferences", None)
    ml.kubectl("create", "--filename=-", given=job)
    ml.kubectl("wait", "--for=condition=Failed", "job/empty", "--timeout=200s")
    status = ml.get("job", "empty")["status"]
    assert status["failed"] == 1
    assert next(each for each in status["conditions"] if each["type"] == "Failed")["reason"] == "PodFailurePolicy"
