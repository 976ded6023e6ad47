"""CatBoost's boosted trees. Categories are its own: ordered target statistics, not codes."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kedge.bundle.estimators.estimator import Estimator, Rows, Settings, parts
from kedge.bundle.manifest import Manifest
from kedge.bundle.predictor import Predictor, Scores, first_of, softmax
from kedge.bundle.signature import Matrix, Signature
from kedge.choice import Score
from kedge.cpus import usable_cpus
from kedge.errors import BundleError
from kedge.extras import needed_by
from kedge.measure import Floats
from kedge.store import write_file

OWN = frozenset({
    "self", "loss_function", "objective", "eval_metric", "custom_loss", "custom_metric", "random_seed", "random_state",
    "thread_count", "cat_features", "text_features", "embedding_features", "monotone_constraints", "class_weights",
    "auto_class_weights", "scale_pos_weight", "class_names", "classes_count", "verbose", "verbose_eval", "silent",
    "logging_level", "train_dir", "allow_writing_files", "snapshot_file", "save_snapshot", "task_type",
    "device_config", "devices", "callback", "use_best_model", "name", "metadata", "input_borders", "output_borders",
})  # fmt: skip
"""Parameters that kedge sets, that name files, or on which the form of the model hangs."""
ROUNDS = ("iterations", "n_estimators", "num_boost_round", "num_trees")
WEIGHTS = "weights.json"
"""In the archive: the share of each member; member k is ``k.cbm``."""
PASSING = frozenset({"train_finish_time", "model_guid"})
"""What CatBoost writes of the moment: the same rows give the same file without it."""


LOSSES = {
    "binary": "Logloss", "multiclass": "MultiClass", "squared": "RMSE", "absolute": "MAE", "poisson": "Poisson",
}  # fmt: skip
ITERATIONS = {"binary": 10, "multiclass": 1, "poisson": 10}
"""Of the estimation of leaves, CatBoost's defaults."""


class CatBoost(Estimator):
    """Gradient-boosted oblivious trees; the newer rows say after how many to stop."""

    name, format, ending = "catboost", "catboost", "cbm.zip"
    libraries = ("catboost",)
    stops_early = True
    beside_others = True

    def parameters(self, task: str) -> frozenset[str]:
        catboost = _library()
        wrapper = catboost.CatBoostClassifier if task != "regression" else catboost.CatBoostRegressor
        return frozenset(inspect.signature(wrapper.__init__).parameters) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        catboost = _library()
        given = dict(settings.parameters)
        trees = next((given.pop(name) for name in ROUNDS if name in given), 200)
        rate = given.pop("learning_rate", 0.1)  # else another one for each number of rounds
        patience = given.pop("early_stopping_rounds", 20)
        parameters = {
            "loss_function": LOSSES.get(settings.objective) or f"Quantile:alpha={settings.quantile}",
            **({"classes_count": settings.classes} if settings.classes else {}),
            "random_seed": settings.seed,
            "thread_count": settings.threads,
            "allow_writing_files": False,
            "logging_level": "Silent",
            "iterations": rounds or trees,
            "max_ctr_complexity": 4,  # these two are CatBoost's defaults, which it lowers where there are few rounds
            "leaf_estimation_iterations": ITERATIONS.get(settings.objective, 1),
            "learning_rate": given.pop("eta", rate),
            **given,
        }
        if settings.monotone:  # its numbers come first
            numbers = [place for place in range(len(settings.directions)) if place not in settings.categories]
            parameters["monotone_constraints"] = [settings.directions[place] for place in numbers]
        model = catboost.CatBoost(parameters)
        if newer is None:
            return model.fit(_pool(settings.signature, rows.matrix, rows))
        pools = [_pool(settings.signature, each.matrix, each) for each in (rows, newer)]
        return model.fit(pools[0], eval_set=pools[1], early_stopping_rounds=patience, use_best_model=True)

    def rounds(self, model: Any) -> int | None:
        return max(1, int(model.tree_count_))

    def predict(self, objective: str, signature: Signature, model: Any, matrix: Matrix) -> Floats:
        models, shares = parts(model)
        return _scores(models, shares, _pool(signature, matrix), objective, usable_cpus())

    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        numbers = [each.name for each in signature.inputs if each.type != "category"]
        categories = [each.name for each in signature.inputs if each.type == "category"]
        found = dict(zip([*numbers, *categories], model.get_feature_importance().tolist(), strict=True))
        return {name: found[name] for name in signature.names}

    def holds(self, model: Any) -> bool:
        return type(model).__module__.startswith("catboost.")

    def save(self, model: Any, file: Path) -> None:
        models, shares = parts(model)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as into:
            into.writestr(zipfile.ZipInfo(WEIGHTS), json.dumps(shares))
            for place, each in enumerate(models):
                metadata = each.get_metadata()
                for name in PASSING & set(metadata.keys()):
                    del metadata[name]
                into.writestr(zipfile.ZipInfo(f"{place}.cbm"), each._serialize_model())
        write_file(file, archive.getvalue())

    def load(self, file: Path, manifest: Manifest, threads: int) -> Predictor:
        catboost = _library()
        try:
            with zipfile.ZipFile(file) as archive:
                shares = [float(share) for share in json.loads(archive.read(WEIGHTS))]
                models = [
                    catboost.CatBoost().load_model(blob=archive.read(f"{place}.cbm")) for place in range(len(shares))
                ]
        except Exception as exc:  # whatever a damaged archive raises
            raise BundleError(f"{file}: CatBoost cannot read it: {exc}") from exc
        return CatBoostPredictor(models, shares, manifest.signature, manifest.objective, threads)


class CatBoostPredictor:
    """Models saved by CatBoost, their raw scores added up by their shares."""

    quick = False

    def __init__(
        self, models: list[Any], shares: list[float], signature: Signature, objective: str, threads: int
    ) -> None:
        self._models, self._shares, self._signature = models, shares, signature
        self._objective, self._threads = objective, threads

    def score(self, matrix: Matrix) -> Scores:
        return _scores(self._models, self._shares, _pool(self._signature, matrix), self._objective, self._threads)

    def score_row(self, row: bytes) -> Score:
        return first_of(self.score(np.frombuffer(row, np.float32)[np.newaxis]))

    def contributions(self, matrix: Matrix) -> Scores:
        pool = _pool(self._signature, matrix)
        found = sum(
            share * np.asarray(model.get_feature_importance(pool, type="ShapValues", thread_count=self._threads))
            for model, share in zip(self._models, self._shares, strict=True)
        )
        return np.asarray(found)[..., [*_places(self._signature), len(self._signature.inputs)]]


def _library() -> Any:
    with needed_by("the estimator catboost", "catboost"):
        import catboost
    return catboost


def _pool(signature: Signature, matrix: Matrix, rows: Rows | None = None) -> Any:
    """Rows as CatBoost reads them: numbers first, a category as the text of its code."""
    catboost = _library()
    numbers = [place for place, each in enumerate(signature.inputs) if each.type != "category"]
    categories = [place for place, each in enumerate(signature.inputs) if each.type == "category"]
    texts = None
    if categories:
        codes = matrix[:, categories]
        known = ~np.isnan(codes)
        names = np.array([str(code).encode() for code in range(int(codes[known].max(initial=0)) + 1)] + [b""], object)
        texts = names[np.where(known, codes, len(names) - 1).astype(np.int64)]
    data = catboost.FeaturesData(
        num_feature_data=np.ascontiguousarray(matrix[:, numbers]) if numbers else None,
        cat_feature_data=texts,
    )
    return catboost.Pool(data, None if rows is None else rows.label, weight=None if rows is None else rows.weight)


def _places(signature: Signature) -> list[int]:
    """Where each feature is among CatBoost's, which has the numbers first."""
    order = sorted(range(len(signature.inputs)), key=lambda place: signature.inputs[place].type == "category")
    return [order.index(place) for place in range(len(order))]


def _scores(models: list[Any], shares: list[float], pool: Any, objective: str, threads: int) -> Floats:
    from scipy.special import expit

    parts = [
        share * np.asarray(model.predict(pool, prediction_type="RawFormulaVal", thread_count=threads))
        for model, share in zip(models, shares, strict=True)
    ]
    raw = np.sum(parts, axis=0)
    if objective == "multiclass":
        return softmax(raw)
    if objective == "poisson":
        return np.asarray(np.exp(raw), dtype=np.float64)
    return np.asarray(expit(raw) if objective == "binary" else raw, dtype=np.float64)
