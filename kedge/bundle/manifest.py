"""``bundle.json``: what a bundle is, made from what, and the hash of every file in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kedge import code
from kedge.bundle.signature import Signature
from kedge.errors import BundleError

NAME = "bundle.json"
CODE = "code/"
"""Begins the names of the files of a team's package."""
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RECORDED = ("xgboost", "lightgbm", "catboost", "scikit-learn", "skops", "numpy", "scipy", "pandas", "pyarrow")


class Item(BaseModel):
    """One file of the bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Holdout(BaseModel):
    """The newest rows of the snapshot, which the judged fit never read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: datetime
    """Time of the oldest of them."""
    rows: int = Field(ge=1)


class Window(BaseModel):
    """The rows that one member of the model learned from; all windows end at the same row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """`since change`, `newest <rows>` or `all`."""
    rows: int = Field(ge=1)
    """Of the judged fit. In the served one `newest` has as many, the others have the holdout's besides."""
    weight: float = Field(gt=0, le=1)
    """Of the member in the sum of raw scores."""


class Agreement(BaseModel):
    """How near both fits are to each other on the holdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    difference: float = Field(ge=0)
    """Mean absolute difference of their scores: probabilities or values."""
    bound: float = Field(ge=0)
    """Most that may be released."""


class Fits(BaseModel):
    """Which rows the judged and the served fit read. A bundle of before there were two fits says nothing of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    holdout: Holdout | None = None
    """Rows that all figures in this manifest are of."""
    windows: tuple[Window, ...] = ()
    """By member; the weights sum to 1."""
    change_point: datetime | None = None
    """Since when the relation is another one, as the run was told."""
    agreement: Agreement | None = None
    """Of judged and served fit."""
    trained_until: datetime | None = None
    """Time of the newest row that the served fit read."""


class Transformation(BaseModel):
    """The team's own feature code between a row's features and the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Where it is: `module:name` in the bundle's `code`, or scikit-learn's."""
    derived: Signature
    """The columns that it makes, in the model's order."""
    importance: dict[str, float] = Field({})
    """Share of each derived column in the model's decisions; sums to 1."""


class Effect(BaseModel):
    """What one feature adds, in the unit of the metric, and its 95 % interval; below 0 the model is better without."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float
    shown: bool
    """Whether these rows show that it adds anything."""


class Permutation(BaseModel):
    """How much worse the judged fit does on the rows held out while the values of a feature are shuffled among them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    """The policy's primary one, or `loss`."""
    rows: int
    repeats: int
    """Shuffles of each feature, whose effects are averaged."""
    features: dict[str, Effect]

    @property
    def idle(self) -> list[str]:
        """Features that are not shown to add anything."""
        return [name for name, effect in self.features.items() if not effect.shown]

    @property
    def shares(self) -> dict[str, float]:
        """What each feature adds as a share of what all add; none is below 0."""
        return shares({name: effect.value for name, effect in self.features.items()})


def shares(values: Mapping[str, float]) -> dict[str, float]:
    """Values as shares that sum to 1, or to 0 where none is above it.

    >>> shares({"a": 3.0, "b": 1.0, "c": -2.0})
    {'a': 0.75, 'b': 0.25, 'c': 0.0}
    """
    total = sum(max(0.0, value) for value in values.values())
    return {name: max(0.0, float(value)) / total if total else 0.0 for name, value in values.items()}


class Manifest(Fits):
    """Everything known about a bundle when it was made. `model.*` is served, all figures are of `judged.*`."""

    version: Literal[1] = 1
    """Version of this format."""
    name: str
    """The model's name."""
    task: Literal["binary", "multiclass", "regression"]
    """`binary`: the score is a probability; `multiclass`: one of each class; `regression`: the value."""
    classes: tuple[str | int, ...] = ()
    """What the probabilities are of, in their order (multiclass)."""
    costs: tuple[tuple[float, ...], ...] | None = None
    """Of deciding for each class where each is true (multiclass); None: the likeliest is decided for."""
    loss: str = "squared"
    """What a regression minimises."""
    threshold: float
    """Probability from which on the decision is 1 (binary)."""
    format: Literal["xgboost", "lightgbm", "catboost", "sklearn"]
    """What wrote the model files: `model` and `judged` with the ending `.ubj`, `.txt`, `.cbm.zip` or `.skops`."""
    types: tuple[str, ...] = ()
    """Types in the model files that are loaded only where the installation allows code from policies."""
    estimator: str
    """Which of the policy's estimators won."""
    signature: Signature
    """The features in order, with their categories: what a request holds."""
    code: str | None = None
    """Digest of the team's package, whose files are `code/*`."""
    transform: Transformation | None = None
    """What makes the model's columns of the features; null: the features are the columns."""
    libraries: dict[str, str]
    """Versions at training, by package."""
    files: dict[str, Item]
    """Every other file of the bundle."""
    snapshot: str
    """Fingerprint of the rows it was trained on."""
    commit: str
    """The git commit of the training code."""
    policy: dict[str, Any]
    """The policy as it was."""
    metrics: dict[str, float]
    """Measured on the holdout, of the judged fit."""
    importance: dict[str, float]
    """Share of each feature in the model's decisions; sums to 1."""
    permutation: Permutation | None = None
    """What each feature adds on the holdout; null in a bundle of before."""
    parents: tuple[str, ...] = ()
    """Bundles it grew from: none, it is learned from rows alone."""
    created: datetime | None = None
    """When a bundle of before was made. Records and registry say it now: the same rows, policy and image give the same
    bundle, whenever."""

    @property
    def of_columns(self) -> Manifest:
        """The same with the signature of the columns that the model sees."""
        return self if self.transform is None else self.model_copy(update={"signature": self.transform.derived})

    @property
    def objective(self) -> str:
        """What the model minimises: the task where it predicts classes, else the loss."""
        return self.loss if self.task == "regression" else self.task


def parse(raw: bytes, place: str) -> Manifest:
    """Read a manifest.

    Raises:
        BundleError: it is not one, or names a file outside its folder.
    """
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{place}: not a bundle's manifest: {field}: {first['msg']}") from None
    for name in manifest.files:
        if not PLAIN.fullmatch(name) and not (name.startswith(CODE) and code.PLAIN.fullmatch(name)):
            raise BundleError(f"{place}: {name!r} is not a plain file name")
    return manifest


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that could matter to a prediction."""
    found = {name: _installed(name) for name in RECORDED}
    return {name: version for name, version in found.items() if version}


def refuse_other_libraries(
    manifest: Manifest, place: str, deciding: Sequence[str], here: dict[str, str] | None = None
) -> None:
    """Refuse a bundle whose deciding libraries have another minor version here.

    Models saved by XGBoost 3.2 load in 2.1 and 3.0 without an error and predict wrongly; scikit-learn says the same of
    its own.

    Raises:
        BundleError: names the library and both versions.
    """
    for library in deciding:
        made = manifest.libraries.get(library, "none")
        now = here.get(library) if here is not None else _installed(library)
        if now is None or made.split(".")[:2] != now.split(".")[:2]:
            raise BundleError(
                f"{place}: trained with {library} {made}, installed here is {now or 'none'}; another minor version is "
                "known to change predictions without an error: run it in an image locked with the training image, "
                "or train again"
            )


def _installed(library: str) -> str | None:
    for distribution in (library, f"{library}-cpu"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
