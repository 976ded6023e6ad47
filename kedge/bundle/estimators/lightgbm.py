"""LightGBM's boosted trees. Categories are split natively; rows are scored without its package: one by trees.c, or by
its C library where that cannot."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.committee import Committee
from kedge.bundle.estimators.estimator import Estimator, Rows, Settings
from kedge.bundle.estimators.lightgbm_trees import TREE, build
from kedge.bundle.manifest import Manifest
from kedge.bundle.native import packaged
from kedge.bundle.predictor import Predictor, Scores
from kedge.bundle.signature import Matrix, Signature
from kedge.choice import Score
from kedge.cpus import usable_cpus
from kedge.errors import BundleError
from kedge.extras import needed_by
from kedge.measure import Floats
from kedge.store import write_file

OWN = frozenset({
    "objective", "metric", "alpha", "seed", "random_state", "n_jobs", "num_threads", "monotone_constraints",
    "class_weight",
    "categorical_feature", "verbosity", "verbose", "silent", "importance_type", "deterministic", "device_type",
    "device", "valid", "data", "task", "input_model", "output_model", "num_class", "config", "machines",
})  # fmt: skip
"""Parameters that kedge sets, that name files, or on which the form of the model hangs."""
ROUNDS = ("n_estimators", "num_iterations", "num_boost_round", "num_trees", "num_round", "num_rounds")
REFUSED = re.compile(r'[^\x00-\x7f]|[",:{}\[\]]')
LEAVES = re.compile(r"^(leaf_value|leaf_const|leaf_coeff|internal_value)=(.*)$", re.MULTILINE)
FLOAT32, SCORE, CONTRIBUTIONS = 0, 0, 3  # LightGBM's codes for a matrix' type and for kinds of prediction


OBJECTIVES = {
    "binary": ("binary", "binary_logloss"), "multiclass": ("multiclass", "multi_logloss"),
    "squared": ("regression", "rmse"), "absolute": ("regression_l1", "l1"), "poisson": ("poisson", "poisson"),
    "quantile": ("quantile", "quantile"),
}  # fmt: skip
"""What is minimised, and what says when to stop."""


class LightGBM(Estimator):
    """Gradient-boosted trees that grow leaf by leaf; the newer rows say after how many to stop."""

    name, format, ending = "lightgbm", "lightgbm", "txt"
    libraries = ("lightgbm",)
    stops_early = True
    beside_others = True

    def parameters(self, task: str) -> frozenset[str]:  # noqa: ARG002
        with needed_by("the estimator lightgbm", "lightgbm"):
            import lightgbm
            from lightgbm.basic import _ConfigAliases

        aliases = _ConfigAliases._get_all_param_aliases()
        known = {
            *lightgbm.LGBMRegressor().get_params(),
            *aliases,
            *(name for each in aliases.values() for name in each),
        }
        return frozenset(known) - OWN

    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        with needed_by("the estimator lightgbm", "lightgbm"):
            import lightgbm

        given = dict(settings.parameters)
        trees = next((given.pop(name) for name in ROUNDS if name in given), 200)
        patience = given.pop("early_stopping_rounds", 20)
        objective, metric = OBJECTIVES[settings.objective]
        parameters = {
            "objective": objective,
            "metric": metric,
            **({"num_class": settings.classes} if settings.classes else {}),
            **({"alpha": settings.quantile} if settings.quantile is not None else {}),
            "seed": settings.seed,
            "num_threads": settings.threads,
            "deterministic": True,
            "force_row_wise": "force_col_wise" not in given,
            "verbosity": -1,
            **given,
        }
        if settings.monotone:
            parameters["monotone_constraints"] = settings.directions

        def table(rows: Rows, reference: Any = None) -> Any:
            return lightgbm.Dataset(
                rows.matrix, rows.label, weight=rows.weight, reference=reference,
                feature_name=_names(settings.signature), categorical_feature=settings.categories,
            )  # fmt: skip

        older = table(rows)
        if newer is None:
            return lightgbm.train(parameters, older, rounds or trees)
        stop = lightgbm.early_stopping(patience, verbose=False)
        first = lightgbm.train(parameters, older, trees, valid_sets=[table(newer, older)], callbacks=[stop])
        return lightgbm.Booster(model_str=first.model_to_string(num_iteration=first.best_iteration))

    def rounds(self, model: Any) -> int | None:
        return max(1, int(model.current_iteration()))

    def predict(self, objective: str, signature: Signature, model: Any, matrix: Matrix) -> Floats:  # noqa: ARG002
        return np.asarray(model.predict(matrix, num_threads=usable_cpus()), dtype=np.float64)

    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        gains = model.feature_importance("gain").tolist()
        return dict(zip(signature.names, gains, strict=True))

    def holds(self, model: Any) -> bool:
        return type(model).__module__.startswith("lightgbm.")

    def save(self, model: Any, file: Path) -> None:
        booster = getattr(model, "booster_", model)
        best = booster.best_iteration  # 0 or -1: all
        write_file(file, booster.model_to_string(num_iteration=best if best > 0 else None).encode())

    def load(self, file: Path, manifest: Manifest, threads: int) -> Predictor:
        booster = LightGBMPredictor(file, threads)
        if booster.features != len(manifest.signature.inputs):
            raise BundleError(
                f"{file}: the model takes {booster.features} features, its signature has "
                f"{len(manifest.signature.inputs)}"
            )
        return booster

    def merge(self, models: Sequence[Any], shares: Sequence[float]) -> Any:
        """All trees in one booster, their leaves scaled by the shares; the text is LightGBM's documented form."""
        import lightgbm

        texts = [model.model_to_string() for model in models]
        if any("\naverage_output\n" in text for text in texts):  # boosting: rf, whose trees are averaged
            return Committee(list(models), [float(share) for share in shares])
        return lightgbm.Booster(model_str=_merged(texts, shares))


class LightGBMPredictor:
    """A model saved by LightGBM: the same bits as its package's ``Booster.predict``, for one row and for many.

    A row that trees.c cannot score goes through LightGBM's prepared call, which keeps one buffer: the interpreter's
    lock, which is held meanwhile, makes it safe to use from several threads.
    """

    quick = True

    def __init__(self, file: Path, threads: int) -> None:
        self._free, self._held = library()
        self._file = file
        self._handle, trees, features = c_void_p(), c_int(), c_int()
        self._call("LGBM_BoosterCreateFromModelfile", str(file).encode(), byref(trees), byref(self._handle))
        self._call("LGBM_BoosterGetNumFeature", self._handle, byref(features))
        self.features = features.value
        classes = c_int()
        self._call("LGBM_BoosterGetNumClasses", self._handle, byref(classes))
        self._classes, self._scores = classes.value, c_double * classes.value
        self._threads = f"num_threads={threads}".encode()
        self._prepared = c_void_p()
        self._call(
            "LGBM_BoosterPredictForMatSingleRowFastInit", self._handle, SCORE, 0, -1, FLOAT32, self.features,
            b"num_threads=1", byref(self._prepared),
        )  # fmt: skip
        self._length = c_int64()
        self._fast = self._held.LGBM_BoosterPredictForMatSingleRowFast
        self._fast.argtypes = (c_void_p, c_char_p, c_void_p, c_void_p)
        self.score_row: Callable[[bytes], Score] = build(file.read_text(), self.score) or self._score_row

    def _score_row(self, row: bytes) -> Score:
        if len(row) != 4 * self.features:  # C would read on
            raise ValueError(f"a row of {self.features} features is needed, got {len(row)} bytes")
        scores = self._scores()
        if self._fast(self._prepared, row, byref(self._length), scores) != 0:
            raise BundleError(self._said("LGBM_BoosterPredictForMatSingleRowFast"))
        return scores[0] if self._classes == 1 else list(scores)

    def score(self, matrix: Matrix) -> Scores:
        scores = self._predicted(matrix, SCORE, self._classes)
        return scores if self._classes > 1 else scores[:, 0]

    def contributions(self, matrix: Matrix) -> Scores:
        parts = self._predicted(matrix, CONTRIBUTIONS, self._classes * (self.features + 1))
        return parts if self._classes == 1 else parts.reshape(len(parts), self._classes, -1)

    def _predicted(self, matrix: Matrix, kind: int, columns: int) -> NDArray[np.float64]:
        rows = np.ascontiguousarray(matrix, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ValueError(f"a matrix of {self.features} features is needed, got one of shape {rows.shape}")
        into, length = np.empty((len(rows), columns)), c_int64()
        if len(rows):
            self._call(
                "LGBM_BoosterPredictForMat", self._handle, c_void_p(rows.ctypes.data), FLOAT32, len(rows),
                self.features, 1, kind, 0, -1, self._threads, byref(length), c_void_p(into.ctypes.data),
            )  # fmt: skip
        return into

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._free, name)(*arguments) != 0:
            raise BundleError(self._said(name))

    def _said(self, name: str) -> str:
        return f"{self._file}: LightGBM refuses it in {name}: {self._free.LGBM_GetLastError().decode()[:300]}"


@cache
def library() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    """LightGBM's shared library, as its package brings it: without and with the interpreter's lock."""
    path = packaged("lightgbm", "lib_lightgbm.so")
    if path is None:
        raise BundleError(
            "LightGBM is not installed here: no lightgbm/lib/lib_lightgbm.so; pip install 'kedge[lightgbm]'"
        )
    loaded = ctypes.CDLL(str(path))
    loaded.LGBM_GetLastError.restype = c_char_p
    return loaded, ctypes.PyDLL(str(path))


def _names(signature: Signature) -> list[str]:
    """The features' names as LightGBM takes them, without spaces; their places where two would be alike, or one has a
    sign of JSON, as a derived column may."""
    names = [name.replace(" ", "_") for name in signature.names]
    plain = len(set(names)) == len(names) and not any(REFUSED.search(name) for name in names)
    return names if plain else [f"feature_{place}" for place in range(len(names))]


def _merged(texts: Sequence[str], shares: Sequence[float]) -> str:
    """One model's text with the trees of all, their leaves times the shares."""
    trees: list[str] = []
    for text, share in zip(texts, shares, strict=True):
        body = text[: text.index("\nend of trees")]
        for tree in TREE.split(body)[1:]:
            trees.append(f"Tree={len(trees)}{LEAVES.sub(lambda found, share=share: _scaled(found, share), tree)}")
    head = TREE.split(texts[0])[0]
    head = re.sub(r"(?m)^tree_sizes=.*\n", "", head)  # else it would have to be counted anew
    return head + "".join(f"{tree.rstrip()}\n\n\n" for tree in trees) + texts[0][texts[0].index("end of trees") :]


def _scaled(line: re.Match[str], share: float) -> str:
    return f"{line[1]}={' '.join(repr(float(value) * share) for value in line[2].split())}"
