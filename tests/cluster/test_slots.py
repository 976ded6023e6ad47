"""A slot's server as the chart's runtime has it, with users as a platform gives them, and no bundle but its own.

KServe is not there: the test makes the pod that it would make of the ServingRuntime, with the bundle in a ConfigMap
where the storage initializer would have put it.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest

from kedge.rollout.kserve.pods import BUNDLE
from tests.bundle.models import payments, written
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import IMAGES, TAG, small, until
from tests.rollout.conftest import NEW

PLATFORM = 1_000_660_000
"""A user and group as OpenShift gives them: in no image's /etc/passwd."""
UNPACK = "import tarfile; tarfile.open('/packed/bundle.tar').extractall('/mnt/models')"
MODELS = {"name": "models", "mountPath": "/mnt/models"}


@pytest.fixture(scope="module")
def ml(make_namespace, custom_kinds):
    user = {"runAsUser": PLATFORM, "runAsGroup": PLATFORM, "fsGroup": PLATFORM}
    namespace = make_namespace("slots")
    namespace.install(
        small(models=[{"policy": FRAUD}], serving={"enabled": True}, pod={"securityContext": user}),
    )
    return namespace


@pytest.fixture(scope="module")
def bundle(ml, tmp_path_factory):
    """A bundle's id; its files are in the namespace."""
    made = written(tmp_path_factory.mktemp("slots") / "bundle")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(made.folder, ".")
    content = {"bundle.tar": base64.b64encode(packed.getvalue()).decode()}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bundle"}, "binaryData": content}
    ml.kubectl("create", "--filename=-", given=files)
    return made.id


def serve(namespace, name, bundle_id):
    """The pod of a slot that was given a bundle of this id."""
    runtime = namespace.get("servingruntime", "kedge")["spec"]
    (server,) = runtime["containers"]
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    initializer = {
        "name": "storage-initializer",
        "image": f"{IMAGES['collect']}:{TAG}",
        "command": ["python", "-c", UNPACK],
        "securityContext": closed,
        "volumeMounts": [MODELS, {"name": "packed", "mountPath": "/packed"}],
    }
    spec = {
        "serviceAccountName": "kedge-slots",
        "securityContext": namespace.get("pod", "kedge-collector-0")["spec"]["securityContext"],
        "initContainers": [initializer],
        "containers": [{**server, "volumeMounts": [*server["volumeMounts"], {**MODELS, "readOnly": True}]}],
        "volumes": [
            *runtime["volumes"],
            {"name": "models", "emptyDir": {}},
            {"name": "packed", "configMap": {"name": "bundle"}},
        ],
    }
    labels = {**runtime["labels"], "kedge.dev/slot": "blue"}
    meta = {"name": name, "labels": labels, "annotations": {BUNDLE: bundle_id}}
    namespace.kubectl(
        "create", "--filename=-", given={"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    )


def test_everything_runs_as_the_user_that_a_platform_gives(ml):
    assert ml.python("kedge-collector-0", "import os; print(os.getuid(), os.getgid())").split() == [str(PLATFORM)] * 2
    assert "Succeeded" in ml.helm("test", "kedge", "--timeout", "120s").stdout
    name = "check-by-hand"
    ml.kubectl("create", "job", name, "--from=cronjob/kedge-check-fraud")
    ml.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=240s", seconds=300)
    assert "trains and releases a first one" in ml.kubectl("logs", f"job/{name}")


def test_a_slot_serves_the_bundle_it_was_given(ml, bundle):
    serve(ml, "given", bundle)
    ml.kubectl("wait", "--for=condition=Ready", "pod/given", "--timeout=180s")
    asked = json.dumps({"instances": payments().slice(0, 2).to_pylist()})
    said = ml.python(
        "given",
        "import os, urllib.request as r\n"
        "asked = r.Request('http://127.0.0.1:8080/v1/models/payments:predict',"
        f" data={asked.encode()!r}, headers={{'content-type': 'application/json'}})\n"
        "print(os.getuid(), r.urlopen(asked).read().decode())",
    )
    user, _, answer = said.partition(" ")
    assert int(user) == PLATFORM
    assert len(json.loads(answer)["predictions"]) == 2


def test_a_slot_refuses_a_bundle_that_was_swapped(ml, bundle):
    """Whoever can write the store can write a bundle whose hashes agree with each other; its id is another."""
    serve(ml, "swapped", NEW)

    def ended():
        (status,) = ml.get("pod", "swapped")["status"].get("containerStatuses", [{}])
        states = [status.get(name, {}).get("terminated") for name in ("state", "lastState")]
        return next((state["message"] for state in states if state), None)

    assert f"is bundle {bundle}, wanted {NEW}" in until("the server's end", ended)
