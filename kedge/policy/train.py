"""Section `train`: how a challenger is made."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kedge.policy.section import PATH, Section, Span

ESTIMATORS = ("xgboost", "lightgbm", "catboost", "forest", "histogram", "linear")
"""Each is a file of this name in ``kedge/bundle/estimators``."""


Parameter = bool | int | float | str | list[Any] | dict[str, Any] | None


class XGBoost(Section):
    """Settings of the gradient-boosted trees."""

    trees: Annotated[int, Field(ge=1, le=5000)] = 200
    """Most trees grown; early stopping on the newest training rows may keep fewer."""
    depth: Annotated[int, Field(ge=1, le=12)] = 6
    """Deepest tree."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Weight of each new tree."""
    early_stopping_rounds: Annotated[int, Field(ge=1)] = 20
    """Stop when so many trees brought nothing on rows not trained on."""


class Search(Section):
    """Recipes that are tried on folds in time order before the challenger is fitted."""

    trials: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Recipes to measure, the policy's own for each estimator among them."""
    seconds: Span = 900
    """After this time no further recipe is begun, over all attempts of a run together; `threads` says on how many
    cores."""
    folds: Annotated[int, Field(ge=2, le=10)] = 3
    """Folds, which are the newer half of the rows before the holdout: each is scored by what older rows teach whose
    outcomes were due by then."""
    max_rows: Annotated[int, Field(ge=500)] = 100_000
    """Of more rows each k-th is taken, over all their time."""


class Train(Section):
    """How a challenger is made."""

    estimators: tuple[str, ...] = ("xgboost", "linear")
    """Tried in turn; the best on the newest training rows is the challenger. `xgboost`, `lightgbm`, `catboost`,
    `forest` (random), `histogram` (scikit-learn's boosting), `linear` (the simple baseline), or the import path of an
    estimator with scikit-learn's interface, such as `sklearn.ensemble:ExtraTreesClassifier`."""
    parameters: dict[str, dict[str, Parameter]] = Field({})
    """By estimator parameters under the library's own names, such as `{lightgbm: {num_leaves: 63}}`."""
    xgboost: XGBoost = XGBoost()
    """Settings of XGBoost's trees; `parameters.xgboost` comes before them."""
    class_weight: Literal["balanced"] | None = None
    """`balanced`: all classes weigh the same in a fit. Scores are then no probabilities of the world as it
    is; null: each row counts as it comes."""
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field({})
    """Features of which the score must never fall, or rise, as they grow."""
    half_life_seconds: Span | None = None
    """A row this much older than the newest one weighs half as much in training; null: all weigh the same."""
    search: Search | None = None
    """Search for a recipe that learns these rows better: estimator, parameters, longest window, half-life. Null: the
    policy's own is fitted."""
    holdout_share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Most of the rows, the newest ones, that are held out for the gates; a run takes as many as their power needs."""
    min_rows: Annotated[int, Field(ge=50)] = 500
    """Fewest rows a run may train on."""
    seed: int = 0
    """Makes a run repeatable."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the training step; null: as many as its container may use."""

    def settings_of(self, estimator: str) -> dict[str, Any]:
        """What the policy sets of one estimator, under the library's names."""
        base = self.xgboost.model_dump() if estimator == "xgboost" else {}
        return {**base, **self.parameters.get(estimator, {})}

    @field_validator("parameters", mode="before")
    @classmethod
    def _of_text(cls, parameters: Any) -> Any:
        """Parameters as :meth:`Policy.to_dict` writes them."""
        if not isinstance(parameters, str):
            return parameters
        try:
            return json.loads(parameters)
        except ValueError:
            raise ValueError("must be a mapping of estimators to their parameters") from None

    @field_validator("estimators")
    @classmethod
    def _known(cls, estimators: tuple[str, ...]) -> tuple[str, ...]:
        for name in estimators:
            if name not in ESTIMATORS and not PATH.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no estimator; there are {', '.join(ESTIMATORS)}, and import paths such as "
                    "sklearn.ensemble:ExtraTreesClassifier"
                )
        return estimators

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        for name in self.parameters:
            if name not in self.estimators:
                raise ValueError(f"parameters: {name!r} is not among estimators: {', '.join(self.estimators)}")
        if not self.estimators or len(set(self.estimators)) != len(self.estimators):
            raise ValueError("estimators must be at least one, each once")
        return self
