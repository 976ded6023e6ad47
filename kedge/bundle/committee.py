"""Several fitted models as one: their raw scores (log-odds, or values) added up with weights.

A weighted mean of log-odds keeps the models' own form: trees beside trees are one model of more trees, linear terms
added up are linear terms. So what is served costs one call and explains itself like a single model. What has no
log-odds, such as a forest that may say 0 or 1, has its probabilities averaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import add, mul
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.predictor import softmax
from kedge.errors import BundleError

if TYPE_CHECKING:
    from xgboost import Booster

LINKS = {
    "binary:logistic": "5E-1", "count:poisson": "1E0", "multi:softprob": "0E0",
    "reg:squarederror": "0E0", "reg:absoluteerror": "0E0", "reg:quantileerror": "0E0",
}  # fmt: skip
"""By objective the base score whose margin is zero."""


@dataclass(frozen=True)
class Committee:
    """Fitted scikit-learn models whose raw scores are added up; asked like one of them."""

    members: Sequence[Any]
    weights: Sequence[float]
    probabilities: bool = False
    """Whether the members' probabilities are averaged in the place of their log-odds."""

    def decision_function(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """The weighted sum of the log-odds, shape (n,), of several classes (n, classes)."""
        return self._sum([member.decision_function(matrix) for member in self.members])

    def predict_proba(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n, classes)."""
        from scipy.special import expit

        if self.probabilities:
            chances = self._sum([member.predict_proba(matrix) for member in self.members])
            if chances.shape[1] > 2:
                return chances
            positive = chances[:, 1]
        else:
            raw = self.decision_function(matrix)
            if raw.ndim > 1:
                return softmax(raw)
            positive = expit(raw)
        return np.column_stack([1 - positive, positive])

    def predict(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """The weighted sum of the values (regression), shape (n,)."""
        return self._sum([member.predict(matrix) for member in self.members])

    def _sum(self, parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(np.average(parts, axis=0, weights=self.weights) * sum(self.weights), dtype=np.float64)


def merged_booster(members: Sequence[Booster], weights: Sequence[float]) -> Booster:
    """All trees in one booster: leaves scaled by the weights, what was scaled of the base scores in the first tree.

    The base score is a probability in 32 bits, which near 1 is too coarse for a sum of log-odds; a leaf is not.

    Raises:
        BundleError: boosters that cannot be added up, such as of several objectives.
    """
    import xgboost

    forms = [json.loads(member.save_raw("json")) for member in members]  # XGBoost's documented form
    learners = [form["learner"] for form in forms]
    first = learners[0]
    objective = first["objective"]["name"]
    alike = {
        (one["objective"]["name"], one["gradient_booster"]["name"], *one["feature_names"], *one["feature_types"])
        for one in learners
    }
    if objective not in LINKS or len(alike) > 1 or first["gradient_booster"]["name"] != "gbtree":
        raise BundleError(f"boosters of {', '.join(sorted({one[0] for one in alike}))} cannot be added up")
    trees: list[dict[str, Any]] = []
    classes = max(int(first["learner_model_param"]["num_class"]), 1)
    bases = np.zeros(classes)
    for learner, weight in zip(learners, weights, strict=True):
        bases += weight * _margins(objective, learner["learner_model_param"]["base_score"])
        own = learner["gradient_booster"]["model"]["trees"]
        gain = sum(sum(tree["loss_changes"]) for tree in own) or 1.0
        for tree in own:  # gains grow with the rows of a fit: so a member has the share of its weight in importance
            changes = [value * (weight / gain) for value in tree["loss_changes"]]
            scaled = _with_leaves(tree, partial(mul, weight))
            trees.append(scaled | {"loss_changes": changes, "id": len(trees)})
    for place, base in enumerate(bases.tolist()):  # a round has a tree for each class, in their order
        trees[place] = _with_leaves(trees[place], partial(add, base))
    model = first["gradient_booster"]["model"]
    model["trees"] = trees
    model["tree_info"] = [place % classes for place in range(len(trees))]
    model["iteration_indptr"] = list(range(0, len(trees) + 1, classes))
    model["gbtree_model_param"] |= {"num_trees": str(len(trees)), "num_parallel_tree": "1"}
    first["learner_model_param"]["base_score"] = f"[{','.join([LINKS[objective]] * classes)}]"
    first["attributes"] = {}
    return xgboost.Booster(model_file=bytearray(json.dumps(forms[0]).encode()))


def _margins(objective: str, base_score: str) -> NDArray[np.float64]:
    """The raw scores of a booster without trees, in XGBoost's own 32 bits; it writes its base scores as a list."""
    base, one = np.array(base_score.strip("[]").split(","), dtype=np.float32), np.float32(1)
    if objective == "binary:logistic":
        base = -np.log(one / base - one)
    return (np.log(base) if objective == "count:poisson" else base).astype(np.float64)


def _with_leaves(tree: dict[str, Any], change: Callable[[float], float]) -> dict[str, Any]:
    """The tree with its leaves changed; an inner node's ``split_conditions`` is a threshold and stays."""
    nodes = zip(tree["split_conditions"], tree["left_children"], strict=True)
    return tree | {
        "split_conditions": [value if left >= 0 else change(value) for value, left in nodes],
        "base_weights": [change(value) for value in tree["base_weights"]],
    }
