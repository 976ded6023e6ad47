"""A challenger: one recipe fitted on several windows, averaged by how well each does on the newest rows.

After a change the newest rows are right and few; before one, all rows are right and many. No rule knows which holds, so
every window is tried and the rows say.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from kedge import bundle
from kedge.bundle import Agreement, Fits, Holdout, Permutation, Signature, packages, transform
from kedge.bundle.estimators import named
from kedge.bundle.transform import TransformedSignature
from kedge.errors import DataError
from kedge.measure import Floats, outcomes
from kedge.policy import Policy
from kedge.training.estimators import (
    LONG_SHARE,
    FittedCandidate,
    Rows,
    absent_classes,
    attempt,
    importance,
    score,
    short,
    side_by_side,
    split,
    weighed,
)
from kedge.training.permutation import permutation
from kedge.training.search import Found
from kedge.training.windows import WEIGHING_ROWS, Window, holdout_rows, last_known, windows, within

LONG_WINDOW = 100_000
"""A window of so many rows, and of 15 times those after its judged fit, is weighed and served by that fit."""
CHOICE_ROWS = 2000
"""Newest rows before the holdout, at most (or four times the holdout), on which the estimator is chosen."""
AGREEMENT_SHARE = 0.5
"""Most that the two fits may differ by on the holdout, as a share of the outcomes' standard deviation."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Key = tuple[int, int, int, int, str, int, Signature]
Cache = MutableMapping[Key, Any]
"""Fits by first row and row after the last, the same of the rows that stopped them, estimator, seed and encoding. One
cache serves one policy and one table, which may grow at its end."""

Search = Callable[[Signature, Rows], Found]
"""See :func:`kedge.training.search.search`."""


class WindowFits:
    """Fits of the policy's estimators on windows of one table, each made once."""

    def __init__(
        self, policy: Policy, signature: Signature, rows: Rows, cache: Cache | None, first_row: int = 0
    ) -> None:
        self.policy, self.signature, self.rows, self._first_row = policy, signature, rows, first_row
        self._models: Cache = {} if cache is None else cache
        self._candidates: dict[tuple[str, int, int], FittedCandidate] = {}

    def learnable(self, start: int, end: int) -> bool:
        """Whether the older rows of a window, which a fit begins with, hold something to tell apart."""
        label = self.rows.label[start : start + split(end - start)]
        return len(label) > 0 and not absent_classes(self.policy, label)

    def candidate(self, name: str, start: int, end: int) -> FittedCandidate:
        """An estimator whose settings were found on the window."""
        key = (name, start, end)
        if key not in self._candidates:
            self._candidates[key] = attempt(name, self.policy, self.signature, self._window(start, end))
        return self._candidates[key]

    def model(self, name: str, start: int, end: int, stopped: tuple[int, int] | None = None) -> Any:
        """An estimator fitted on the window, with the settings found on it or on another one."""
        found_on, at = stopped or (start, end), self._first_row
        places = at + start, at + end, at + found_on[0], at + found_on[1]
        key = (*places, name, self.policy.train.seed, self.signature)
        if key not in self._models:
            candidate = self.candidate(name, *found_on)
            own = found_on == (start, end)
            self._models[key] = candidate.model if own else candidate.fit(self._window(start, end))
        return self._models[key]

    def models(self, name: str, asked: Sequence[tuple[int, int, tuple[int, int] | None]]) -> list[Any]:
        """Models of several windows, each as :meth:`model` takes it: short ones are made side by side."""
        chosen = named(name, packages.of(self.policy) if ":" in name else None)
        makers = [(short(chosen, each[1] - each[0]), partial(self.model, name, *each)) for each in asked]
        return side_by_side(makers, self.policy)

    def last(self, window: Window, judged: int, end: int) -> int:
        """Row before which a fit through row ``end`` ends: of a long window that before which the judged one does."""
        rows = judged - window.start(judged)
        long = self.policy.train.half_life_seconds is None and rows >= max(LONG_WINDOW, LONG_SHARE * (end - judged))
        return judged if long else end

    def score(self, model: Any, start: int, end: int) -> Floats:
        """Scores of the rows from ``start`` to ``end``."""
        return score(self.policy, model, self.signature, self.rows.matrix[start:end])

    def _window(self, start: int, end: int) -> Rows:
        return self.rows[start:end].weighted(self.policy.train.half_life_seconds)


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """What training made, before it is a bundle."""

    policy: Policy
    signature: Signature
    estimator: str
    """The chosen one."""
    choice: tuple[int, int]
    """First row, and the one after the last, of those on which the estimator was chosen."""
    holdout_start: int
    """First row that the judged fit is judged on."""
    judged_end: int
    """Row before which it ends: the label delay lies between."""
    change_point: datetime | None
    weights: dict[Window, float]
    """Of the members; they sum to 1."""
    fits: WindowFits
    """By the recipe that was found, where one was searched for."""
    unseen: pa.Table
    """The rows held out."""
    found: Found | None = None
    """What the search came to; None: the policy asks for none."""

    @cached_property
    def judged(self) -> Any:
        """The model of which every figure is: its members end the label delay before the holdout."""
        return self._merged(self.judged_end)

    @cached_property
    def final(self) -> Any:
        """The model that is served: the same members, windows and weights, fitted again through the newest row,
        but for windows so long that this would change nothing. Made when it is first asked for.
        """
        return self._merged(len(self.fits.rows))

    def score(self, model: Any, table: pa.Table) -> Floats:
        """Scores of a table's rows by one of the two models, shape (n,) or (n, classes): probabilities or values."""
        return score(self.policy, model, self.signature.model, self.signature.encode(table))

    @cached_property
    def selection(self) -> dict[str, float]:
        """Mean loss on the newest fifth of the rows on which the estimator was chosen, of each that was tried."""
        return {name: self.fits.candidate(name, *self.choice).loss for name in self.fits.policy.train.estimators}

    def alternative(self, name: str) -> Any:
        """An estimator fitted on the rows on which it was chosen, or not."""
        return self.fits.model(name, *self.choice)

    @cached_property
    def column_importance(self) -> dict[str, float]:
        """Share of each of the model's columns in the served fit, see :func:`kedge.training.estimators.importance`;
        where the estimator has no measure of its own, in what shuffled columns cost the judged fit."""
        own = importance(self.estimator, self.final, self.signature.model)
        return own if any(own.values()) else self._permuted_columns.shares

    @cached_property
    def importance(self) -> dict[str, float]:
        """Share of each feature: that of the column that it is or, where a team's code makes the columns of the
        features, that in :attr:`permutation`."""
        return self.column_importance if self.signature.model is self.signature else self.permutation.shares

    @cached_property
    def permutation(self) -> Permutation:
        """What each feature adds to the judged fit on the rows held out."""
        if self.signature.model is self.signature:
            return self._permuted_columns
        names, label = self.signature.names, self.fits.rows.label[self.holdout_start :]
        return permutation(
            self.policy, lambda rows: self.score(self.judged, rows), self.unseen.select(list(names)), names, label
        )

    @cached_property
    def _permuted_columns(self) -> Permutation:
        """The same of the model's columns."""
        rows, columns = self.fits.rows[self.holdout_start :], self.signature.model
        return permutation(
            self.policy,
            lambda matrix: score(self.policy, self.judged, columns, matrix),
            rows.matrix,
            columns.names,
            rows.label,
        )

    @property
    def windows(self) -> tuple[bundle.Window, ...]:
        """The members of the judged fit."""
        end = self.judged_end
        return tuple(
            bundle.Window(name=window.name, rows=end - window.start(end), weight=weight)
            for window, weight in self._members(end).items()
        )

    @property
    def agreement(self) -> Agreement:
        """How near both models are on the holdout, and how near they must be."""
        start, end = self.holdout_start, len(self.fits.rows)
        scores = [self.fits.score(model, start, end) for model in (self.judged, self.final)]
        bound = AGREEMENT_SHARE * spread(self.policy, self.fits.rows.label)
        return Agreement(difference=float(np.abs(scores[0] - scores[1]).mean()), bound=bound)

    def rows_read(self) -> Fits:
        """Which rows both models read, for the manifest. Makes both."""
        times = self.fits.rows.time
        return Fits(
            holdout=Holdout(start=_time(times[self.holdout_start]), rows=len(times) - self.holdout_start),
            windows=self.windows,
            change_point=self.change_point,
            agreement=self.agreement,
            trained_until=_time(times[-1]),
        )

    def _merged(self, end: int) -> Any:
        members, asked = self._members(end), []
        for window in members:
            last = self.fits.last(window, self.judged_end, end)
            asked.append((window.start(last), last, self._stopped(window)))
        return bundle.merge(self.fits.models(self.estimator, asked), list(members.values()), named(self.estimator))

    def _stopped(self, window: Window) -> tuple[int, int] | None:
        """The rows that stopped the judged fit's member: stopped anew, the served one would be surer, or less sure,
        than the one whose scores and calibration the checks compare with."""
        start, end = window.start(self.judged_end), self.judged_end
        return (start, end) if self.fits.learnable(start, end) else None

    def _members(self, end: int) -> dict[Window, float]:
        """The windows with their weights, of a fit that ends before row ``end``: none twice, none with one class."""
        by_start: dict[int, tuple[Window, float]] = {}
        for window, weight in self.weights.items():
            start = window.start(end)
            if self.fits.learnable(start, end):
                first, share = by_start.get(start, (window, 0.0))
                by_start[start] = (first, share + weight)
        total = sum(weight for _, weight in by_start.values())
        return {window: weight / total for window, weight in by_start.values()} or {Window(name="all"): 1.0}


def fit_challenger(
    policy: Policy,
    table: pa.Table,
    *,
    change_point: datetime | None = None,
    champion_until: datetime | None = None,
    cache: Cache | None = None,
    first_row: int = 0,
    source: str = "rows",
    search: Search | None = None,
) -> Challenger:
    """Fit the policy's recipe on several windows of rows in time order, and weigh them by the newest rows.

    The estimator is chosen once, on rows before the holdout: each is fitted on older ones, and the newest fifth says
    when to stop and which loses less. Every member is that estimator, stopped by the newest fifth of its own window, at
    most 20,000 rows, and fitted again on all of it unless these are at most a fifteenth; the served fit keeps the
    judged one's number of trees. Members are weighed by fits that end before the newest m rows (the holdout, but at
    most 500): v_k = exp(-0.05 (L_k - min L)) / sum, L_k the total log loss in nats on these rows, in a regression the
    sum of losses over the smallest mean of them, of squares and deviances over twice that. The model is the weighted
    sum of the members' log-odds (of their values): aggregation by exponential weights, V. Vovk (1990), at a rate below
    1 because rows near in time are no independent evidence.

    The holdout has :func:`holdout_rows` rows, but at most half of those that the members learn from, by their weights:
    where only the newest rows are worth learning from, a large holdout would swallow them. It keeps
    ``gates.min_class_rows`` of each class. Nothing but the weights reads it, and rows that were not due when its first
    one was predicted only the served fit, see :func:`last_known`.

    Args:
        policy: Model, ``train``, and the gates whose power sets the size of the holdout.
        table: Features, target and ``_time``, in time order.
        change_point: Since when the relation is another one, with offset; None: not known.
        champion_until: Time of the newest row the champion was trained on; None: no champion.
        cache: Fits of earlier calls with this policy, on this table when it was shorter.
        first_row: Which row of the cache's table this one begins with.
        source: Begins error messages.
        search: Names the recipe to fit, by the rows before the holdout; None: the policy's own.

    Returns:
        The challenger; its two models are made when they are first asked for.

    Raises:
        DataError: a class is missing, or features that cannot be read.
    """
    label = outcomes(table, policy.model.target)
    time = table.column("_time").cast(pa.int64()).to_numpy()
    change = None if change_point is None else int(np.searchsorted(time, _microseconds(change_point), "left"))
    unseen = None
    if champion_until is not None:
        unseen = len(label) - int(np.searchsorted(time, _microseconds(champion_until), "right"))
    since_change = None if change is None else len(label) - change
    held_out = holdout_rows(len(label), policy, since_change=since_change, since_champion=unseen)
    delay = round((policy.labels.due_seconds or 0.0) * 1e6)
    first = len(label) - held_out
    known = last_known(first, time, delay, change)  # no choice of settings reads from here on
    signature, matrix = transform.encoded(policy, table, packages.of(policy), known)
    learned = isinstance(signature, TransformedSignature) and signature.transform.fitted is not None
    rows = Rows(matrix, label, time)
    fits = WindowFits(policy, signature.model, rows, None if learned else cache, first_row)
    if not fits.learnable(0, known):
        raise DataError(_lacking(policy, label[: split(known)], source))
    found = search(signature.model, rows[:known]) if search is not None else None
    if found is not None:
        fits = WindowFits(found.applied(policy, rows[:known]), signature.model, rows, None)
    choice = (_choice_start(fits, known), known)
    names = fits.policy.train.estimators
    chosen = names[0]
    if len(names) > 1:  # the first of the policy's list where two agree
        chosen = min(names, key=lambda name: fits.candidate(name, *choice).rank)
    end = len(label) - min(held_out, WEIGHING_ROWS)
    before = last_known(end, time, delay, change)
    longest = found.window if found is not None else 1.0
    weights = _weighed(fits, chosen, known, before, end, change, longest)
    reach = sum(weight * (len(label) - window.start(len(label))) for window, weight in weights.items())
    start = min(end, max(first, len(label) - max(int(reach / 2), _rows_of_each_class(policy, label))))
    return Challenger(
        policy=policy,
        signature=signature,
        estimator=chosen,
        choice=choice,
        holdout_start=start,
        judged_end=last_known(start, time, delay, change),
        change_point=change_point,
        weights=weights,
        fits=fits,
        unseen=table.slice(start),
        found=found,
    )


def spread(policy: Policy, label: Floats) -> float:
    """Standard deviation of outcomes; of several classes the mean of those of each."""
    if policy.model.task != "multiclass":
        return float(label.std())
    return float(np.mean([(label == place).std() for place in range(len(policy.model.classes))]))


def _choice_start(fits: WindowFits, end: int) -> int:
    """First row of the longest window before ``end`` that is not too long to choose on, else of the shortest."""
    starts = [start for window in windows(end) if fits.learnable(start := window.start(end), end)]
    longest = max(CHOICE_ROWS, 4 * (len(fits.rows) - end))
    return min((start for start in starts if end - start <= longest), default=starts[0])


def _weighed(
    fits: WindowFits, estimator: str, judged: int, end: int, newest: int, change: int | None, longest: float
) -> dict[Window, float]:
    """The windows before row ``end``, of at most a share of these rows, with the weights that the rows from ``newest``
    on give them. Long ones are fitted on rows before row ``judged``."""
    members = {}
    for window in within(windows(end, change), end, longest):
        last = fits.last(window, judged, end)
        if fits.learnable(window.start(last), last):
            members[window] = (window.start(last), last, None)
    models = fits.models(estimator, [*members.values()])
    shares = weighed(fits.policy, models, fits.signature, fits.rows[newest:])
    return {window: float(share) for window, share in zip(members, shares, strict=True) if share > 0}


def _rows_of_each_class(policy: Policy, label: Floats) -> int:
    """How many of the newest rows hold as many of each class as the gates ask for; all where there are not so many."""
    names = policy.model.class_names
    if not names:
        return 0
    newest = [np.flatnonzero(label[::-1] == value) for value in range(len(names))]
    least = policy.gates.min_class_rows
    return max(int(places[least - 1]) + 1 if len(places) >= least else len(label) for places in newest)


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))


def _lacking(policy: Policy, label: Floats, source: str) -> str:
    if policy.model.task == "multiclass":
        return (
            f"{source}: none of the {len(label):,} oldest rows of {policy.model.target!r} is of class "
            f"{', '.join(map(repr, absent_classes(policy, label)))}: wait for rows of it, or leave it out of "
            "model.classes"
        )
    only = "positive" if label[0] else "negative"
    return (
        f"{source}: one class only: all of the {len(label):,} oldest rows of {policy.model.target!r} are {only} "
        f"(model.positive_label is {policy.model.positive_label!r}); nothing can be learned from them"
    )
