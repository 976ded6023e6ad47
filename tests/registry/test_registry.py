from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from kedge import bundle, records
from kedge.errors import RegistryError, RunError
from kedge.records import ModelState
from kedge.registry import Registry, register
from kedge.store import open_store
from tests.bundle import models
from tests.records.made import HOUR, record
from tests.web import Response, answering

ONE, TWO = "1" * 40, "2" * 40
NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


def test_a_bundle_becomes_a_version_that_points_at_it(uri: str) -> None:
    registry = Registry(uri)
    assert registry.register("pointed", ONE, "/store/bundles/pointed/1", {"kedge.commit": "c0ffee"}) == "1"
    (version,) = registry.versions("pointed")
    assert (version.bundle, version.source) == (ONE, "/store/bundles/pointed/1")
    assert version.tags["kedge.commit"] == "c0ffee"
    assert version.created.tzinfo is UTC


def test_registering_again_makes_no_second_version(uri: str) -> None:
    registry = Registry(uri)
    assert [registry.register("again", each, "/x", {}) for each in (ONE, TWO, ONE)] == ["1", "2", "1"]
    assert [each.version for each in registry.versions("again")] == ["2", "1"]


def state(*kinds: str) -> ModelState:
    """After bundles were registered, promoted or rolled back: kind and bundle, in order."""
    told = [each.split() for each in kinds]
    return ModelState.of(
        record(kind, f"{bundle * 40}-1", NOW + number * HOUR) for number, (kind, bundle) in enumerate(told)
    )


def named(registry: Registry, model: str) -> dict[str, str]:
    """What its aliases name: alias and bundle."""
    return {alias: version.bundle for version in registry.versions(model) for alias in version.aliases}


def test_the_aliases_name_what_the_records_say_and_move_with_them(uri: str) -> None:
    registry, told = Registry(uri), ["registered 1", "promoted 1", "registered 2"]
    registry.register("moving", ONE, "/x", {})
    registry.register("moving", TWO, "/x", {})
    assert named(registry, "moving") == {}
    registry.publish("moving", state(*told))
    assert named(registry, "moving") == {"champion": ONE, "challenger": TWO}
    registry.publish("moving", state(*told, "promoted 2"))
    registry.publish("moving", state(*told, "promoted 2"))
    assert named(registry, "moving") == {"champion": TWO, "previous": ONE}
    assert [each.aliases for each in Registry(uri).versions("moving")] == [("champion",), ("previous",)]


def test_a_challenger_that_was_rolled_back_is_none_any_more(uri: str) -> None:
    registry = Registry(uri)
    registry.register("back", ONE, "/x", {})
    registry.register("back", TWO, "/x", {})
    registry.publish("back", state("promoted 1", "registered 2"))
    registry.publish("back", state("promoted 1", "registered 2", "rolled-back 2"))
    assert named(registry, "back") == {"champion": ONE}


def test_an_alias_moved_by_hand_is_put_right_by_the_next_decision(uri: str) -> None:
    registry = Registry(uri)
    registry.register("moved", ONE, "/x", {})
    registry.register("moved", TWO, "/x", {})
    registry._client.set_registered_model_alias("moved", "champion", "2")
    assert named(registry, "moved") == {"champion": TWO}
    registry.publish("moved", state("promoted 1"))
    assert named(registry, "moved") == {"champion": ONE}


def test_an_alias_whose_bundle_has_no_version_here_names_nothing(uri: str) -> None:
    registry = Registry(uri)
    registry.register("lost", ONE, "/x", {})
    registry.publish("lost", state("promoted 1"))
    registry.publish("lost", state("promoted 1", "promoted 2"))
    assert named(registry, "lost") == {"previous": ONE}
    registry.publish("lost", state())
    assert named(registry, "lost") == {}


def test_a_model_nobody_registered_has_no_versions_and_no_aliases(uri: str) -> None:
    assert Registry(uri).versions("stranger") == []
    assert named(Registry(uri), "stranger") == {}


def test_a_long_tag_is_cut_to_what_mlflow_takes(uri: str) -> None:
    Registry(uri).register("long", ONE, "/x", {"kedge.gates": "g" * 9000})
    assert len(Registry(uri).versions("long")[0].tags["kedge.gates"]) == 5000


def test_a_version_belongs_to_the_run_that_kfp_opened(uri: str, monkeypatch) -> None:
    registry = Registry(uri)
    registry.versions("plugged")  # opens the client
    run = registry._client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    registry.register("plugged", ONE, "/x", {})
    assert registry._client.get_model_version("plugged", "1").run_id == run.info.run_id


def test_without_kfps_plugin_or_with_a_run_of_another_mlflow_a_version_belongs_to_no_run(uri: str, monkeypatch) -> None:
    registry = Registry(uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    registry.register("unplugged", ONE, "/x", {})
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://another-mlflow:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    registry.register("unplugged", TWO, "/x", {})
    assert [registry._client.get_model_version("unplugged", each).run_id or None for each in "12"] == [None, None]


def test_no_mlflow_at_the_address_is_said_not_waited_for(monkeypatch) -> None:
    with answering(Response) as address:
        port = address.rpartition(":")[2]  # nobody listens there afterwards
    with pytest.raises(RegistryError, match=rf"127\.0\.0\.1:{port}: cannot list versions.*is MLflow running there"):
        Registry(f"http://127.0.0.1:{port}").versions("fraud")


def test_another_server_at_the_address_is_no_registry() -> None:
    with answering(lambda _: Response("hello", 501)) as address, pytest.raises(RegistryError, match="cannot list"):
        Registry(address).versions("fraud")


def test_a_file_that_is_no_database_is_named(tmp_path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all")
    with pytest.raises(RegistryError, match=r"mlflow\.db is not an SQLite database"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").versions("fraud")


def test_a_place_where_no_file_can_be_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be written"):
        Registry(f"sqlite:///{tmp_path}/file/mlflow.db").versions("fraud")


RUN = "retrain-payments-k"


def published(tmp_path, *, passed: bool | None, **metrics: float):
    store, policy = open_store(tmp_path / "store"), models.payments_policy()
    made = models.written(tmp_path / "made", metrics={"loss": 0.25})
    bundle.publish(store, made)
    if passed is not None:
        data = {"bundle": made.id, "passed": passed, "champion": None, "reasons": ["loss too high"],
                "gates": [{"name": "constant", "passed": passed, "sentence": "..."}], "metrics": metrics}  # fmt: skip
        records.append(store, record("evaluated", f"{made.id}-{RUN}", NOW, model=policy.name, **data))
    return store, policy, made


def test_registering_records_lineage_alias_and_the_end_of_the_run(tmp_path, uri: str) -> None:
    store, policy, made = published(tmp_path, passed=True)
    registry = Registry(uri)
    assert register.run(policy, store, registry, RUN, made.id) == "1"
    assert register.run(policy, store, registry, RUN, made.id) == "1"
    (version,) = registry.versions(policy.name)
    assert version.aliases == ("challenger",)
    assert version.source == store.uri(f"bundles/payments/{made.id}")
    assert version.tags.items() >= {
        "kedge.commit": "c0ffee", "kedge.snapshot": "0" * 40, "kedge.policy": policy.hash, "kedge.loss": "0.25",
        "kedge.run": RUN, "kedge.gates": '{"constant": true}',
        "kedge.source": store.uri(f"bundles/payments/{made.id}"),
    }.items()  # fmt: skip
    (registered,) = records.read(store, policy.name, records.Registered)
    assert (registered.key, registered.data.version) == (made.id, "1")
    (finished,) = records.read(store, policy.name, records.RunFinished)
    assert (finished.data.state, finished.data.bundle) == ("succeeded", made.id)


@pytest.mark.parametrize(
    ("judged", "tags"),
    [
        (
            {"rmse": 1.25, "mae": 1, "r_squared": -0.0625, "champion_rmse": 2},
            {"kedge.rmse": "1.25", "kedge.mae": "1", "kedge.r_squared": "-0.0625"},
        ),
        ({"wrong": 0.125, "roc_area": 0.75, "rows": 300}, {"kedge.wrong": "0.125", "kedge.roc_area": "0.75"}),
        ({}, {}),
    ],
)
def test_a_version_says_how_far_it_is_off(tmp_path, judged: dict[str, float], tags: dict[str, str]) -> None:
    store, policy, made = published(tmp_path, passed=True, **judged)
    (verdict,) = records.read(store, policy.name, records.Evaluated)
    said = register.lineage(made.manifest, policy, RUN, verdict.data)
    figures = {f"kedge.{name}" for name in register.FIGURES}
    assert {name: value for name, value in said.items() if name in figures} == tags


@pytest.mark.parametrize(
    ("passed", "why"), [(None, "was not evaluated in run retrain-payments-k"), (False, "gates: loss too high")]
)
def test_only_what_passed_its_gates_is_registered(tmp_path, passed, why: str) -> None:
    store, policy, made = published(tmp_path, passed=passed)
    with pytest.raises(RunError, match=why):
        register.run(policy, store, Registry("http://never-asked"), RUN, made.id)


CREATE = """
import sys
from kedge.registry import Registry
sys.stdin.readline()  # until all are ready
print(Registry(sys.argv[1]).register("first", sys.argv[2], "/store/" + sys.argv[2], {}))
"""


def test_first_uses_of_a_new_registry_at_once_wait_for_each_other(tmp_path) -> None:
    uri, bundles = f"sqlite:///{tmp_path}/new/mlflow.db", [str(number) * 40 for number in range(3)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, uri, bundle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for bundle in bundles
    ]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert sorted(out.strip() for out, _ in ended) == ["1", "2", "3"]
    assert {each.bundle for each in Registry(uri).versions("first")} == set(bundles)
