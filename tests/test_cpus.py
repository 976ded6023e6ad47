"""One count of processors for training, serving and everything else."""

from __future__ import annotations

import json
from functools import partial

import pytest

from kedge.cpus import usable_cpus
from kedge.training import estimators
from tests.training import rows
from tests.training.test_estimators import encoded

V1 = {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, 2),
    ],
)
def test_a_containers_quota_bounds_the_threads(tmp_path, monkeypatch, files, cpus):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    write(tmp_path, files)
    assert usable_cpus(tmp_path) == cpus


NO_QUOTA = [
    {},
    {"cpu.max": "max 100000\n"},
    {"cpu.max": "nonsense"},
    {"cpu.max": "900000000 1000\n"},
    {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
]


@pytest.mark.parametrize("files", NO_QUOTA)
def test_without_a_quota_all_processors_it_may_run_on_count(tmp_path, monkeypatch, files):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    write(tmp_path, files)
    assert usable_cpus(tmp_path) == 3


def test_training_obeys_a_quota_of_version_1(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(estimators, "usable_cpus", partial(usable_cpus, tmp_path))
    monkeypatch.setattr(estimators, "SHORT_FIT", 0)
    write(tmp_path, V1)
    signature, table = encoded(count=200)
    model = estimators.attempt("xgboost", rows.policy(train={"threads": None}), signature, table).fit(table)
    assert json.loads(model.save_config())["learner"]["generic_param"]["nthread"] == "2"
