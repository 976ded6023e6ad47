"""Outcomes as the log holds them."""

from __future__ import annotations

from typing import Any

from kedge.body import shown
from kedge.errors import DataError, some
from kedge.policy import Policy

MAX_NAMED = 10
"""Classes named in a message."""


def outcome_of(policy: Policy, label: Any) -> float:
    """The outcome as the log holds it: 1.0 if it is the positive label and 0.0 if not, of several classes the place, of
    a regression the number.

    Raises:
        DataError: null, not a plain value, of another type than the policy's positive label; neither it nor the
            negative label or, where the policy has none, almost spelt like the positive one.
    """
    model = policy.model
    if model.task == "regression":
        if type(label) not in (int, float):
            raise DataError(f"model {policy.name}: label must be a number, got {shown(label)}")
        if model.loss == "poisson" and label < 0:
            raise DataError(
                f"model {policy.name}: label must be a count, 0 or more (model.loss is poisson), got {shown(label)}",
            )
        return float(label)
    if model.classes:
        return _place(policy, label)
    if not _same_kind(label, model.positive_label):
        raise DataError(
            f"model {policy.name}: label must be of the kind of the positive label {model.positive_label!r}, "
            f"got {shown(label)}",
        )
    if model.negative_label is not None:
        if label in (model.positive_label, model.negative_label):
            return float(label == model.positive_label)
        raise DataError(
            f"model {policy.name}: label {shown(label)} is neither the positive label {model.positive_label!r} nor the "
            f"negative label {model.negative_label!r}",
        )
    if label != model.positive_label and str(label).strip().casefold() == str(model.positive_label).casefold():
        raise DataError(
            f"model {policy.name}: label {shown(label)} would count as negative; the positive label is spelt "
            f"{model.positive_label!r}",
        )
    return float(label == model.positive_label)


def _place(policy: Policy, label: Any) -> float:
    """The place of a class; whole numbers may come as floats."""
    classes = policy.model.classes
    if isinstance(label, str) == isinstance(classes[0], str) and type(label) in (str, int, float) and label in classes:
        return float(classes.index(label))  # 1.0 is the class 1
    names = some(map(repr, classes), MAX_NAMED)
    raise DataError(
        f"model {policy.name}: label {shown(label)} is none of the classes {names}; a new class goes to the end of "
        "model.classes",
    )


def _same_kind(label: Any, positive: str | int | bool) -> bool:
    """Whether the label is of the positive one's kind; true and false may stand for 1 and 0 and the other way round."""
    if isinstance(positive, str):
        return type(label) is str
    if type(label) in (int, float, bool):
        return bool(label in (0, 1)) if isinstance(positive, bool) else bool(label == label)
    return False
