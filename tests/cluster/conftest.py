from __future__ import annotations

import os
import subprocess
import uuid

import pytest

from tests.chart.render import TOOLS, absent, tool
from tests.cluster.hiding import without_groups
from tests.cluster.kubernetes import RESTRICTED, Namespace, definitions, until

EMPTY = Namespace("default")


@pytest.fixture(scope="session")
def cluster():
    """A Kubernetes API that answers; without one the test is skipped by name."""
    if not os.environ.get("KUBECONFIG"):
        absent("no $KUBECONFIG")
    asked = subprocess.run([tool("kubectl"), "get", "--raw", "/readyz"], capture_output=True, text=True, timeout=60)
    if asked.returncode:
        absent(f"no Kubernetes at $KUBECONFIG: {asked.stderr.strip()}")


@pytest.fixture(scope="session")
def without_kserve(cluster, tmp_path_factory):
    """A kubeconfig of the same cluster as it would be without KServe and the Gateway API."""
    with without_groups(tmp_path_factory.mktemp("hiding")) as kubeconfig:
        yield str(kubeconfig)


@pytest.fixture(scope="session")
def custom_kinds(cluster):
    """The custom resource definitions that the objects are of."""
    folder = definitions()
    if folder is None:
        absent("no resource definitions: set KEDGE_TEST_CRDS")
    folders = [folder, *([TOOLS / "crds"] if (TOOLS / "crds").is_dir() else [])]
    for each in folders:
        files = [str(path) for path in sorted(each.rglob("*.yaml"))]
        EMPTY.kubectl("apply", "--server-side", "--force-conflicts", *(f"--filename={file}" for file in files))
    # A definition is served a moment after it was accepted.
    EMPTY.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")


@pytest.fixture(scope="module")
def make_namespace(cluster):
    """Makes namespaces that enforce Pod Security "restricted", and removes them after the module's tests."""
    made = []

    def make(purpose: str) -> Namespace:
        name = f"kedge-test-{purpose}-{uuid.uuid4().hex[:5]}"
        meta = {"name": name, "labels": RESTRICTED}
        EMPTY.kubectl("create", "--filename=-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        made.append(Namespace(name))
        until("the default service account", lambda: made[-1].get("serviceaccounts"))
        return made[-1]

    yield make
    for namespace in made:
        EMPTY.kubectl("delete", "namespace", namespace.name, "--wait=false")


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.xdist_group("cluster"))
