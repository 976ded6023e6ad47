"""Section `metrics`: what a model is measured by besides its loss, and within which limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from kedge.policy.section import PATH, Section

BINARY = (
    "log_loss", "brier", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted", "auc",
    "pr_auc", "recall_at_precision", "mcc", "cost",
)  # fmt: skip
MULTICLASS = (
    "log_loss", "brier", "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_weighted",
    "auc_macro", "mcc", "cost",
)  # fmt: skip
REGRESSION = ("mse", "rmse", "mae", "mape", "r2", "pinball", "poisson_deviance")
OF_TASK = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}
KNOWN = tuple(dict.fromkeys((*BINARY, *MULTICLASS, *REGRESSION)))
SHARES = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted", "auc", "pr_auc",
    "recall_at_precision", "precision_macro", "recall_macro", "auc_macro", "brier",
)  # fmt: skip
"""Those between 0 and 1."""
RANGES = {**dict.fromkeys(SHARES, (0.0, 1.0)), "mcc": (-1.0, 1.0), "r2": (float("-inf"), 1.0)}
"""Between which those lie that are at most 1; the others are not below 0."""
WITH_AT = ("recall_at_precision", "pinball")


class Metric(Section):
    """One metric of the model, on decisions at the policy's threshold or on scores."""

    name: str
    """One of the registry, such as `f1`, `auc` or `mae`, or the import path of a function of labels and scores."""
    at: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of `recall_at_precision` the precision, of `pinball` the quantile."""
    min: float | None = None
    """A challenger with less is refused; null: no limit."""
    max: float | None = None
    """A challenger with more is refused; null: no limit."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """A challenger that is shown to be worse than the champion by more than this is refused; null: no limit."""
    primary: bool = False
    """Whether a challenger must be better by this metric, in the place of the loss."""

    @property
    def label(self) -> str:
        """What reports and records call it."""
        own = self.name.rpartition(":")[2]
        return f"{own}_{self.at:g}" if self.name in WITH_AT else own

    @model_validator(mode="after")
    def _consistent(self) -> Metric:
        if self.name not in KNOWN and not PATH.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} is no metric; there are {', '.join(KNOWN)}, and import paths")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self
