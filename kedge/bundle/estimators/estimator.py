"""What an estimator is to kedge: fit, predict, save, load, importance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.committee import Committee
from kedge.bundle.manifest import Manifest
from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Matrix, Signature
from kedge.errors import UsageError
from kedge.measure import Floats, quantile_of

DIRECTIONS = {"increasing": 1, "decreasing": -1, None: 0}


@dataclass(frozen=True)
class Rows:
    """Encoded rows in time order: matrix (n, k), label (n,), time (n,) in microseconds, weight (n,) or None."""

    matrix: Matrix
    label: Floats
    time: NDArray[np.int64]
    weight: Floats | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice) -> Rows:
        weight = None if self.weight is None else self.weight[part]
        return Rows(self.matrix[part], self.label[part], self.time[part], weight)

    def weighted(self, half_life: float | None) -> Rows:
        """The rows weighing by their ages against the newest of them, see :func:`weights`."""
        return replace(self, weight=weights((self.time.max() - self.time) / 1e6, half_life))

    def balanced(self) -> Rows:
        """The rows weighing so that all classes weigh the same in sum, and all of them as before."""
        weight = np.ones(len(self)) if self.weight is None else self.weight
        places = self.label.astype(np.int64)
        shares = np.bincount(places, weights=weight)
        present = int((shares > 0).sum())
        if present < 2:
            return self
        return replace(self, weight=weight * float(weight.sum()) / (present * shares[places]))


def weights(ages: Floats, half_life: float | None) -> Floats | None:
    """Weight of rows by age, both shape (n,), ages and half-life in seconds: ``2 ** (-age / half_life)``.

    Old rows still steady the fit where the relation held, and give way where it changed.

    >>> weights(np.array([0.0, 60.0, 120.0]), 60.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return None if half_life is None else np.exp2(-ages / half_life)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the policy asks of a fit."""

    task: str
    signature: Signature
    parameters: Mapping[str, Any]
    """Those of ``train.parameters`` for this estimator, under the library's own names."""
    seed: int
    threads: int
    monotone: Mapping[str, str]
    """Features of which the score must not fall (``increasing``) or rise (``decreasing``)."""
    loss: str = "squared"
    """What a regression minimises, see :func:`kedge.measure.losses`."""
    classes: int = 0
    """How many there are where there are several (multiclass)."""

    @property
    def classifies(self) -> bool:
        """Whether scores are probabilities."""
        return self.task != "regression"

    @property
    def quantile(self) -> float | None:
        """Which quantile a regression estimates; None: none."""
        return quantile_of(self.loss)

    @property
    def objective(self) -> str:
        """``binary``, ``multiclass``, or what a regression minimises: ``squared``, ``absolute``, ``poisson`` or
        ``quantile``."""
        return self.task if self.classifies else self.loss.split("(")[0]

    @cached_property
    def directions(self) -> list[int]:
        """1, -1 or 0 of each feature, as the libraries take monotone constraints."""
        return [DIRECTIONS[self.monotone.get(name)] for name in self.signature.names]

    @cached_property
    def categories(self) -> list[int]:
        """The places of the category features."""
        return [place for place, each in enumerate(self.signature.inputs) if each.type == "category"]


class Estimator(ABC):
    """One kind of model.

    A fitted model is the library's own object. :meth:`merge` makes one of several, which is a model of this kind again
    or a :class:`Committee` of them; the other methods take both.
    """

    name: ClassVar[str]
    """In ``train.estimators``."""
    format: ClassVar[str]
    """Of its files, in the manifest; estimators may share one."""
    ending: ClassVar[str]
    """Of its files' names."""
    libraries: ClassVar[tuple[str, ...]]
    """Packages whose minor version decides what a file predicts."""
    constrainable: ClassVar[bool] = True
    """Whether it can hold monotone constraints."""
    objectives: ClassVar[frozenset[str] | None] = None
    """What it can minimise, see :attr:`Settings.objective`; None: anything."""
    stops_early: ClassVar[bool] = False
    """Whether newer rows say after how many rounds to stop."""
    beside_others: ClassVar[bool] = False
    """Whether several fits may run at once in one process, a thread each."""

    @abstractmethod
    def parameters(self, task: str) -> frozenset[str]:
        """Names that ``train.parameters`` may give it."""

    @abstractmethod
    def fit(self, settings: Settings, rows: Rows, *, newer: Rows | None = None, rounds: int | None = None) -> Any:
        """A model of these rows.

        Args:
            settings: What the policy asks.
            rows: To learn from.
            newer: Where it stops early: rows that say when to; the model ends with its best round.
            rounds: Exactly so many, as :meth:`rounds` said of an earlier fit.
        """

    def rounds(self, model: Any) -> int | None:  # noqa: ARG002
        """How many rounds a model has; None where it does not stop early."""
        return None

    @abstractmethod
    def predict(self, objective: str, signature: Signature, model: Any, matrix: Matrix) -> Floats:
        """Probabilities (binary) or values, shape (n,); of several classes probabilities of each, shape (n, classes).

        Args:
            objective: Of the policy's model.
        """

    @abstractmethod
    def importance(self, model: Any, signature: Signature) -> Mapping[str, float]:
        """How much each feature decides, in a unit of its own; zeros where the model cannot say."""

    @abstractmethod
    def holds(self, model: Any) -> bool:
        """Whether it is a model of this kind, a committee of them not included."""

    @abstractmethod
    def save(self, model: Any, file: Path) -> None:
        """Write a model to a file in a format that runs no code when it is read."""

    @abstractmethod
    def load(self, file: Path, manifest: Manifest, threads: int) -> Predictor:
        """A model of a file, ready to score.

        Raises:
            BundleError: the library cannot read it, or it does not fit the signature.
        """

    def untrusted(self, file: Path) -> tuple[str, ...]:  # noqa: ARG002
        """Types in a saved model that only an installation that allows code from policies loads."""
        return ()

    def merge(self, models: Sequence[Any], shares: Sequence[float]) -> Any:
        """One model of several, whose raw scores (log-odds, or values) add up with these shares."""
        return Committee(list(models), [float(share) for share in shares])

    def checked(self, settings: Settings) -> Settings:
        """The settings, if this estimator can follow them.

        Raises:
            UsageError: an unknown parameter, a loss that it cannot minimise, or constraints that it cannot hold.
        """
        self._refuse_loss(settings)
        known = self.parameters(settings.task)
        for name in settings.parameters:
            if name not in known:
                raise UsageError(f"train.parameters.{self.name}.{name}: {_unknown(name, known)}")
        if settings.monotone and not self.constrainable:
            constrained = ", ".join(settings.monotone)
            raise UsageError(
                f"train.monotone: {self.name} cannot hold a constraint on {constrained}; take it out of "
                "train.estimators, or the constraint away"
            )
        return settings

    def _refuse_loss(self, settings: Settings) -> None:
        if self.objectives is not None and settings.objective not in self.objectives:
            able = ", ".join(sorted(self.objectives - {"binary", "multiclass"}))
            raise UsageError(
                f"model.loss {settings.loss}: {self.name} cannot minimise it, only {able}; take it out of "
                "train.estimators, or choose another loss"
            )


def parts(model: Any) -> tuple[list[Any], list[float]]:
    """The members of a model and their shares: itself, where it is no committee."""
    return (list(model.members), list(model.weights)) if isinstance(model, Committee) else ([model], [1.0])


def _unknown(name: str, known: frozenset[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, sorted(known), n=1)
    if close:
        return f"is no parameter of it; did you mean {close[0]!r}?"
    return f"is no parameter of it, or one that kedge sets itself; it takes {', '.join(sorted(known))}"
