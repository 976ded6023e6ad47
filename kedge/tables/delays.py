"""How long outcomes take to become known, class by class, where nobody says it."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge.policy import Policy
from kedge.records.cohort import Delay, Delays
from kedge.store import Store
from kedge.tables import log

MAX_AGE = timedelta(days=100)
"""Predictions looked at are at most this old: delays beyond it have to be stated."""
MAX_ROWS = 500_000
"""Predictions looked at, the newest whole days; of more than these a day, delays above a day have to be stated."""
MIN_AT_RISK = 30
"""Predictions of an age, or older, from which the share that is labelled at that age is told."""
DUE = 0.95
"""Share of a class's outcomes that are known when the class counts as due."""
ALL = ""
"""The one class of a regression."""

Floats = NDArray[np.float64]


def incidence(seconds: Floats, classes: NDArray[np.int64], *, min_at_risk: int = MIN_AT_RISK) -> dict[int, Delay]:
    """Delays of each class from predictions of which some have no outcome yet.

    With n(t) predictions that are at least t old and had no outcome before, d_k(t) of which get one of class k at t,

        S(t) = product over u <= t of (1 - sum_k d_k(u) / n(u)),   F_k(t) = sum over u <= t of S(u-) d_k(u) / n(u):

    Kaplan and Meier's estimate of the share without an outcome, and its split by class. A class's delay has the
    distribution F_k(t) / F_k(T), where T is the greatest age at which ``min_at_risk`` predictions are at risk.

    Args:
        seconds: Shape (n,): from the prediction to its outcome, or to now where there is none.
        classes: Shape (n,): 0, 1, ... of the outcome, -1 without one.
        min_at_risk: At ages with fewer nothing is told; at least 1.

    References:
        E. L. Kaplan, P. Meier (1958), Nonparametric estimation from incomplete observations, JASA 53, 457-481.
        O. O. Aalen, S. Johansen (1978), An empirical transition matrix for non-homogeneous Markov chains based on
        censored observations, Scandinavian Journal of Statistics 5, 141-150.

    >>> found = incidence(np.array([1.0, 2.0, 3.0]), np.array([1, -1, 0]), min_at_risk=1)
    >>> round(found[1].share, 4), round(found[0].share, 4), found[0].median
    (0.3333, 0.6667, 3.0)
    """
    if len(seconds) < min_at_risk:
        return {}
    times, place = np.unique(np.maximum(seconds, 0.0), return_inverse=True)
    at_risk = len(seconds) - np.searchsorted(np.sort(np.maximum(seconds, 0.0)), times)
    told = at_risk >= min_at_risk
    known = classes >= 0
    hazard = np.bincount(place[known], minlength=len(times)) / at_risk
    survival = np.cumprod(1 - hazard)
    before = np.concatenate([[1.0], survival[:-1]])
    found = {}
    for label in np.unique(classes[known]).tolist():
        counts = np.bincount(place[classes == label], minlength=len(times))[told]
        share = np.cumsum(before[told] * counts / at_risk[told])
        if not counts.sum():
            continue
        median, q90, due = (_quantile(times[told], share, level) for level in (0.5, 0.9, DUE))
        found[int(label)] = Delay(rows=int(counts.sum()), share=float(share[-1]), median=median, q90=q90, due=due)
    return found


def _quantile(times: Floats, share: Floats, level: float) -> float:
    """The first time by which this part of what comes at all has come."""
    reached = share >= level * share[-1] * (1 - 1e-12)
    return float(times[int(np.argmax(reached))])


def estimate(store: Store, policy: Policy, end: datetime) -> Delays:
    """Delays as the prediction log shows them at a time: outcomes observed later are not known.

    Raises:
        StoreError: the log cannot be read.
    """
    newest = log.newest_days(store, policy, MAX_ROWS, end)
    if newest is None or log.newest_days(store, policy, MAX_ROWS, end, "labels") is None:
        return Delays(at=end)
    start = max(newest, end - MAX_AGE)
    parts = log.read_parts(store, policy, start, max(start, end), columns=["_time"], known_at=end)
    return of(policy, pa.concat_tables(parts), end)


def of(policy: Policy, rows: pa.Table, end: datetime) -> Delays:
    """Delays of predictions: ``_time``, ``_label``, ``_observed``, null where no outcome is known at ``end``."""
    now = np.datetime64(end.replace(tzinfo=None), "us")
    times, observed = (rows[name].to_numpy().astype("datetime64[us]") for name in ("_time", "_observed"))
    labels = np.asarray(rows["_label"].to_numpy(), dtype=np.float64)
    known = np.isfinite(labels)
    seconds = (np.where(known, observed, now) - times) / np.timedelta64(1, "s")
    names = policy.model.class_names or (ALL,)
    classes = np.where(known, labels if len(names) > 1 else 0, -1).astype(np.int64)
    found = incidence(seconds, classes)
    told = np.sort(seconds)[-MIN_AT_RISK] if len(seconds) >= MIN_AT_RISK else 0.0
    classes_found = {names[label]: each for label, each in found.items()}
    return Delays(rows=len(seconds), seconds=float(max(told, 0.0)), classes=classes_found, at=end)
