"""What scikit-learn's estimators share: kept by skops, in a format that runs no code when it is read."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge import code
from kedge.bundle import additive
from kedge.bundle.committee import Committee
from kedge.bundle.estimators import averaged
from kedge.bundle.estimators.estimator import Estimator
from kedge.bundle.estimators.framed import Framed
from kedge.bundle.manifest import Manifest
from kedge.bundle.predictor import PipelinePredictor, Predictor, predicted
from kedge.bundle.signature import Matrix, Signature
from kedge.errors import BundleError
from kedge.measure import Floats
from kedge.store import write_file

TRUSTED = frozenset({
    "functools.partial",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
})  # fmt: skip
"""Types beyond those that skops trusts itself: plain data of scikit-learn's and numpy's own estimators. A ``partial``,
in which histogram boosting keeps its check of an array, holds only what is itself trusted."""


class SklearnEstimator(Estimator):
    """An estimator, or a pipeline, with scikit-learn's interface."""

    format, ending = "sklearn", "skops"
    libraries = ("scikit-learn",)

    def predict(self, objective: str, signature: Signature, model: Any, matrix: Matrix) -> Floats:  # noqa: ARG002
        task = objective if objective in ("binary", "multiclass") else "regression"
        return predicted(model, task, matrix)

    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        found = np.asarray(getattr(model, "feature_importances_", np.zeros(len(signature.names))))
        return dict(zip(signature.names, found.tolist(), strict=True))

    def holds(self, model: Any) -> bool:
        from sklearn.base import BaseEstimator

        return isinstance(model, (BaseEstimator, Framed))

    def save(self, model: Any, file: Path) -> None:
        import skops.io

        write_file(file, _plain_archive(skops.io.dumps(_plain(model))))

    def untrusted(self, file: Path) -> tuple[str, ...]:
        return _untrusted(file)

    def load(self, file: Path, manifest: Manifest, threads: int) -> Predictor:
        estimator = _model(_loaded(file, manifest), manifest.signature)
        task = manifest.task
        found: Predictor | None = averaged.find(estimator, task)
        if found is None and not (
            isinstance(estimator, Framed) or (isinstance(estimator, Committee) and estimator.probabilities)
        ):
            found = additive.find(estimator, manifest.signature.inputs, manifest.objective)
        return found or PipelinePredictor(estimator, task, threads)

    def merge(self, models: Sequence[Any], shares: Sequence[float]) -> Any:
        """Their log-odds (values) added up; probabilities averaged where there are no log-odds, as of a forest."""
        probabilities = hasattr(models[0], "predict_proba") and not hasattr(models[0], "decision_function")
        return Committee(list(models), [float(share) for share in shares], probabilities)


def save_transformer(transformer: Any, file: Path) -> None:
    """Write a transformer to a file in a format that runs no code when it is read."""
    import skops.io

    write_file(file, _plain_archive(skops.io.dumps(transformer)))


def load_transformer(file: Path, manifest: Manifest) -> Any:
    """What :func:`save_transformer` wrote. Raises BundleError where it holds types that are not trusted."""
    return _loaded(file, manifest)


def _untrusted(file: Path) -> tuple[str, ...]:
    import skops.io

    return tuple(sorted(set(skops.io.get_untrusted_types(file=file)) - TRUSTED))


def _loaded(file: Path, manifest: Manifest) -> Any:
    import skops.io

    try:
        unknown = _untrusted(file)
        if set(unknown) - set(manifest.types) or (unknown and not code.allowed()):
            raise BundleError(
                f"{file}: holds types that are not trusted: {', '.join(unknown)}; if they are the team's own, see "
                f"{code.VARIABLE}"
            )
        return skops.io.load(file, trusted=sorted({*TRUSTED, *unknown}))
    except BundleError:
        raise
    except Exception as exc:  # whatever a damaged archive raises
        raise BundleError(f"{file}: skops cannot read it: {exc}") from exc


def _plain_archive(raw: bytes) -> bytes:
    """skops' archive with numbers for memory addresses, and without the time: the same model gives the same bytes."""
    archive = zipfile.ZipFile(io.BytesIO(raw))
    schema = archive.read("schema.json").decode()
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], str(len(numbers) + 1))

    parts = {"schema.json": re.sub(r'("__id__": |"file": ")(\d+)', numbered, schema).encode()}
    for name in archive.namelist():
        if name not in parts:
            address, _, ending = name.partition(".")
            parts[f"{numbers[address]}.{ending}"] = archive.read(name)
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as written:
        for name in sorted(parts):
            written.writestr(zipfile.ZipInfo(name), parts[name])
    return into.getvalue()


def _plain(model: Any) -> Any:
    """A model as scikit-learn's objects in plain containers."""
    if isinstance(model, Framed):
        return {"frame": model.estimator}
    if not isinstance(model, Committee):
        return model
    plain = {"members": [_plain(member) for member in model.members], "weights": list(model.weights)}
    return plain | ({"probabilities": True} if model.probabilities else {})


def _model(plain: Any, signature: Signature) -> Any:
    if not isinstance(plain, dict):
        return plain
    if "frame" in plain:
        return Framed(plain["frame"], signature)
    return Committee(**{**plain, "members": [_model(member, signature) for member in plain["members"]]})
