"""Section `train`: how a challenger is made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kedge.policy.section import Section


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


class Train(Section):
    """How a challenger is made."""

    estimators: tuple[Literal["xgboost", "linear"], ...] = ("xgboost", "linear")
    """Tried in turn; the best on the newest training rows is the challenger. `linear` is the simple baseline."""
    xgboost: XGBoost = XGBoost()
    """Settings of the gradient-boosted trees."""
    half_life_seconds: Annotated[float, Field(gt=0)] | None = None
    """A row this much older than the newest one weighs half as much in training; null: all weigh the same."""
    holdout_share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Most of the rows, the newest ones, that are held out for the gates; a run takes as many as their power needs."""
    min_rows: Annotated[int, Field(ge=50)] = 500
    """Fewest rows a run may train on."""
    seed: int = 0
    """Makes a run repeatable."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the training step; null: as many as its container may use."""

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if not self.estimators or len(set(self.estimators)) != len(self.estimators):
            raise ValueError("estimators must be at least one, each once")
        return self
