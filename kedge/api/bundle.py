"""Open a bundle wherever it lies, and predict a table with it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import bundle as bundles
from kedge import policy as policies
from kedge.api.comparison import label
from kedge.bundle import Bundle, Manifest, Predictor
from kedge.errors import BundleError, DataError
from kedge.policy import Policy
from kedge.store import open_store
from kedge.tables.columns import Kind, convert, describe_missing, formats, named
from kedge.tables.sources import open_table

if TYPE_CHECKING:
    from kedge.api.comparison import AnyTable

BUNDLE_ID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class OpenedBundle:
    """A model as it was registered: verified, with all that is known of it. Safe to use from several threads."""

    bundle: Bundle

    def __repr__(self) -> str:
        return f"<OpenedBundle {self.id[:12]} of {self.manifest.name}: {self.manifest.task}>"

    @property
    def id(self) -> str:
        """The bundle's id, 40 hex digits: the hash of everything in it."""
        return self.bundle.id

    @property
    def manifest(self) -> Manifest:
        """What it was made of, by which code, and what was measured then."""
        return self.bundle.manifest

    @cached_property
    def policy(self) -> Policy:
        """The policy it was trained by."""
        return policies.parse(self.manifest.policy, place=f"{self.bundle.folder}/bundle.json: policy")

    def predict(self, table: AnyTable) -> NDArray[np.float64]:
        """Score a table's rows: the probability of the positive label (binary), that of each
        class in the order of `manifest.classes` (multiclass), or the value (regression).

        Columns are found as in training, by the names that the policy says tables have, else by the features' own.
        Rows are encoded as in training and serving: the scores are the served ones to the last bit.

        Args:
            table: Of pandas, Polars, DuckDB or Arrow, or a path; read in batches.

        Returns:
            Shape (rows,), of several classes (rows, classes), in the rows' order.

        Raises:
            DataError: not a table; a feature is missing, or holds what cannot be read as the policy declares it.
        """
        scores = [self._predictor.score(self.bundle.signature.encode(rows)) for rows in self._features(table)]
        classes = len(self.manifest.classes)
        return np.concatenate([np.empty((0, classes) if classes else 0), *scores])

    @cached_property
    def _predictor(self) -> Predictor:
        return self.bundle.load_model()

    def _features(self, table: AnyTable) -> Iterator[pa.RecordBatch]:
        """The features of a table, under their names and of their types, as training reads them."""
        opened, inputs = open_table(table), self.bundle.signature.inputs
        present = opened.names
        columns = {name: column for column, name in named(self.policy.model, present).items()}
        written = formats(self.policy.model)
        missing = [self.policy.model.columns[each.name] for each in inputs if each.name not in columns]
        if missing:
            raise DataError(describe_missing(missing, present, label(table)))
        for piece in opened.pieces([columns[each.name] for each in inputs]):
            arrays = [
                _converted(each.name, piece.rows.column(columns[each.name]), each.type, written.get(each.name))
                for each in inputs
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(self.bundle.signature.names))

    def _repr_html_(self) -> str:
        from kedge import report

        made = self.manifest
        until = made.trained_until or made.created
        facts = {"Task": made.task, "Estimator": made.estimator, "Trained until": until, **made.metrics}
        effects = made.permutation.features if made.permutation is not None else {}
        adds = {name: (each.value, each.low, each.high) for name, each in effects.items()}
        inputs = sorted(made.signature.inputs, key=lambda each: -made.importance.get(each.name, 0.0))
        rows = [
            (each.name, each.type, made.importance.get(each.name), *adds.get(each.name, (None,) * 3)) for each in inputs
        ]
        return report.fragment(
            report.section(
                f"{made.name}: bundle {self.id[:12]}",
                report.facts(facts),
                report.table(("feature", "type", "share of importance", "adds", "from", "to"), rows),
            )
        )


def open_bundle(location: str | Path) -> OpenedBundle:
    """Open a bundle: a folder, or in object storage, of which a copy is kept in ``~/.cache/kedge``.

    Nothing of it is loaded before the hash of every file is verified.

    Args:
        location: ``STORE/bundles/MODEL/ID``; a folder may be called anything.

    Raises:
        BundleError: no bundle, an altered one, or one of which it is known that the libraries here predict otherwise.
        StoreError: object storage did not answer.

    >>> import kedge
    >>> history = kedge.read_history("tests/fixtures/before_renames/store", "fraud")
    >>> model = open_bundle(history.location(history.champion.bundle))
    >>> rows = model.bundle.golden_rows()[:2]
    >>> import pyarrow as pa
    >>> model.predict(pa.Table.from_pylist(rows)).round(2).tolist()
    [0.87, 0.14]
    """
    text = str(location).rstrip("/")
    if "://" not in text:
        return OpenedBundle(bundles.open_bundle(Path(text).expanduser()))
    root, _, name = text.rpartition("/")
    if not BUNDLE_ID.fullmatch(name):
        raise BundleError(f"{text}: does not end with a bundle's id, 40 hex digits; give STORE/bundles/MODEL/ID")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kedge" / "bundles" / name
    if not folder.is_dir():
        _fetch(root, name, folder)
    return OpenedBundle(bundles.open_bundle(folder, expect=name))


def _fetch(root: str, name: str, folder: Path) -> None:
    """Copy a bundle's files, all or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as beside:
        try:
            copied = open_store(root).fetch(name, Path(beside) / name)
        except KeyError:
            raise BundleError(f"{root}/{name}: no such bundle; give STORE/bundles/MODEL/ID") from None
        with suppress(OSError):  # another process was quicker: the same id is the same bytes
            copied.rename(folder)


def _converted(name: str, column: pa.Array, kind: Kind, written: str | None) -> pa.Array:
    try:
        read = convert(column, kind, format=written)
    except DataError as exc:
        raise DataError(f"feature {name!r}: {exc}") from exc
    if read.wrong.any():
        raise DataError(f"feature {name!r}: {int(read.wrong.sum()):,} rows hold what {read.reason}")
    return read.values
