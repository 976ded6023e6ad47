"""From a snapshot to a published bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kedge import bundle, drift
from kedge.bundle import Bundle, Signature
from kedge.drift import Kind, Profile
from kedge.errors import DataError
from kedge.measure import Floats, holdout_start, wrong
from kedge.policy import Policy
from kedge.steps import say
from kedge.store import Store
from kedge.tables import snapshot
from kedge.training.estimators import ESTIMATORS, Rows, calibration, importance, mean_loss, score, weights
from kedge.training.page import page

SELECTION_SHARE = 0.2
"""Newest share of the rows before the holdout on which estimators stop and are compared."""


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """What training made, before it is a bundle."""

    estimator: str
    """The chosen one."""
    fitted: Mapping[str, Any]
    """Every estimator tried, fitted on the same rows."""
    signature: Signature
    selection: Mapping[str, float]
    """Mean loss on the selection rows, by estimator."""
    constant: float
    """Mean label of the rows trained on: what a model that knows nothing says."""

    @property
    def model(self) -> Any:
        """The chosen model."""
        return self.fitted[self.estimator]


def run(asked: Policy, store: Store, fingerprint: str) -> Bundle:
    """Train a challenger on a snapshot and publish it.

    The rows are in time order. The newest ``holdout_share`` is read by no choice made here: it is scored once, when the
    model is finished, to record what its loss is on rows it has not seen. Of the rest the newest fifth says when to
    stop and which estimator is better; that one is then fitted again on all of the rest, because the newest rows are
    the ones most like those to come. The same snapshot, policy and number of threads give the same scores.

    Returns:
        The bundle. Its files are in the store; the folder it was made in is gone.

    Raises:
        DataError: too few rows, or only one class to learn from.
        StoreError: the store refused.
    """
    taken = snapshot.load(store, asked.name, fingerprint)
    table = snapshot.read(store, taken)
    if table.num_rows < asked.train.min_rows:
        raise DataError(
            f"snapshot {fingerprint} of {asked.name}: {table.num_rows:,} rows; train.min_rows is "
            f"{asked.train.min_rows:,}: wait for more rows or lower it"
        )
    start = holdout_start(table.num_rows, asked.train.holdout_share)
    made = challenger(asked, table.slice(0, start), place=f"snapshot {fingerprint}")
    with tempfile.TemporaryDirectory(prefix="kedge-train-") as folder:
        written = _write(Path(folder) / "bundle", asked, made, table, start, fingerprint)
        bundle.publish(store, written)
    say(f"train: {made.estimator} of {', '.join(made.selection)}, bundle {written.id[:12]}")
    return written


def challenger(asked: Policy, table: pa.Table, *, place: str) -> Challenger:
    """Fit the policy's estimators on rows in time order and choose one.

    Args:
        asked: The policy.
        table: Rows before the holdout.
        place: Begins error messages.

    Raises:
        DataError: only one class.
    """
    label = _labels(table, asked)
    older = holdout_start(len(label), SELECTION_SHARE)
    _refuse_one_class(asked, label[:older], place)
    signature = Signature.of(asked.model, bundle.observed_categories(asked.model, table))
    rows = Rows(signature.encode(table), label, weights(_ages(table), asked.train.half_life_seconds))
    tried = [ESTIMATORS[name](asked, signature, rows[:older], rows[older:]) for name in asked.train.estimators]
    return Challenger(
        estimator=min(tried, key=lambda each: each.loss).name,  # the first of the policy's list where two agree
        fitted={each.name: each.fit(rows) for each in tried},
        signature=signature,
        selection={each.name: each.loss for each in tried},
        constant=float(label.mean()),
    )


def measured(asked: Policy, made: Challenger, table: pa.Table) -> dict[str, float]:
    """What the manifest says about rows that nothing was chosen on.

    ``loss`` and ``wrong`` (binary: share of wrong decisions) over ``rows`` rows are what monitoring compares live
    rows with; ``loss_of_<estimator>`` and ``constant_loss`` are those of the alternatives.
    """
    label, matrix = _labels(table, asked), made.signature.encode(table)
    scores = {name: score(model, made.signature, matrix) for name, model in made.fitted.items()}
    found = {
        "rows": float(len(label)),
        "loss": mean_loss(asked, label, scores[made.estimator]),
        "constant_score": made.constant,
        "constant_loss": mean_loss(asked, label, np.full(len(label), made.constant)),
    }
    found |= {f"loss_of_{name}": mean_loss(asked, label, values) for name, values in scores.items()}
    found |= {f"selection_loss_of_{name}": loss for name, loss in made.selection.items()}
    if asked.model.task == "binary":
        found["wrong"] = float(wrong(label, scores[made.estimator], asked.model.threshold).mean())
        found |= calibration(label, scores[made.estimator])
    return found


def reference(asked: Policy, made: Challenger, table: pa.Table, start: int) -> bytes:
    """The profile that later windows are compared with.

    ``_label`` and ``_score`` are of the rows held out only: on rows it was trained on a model is surer than it ever is
    again, so every later window would look drifted. The features are of all rows: training does not change them, and
    all rows see more of the seasons than the newest share does.
    """
    names = list(asked.model.features)
    kinds = {name: _kind(feature.type) for name, feature in asked.model.features.items()}
    unseen = table.slice(start)
    outcome = pa.table(
        {
            "_label": pa.array(_labels(unseen, asked)),
            "_score": pa.array(score(made.model, made.signature, made.signature.encode(unseen))),
        }
    )
    features = drift.build(table.select(names).to_batches(), kinds)
    outcomes = drift.build(outcome.to_batches(), {"_label": "number", "_score": "number"})
    return Profile(rows=features.rows, columns={**features.columns, **outcomes.columns}).to_json()


def _kind(feature_type: str) -> Kind:
    return "category" if feature_type == "category" else "number"


def stride_sample(table: pa.Table, rows: int) -> pa.Table:
    """Rows at equal distances over the table's time, the first and the last among them."""
    return table.take(np.unique(np.linspace(0, table.num_rows - 1, rows).round().astype(np.int64)))


def _write(folder: Path, asked: Policy, made: Challenger, table: pa.Table, start: int, fingerprint: str) -> Bundle:
    unseen = table.slice(start)
    metrics, shares = measured(asked, made, unseen), importance(made.model, made.signature)
    return bundle.write(
        folder,
        model=made.model,
        signature=made.signature,
        policy=asked,
        estimator=made.estimator,
        golden=stride_sample(table, bundle.folder.GOLDEN_ROWS),
        profile=reference(asked, made, table, start),
        snapshot=fingerprint,
        metrics=metrics,
        importance=shares,
        report=page(asked, made.estimator, metrics, shares, table, start),
    )


def _ages(table: pa.Table) -> Floats:
    """Seconds from each row to the newest one, shape (n,)."""
    time = table.column("_time").cast(pa.int64()).to_numpy()
    return np.asarray((time.max() - time) / 1e6, dtype=np.float64)


def _labels(table: pa.Table, asked: Policy) -> Floats:
    return np.asarray(table.column(asked.model.target).to_numpy(), dtype=np.float64)


def _refuse_one_class(asked: Policy, label: Floats, place: str) -> None:
    if asked.model.task == "binary" and (positive := int(label.sum())) in (0, len(label)):
        only = "positive" if positive else "negative"
        raise DataError(
            f"{place}: one class only: all of the {len(label):,} oldest rows of {asked.model.target!r} are {only} "
            f"(model.positive_label is {asked.model.positive_label!r}); nothing can be learned from them"
        )
