"""From a snapshot to a published bundle."""

from __future__ import annotations

import tempfile
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from kedge import bundle, decision, drift
from kedge.bundle import Bundle, packages
from kedge.drift import Kind, Profile
from kedge.errors import DataError
from kedge.measure import best_constant, outcomes, repeated, strided
from kedge.policy import Policy
from kedge.steps import say
from kedge.store import Store
from kedge.tables import scores, snapshot
from kedge.training.challenger import Challenger, fit_challenger
from kedge.training.estimators import calibration, mean_loss
from kedge.training.page import page
from kedge.training.permutation import sentence
from kedge.training.private import public, with_drawn_values
from kedge.training.search import Journal, search

MAX_PAIRED = 8
"""Features whose pairs are watched, the most important ones."""


def run(
    policy: Policy,
    store: Store,
    fingerprint: str,
    *,
    change_point: datetime | None = None,
    champion_until: datetime | None = None,
) -> Bundle:
    """Train a challenger on a snapshot and publish it, see :func:`fit_challenger`.

    The bundle holds the judged fit, of which every figure is, and the served one, which read the newest rows too. The
    same snapshot, policy, change point and number of threads give the same scores.

    Args:
        policy: The policy.
        store: Where the snapshot is and the bundle goes.
        fingerprint: Of the snapshot; its rows are in time order.
        change_point: Since when the relation is another one; None: not known.
        champion_until: Time of the newest row the champion was trained on; None: no champion, or not known.

    Returns:
        The bundle. Its files are in the store; the folder it was made in is gone.

    Raises:
        DataError: too few rows, or only one class to learn from.
        StoreError: the store refused.
    """
    packages.fetch(store, policy)
    table = snapshot.read(store, snapshot.load(store, policy.name, fingerprint))
    if table.num_rows < policy.train.min_rows:
        raise DataError(
            f"snapshot {fingerprint} of {policy.name}: {table.num_rows:,} rows; train.min_rows is "
            f"{policy.train.min_rows:,}: wait for more rows or lower it"
        )
    wanted = None
    if policy.train.search is not None:
        wanted = partial(
            search, policy, journal=Journal.of(store, policy, f"{fingerprint} {change_point} {champion_until}")
        )
    challenger = fit_challenger(
        policy,
        table,
        change_point=change_point,
        champion_until=champion_until,
        source=f"snapshot {fingerprint}",
        search=wanted,
    )
    if challenger.found is not None:
        say(f"train: {challenger.found.why}")
    with tempfile.TemporaryDirectory(prefix="kedge-train-") as folder:
        written = _write(Path(folder) / "bundle", challenger, table, fingerprint)
        bundle.publish(store, written)
    say(f"train: {sentence(challenger.permutation)}")
    members = ", ".join(f"{window.name} (weight {window.weight:.2f})" for window in challenger.windows)
    names = ", ".join(challenger.fits.policy.train.estimators)
    say(f"train: bundle {written.id[:12]}: {challenger.estimator}, chosen among {names}")
    say(f"train: it averages models trained on these rows: {members}")
    return written


def measured(challenger: Challenger, table: pa.Table) -> dict[str, float]:
    """What the manifest says about the judged fit on the holdout.

    ``loss`` and ``wrong`` (classes: share of wrong decisions) over ``rows`` rows are what monitoring compares live
    rows with; ``constant_loss`` is that of the best constant for the earlier rows, ``loss_of_<estimator>`` are those of
    the alternatives, fitted on the rows the estimator was chosen on.
    """
    policy, start = challenger.policy, challenger.holdout_start
    label, unseen = outcomes(table, policy.model.target), table.slice(start)
    objective, classes = policy.model.objective, len(policy.model.classes)
    constant, label = best_constant(objective, label[:start], classes), label[start:]
    said = {challenger.estimator: challenger.score(challenger.judged, unseen)}
    for name in challenger.selection.keys() - {challenger.estimator}:
        said[name] = challenger.score(challenger.alternative(name), unseen)
    metrics = {
        "rows": float(len(label)),
        "loss": mean_loss(policy, label, said[challenger.estimator]),
        **({} if classes else {"constant_score": float(constant)}),
        "constant_loss": mean_loss(policy, label, repeated(constant, len(label))),
    }
    metrics |= {f"loss_of_{name}": mean_loss(policy, label, said[name]) for name in challenger.selection}
    metrics |= {f"selection_loss_of_{name}": loss for name, loss in challenger.selection.items()}
    if challenger.found is not None:
        metrics |= challenger.found.figures
    if policy.model.task == "multiclass":
        spent = decision.costs(policy.model, label, said[challenger.estimator]).mean()
        metrics["cost"] = float(spent) / decision.mean_mistake(policy.model)
    if policy.model.task != "regression":
        metrics["wrong"] = float(decision.wrong(policy.model, label, said[challenger.estimator]).mean())
        metrics |= calibration(label, said[challenger.estimator])
    return metrics


def reference(challenger: Challenger, table: pa.Table) -> bytes:
    """The profile that later windows are compared with.

    ``_label`` and ``_score``, of several classes a column of the scores of each, are of the judged fit on the holdout:
    on rows it was trained on a model is surer than it ever is again, so every later window would look drifted. The
    features are of all rows: training does not change them, and all rows see more of the seasons than the newest ones
    do. Private ones are left out: the log does not hold them as they are, so nothing is compared with them, and a
    profile holds extremes and frequent values of rows. Of the features that matter most pairs are counted too.
    """
    model, names = challenger.policy.model, public(challenger.policy)
    kinds = {name: _kind(model.features[name].type) for name in names}
    shares = challenger.importance
    paired = sorted((name for name in names if shares.get(name)), key=lambda name: -shares[name])[:MAX_PAIRED]
    shown = table.select(names).to_batches()
    features = drift.build(shown, kinds, dependence=paired) if names else Profile(rows=table.num_rows, columns={})
    columns = {**features.columns, **_outcomes(challenger, table.slice(challenger.holdout_start)).columns}
    return Profile(rows=features.rows, columns=columns, dependence=features.dependence).to_json()


def _outcomes(challenger: Challenger, unseen: pa.Table) -> Profile:
    """``_label`` and ``_score`` of the judged fit on rows that it never read."""
    model = challenger.policy.model
    columns = {
        "_label": scores.labels(model, outcomes(unseen, model.target)),
        **scores.columns(model, challenger.score(challenger.judged, unseen)),
    }
    kinds: dict[str, Kind] = dict.fromkeys(columns, "number")
    if model.classes:
        kinds["_label"] = "category"
    return drift.build(pa.table(columns).to_batches(), kinds)


def derived_profile(challenger: Challenger) -> bytes | None:
    """Profile of the columns that a team's code makes; None where a feature is private, which they could tell of."""
    names = challenger.signature.model.names
    if len(public(challenger.policy)) < len(challenger.policy.model.features):
        return None
    columns = {}
    for place, each in enumerate(challenger.signature.model.inputs):
        values = challenger.fits.rows.matrix[:, place].astype(np.float64)
        if each.type == "category":
            texts = np.array([*each.categories, None], dtype=object)
            columns[each.name] = pa.array(texts[np.where(np.isnan(values), len(texts) - 1, values).astype(np.int64)])
        else:
            columns[each.name] = pa.array(values, from_pandas=True)
    kinds = {each.name: _kind(each.type) for each in challenger.signature.model.inputs}
    return drift.build(pa.table(columns).select(names).to_batches(), kinds).to_json()


def _kind(feature_type: str) -> Kind:
    return "category" if feature_type == "category" else "number"


def _write(folder: Path, challenger: Challenger, table: pa.Table, fingerprint: str) -> Bundle:
    metrics, fits = measured(challenger, table), challenger.rows_read()
    derived = challenger.signature.model is not challenger.signature
    return bundle.write(
        folder,
        model=challenger.final,
        judged=challenger.judged,
        fits=fits,
        signature=challenger.signature,
        policy=challenger.policy,
        estimator=challenger.estimator,
        golden=with_drawn_values(
            table.take(strided(table.num_rows, bundle.folder.GOLDEN_ROWS)),
            challenger.policy,
            challenger.signature,
            table,
        ),
        profile=reference(challenger, table),
        snapshot=fingerprint,
        metrics=metrics,
        importance=challenger.importance,
        permutation=challenger.permutation,
        package=packages.of(challenger.policy),
        derived=derived_profile(challenger) if derived else None,
        derived_importance=challenger.column_importance if derived else None,
        report=lambda served: page(challenger, served, metrics, fits, table),
    )
