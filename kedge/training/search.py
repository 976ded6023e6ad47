"""A recipe that learns these rows better than the policy's own: estimator, parameters, memory.

Trials are measured on folds in time order: fitted on windows of older rows whose outcomes were due by then, which are
averaged as a run averages them, and scored on newer ones.
The policy's own recipe is tried first, and stays unless another one is shown to be better. Rows that are held out for
the gates are never read. What was tried is kept in the store after each trial, so that a search whose process was
killed goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kedge import bundle
from kedge.bundle import Signature
from kedge.bundle.estimators import named
from kedge.extras import needed_by
from kedge.measure import Floats
from kedge.policy import Policy
from kedge.store import Store
from kedge.training.estimators import Rows, absent_classes, attempt, rank, score, short, side_by_side, split, weighed
from kedge.training.windows import WEIGHING_ROWS, windows, within

if TYPE_CHECKING:
    from optuna import Study, Trial

PARTS = 5
"""Parts of each fold, in time order, whose means say how sure a difference is."""
FOLDED_SHARE = 0.5
"""Newest share of the rows that the folds are."""
MIN_ROWS = 50
"""Fewer rows to learn from, or in a part to be scored on, make no fold."""
WINDOWS = (1.0, 0.5, 0.25, 0.125)
"""Shares of the rows that the longest window may have."""
HALF_LIVES = (0.0, 0.5, 0.25, 0.125, 0.0625)
"""Half-lives as shares of the time that the rows span; 0: all rows weigh the same."""
LEVEL = 0.1
"""Chance to take a recipe that is no better, over all that were tried: the best of several looks better by luck."""

Range = tuple[float, float, str]
"""Lowest and highest value; ``log`` in equal ratios, ``whole`` for whole numbers, ``whole log`` for both."""
SPACES: Mapping[str, Mapping[str, Range]] = {
    "xgboost": {
        "learning_rate": (0.02, 0.3, "log"),
        "depth": (3, 10, "whole"),
        "min_child_weight": (1, 100, "log"),
        "subsample": (0.5, 1, ""),
        "colsample_bytree": (0.4, 1, ""),
        "lambda": (0.1, 30, "log"),
    },
    "lightgbm": {
        "learning_rate": (0.02, 0.3, "log"),
        "num_leaves": (8, 128, "whole log"),
        "min_child_samples": (5, 200, "whole log"),
        "colsample_bytree": (0.4, 1, ""),
        "reg_lambda": (0.001, 30, "log"),
    },
    "catboost": {"learning_rate": (0.02, 0.3, "log"), "depth": (4, 8, "whole"), "l2_leaf_reg": (1, 30, "log")},
    "forest": {"min_samples_leaf": (1, 50, "whole log"), "max_features": (0.2, 1, "")},
    "histogram": {
        "learning_rate": (0.02, 0.3, "log"),
        "max_leaf_nodes": (8, 128, "whole log"),
        "min_samples_leaf": (5, 200, "whole log"),
        "l2_regularization": (0.001, 30, "log"),
    },
    "linear": {"C": (0.001, 100, "log"), "alpha": (0.001, 1000, "log")},
}
"""What is tried of each estimator; what it does not take, and what the policy gives, is left as it is. Of a team's own
estimators only the memory is searched."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to fit."""

    estimator: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Beside those of the policy."""
    window: float = 1.0
    """Share of the rows that the longest window has."""
    half_life: float = 0.0
    """As a share of the time that the rows span; 0: the policy's."""

    def applied(self, policy: Policy, span: float) -> Policy:
        """The policy with this recipe for its own, ``span`` being the seconds from the first row to the last."""
        given = policy.train.parameters.get(self.estimator, {})
        update: dict[str, Any] = {
            "estimators": (self.estimator,),
            "parameters": {self.estimator: {**self.parameters, **given}},
        }
        if self.half_life:
            update["half_life_seconds"] = self.half_life * span
        return policy.model_copy(update={"train": policy.train.model_copy(update=update)})

    def __str__(self) -> str:
        parts = [f"{name} {value:.3g}" for name, value in self.parameters.items()]
        parts += [f"newest {self.window:.0%}"] if self.window < 1 else []
        parts += [f"half-life {self.half_life:.3g} of the time"] if self.half_life else []
        return f"{self.estimator} ({', '.join(parts) or 'as the policy says'})"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial."""

    recipe: Recipe
    own: bool
    """Whether it is the policy's own recipe."""
    loss: float | None
    """Mean over the folds; None: it was given up, as it did worse than most."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    recipe: Recipe | None
    """None: the policy's own stays."""
    why: str
    """In words, with the gain on the folds."""
    trials: tuple[Tried, ...]
    figures: Mapping[str, float]
    """``search_trials`` and, once two recipes were measured, ``search_loss``, ``search_own_loss``, ``search_gain`` and
    ``search_gain_error``."""

    @property
    def window(self) -> float:
        """Share of the rows that the longest window may have."""
        return self.recipe.window if self.recipe is not None else 1.0

    def applied(self, policy: Policy, rows: Rows) -> Policy:
        """The policy whose recipe is fitted."""
        return policy if self.recipe is None else self.recipe.applied(policy, _span(rows))


@dataclass(frozen=True, kw_only=True)
class Journal:
    """Where the trials of one search are kept: a file of Optuna's, in the store."""

    store: Store
    key: str

    @classmethod
    def of(cls, store: Store, policy: Policy, fingerprint: str) -> Journal:
        """That of a search on a snapshot: another policy of model, training or metrics, or other rows, is another."""
        asked = policy.to_dict()
        sections = {name: asked.get(name) for name in ("model", "train", "labels", "metrics", "gates")}
        text = json.dumps([sections, fingerprint], sort_keys=True)
        return cls(store=store, key=f"searches/{policy.name}/{hashlib.sha256(text.encode()).hexdigest()[:40]}.journal")

    def fetch(self, file: Path) -> None:
        """What was tried before, if anything."""
        with suppress(KeyError):
            file.write_bytes(self.store.get(self.key))

    def keep(self, file: Path) -> None:
        """What was tried by now."""
        self.store.put(self.key, file.read_bytes())


def search(policy: Policy, signature: Signature, rows: Rows, journal: Journal | None = None) -> Found:
    """Try recipes within the policy's trials and seconds, and name the best if it is better than the policy's own.

    The mean loss (or the primary metric) over the parts of all folds decides. The gain is the mean difference to the
    policy's own recipe on the same parts, tested at ``LEVEL`` over all recipes that were tried.

    Args:
        policy: With ``train.search``.
        signature: Of the rows.
        rows: Those before the holdout, in time order.
        journal: Where trials are kept; None: nowhere.

    Raises:
        UsageError: Optuna is not installed, or an estimator cannot do what the policy asks.
    """
    asked = policy.train.search
    assert asked is not None
    step = -(-len(rows) // asked.max_rows)
    sample = Rows(rows.matrix[::step], rows.label[::step], rows.time[::step])
    folds = list(_folds(policy, sample, asked.folds))
    sampled = f"{len(sample):,} of {len(rows):,} rows" + (f", one in {step}" if step > 1 else "")
    if not folds:
        return Found(
            recipe=None, why=f"no search: {sampled} make no fold with both classes to learn from", trials=(), figures={}
        )
    with tempfile.TemporaryDirectory(prefix="kedge-search-") as folder:
        file = Path(folder) / "trials.journal"
        if journal is not None:
            journal.fetch(file)
        study = _study(file, policy.train.seed)
        _finish_killed(study)
        for work in _work(policy, signature, sample, folds, study):
            work()
            if journal is not None:
                journal.keep(file)
        return _found(policy, study, f"{len(folds)} folds of {sampled}")


def _study(file: Path, seed: int) -> Study:
    with needed_by("train.search", "search"):
        import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )


def _finish_killed(study: Study) -> None:
    """A trial that another process had begun will never end."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _work(policy: Policy, signature: Signature, rows: Rows, folds: Sequence[Fold], study: Study) -> Iterator[Any]:
    """What is left to do, one trial at a time, until trials or seconds are used up."""
    import optuna
    from optuna.trial import TrialState, create_trial

    asked = policy.train.search
    assert asked is not None

    def finished() -> list[Any]:
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def spent() -> float:
        return float(sum(each.user_attrs.get("seconds", 0.0) for each in finished()))

    def own(name: str) -> None:
        began = time.monotonic()
        parts = [_measured(policy, Recipe(estimator=name), signature, rows, fold) for fold in folds]
        means, values = _means(parts), np.concatenate(parts)
        study.add_trial(
            create_trial(
                value=means[-1] if np.isfinite(means[-1]) else None,
                state=_state(means[-1]),
                user_attrs={"own": name, "parts": values.tolist(), "seconds": time.monotonic() - began},
                intermediate_values={number: mean for number, mean in enumerate(means) if np.isfinite(mean)},
            )
        )

    def one() -> None:
        study.sampler = optuna.samplers.TPESampler(seed=policy.train.seed + len(finished()), n_startup_trials=5)
        trial = study.ask()
        began, left = time.monotonic(), asked.seconds - spent()
        recipe, parts = _suggested(policy, trial), []
        value = float("nan")
        for number, fold in enumerate(folds):
            parts.append(_measured(policy, recipe, signature, rows, fold))
            value = _means(parts)[-1]
            trial.report(value, number)
            late = time.monotonic() - began > left
            if number + 1 < len(folds) and (late or trial.should_prune()):
                value = float("nan")
                break
        trial.set_user_attr("parts", np.concatenate(parts).tolist())
        trial.set_user_attr("seconds", time.monotonic() - began)
        study.tell(trial, value if np.isfinite(value) else None, state=_state(value))

    known = {each.user_attrs.get("own") for each in finished()}
    for name in policy.train.estimators:
        if name not in known:
            yield lambda name=name: own(name)
    while len(finished()) < asked.trials and spent() < asked.seconds:
        yield one


def _state(value: float) -> Any:
    """How a trial ended: complete, or pruned without a value, as it was given up or the metric is defined nowhere."""
    from optuna.trial import TrialState

    return TrialState.COMPLETE if np.isfinite(value) else TrialState.PRUNED


def _parameters(policy: Policy, trial: Trial, name: str) -> dict[str, float]:
    """Of an estimator those that the policy leaves open."""
    given, taken = policy.train.parameters.get(name, {}), named(name).parameters(policy.model.task)
    parameters: dict[str, float] = {}
    for parameter, (low, high, kind) in SPACES[name].items():
        if parameter in given or parameter not in taken:
            continue
        key, log = f"{name}.{parameter}", kind.endswith("log")
        if kind.startswith("whole"):
            parameters[parameter] = trial.suggest_int(key, int(low), int(high), log=log)
        else:
            parameters[parameter] = trial.suggest_float(key, low, high, log=log)
    return parameters


def _suggested(policy: Policy, trial: Trial) -> Recipe:
    names = policy.train.estimators
    name = str(trial.suggest_categorical("estimator", names)) if len(names) > 1 else names[0]
    parameters = _parameters(policy, trial, name) if name in SPACES else {}  # a team's own has no space
    half_life = 0.0
    if policy.train.half_life_seconds is None:
        half_life = float(trial.suggest_categorical("half_life", HALF_LIVES))
    window = float(trial.suggest_categorical("window", WINDOWS))
    return Recipe(estimator=name, parameters=parameters, window=window, half_life=half_life)


@dataclass(frozen=True)
class Fold:
    """Rows before ``end`` to learn from, and those from ``start`` to ``stop`` to be scored on."""

    end: int
    start: int
    stop: int


def _folds(policy: Policy, rows: Rows, count: int) -> Iterator[Fold]:
    """The newest first. Between a fold and what is learned from lie the rows whose outcomes were not due yet."""
    first = int(len(rows) * (1 - FOLDED_SHARE))
    edges = np.linspace(first, len(rows), count + 1).astype(int)
    gap = round((policy.labels.due_seconds or 0.0) * 1e6)
    for start, stop in reversed(list(pairwise(edges))):
        end = int(np.searchsorted(rows.time, rows.time[min(start, len(rows) - 1)] - gap, "left")) if gap else int(start)
        label = rows.label[: split(end)] if end > 1 else rows.label[:0]
        varied = len(label) > 0 and not absent_classes(policy, label)
        if end >= MIN_ROWS and stop - start >= PARTS and varied:
            yield Fold(end, int(start), int(stop))


def _measured(policy: Policy, recipe: Recipe, signature: Signature, rows: Rows, fold: Fold) -> Floats:
    """Of each part of a fold the mean loss, or what the primary metric says, the lower the better; NaN: undefined."""
    model = _averaged(recipe.applied(policy, _span(rows)), recipe, signature, rows[: fold.end])
    newer = rows[fold.start : fold.stop]
    scores = score(policy, model, signature, newer.matrix)
    parts = np.array_split(np.arange(len(newer)), PARTS)
    return np.array([rank(policy, newer.label[part], scores[part]) for part in parts])


def _averaged(policy: Policy, recipe: Recipe, signature: Signature, rows: Rows) -> Any:
    """The recipe as a run fits it: on windows, which the newest rows weigh."""
    newest = len(rows) - min(WEIGHING_ROWS, len(rows) // 5)
    learned = [rows[window.start(newest) : newest] for window in within(windows(newest), newest, recipe.window)]
    varied = [each for each in learned if not absent_classes(policy, each.label[: split(len(each))])]
    weighted = [each.weighted(policy.train.half_life_seconds) for each in varied or [rows]]
    tried = [attempt(recipe.estimator, policy, signature, each) for each in weighted]
    makers = [(short(each.estimator, len(each.rows)), lambda each=each: each.model) for each in tried]
    models = side_by_side(makers, policy)
    weights = weighed(policy, models, signature, rows[newest:])
    kept = np.flatnonzero(weights)
    return bundle.merge([models[place] for place in kept], weights[kept].tolist(), named(recipe.estimator))


def _means(parts: Sequence[Floats]) -> list[float]:
    """After each fold the mean over all parts by then; NaN where the metric is defined on none."""
    known = [
        values[np.isfinite(values)] for count in range(len(parts)) for values in [np.concatenate(parts[: count + 1])]
    ]
    return [float(values.mean()) if len(values) else float("nan") for values in known]


def _found(policy: Policy, study: Study, where: str) -> Found:
    """The verdict on all trials."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED)
    known = study.get_trials(deepcopy=False, states=states)
    trials = tuple(
        Tried(
            recipe=Recipe(estimator=own) if (own := each.user_attrs.get("own")) else _recipe(policy, each.params),
            own=own is not None,
            loss=each.value if each.state == TrialState.COMPLETE else None,
        )
        for each in known
    )
    complete = [(tried.loss, tried, each) for tried, each in zip(trials, known, strict=True) if tried.loss is not None]
    figures: dict[str, float] = {"search_trials": float(len(trials))}
    ours = min((each for each in complete if each[1].own), key=lambda each: each[0], default=None)
    best = min((each for each in complete if not each[1].own), key=lambda each: each[0], default=None)
    if ours is None or best is None:
        parts = [part for each in known for part in each.user_attrs["parts"]]
        undefined = policy.primary is not None and not np.isfinite(parts).any()
        told = f"within its budget ({len(trials)} trials)"
        told += ": the primary metric is defined on no part of the folds" if undefined else ""
        why = f"search: nothing was measured {told}; the policy's own recipe stays"
        return Found(recipe=None, why=why, trials=trials, figures=figures)
    loss, tried, _ = best
    gain, error, degrees = _gain(*(np.array(each[2].user_attrs["parts"]) for each in (ours, best)))
    figures |= {
        "search_loss": loss,
        "search_own_loss": ours[0],
        "search_gain": gain,
        "search_gain_error": error,
    }
    told = f"{len(trials)} trials on {where}: {loss:.4g} against {ours[0]:.4g} of the policy's own recipe"
    if gain > _needed(degrees, sum(not each.own for each in trials)) * error:
        why = f"search: {tried.recipe} gains {gain:.3g} (standard error {error:.2g}); {told}"
        return Found(recipe=tried.recipe, why=why, trials=trials, figures=figures)
    why = f"search: no recipe is shown to be better; the policy's own stays; {told}, standard error {error:.2g}"
    return Found(recipe=None, why=why, trials=trials, figures=figures)


def _gain(ours: Floats, best: Floats) -> tuple[float, float, int]:
    """Mean difference over all parts, its standard error and degrees of freedom.

    Folds differ from each other, as after a change; how sure the mean over just these folds is, the scatter of the
    parts within each of them says.

    >>> gain, error, degrees = _gain(np.array([1.0, 1.2, 1.1, 1.0, 1.2] * 2), np.array([0.0] * 5 + [1.0] * 5))
    >>> round(gain, 2), round(error, 3), degrees
    (0.6, 0.032, 8)
    """
    differences = (ours - best).reshape(-1, PARTS)
    known = np.isfinite(differences)
    counts = known.sum(axis=1)
    differences, known, counts = differences[counts > 1], known[counts > 1], counts[counts > 1]
    if not len(counts):
        return 0.0, float("inf"), 1
    means = np.nanmean(np.where(known, differences, np.nan), axis=1)
    variances = np.nanvar(np.where(known, differences, np.nan), axis=1, ddof=1)
    error = float(np.sqrt((variances / counts).sum())) / len(counts)
    return float(means.mean()), error, int((counts - 1).sum())


def _needed(degrees: int, recipes: int) -> float:
    """Standard errors that the gain of the best of so many recipes must exceed: Student's t, by Bonferroni's bound.

    >>> round(_needed(12, 19), 2), round(_needed(12, 1), 2)
    (3.03, 1.36)
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - LEVEL / recipes))


def _recipe(policy: Policy, params: Mapping[str, Any]) -> Recipe:
    """What a finished trial had tried."""
    name = str(params.get("estimator", policy.train.estimators[0]))
    own = {key.removeprefix(f"{name}."): value for key, value in params.items() if key.startswith(f"{name}.")}
    return Recipe(
        estimator=name, parameters=own, window=params.get("window", 1.0), half_life=params.get("half_life", 0.0)
    )


def _span(rows: Rows) -> float:
    """Seconds from the first row to the last."""
    return float(rows.time[-1] - rows.time[0]) / 1e6 or 1.0
