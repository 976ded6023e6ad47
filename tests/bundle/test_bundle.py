"""The artefact: whole, verified, refused when altered."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import xgboost

from kedge import bundle, store
from kedge.bundle import manifest
from kedge.errors import BundleError
from tests.bundle import models


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("kind", ["xgboost", "sklearn"])
def test_opened_bundle_predicts_the_golden_rows_to_the_last_bit(tmp_path, kind, task):
    made = models.written(tmp_path / "made", kind=kind, task=task)
    opened = bundle.open_bundle(made.folder)
    predictor = opened.load_model()
    assert opened == made
    assert opened.golden.num_rows == 64
    assert bundle.golden_difference(opened, lambda rows: predictor.score(opened.signature.encode_rows(rows))) == 0.0


def test_id_is_the_hash_of_the_manifest_and_the_manifest_holds_the_hash_of_every_file(tmp_path):
    made = models.written(tmp_path / "made")
    raw = (made.folder / "bundle.json").read_bytes()
    assert made.id == hashlib.sha256(raw).hexdigest()[:40]
    for name, item in json.loads(raw)["files"].items():
        assert item["sha256"] == hashlib.sha256((made.folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.ubj", "golden.parquet", "profile.json", "report.html"])
def test_one_flipped_bit_in_any_file_is_refused_before_loading(tmp_path, name):
    made = models.written(tmp_path / "made", report=lambda _model: "<p>fine</p>")
    raw = bytearray((made.folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (made.folder / name).write_bytes(raw)
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is .* altered"):
        bundle.open_bundle(made.folder)


def test_cut_missing_and_foreign_files_are_refused_with_their_names(tmp_path):
    made = models.written(tmp_path / "made")
    model = made.folder / "model.ubj"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=r"model\.ubj: has .* bytes, its manifest says"):
        bundle.open_bundle(made.folder)
    model.unlink()
    with pytest.raises(BundleError, match=r"model\.ubj: cannot be read: No such file"):
        bundle.open_bundle(made.folder)
    with pytest.raises(BundleError, match=r"a bundle is a folder with bundle\.json"):
        bundle.open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../model.ubj", "/etc/passwd", "a/b", ".hidden", ""])
def test_manifest_cannot_name_a_file_outside_its_folder(tmp_path, name):
    made = models.written(tmp_path / "made")
    manifest = json.loads((made.folder / "bundle.json").read_bytes())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
    (made.folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="not a plain file name"):
        bundle.open_bundle(made.folder)


def test_manifest_with_an_unknown_field_or_no_json_is_refused(tmp_path):
    made = models.written(tmp_path / "made")
    manifest = json.loads((made.folder / "bundle.json").read_bytes())
    (made.folder / "bundle.json").write_text(json.dumps(manifest | {"pickle": "x"}))
    with pytest.raises(BundleError, match="pickle"):
        bundle.open_bundle(made.folder)
    (made.folder / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="not a bundle's manifest"):
        bundle.open_bundle(made.folder)


@pytest.mark.parametrize(
    ("installed", "refused"),
    [("3.2.7", False), ("3.3.0", True), ("2.1.1", True), (None, True)],
)
def test_another_minor_version_of_the_deciding_library_is_refused(tmp_path, installed, refused):
    made = models.written(tmp_path / "made").manifest
    made = made.model_copy(update={"libraries": {"xgboost": "3.2.0", "scikit-learn": "1.9.1"}})
    here = {"scikit-learn": "0.1"} | ({"xgboost": installed} if installed else {})
    if not refused:
        manifest.refuse_other_libraries(made, "bundle.json", ["xgboost"], here)
        return
    with pytest.raises(BundleError, match=rf"trained with xgboost 3\.2\.0, installed here is {installed or 'none'}"):
        manifest.refuse_other_libraries(made, "bundle.json", ["xgboost"], here)


def test_bundle_is_written_whole_or_not_at_all_and_never_over_another(tmp_path):
    with pytest.raises(BundleError, match="of type str cannot be kept"):
        models.written(tmp_path / "made", model="a pickle")
    assert list(tmp_path.iterdir()) == []
    models.written(tmp_path / "made")
    with pytest.raises(BundleError, match="never written over"):
        models.written(tmp_path / "made")


def test_published_bundle_is_fetched_and_another_content_under_its_id_is_refused(tmp_path):
    made = models.written(tmp_path / "made")
    other = models.written(tmp_path / "other", task="regression")
    kept = store.open_store(tmp_path / "store")
    place = bundle.publish(kept, made)
    kept.delete(f"{made.address}/profile.json")
    assert bundle.publish(kept, made) == place
    assert place == str(tmp_path / "store" / "bundles" / "payments" / made.id)
    assert bundle.fetch(kept, "payments", made.id, tmp_path / "cache").manifest == made.manifest
    with pytest.raises(BundleError, match=f"no bundle {other.id} of model 'payments'"):
        bundle.fetch(kept, "payments", other.id, tmp_path / "cache")
    for name in (*other.manifest.files, "bundle.json"):
        kept.put(f"{made.address}/{name}", (other.folder / name).read_bytes())
    with pytest.raises(BundleError, match=f"is bundle {other.id}, wanted {made.id}"):
        bundle.fetch(kept, "payments", made.id, tmp_path / "cache")


def test_golden_difference_is_the_largest_and_infinite_for_anything_that_is_no_score(tmp_path):
    made = models.written(tmp_path / "made")
    wanted = made.golden.column("_score").to_numpy()
    assert bundle.golden_difference(made, lambda rows: wanted + np.linspace(0, 0.25, len(rows))) == 0.25
    for bad in ([], [float("nan")] * 64, ["x"] * 64, [None] * 64, wanted[:63]):
        assert bundle.golden_difference(made, lambda rows, bad=bad: bad) == float("inf")


def test_skops_file_with_a_type_that_is_not_trusted_is_refused(tmp_path):
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(BundleError, match=r"types that are not trusted: .*system"):
        models.written(tmp_path / "made", model=FunctionTransformer(os.system))


SIGNATURE = bundle.Signature.of(models.payments_policy().model)


def predicted(booster, rows):
    names, types = list(SIGNATURE.names), SIGNATURE.feature_types
    return booster.predict(xgboost.DMatrix(rows, feature_names=names, feature_types=types, enable_categorical=True))


def test_a_bundle_holds_both_fits_and_its_golden_rows_are_of_the_served_one(tmp_path):
    served, judged = models.booster(trees=30), models.booster(trees=5)
    made = bundle.open_bundle(models.written(tmp_path / "made", model=served, judged=judged).folder)
    rows = SIGNATURE.encode(models.payments().slice(0, 100))
    assert set(made.manifest.files) >= {"model.ubj", "judged.ubj"}
    assert made.load_model().score(rows).tolist() == predicted(served, rows).tolist()
    assert made.load_judged().score(rows).tolist() == predicted(judged, rows).tolist()
    assert bundle.golden_difference(made, lambda golden: made.load_model().score(SIGNATURE.encode_rows(golden))) == 0


def test_the_judged_fit_of_a_bundle_with_one_fit_is_its_model(tmp_path):
    made = models.written(tmp_path / "made")
    rows = SIGNATURE.encode(models.payments().slice(0, 100))
    assert made.load_judged().score(rows).tolist() == made.load_model().score(rows).tolist()


def test_two_fits_of_several_formats_are_refused(tmp_path):
    with pytest.raises(BundleError, match="format xgboost, the judged fit is not"):
        models.written(tmp_path / "made", judged=models.linear())


@pytest.mark.parametrize("kind", ["xgboost", "sklearn"])
def test_the_same_model_is_the_same_bundle_whenever_and_wherever_it_is_written(tmp_path, kind):
    made = models.written(tmp_path / "made", kind=kind)
    written = (
        "import sys; from pathlib import Path; from tests.bundle import models\n"
        f"print(models.written(Path(sys.argv[1]), kind={kind!r}).id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", written, str(tmp_path / "again")], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (made.id, "")


def test_a_bundle_of_before_that_says_when_it_was_made_is_read(tmp_path):
    made = models.written(tmp_path / "made")
    body = json.loads((made.folder / "bundle.json").read_bytes()) | {"created": "2026-03-02T00:00:00Z"}
    (made.folder / "bundle.json").write_text(json.dumps(body))
    assert bundle.open_bundle(made.folder).manifest.created == datetime(2026, 3, 2, tzinfo=UTC)
