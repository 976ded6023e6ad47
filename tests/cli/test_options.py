"""A model is given as its policy file or by its name, to every command alike."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kedge import bundle, records
from kedge.cli.options import chosen_name, chosen_policy, optional_policy
from kedge.errors import PolicyError, UsageError
from kedge.settings import Settings
from kedge.store import open_store
from tests.bundle import models
from tests.records.made import record

FIXTURE = Path(__file__).parents[1] / "fixtures" / "before_renames"


@pytest.fixture
def settings(tmp_path):
    return Settings.of(str(tmp_path / "store"))


def happened(settings, kind, key, **data):
    store = open_store(settings.store)
    time = datetime(2026, 3, 2, len(records.read(store, "payments")), tzinfo=UTC)
    records.append(store, record(kind, key, time, model="payments", **data))


def registered(settings, tmp_path, **feature):
    """A registered bundle whose policy has a feature of its own."""
    policy = models.payments_policy(**feature)
    made = models.written(tmp_path / "_".join(feature), policy=policy)
    bundle.publish(open_store(settings.store), made)
    happened(settings, "registered", made.id, bundle=made.id, version="1")
    return made.id


def test_by_name_the_policy_is_the_champions_and_before_one_that_of_the_newest_bundle(settings, tmp_path):
    first = registered(settings, tmp_path, old={"type": "number"})
    registered(settings, tmp_path, new={"type": "number"})
    assert "new" in chosen_policy(None, "payments", settings).model.features
    happened(settings, "promoted", f"{first}-1", bundle=first)
    assert "old" in chosen_policy(None, "payments", settings).model.features
    shutil.rmtree(Path(settings.store) / "bundles" / "payments" / first)
    assert "new" in chosen_policy(None, "payments", settings).model.features


def test_a_policy_kept_before_the_renames_is_read(tmp_path):
    settings = Settings.of(str(shutil.copytree(FIXTURE / "store", tmp_path / "store")))
    assert chosen_policy(None, "fraud", settings).name == "fraud"


def test_a_file_is_read_as_it_is_and_gives_its_name(settings):
    file = FIXTURE / "policy.yaml"
    assert chosen_policy(file, None, settings).name == chosen_name(file, None) == "fraud"
    assert chosen_name(None, "payments") == "payments"
    with pytest.raises(PolicyError, match="cannot be read"):
        chosen_name(Path("gone.yaml"), None)


@pytest.mark.parametrize("choose", [chosen_policy, lambda policy, model, _: chosen_name(policy, model)])
def test_neither_and_both_are_refused(settings, choose):
    for policy, model in ((None, None), (Path("p.yaml"), "payments")):
        with pytest.raises(UsageError, match="give either --policy FILE or --model NAME"):
            choose(policy, model, settings)


def test_where_none_is_needed_none_may_be_given(settings):
    assert optional_policy(None, None, settings) is None


def test_a_name_that_the_store_does_not_know_is_refused_with_those_it_knows(settings):
    happened(settings, "adopted", "1", rows=0)
    with pytest.raises(UsageError, match="it has payments"):
        chosen_policy(None, "paymets", settings)
    with pytest.raises(UsageError, match="payments: no bundle in the store says its policy; give --policy FILE"):
        chosen_policy(None, "payments", settings)


def test_by_name_the_folder_of_policies_goes_before_the_store(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KEDGE_POLICIES", str(tmp_path / "policies"))
    registered(settings, tmp_path, extra={"type": "number"})
    told = Settings.of(settings.store)
    assert chosen_policy(None, "payments", told).model.features["extra"].type == "number"
    (tmp_path / "policies").mkdir()
    policy = models.payments_policy(extra={"type": "category"})
    (tmp_path / "policies" / "payments.yaml").write_text(policy.model_dump_json())
    assert chosen_policy(None, "payments", told).model.features["extra"].type == "category"
