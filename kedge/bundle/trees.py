"""XGBoost's trees as trees.c walks them: one row in a few microseconds, a thousand in one.

XGBoost's library takes 70 to 120 microseconds for one row, nearly all of it preparation. Here the preparation is done
when the model is loaded, and the rest is compiled. The sum is made in XGBoost's order and precision and the link by the
same C function, so the result has the same bits; :func:`build` compares with the library on rows drawn to hit every
kind of edge and gives None if a single one differs.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kedge.bundle.native import Booster

LIBRARY = Path(__file__).with_name("libtrees.so")
LAYOUT = 3
"""What trees.c has to agree on: the arrays below."""
MAX_FEATURES, MAX_NODES = 1024, 1 << 16
BLOCK = 64  # rows that trees.c works on at a time
PROBES = 256
LINKS = {
    "binary:logistic": 1, "count:poisson": 2, "multi:softprob": 3,
    "reg:squarederror": 0, "reg:absoluteerror": 0, "reg:quantileerror": 0,
}  # fmt: skip
"""By objective what makes scores of margins: 0 nothing, 1 the logistic function, 2 the exponential, 3 softmax."""
LARGE = np.finfo(np.float32).max
NODE = np.dtype([("test", np.uint32), ("feature", np.uint16), ("left", np.uint16)])
GOES_RIGHT = 1 << 15  # of a missing value, in ``feature``
Tree = dict[str, Any]


class _Forest(ctypes.Structure):
    """The C structure ``Forest``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("nodes", "roots", "depths", "categories", "codes", "bases", "values")),
        *((name, ctypes.c_uint32) for name in ("trees", "features", "link", "classes")),
    )


class Forest:
    """A prepared model. Safe to use from several threads."""

    def __init__(
        self,
        library: Compiled,
        nodes: NDArray[Any],
        roots: Sequence[int],
        depths: Sequence[int],
        categories: Sequence[int],
        codes: Sequence[int],
        *,
        link: int,
        bases: Sequence[float],
        values: Sequence[float] | NDArray[np.float64] = (),
        steepness: float = 1.0,
    ) -> None:
        """Take over what trees.c says of ``Forest``; ``values`` and ``steepness`` are LightGBM's."""
        words = [np.asarray(each, np.uint32) for each in (roots, depths, categories, codes)]
        floats = np.asarray(bases, np.float32), np.asarray(values, np.float64)
        self._kept = (nodes, *words, *floats)  # as long as C has their addresses
        addresses = (each.ctypes.data for each in self._kept)
        self._forest = _Forest(*addresses, len(roots), len(codes), link, len(bases))
        self._address = ctypes.addressof(self._forest)
        self._features, self._row_bytes = len(codes), 4 * len(codes)
        self._score_row, self._score_rows = library.score_row, library.score_rows
        self._score_classes = library.score_classes
        self._classes, self._scores = len(bases), ctypes.c_float * len(bases)
        self._score_doubles, self._doubles = library.score_doubles, ctypes.c_double * len(bases)
        self._steepness = steepness

    def score_row(self, row: bytes) -> float | list[float]:
        """The score of one row of ``Signature.encode_row``; of several classes one for each."""
        if len(row) != self._row_bytes:  # C would read on
            raise ValueError(f"a row of {self._features} features is needed, got {len(row)} bytes")
        if self._classes == 1:
            return self._score_row(self._address, row)
        scores = self._scores()
        self._score_classes(self._address, row, scores)
        return list(scores)

    def score_row_in_doubles(self, row: bytes) -> float | list[float]:
        """The same of a model of LightGBM's."""
        if len(row) != self._row_bytes:  # C would read on
            raise ValueError(f"a row of {self._features} features is needed, got {len(row)} bytes")
        scores = self._doubles()
        self._score_doubles(self._address, row, self._steepness, scores)
        return scores[0] if self._classes == 1 else list(scores)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score of each row; shape (n,), or (n, classes)."""
        matrix = np.ascontiguousarray(matrix, np.float32)
        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise ValueError(f"a matrix of {self._features} features is needed, got one of shape {matrix.shape}")
        scores = np.empty((len(matrix), self._classes), np.float32)
        room = np.empty(4 * BLOCK * (self._features + 1), np.uint32)
        rows, work, into = (each.ctypes.data for each in (matrix, room, scores))
        self._score_rows(self._address, rows, len(matrix), work, into)
        return scores if self._classes > 1 else scores[:, 0]


class Compiled(NamedTuple):
    """The functions of trees.c."""

    score_row: Callable[[int, bytes], float]
    score_classes: Callable[[int, bytes, Any], None]
    score_doubles: Callable[[int, bytes, float, Any], None]
    score_rows: Callable[[int, int, int, int, int], None]
    logit: Callable[[float], float]
    log: Callable[[float], float]


def compiled() -> Compiled | None:
    """What tools/compile made of trees.c; None where it cannot be used, see :func:`fault`."""
    found = _loaded()
    return found if isinstance(found, Compiled) else None


def fault() -> str:
    """What is wrong with the library, and what to do; empty: nothing."""
    found = _loaded()
    return "" if isinstance(found, Compiled) else found


@cache
def _loaded() -> Compiled | str:
    checkout = (LIBRARY.parents[2] / "tools" / "compile").exists()  # elsewhere nobody can follow the advice
    if not LIBRARY.exists():
        return f"{LIBRARY} is not there{': `make install` builds it' if checkout else ''}"
    again = f": delete {LIBRARY} and let `make install` build it again" if checkout else ""
    try:
        free, held = ctypes.CDLL(str(LIBRARY)), ctypes.PyDLL(str(LIBRARY))
        free.kedge_layout.restype = ctypes.c_uint32
        layout = free.kedge_layout()
    except (OSError, AttributeError) as exc:
        return f"it cannot be loaded ({exc}){again}"
    if layout != LAYOUT:
        return f"it is of version {layout}, this server needs {LAYOUT}{again}"
    return _declared(free, held)


def _declared(free: ctypes.CDLL, held: ctypes.PyDLL) -> Compiled:
    """The library's functions with their types; one row keeps the interpreter's lock for its few microseconds."""
    pointer, row, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float
    return Compiled(
        _with_types(held.kedge_score_row, number, pointer, row),
        _with_types(held.kedge_score_classes, None, pointer, row, pointer),
        _with_types(held.kedge_score_doubles, None, pointer, row, ctypes.c_double, pointer),
        _with_types(free.kedge_score_rows, None, pointer, pointer, ctypes.c_size_t, pointer, pointer),
        _with_types(held.kedge_logit, number, number),
        _with_types(held.kedge_log, number, number),
    )


def _with_types(function: Any, result: type | None, *arguments: type) -> Any:
    function.argtypes, function.restype = arguments, result
    return function


def build(booster: Booster, feature_types: list[str]) -> Forest | None:
    """The model prepared, or None where it is of a kind, or a size, that only XGBoost's library predicts."""
    library = compiled()
    learner = json.loads(booster.to_json())["learner"]  # not orjson: a threshold may be Infinity
    link = LINKS.get(learner["objective"]["name"])
    trees = learner["gradient_booster"].get("model", {}).get("trees", [])
    if library is None or link is None or learner["gradient_booster"]["name"] != "gbtree" or not trees:
        return None
    if len(feature_types) > MAX_FEATURES or max(len(tree["left_children"]) for tree in trees) > MAX_NODES:
        return None
    groups = learner["gradient_booster"]["model"]["tree_info"]
    classes = max(int(learner["learner_model_param"]["num_class"]), 1)
    if groups != [place % classes for place in range(len(trees))]:
        return None
    codes = _codes(trees, feature_types)
    forest = laid_out(library, trees, codes, link, _margins(library, learner, link, classes))
    return forest if _equals(forest, booster, probes(trees, codes, feature_types)) else None


def _equals(forest: Forest, booster: Booster, matrix: NDArray[np.float32]) -> bool:
    """Whether rows score as by XGBoost's library to the last bit, one by one and together."""
    wanted = booster.predict(matrix)
    rows = np.array([forest.score_row(row.tobytes()) for row in matrix], np.float32)
    return bool((rows == wanted).all() and (forest.score(matrix) == wanted).all())


def _margins(library: Compiled, learner: dict[str, Any], link: int, classes: int) -> list[float]:
    """The margin of each class before the first tree; XGBoost keeps its score."""
    scores = [float(np.float32(text)) for text in learner["learner_model_param"]["base_score"].strip("[]").split(",")]
    if link == 1:
        scores = [library.logit(score) for score in scores]
    if link == 2:
        scores = [library.log(score) for score in scores]
    return scores if len(scores) == classes else scores * classes


def laid_out(
    library: Compiled, trees: list[Tree], codes: list[int], link: int, bases: list[float], **of_lightgbm: Any
) -> Forest:
    """The arrays that trees.c walks; ``of_lightgbm`` are further arguments of :class:`Forest`."""
    nodes = np.zeros(sum(len(tree["left_children"]) for tree in trees), NODE)
    categories = [0]
    roots, depths, start = [], [], 0
    for tree in trees:
        order, depth = _by_level(tree)
        _lay_out(tree, order, codes, nodes[start:], categories)
        roots.append(start)
        depths.append(depth)
        start += len(order)
    return Forest(library, nodes[:start], roots, depths, categories, codes, link=link, bases=bases, **of_lightgbm)


def _lay_out(tree: Tree, order: list[int], codes: list[int], nodes: NDArray[Any], categories: list[int]) -> None:
    """Fill in a tree's nodes. A node's children lie side by side, a leaf leads to itself."""
    chosen = _chosen_categories(tree)
    tests = np.asarray(tree["split_conditions"], np.float32).view(np.uint32)
    place = {node: number for number, node in enumerate(order)}
    for number, node in enumerate(order):
        left, feature = tree["left_children"][node], tree["split_indices"][node]
        if left < 0:
            nodes[number] = tests[node], len(codes), number
            continue
        test = tests[node]
        if node in chosen:
            test = len(categories)
            categories += _bits(chosen[node], codes[feature])
        nodes[number] = test, feature | (0 if tree["default_left"][node] else GOES_RIGHT), place[left]


def _by_level(tree: Tree) -> tuple[list[int], int]:
    """The nodes from the root down, children of one node beside each other, and how many steps the longest way has."""
    order, level, depth = [0], [0], 0
    while True:
        level = [
            child
            for node in level
            if tree["left_children"][node] >= 0
            for child in (tree["left_children"][node], tree["right_children"][node])
        ]
        if not level:
            return order, depth
        order += level
        depth += 1


def _codes(trees: list[Tree], feature_types: list[str]) -> list[int]:
    """By feature how many codes its nodes know: any other goes left. Of a number 0."""
    codes = [1 if kind == "c" else 0 for kind in feature_types]
    for tree in trees:
        for node, chosen in _chosen_categories(tree).items():
            feature = tree["split_indices"][node]
            codes[feature] = max([codes[feature], *(code + 1 for code in chosen)])
    return codes


def _bits(chosen: Sequence[int], codes: int) -> list[int]:
    """Words with the bits of these codes, and room for one more bit, which unknown codes and missing values ask for."""
    words = [0] * (codes // 32 + 1)
    for code in chosen:
        words[code // 32] |= 1 << code % 32
    return words


def _chosen_categories(tree: Tree) -> dict[int, list[int]]:
    """By node that tests a category the codes that go right; every other code goes left."""
    spans = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return {node: tree["categories"][start : start + size] for node, start, size in spans}


def _thresholds(trees: list[Tree], features: int) -> list[list[float]]:
    """By feature what its nodes compare with, and 0."""
    thresholds = [[0.0] for _ in range(features)]
    for tree in trees:
        splits = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True)
        for left, feature, threshold in splits:
            if left >= 0:
                thresholds[feature].append(threshold)
    return thresholds


def probes(trees: list[Tree], codes: list[int], feature_types: list[str]) -> NDArray[np.float32]:
    """Rows of thresholds, their nearest neighbours, far values, every kind of code, and missing values."""
    random = np.random.default_rng(0)
    thresholds = _thresholds(trees, len(feature_types))
    rows = np.empty((PROBES, len(feature_types)), np.float32)
    for place, kind in enumerate(feature_types):
        if kind == "c":
            drawn = random.integers(0, codes[place] + 2, PROBES).astype(np.float32)
        else:
            drawn = random.choice(np.asarray(thresholds[place], np.float32), PROBES)
            far = np.clip(drawn, -LARGE / 1000, LARGE / 1000) * 1000
            near = np.clip(drawn, -LARGE, LARGE)
            ways = [near, np.nextafter(near, -LARGE), np.nextafter(near, LARGE), far]
            drawn = np.choose(random.integers(0, 4, PROBES), ways)
        rows[:, place] = np.where(random.random(PROBES) < 0.15, np.nan, drawn)
    return rows
