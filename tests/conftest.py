"""For every test."""

import os
import shutil

import pytest
from hypothesis import settings

from kedge.cpus import PATIENT
from kedge.store import Store, open_store
from tests.chart.render import TOOLS_COME_FROM

# On a machine busy with other tests a small XGBoost fit takes a tenth of the time. The libraries read it when they are
# loaded, which is after this.
for name, value in PATIENT.items():
    os.environ.setdefault(name, value)

# A property says nothing of time: on a busy machine an example may take longer than Hypothesis' 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def _new_registry(tmp_path_factory):
    """MLflow's tables, which take seconds to make, made once."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models(max_results=1)
    return file


@pytest.fixture
def store(tmp_path) -> Store:
    """A store in which nothing lies yet."""
    return open_store(tmp_path / "store")


@pytest.fixture
def registry_uri(_new_registry, tmp_path) -> str:
    """The URI of a registry on SQLite that is as empty as a new one."""
    return f"sqlite:///{shutil.copy(_new_registry, tmp_path / 'mlflow.db')}"


def pytest_terminal_summary(terminalreporter):
    """Say in one line what was left out for want of Go's tools, and how to get those."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", ()) if TOOLS_COME_FROM in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests did not run: {TOOLS_COME_FROM}", yellow=True)
