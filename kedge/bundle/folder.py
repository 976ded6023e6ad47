"""The bundle as a folder: written whole, published, fetched, verified before anything in it is loaded."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kedge import code
from kedge.bundle import manifest as manifests
from kedge.bundle import mlmodel
from kedge.bundle import transform as transforms
from kedge.bundle.estimators import FORMATS, of
from kedge.bundle.estimators.sklearn import load_transformer, save_transformer
from kedge.bundle.manifest import Fits, Item, Manifest, Permutation, Transformation
from kedge.bundle.predictor import Predictor
from kedge.bundle.signature import Signature
from kedge.bundle.transform import TransformedSignature
from kedge.choice import Score
from kedge.code import Package
from kedge.errors import BundleError
from kedge.store import Store, write_file

if TYPE_CHECKING:
    from kedge.policy import Policy  # a server need not build the policy's schema

MODEL, JUDGED = "model", "judged"
PROFILE, GOLDEN, REPORT, DERIVED = "profile.json", "golden.parquet", "report.html", "derived.json"
TRANSFORMER = "transform.skops"
"""A transformer that learned from rows."""
GOLDEN_ROWS = 64


@dataclass(frozen=True)
class Bundle:
    """A model and all that belongs to it, in one folder. Immutable; made by :func:`write` and :func:`open_bundle`."""

    folder: Path
    manifest: Manifest
    id: str
    """First 40 hex digits of the SHA-256 of ``bundle.json``, and so of every file in it."""

    @cached_property
    def signature(self) -> Signature:
        """The model's features as a request has them; :attr:`Signature.model` are the columns that the model sees.

        Raises:
            CodeNotAllowed: a team's feature code makes them, and the installation runs none.
            BundleError, UsageError: the code is not that of the manifest, or cannot be imported here.
        """
        raw, transform = self.manifest.signature, self.manifest.transform
        if transform is None:
            return raw
        made = transforms.made(transform.path, self.package)
        if TRANSFORMER in self.manifest.files:
            fitted = load_transformer(self.folder / TRANSFORMER, self.manifest)
            made = transforms.of_fitted(transform.path, fitted)
        return TransformedSignature(raw.inputs, transform.derived, made)

    @cached_property
    def package(self) -> Package | None:
        """The team's package, as the manifest lists its files.

        Raises:
            BundleError: its digest is another than the manifest's.
        """
        if self.manifest.code is None:
            return None
        names = [name for name in self.manifest.files if name.startswith(manifests.CODE)]
        package = Package({name.removeprefix(manifests.CODE): (self.folder / name).read_bytes() for name in names})
        if package.digest != self.manifest.code:
            raise BundleError(
                f"{self.folder}: the code in it has digest {package.digest[:12]}, its manifest says "
                f"{self.manifest.code[:12]}: altered; fetch it again"
            )
        return package

    @property
    def address(self) -> str:
        """Where the bundle lies in a store: ``bundles/<model>/<id>``."""
        return address(self.manifest.name, self.id)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(item.size for item in self.manifest.files.values())

    def load_model(self, *, threads: int = 1) -> Predictor:
        """Load the model; batches are scored on so many threads.

        Raises:
            BundleError: the file is not one the library can read, or does not fit the signature.
        """
        return self._load(MODEL, threads)

    def load_judged(self) -> Predictor:
        """Load the fit that never read the holdout, of which all figures are; where there is only one fit, that one.

        Raises:
            BundleError: as :meth:`load_model`.
        """
        return self._load(JUDGED if file_name(JUDGED, self.manifest.format) in self.manifest.files else MODEL, 1)

    def _load(self, fit: str, threads: int) -> Predictor:
        kind = self.manifest.format
        if self.manifest.types and self.package is not None and code.allowed():
            self.package.load()  # the team's own types, which the model's file names
        return FORMATS[kind].load(self.folder / file_name(fit, kind), self.manifest.of_columns, threads)

    def profile(self) -> bytes:
        """The reference profile's JSON: features, ``_label`` and ``_score`` on rows not trained on."""
        return (self.folder / PROFILE).read_bytes()

    @cached_property
    def golden(self) -> pa.Table:
        """At most 64 rows: the features, and as ``_score`` what the model said at training."""
        from pyarrow import parquet

        return parquet.read_table(self.folder / GOLDEN)

    def golden_rows(self) -> list[dict[str, Any]]:
        """The golden rows' features as a client sends them."""
        rows: list[dict[str, Any]] = self.golden.select(list(self.signature.names)).to_pylist()
        for row in rows:
            for name, value in row.items():
                if value != value:  # NaN is no JSON
                    row[name] = None
        return rows


def address(model: str, bundle_id: str) -> str:
    """The key prefix of a bundle in a store."""
    return f"bundles/{model}/{bundle_id}"


def file_name(fit: str, kind: str) -> str:
    """Of the served model (``model``) or the judged fit (``judged``), as the format wants it."""
    return f"{fit}.{FORMATS[kind].ending}"


def write(
    folder: Path,
    *,
    model: Any,
    judged: Any = None,
    fits: Fits | None = None,
    signature: Signature,
    policy: Policy,
    estimator: str,
    golden: pa.Table,
    profile: bytes,
    snapshot: str,
    metrics: Mapping[str, float] | None = None,
    importance: Mapping[str, float] | None = None,
    permutation: Permutation | None = None,
    report: Callable[[Predictor], str] | None = None,
    commit: str | None = None,
    package: Package | None = None,
    derived: bytes | None = None,
    derived_importance: Mapping[str, float] | None = None,
) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        folder: Must not exist.
        model: What is served: a booster of XGBoost or LightGBM (or a scikit-learn wrapper around one), a model of
            CatBoost, a scikit-learn estimator, or what :func:`kedge.bundle.merge` made of several, fitted on matrices
            of ``signature``.
        judged: The fit of the same kind that never read the holdout; default: ``model`` is that fit.
        fits: Which rows both fits read.
        signature: Of the matrices.
        policy: Of the model; task and threshold come from it.
        estimator: Which of the policy's estimators this is.
        golden: Rows with the features; the first 64 are kept, with the model's own score of each.
        profile: ``Profile.to_json()`` of rows not trained on.
        snapshot: Fingerprint of the training rows.
        metrics: Measured on rows no training step has read; what is not finite is left out.
        importance: Share of each feature; scaled to sum to 1.
        permutation: What each feature adds on the holdout.
        report: Makes HTML for people, asked with the served model as it was saved.
        commit: Default that of the working tree, or ``$KEDGE_COMMIT``.
        package: The team's, which ``signature`` or the model needs.
        derived: Profile of the derived columns.
        derived_importance: Share of each derived column; scaled to sum to 1.

    Raises:
        BundleError: the folder exists, or the model is of another kind.
        DataError: golden rows that do not fit the signature.
    """
    with _whole(folder) as beside:
        kind = _save_fits(beside, model, judged)
        transform = _transformation(beside, signature, derived_importance or {})
        _write_code(beside, package)
        draft = Manifest(
            name=policy.name,
            task=policy.model.task,
            classes=policy.model.classes,
            costs=policy.model.costs.matrix,
            loss=policy.model.loss,
            threshold=policy.model.threshold,
            format=kind,
            types=_untrusted(beside, kind),
            estimator=estimator,
            signature=Signature(signature.inputs),
            code=package.digest if package is not None else None,
            transform=transform,
            libraries=manifests.library_versions(),
            files={},
            snapshot=snapshot,
            commit=commit if commit is not None else _commit(),
            policy=policy.to_dict(),
            metrics={name: float(value) for name, value in (metrics or {}).items() if np.isfinite(value)},
            importance=manifests.shares(importance or {}),
            permutation=permutation,
            **dict(fits or Fits()),
        )
        predictor = FORMATS[kind].load(beside / file_name(MODEL, kind), draft.of_columns, 1)
        write_file(beside / GOLDEN, _golden(golden, signature, predictor))
        write_file(beside / PROFILE, profile)
        write_file(beside / REPORT, report(predictor).encode() if report is not None else b"")
        write_file(beside / mlmodel.NAME, mlmodel.description(signature, len(policy.model.classes)))
        write_file(beside / mlmodel.EXAMPLE, mlmodel.example(signature, golden))
        if derived is not None:
            write_file(beside / DERIVED, derived)
        made, raw = _sealed(beside, draft)
    return Bundle(folder, made, _id(raw))


def _save_fits(folder: Path, model: Any, judged: Any) -> str:
    """Save the served fit and, if there is one, the judged; the format of both."""
    kind = _save_model(folder, model)
    if judged is not None and _save_model(folder, judged, JUDGED) != kind:
        raise BundleError(f"the served model is of format {kind}, the judged fit is not")
    return kind


def _write_code(folder: Path, package: Package | None) -> None:
    for name, data in (package.files if package is not None else {}).items():
        write_file(folder / f"{manifests.CODE}{name}", data)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside it that takes its name when all is written, and is gone when something fails."""
    if folder.exists():
        raise BundleError(f"{folder}: exists; a bundle is never written over")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _transformation(
    folder: Path, signature: Signature, derived_importance: Mapping[str, float]
) -> Transformation | None:
    """The team's own feature code as the manifest names it; what was fitted of it is saved."""
    if not isinstance(signature, TransformedSignature):
        return None
    if signature.transform.fitted is not None:
        save_transformer(signature.transform.fitted, folder / TRANSFORMER)
    return Transformation(
        path=signature.transform.path, derived=signature.derived, importance=manifests.shares(derived_importance)
    )


def _untrusted(folder: Path, kind: str) -> tuple[str, ...]:
    """Types in the saved files that their format does not trust by itself."""
    formats = {file_name(MODEL, kind): kind, file_name(JUDGED, kind): kind, TRANSFORMER: "sklearn"}
    saved = {folder / name: FORMATS[each] for name, each in formats.items() if (folder / name).exists()}
    return tuple(sorted({name for file, each in saved.items() for name in each.untrusted(file)}))


def _sealed(folder: Path, draft: Manifest) -> tuple[Manifest, bytes]:
    """The manifest with the hash of every file written so far, and its bytes, which are written too."""
    written = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {path.relative_to(folder).as_posix(): _item(path) for path in written}
    made = draft.model_copy(update={"files": files})
    raw = made.model_dump_json(indent=1, exclude={"created"}).encode()
    write_file(folder / manifests.NAME, raw)
    return made, raw


def open_bundle(folder: Path, *, expect: str | None = None) -> Bundle:
    """Open a bundle after the hash of every file has been verified; nothing is loaded before.

    Args:
        folder: Where its files lie.
        expect: The id it must have.

    Raises:
        BundleError: no bundle, another one, an altered, missing or oversized file, or libraries here of which it is
            known that they predict otherwise.
    """
    place = folder / manifests.NAME
    try:
        raw = place.read_bytes()
    except OSError as exc:
        raise BundleError(
            f"{place}: cannot be read: {exc.strerror}; a bundle is a folder with {manifests.NAME}"
        ) from exc
    if expect is not None and _id(raw) != expect:
        raise BundleError(f"{place}: is bundle {_id(raw)}, wanted {expect}: altered, or in the wrong place")
    manifest = manifests.parse(raw, str(place))
    for name, item in manifest.files.items():
        _verify(folder / name, item)
    for name in (file_name(MODEL, manifest.format), PROFILE, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"{place}: lists no {name}")
    manifests.refuse_other_libraries(manifest, str(place), FORMATS[manifest.format].libraries)
    return Bundle(folder, manifest, _id(raw))


def publish(store: Store, bundle: Bundle) -> str:
    """Copy a bundle into the store, its manifest last, and return its address there.

    Again is harmless: what it lacks is added, and its age counts from now.
    """
    held = set(store.keys(bundle.address)) - {f"{bundle.address}/{manifests.NAME}"}  # who finds it finds the rest
    for name in (*bundle.manifest.files, manifests.NAME):
        if f"{bundle.address}/{name}" not in held:
            store.put(f"{bundle.address}/{name}", (bundle.folder / name).read_bytes())
    return store.uri(bundle.address)


def fetch(store: Store, model: str, bundle_id: str, cache: Path) -> Bundle:
    """Open a published bundle; a store that is not local is copied to ``cache/<id>`` first.

    Raises:
        BundleError: there is none of that id, or it was altered.
    """
    try:
        folder = store.fetch(address(model, bundle_id), cache / bundle_id)
    except KeyError:
        raise BundleError(f"{store.url}: no bundle {bundle_id} of model {model!r}") from None
    return open_bundle(folder, expect=bundle_id)


def golden_difference(bundle: Bundle, score: Callable[[list[dict[str, Any]]], Iterable[Score]]) -> float:
    """Largest difference between the golden rows' scores at training and those of ``score``, given the rows.

    Infinite if a score is missing or no number. Zero says: to the last bit what was trained.
    """
    wanted = np.array(bundle.golden.column("_score").to_pylist(), dtype=np.float64)
    try:
        seen = np.asarray(list(score(bundle.golden_rows())), dtype=np.float64)
    except (TypeError, ValueError):
        return float("inf")
    if seen.shape != wanted.shape or not np.isfinite(seen).all():
        return float("inf")
    return float(np.abs(seen - wanted).max(initial=0.0))


def _save_model(folder: Path, model: Any, fit: str = MODEL) -> str:
    estimator = of(model)
    estimator.save(model, folder / file_name(fit, estimator.format))
    return estimator.format


def _golden(table: pa.Table, signature: Signature, predictor: Predictor) -> bytes:
    from pyarrow import parquet

    rows = table.select([name for name in signature.names if name in table.schema.names]).slice(0, GOLDEN_ROWS)
    if rows.num_rows == 0:
        raise BundleError("a bundle needs golden rows, got none")
    scores = predictor.score(signature.encode(rows))
    if not np.isfinite(scores).all():
        raise BundleError("the model's score of a golden row is not finite: it must not be served")
    into = io.BytesIO()
    parquet.write_table(rows.append_column("_score", pa.array(scores.tolist())), into)
    return into.getvalue()


def _verify(path: Path, item: Item) -> None:
    try:
        size = path.stat().st_size
        if size != item.size:
            raise BundleError(f"{path}: has {size:,} bytes, its manifest says {item.size:,}: altered or cut short")
        seen = _item(path).sha256
    except OSError as exc:
        raise BundleError(f"{path}: cannot be read: {exc.strerror}") from exc
    if seen != item.sha256:
        raise BundleError(f"{path}: SHA-256 is {seen}, its manifest says {item.sha256}: altered; fetch it again")


def _item(path: Path) -> Item:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Item(sha256=digest, size=path.stat().st_size)


def _id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:40]


def _commit() -> str:
    named = os.environ.get("KEDGE_COMMIT")
    if named:
        return named
    here = Path(__file__).parent
    asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
