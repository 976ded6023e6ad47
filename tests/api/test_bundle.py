"""A bundle, wherever it lies, scores tables as it is served."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

import kedge
from kedge import bundle
from kedge.bundle import Signature
from kedge.errors import BundleError, DataError
from tests.bundle import models
from tests.store.test_objects import bucket, store  # noqa: F401  (fixtures)


@pytest.fixture(params=["xgboost", "sklearn"])
def made(request, tmp_path):
    return models.written(tmp_path / "made", kind=request.param)


def scores(opened, table):
    return opened.load_model().score(opened.signature.encode(table))


def test_a_frame_a_table_and_a_file_get_the_served_scores_to_the_last_bit(made, tmp_path):
    table = models.payments(500, seed=3)
    pa_csv.write_csv(table, tmp_path / "rows.csv")
    wanted = scores(made, table)
    model = kedge.open_bundle(made.folder)
    assert model.id == made.id
    frame = table.to_pandas()[["country", "amount", "ratio", "age_days", "recurring"]].assign(note="x")
    for given in (table, frame, tmp_path / "rows.csv", str(tmp_path / "rows.csv")):
        assert np.array_equal(model.predict(given), wanted)


def test_rows_beyond_a_batch_keep_their_order(made):
    table = pa.concat_tables([models.payments(40_000, seed=4)])
    assert np.array_equal(kedge.open_bundle(made.folder).predict(table), scores(made, table))


def test_no_rows_give_no_scores(made):
    assert kedge.open_bundle(made.folder).predict(models.payments().slice(0, 0)).shape == (0,)


def test_columns_are_found_by_what_the_policy_says_tables_call_them(tmp_path):
    policy = models.payments_policy(amount={"type": "number", "column": "Umsatz.netto"})
    made = models.written(tmp_path / "made", policy=policy, signature=Signature.of(policy.model))
    table = models.payments(100, seed=5)
    theirs = table.rename_columns(["Umsatz.netto", *table.column_names[1:]])
    model = kedge.open_bundle(made.folder)
    assert model.policy.model.features["amount"].column == "Umsatz.netto"
    assert np.array_equal(model.predict(theirs), scores(made, table))
    with pytest.raises(DataError, match=r"the pyarrow Table: column 'Umsatz.netto' is missing"):
        model.predict(table.drop_columns(["amount"]))
    with pytest.raises(DataError, match=r"columns 'Umsatz.netto', 'country' are missing"):
        model.predict(table.drop_columns(["amount", "country"]))


def test_values_that_training_would_not_take_are_counted_and_not_shown(made):
    frame = models.payments(100).to_pandas().assign(amount="4111-secret")
    with pytest.raises(DataError, match="feature 'amount': 100 rows hold what is not a number") as refused:
        kedge.open_bundle(made.folder).predict(frame)
    assert "secret" not in str(refused.value)
    with pytest.raises(DataError, match="feature 'amount': holds list"):
        kedge.open_bundle(made.folder).predict(pd.DataFrame({**models.payments(2).to_pydict(), "amount": [[1], [2]]}))


def test_an_altered_bundle_is_not_opened(made):
    body = json.loads((made.folder / "bundle.json").read_bytes())
    (made.folder / "profile.json").write_bytes(b"[]")
    assert "profile.json" in body["files"]
    with pytest.raises(BundleError, match="altered"):
        kedge.open_bundle(made.folder)
    with pytest.raises(BundleError, match="cannot be read"):
        kedge.open_bundle(made.folder.parent / "gone")


def test_a_notebook_shows_what_was_measured(tmp_path):
    made = models.written(tmp_path / "made", metrics={"loss": 0.25}, importance={"ratio": 3.0, "amount": 1.0})
    opened = kedge.open_bundle(made.folder)
    assert repr(opened) == f"<OpenedBundle {opened.id[:12]} of {opened.manifest.name}: binary>"
    shown = opened._repr_html_()
    assert "loss" in shown
    assert "0.25" in shown
    assert shown.index("<td>ratio</td>") < shown.index("<td>amount</td>") < shown.index("<td>country</td>")


def test_object_storage_is_read_once_and_a_bundle_that_is_not_there_is_named(store, made, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = bundle.publish(store, made)
    table = models.payments(50)
    assert np.array_equal(kedge.open_bundle(address).predict(table), scores(made, table))
    for key in list(store.keys(made.address)):
        store.delete(key)
    assert kedge.open_bundle(f"{address}/").id == made.id
    with pytest.raises(BundleError, match=f"{'0' * 40}: no such bundle"):
        kedge.open_bundle(f"{store.url}/bundles/payments/{'0' * 40}")
    with pytest.raises(BundleError, match="does not end with a bundle's id"):
        kedge.open_bundle("s3://bucket/bundles/payments")
    assert [path.name for path in (tmp_path / "cache/kedge/bundles").iterdir()] == [made.id]
