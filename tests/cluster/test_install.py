"""The chart on a cluster: it comes up, keeps what it acknowledged, and leaves the store."""

from __future__ import annotations

import json

import pytest

from tests.chart.render import CHART
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import small, until

LABEL = {"model": "fraud", "labels": [{"id": "a", "label": 1, "observed_at": "2026-01-02T03:04:05Z"}]}


@pytest.fixture(scope="module")
def ml(make_namespace):
    namespace = make_namespace("install")
    namespace.install(small(models=[{"policy": FRAUD}]))
    return namespace


def post(namespace, path, body=None):
    """Post to the collector from its own pod."""
    return namespace.python(
        "kedge-collector-0",
        "from urllib.request import Request, urlopen\n"
        f"request = Request('http://127.0.0.1:8080{path}', data={json.dumps(body or {}).encode()!r}, method='POST',"
        " headers={'Content-Type': 'application/json'})\n"
        "print(urlopen(request, timeout=30).read().decode())",
    )


def labels_in_the_store(namespace):
    return sorted(
        namespace.python(
            "kedge-collector-0",
            "from deltalake import DeltaTable, QueryBuilder\n"
            "asked = QueryBuilder().register('labels', DeltaTable('/var/lib/kedge/store/logs/fraud/labels'))\n"
            "print(*asked.execute('select _id from labels').read_all()['_id'].to_pylist())",
        ).split()
    )


def revision(namespace):
    return str(json.loads(namespace.helm("status", "kedge", "--output", "json").stdout)["version"])


def label(name):
    return {**LABEL, "labels": [{**LABEL["labels"][0], "id": name}]}


def test_the_collector_runs_where_pods_must_be_restricted(ml):
    pod = ml.get("pod", "kedge-collector-0")
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert ml.python("kedge-collector-0", "import os; print(os.getuid())").strip() == "65532"


def test_helm_test_passes(ml):
    assert "Succeeded" in ml.helm("test", "kedge", "--timeout", "120s").stdout


def test_a_policy_that_breaks_a_rule_fails_the_upgrade_with_its_line_and_changes_nothing(ml):
    before = ml.get("configmap", "kedge-policies")["data"]
    broken = {**FRAUD, "model": {**FRAUD["model"], "target": "amount"}}  # a schema cannot see that it is a feature
    done = ml.helm("upgrade", "kedge", str(CHART), values=small(models=[{"policy": broken}]), check=False)
    said = done.stdout + done.stderr
    assert done.returncode
    assert "fraud.yaml:" in said, said
    assert "target 'amount' is also a feature" in said
    assert ml.get("configmap", "kedge-policies")["data"] == before


def test_rolling_back_to_a_revision_that_failed_is_refused_and_leaves_the_collector_alone(ml):
    """Without a number, helm takes the revision before, whether it ever ran or not: here the broken policy."""
    ml.install(small(models=[{"policy": FRAUD}]))
    good, before = revision(ml), ml.get("pod", "kedge-collector-0")["metadata"]["uid"]
    done = ml.helm("rollback", "kedge", "--wait", "--timeout", "120s", check=False)
    said = done.stdout + done.stderr
    assert done.returncode
    assert "target 'amount' is also a feature" in said, said
    assert ml.get("pod", "kedge-collector-0")["metadata"]["uid"] == before
    ml.helm("rollback", "kedge", good, "--wait", "--timeout", "240s")  # the way out of a rollback that failed


def test_what_was_acknowledged_survives_the_pod_an_upgrade_and_a_rollback(ml):
    post(ml, "/v1/labels", label("one"))
    dead = ml.get("pod", "kedge-collector-0")["metadata"]["uid"]
    ml.kubectl("delete", "pod", "kedge-collector-0", "--grace-period=0", "--force")
    until("the collector after its death", lambda: ready_again(ml, dead))
    post(ml, "/v1/flush")
    assert labels_in_the_store(ml) == ["one"]

    number, first = revision(ml), ml.get("statefulset", "kedge-collector")["spec"]["template"]
    ml.install(small(models=[{"policy": {**FRAUD, "monitor": {"min_rows": 300}}}]))
    assert ml.get("statefulset", "kedge-collector")["spec"]["template"] != first
    post(ml, "/v1/labels", label("two"))
    post(ml, "/v1/flush")
    assert labels_in_the_store(ml) == ["one", "two"]

    ml.helm("rollback", "kedge", number, "--wait", "--timeout", "240s")
    assert ml.get("statefulset", "kedge-collector")["spec"]["template"] == first
    assert labels_in_the_store(ml) == ["one", "two"]


def ready_again(namespace, dead):
    """Whether another pod took the place. The StatefulSet's own status still tells of the dead one for a moment."""
    pods = namespace.get("pods", "--field-selector=metadata.name=kedge-collector-0")
    alive = [pod for pod in pods if pod["metadata"]["uid"] != dead]
    return any(each["type"] == "Ready" and each["status"] == "True" for pod in alive for each in conditions(pod))


def conditions(found):
    return found["status"].get("conditions", ())


def test_uninstalling_leaves_the_store_and_the_spool_and_installing_again_finds_them(ml):
    ml.helm("uninstall", "kedge", "--wait", "--timeout", "120s")
    assert {each["metadata"]["name"] for each in ml.get("persistentvolumeclaims")} == {
        "kedge-store",
        "spool-kedge-collector-0",
    }
    assert ml.get("cronjobs") == []
    ml.install(small(models=[{"policy": FRAUD}]))
    assert labels_in_the_store(ml) == ["one", "two"]
