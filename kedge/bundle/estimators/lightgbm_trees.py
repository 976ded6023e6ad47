"""LightGBM's trees as trees.c walks them: one row in a few microseconds, where its library's prepared call takes tens.

The text of a model is LightGBM's documented form. Leaves are added up in 64 bits in LightGBM's order, and the link is
its own, so the result has the same bits; :func:`build` compares with the library on rows drawn to hit every kind of
edge and gives None if a single one differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.bundle import trees
from kedge.bundle.trees import Forest, Tree
from kedge.choice import Score

TREE = re.compile(r"(?m)^Tree=\d+$")
LINKS = {"binary": 1, "poisson": 2, "multiclass": 3, "regression": 0, "regression_l1": 0, "quantile": 0}
"""By objective what makes scores of margins, as in ``trees.LINKS``."""
CATEGORY, DEFAULT_LEFT, NO_MISSING, MISSING_NAN = 1, 2, 0, 2
"""Bits of ``decision_type``; the next two say what is missing: nothing (NaN counts as 0), zeros (1), or NaN."""
ZERO = np.float32(1e-35)
Fields = Mapping[str, str]
Floats = NDArray[np.float64]


def build(text: str, predict: Callable[[NDArray[np.float32]], Floats]) -> Callable[[bytes], Score] | None:
    """What scores one row, or None where the model is of a kind, or a size, that only LightGBM's library predicts.

    Args:
        text: The model, as LightGBM saves it.
        predict: The library's scores of a matrix.
    """
    library, parts = trees.compiled(), TREE.split(text[: text.index("\nend of trees")])
    head, grown = _fields(parts[0]), [_fields(part) for part in parts[1:]]
    objective, *rest = head.get("objective", "").split() or [""]
    features, classes = int(head["max_feature_idx"]) + 1, int(head["num_class"])
    plain = objective in LINKS and "sqrt" not in rest and head["num_tree_per_iteration"] == head["num_class"]
    if library is None or not plain or not grown or "\naverage_output\n" in parts[0] or features > trees.MAX_FEATURES:
        return None
    if not all(map(_is_plain, grown)):
        return None
    codes = _codes(grown, features)
    values = np.concatenate([_numbers(each, "leaf_value", np.float64) for each in grown])
    firsts = np.cumsum([0, *(int(each["num_leaves"]) for each in grown)])
    laid = [_tree(each, int(first), codes) for each, first in zip(grown, firsts, strict=False)]
    steepness = next((float(word.removeprefix("sigmoid:")) for word in rest if word.startswith("sigmoid:")), 1.0)
    forest = trees.laid_out(library, laid, codes, LINKS[objective], [0.0] * classes, values=values, steepness=steepness)
    return forest.score_row_in_doubles if _equals(forest, predict, trees.probes(laid, codes, _kinds(codes))) else None


def _equals(forest: Forest, predict: Callable[[NDArray[np.float32]], Floats], probes: NDArray[np.float32]) -> bool:
    """Whether rows score as by LightGBM's library to the last bit."""
    return bool((np.array([forest.score_row_in_doubles(row.tobytes()) for row in probes]) == predict(probes)).all())


def _fields(part: str) -> Fields:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def _numbers(fields: Fields, name: str, kind: Any) -> NDArray[Any]:
    return np.array(fields.get(name, "").split(), dtype=kind)


def _is_plain(tree: Fields) -> bool:
    """Whether its leaves are values and no zero counts as missing."""
    small = 2 * int(tree["num_leaves"]) <= trees.MAX_NODES
    missing = _numbers(tree, "decision_type", np.int64) >> 2 & 3
    return small and tree.get("is_linear", "0") == "0" and bool(np.isin(missing, (NO_MISSING, MISSING_NAN)).all())


def _left_codes(tree: Fields) -> Iterator[tuple[int, list[int]]]:
    """The nodes that test a category, each with the codes that go left; all others go right."""
    bounds = _numbers(tree, "cat_boundaries", np.int64)
    words = _numbers(tree, "cat_threshold", np.uint32)
    thresholds = _numbers(tree, "threshold", np.float64)
    for node in np.flatnonzero(_numbers(tree, "decision_type", np.int64) & CATEGORY).tolist():
        place = int(thresholds[node])
        bits = np.unpackbits(words[bounds[place] : bounds[place + 1]].view(np.uint8), bitorder="little")
        yield node, np.flatnonzero(bits).tolist()


def _codes(grown: list[Fields], features: int) -> list[int]:
    """By feature how many codes its nodes know: any other goes right. Of a number 0."""
    codes = [0] * features
    for tree in grown:
        tested = _numbers(tree, "split_feature", np.int64)
        for node, left in _left_codes(tree):
            codes[tested[node]] = max([codes[tested[node]], 1, *(code + 1 for code in left)])
    return codes


def _kinds(codes: list[int]) -> list[str]:
    return ["c" if count else "q" for count in codes]


def _tree(fields: Fields, first_leaf: int, codes: list[int]) -> Tree:
    """A tree in the form of XGBoost's: inner nodes first, then the leaves, whose test is their place in the values."""
    leaves = int(fields["num_leaves"])
    inner = leaves - 1
    tested, kinds = _numbers(fields, "split_feature", np.int64), _numbers(fields, "decision_type", np.int64)
    thresholds = _numbers(fields, "threshold", np.float64)
    places = np.arange(first_leaf, first_leaf + leaves, dtype=np.uint32).view(np.float32)
    missing_left = np.where(kinds >> 2 & 3 == MISSING_NAN, kinds & DEFAULT_LEFT > 0, thresholds >= 0)
    right = {node: _right_codes(left, codes[tested[node]]) for node, left in _left_codes(fields)}
    sizes = [len(each) for each in right.values()]
    return {
        "left_children": [*_children(fields, "left_child", inner), *[-1] * leaves],
        "right_children": [*_children(fields, "right_child", inner), *[-1] * leaves],
        "split_indices": [*tested.tolist(), *[0] * leaves],
        "split_conditions": np.concatenate([_above(thresholds), places]),
        "default_left": [*(missing_left & (kinds & CATEGORY == 0)).tolist(), *[False] * leaves],
        "categories_nodes": list(right),
        "categories_segments": np.cumsum([0, *sizes])[:-1].tolist(),
        "categories_sizes": sizes,
        "categories": [code for each in right.values() for code in each],
    }


def _right_codes(left: list[int], codes: int) -> list[int]:
    """Of the known codes the others; and what stands for every unknown one and for none."""
    return [*sorted(set(range(codes)) - set(left)), codes]


def _children(fields: Fields, name: str, inner: int) -> list[int]:
    """Places of nodes; the form counts leaves from -1 downwards."""
    return [child if child >= 0 else inner + ~child for child in _numbers(fields, name, np.int64).tolist()]


def _above(thresholds: Floats) -> NDArray[np.float32]:
    """The least 32-bit floats above: a value goes right from there on. Above infinity, where only missing values go
    right, is NaN. What is as near to 0 as ``ZERO`` counts as 0.
    """
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    above = np.where(near > thresholds, near, np.nextafter(near, np.float32(np.inf)))
    above[(near >= -ZERO) & (thresholds < 0)] = -ZERO
    above[(thresholds >= 0) & (near < ZERO)] = np.nextafter(ZERO, np.float32(1))
    above[thresholds == np.inf] = np.nan
    return above
