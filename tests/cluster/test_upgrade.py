"""From the chart before to this one: nothing acknowledged is lost, nothing is made anew that holds data.

``charts/`` keeps the packaged chart of the version before; it is replaced when a version is released.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.chart.render import CHART
from tests.chart.test_values import FRAUD
from tests.cluster.kubernetes import small
from tests.cluster.test_install import label, labels_in_the_store, post

(BEFORE,) = Path(__file__).parent.glob("charts/kedge-*.tgz")
CLAIMS = ["kedge-store", "spool-kedge-collector-0"]


@pytest.fixture(scope="module")
def ml(make_namespace):
    namespace = make_namespace("upgrade")
    values = small(models=[{"policy": FRAUD}])
    del values["release"]["steps"]  # which that chart did not know
    namespace.install(values, chart=BEFORE)
    return namespace


def uids(namespace, kind, names):
    return [namespace.get(kind, name)["metadata"]["uid"] for name in names]


def installed_chart(namespace):
    return namespace.get("statefulset", "kedge-collector")["metadata"]["labels"]["helm.sh/chart"]


def test_an_upgrade_from_the_chart_before_keeps_the_data_and_what_holds_it(ml):
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert BEFORE.stem != f"kedge-{version}"
    assert installed_chart(ml) == BEFORE.stem
    post(ml, "/v1/labels", label("before"))
    claims, workload = uids(ml, "persistentvolumeclaim", CLAIMS), uids(ml, "statefulset", ["kedge-collector"])

    ml.install(small(models=[{"policy": FRAUD}]))

    assert installed_chart(ml) == f"kedge-{version}"
    assert uids(ml, "persistentvolumeclaim", CLAIMS) == claims
    assert uids(ml, "statefulset", ["kedge-collector"]) == workload
    post(ml, "/v1/labels", label("then"))
    post(ml, "/v1/flush")
    assert labels_in_the_store(ml) == ["before", "then"]


def test_the_way_back_to_the_chart_before_keeps_them_too(ml):
    ml.helm("rollback", "kedge", "1", "--wait", "--timeout", "240s")
    assert installed_chart(ml) == BEFORE.stem
    assert labels_in_the_store(ml) == ["before", "then"]
