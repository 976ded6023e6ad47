"""``bundle.json``: what a bundle is, made from what, and the hash of every file in it."""

from __future__ import annotations

import re
from datetime import datetime
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kedge.bundle.signature import Signature
from kedge.errors import BundleError

NAME = "bundle.json"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DECIDING = {"xgboost": ("xgboost",), "sklearn": ("scikit-learn",)}
"""By model format the libraries of which another minor version is known to change predictions: models saved by
XGBoost 3.2 load in 2.1 and 3.0 without an error and predict wrongly; scikit-learn says the same of its own."""
RECORDED = ("xgboost", "scikit-learn", "skops", "numpy", "scipy", "pandas", "pyarrow")


class Item(BaseModel):
    """One file of the bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """Everything known about a bundle when it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    """Version of this format."""
    name: str
    """The model's name."""
    task: Literal["binary", "regression"]
    """`binary`: the score is a probability; `regression`: the value."""
    threshold: float
    """Probability from which on the decision is 1 (binary)."""
    format: Literal["xgboost", "sklearn"]
    """What wrote the model file: `model.ubj` or `model.skops`."""
    estimator: str
    """Which of the policy's estimators won."""
    signature: Signature
    """The features in order, with their categories."""
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
    """Measured on rows no training step has read."""
    importance: dict[str, float]
    """Share of each feature in the model's decisions; sums to 1."""
    parents: tuple[str, ...]
    """Bundles it was compared with or grew from."""
    created: datetime
    """When, UTC."""


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
        if not PLAIN.fullmatch(name):
            raise BundleError(f"{place}: {name!r} is not a plain file name")
    return manifest


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that could matter to a prediction."""
    found = {name: _installed(name) for name in RECORDED}
    return {name: version for name, version in found.items() if version}


def refuse_other_libraries(manifest: Manifest, place: str, here: dict[str, str] | None = None) -> None:
    """Refuse a bundle whose deciding library has another minor version here.

    Raises:
        BundleError: names the library and both versions.
    """
    for library in DECIDING[manifest.format]:
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
