"""One row through all trees at once, in ten microseconds of Python.

XGBoost's library takes 70 to 120 microseconds for one row, nearly all of it preparation. Here the preparation is done
when the model is loaded, after QuickScorer (C. Lucchese et al., SIGIR 2015, section 3): number the leaves of a tree
from left to right and give each one a bit. A node takes away the leaves on the side that a value does not go to; of all
nodes' masks together one bit is left, that of the leaf the row falls into. All nodes that test one feature see one
value, and between two neighbouring thresholds they all agree, so each feature has one table: an interval's entry holds
the masks of all trees, as one long integer. A prediction is one bisection and one AND a feature, then one look-up and
one sum over the trees.

A server scores one row now and then, and finds little of the code in the processor's caches: a numpy call that takes
half a microsecond in a loop takes four. So there are three of them, on arrays that are made once.

The sum is made in XGBoost's order and precision and the link by the same C function, so the result has the same bits;
:func:`build` compares with the library on rows drawn to hit every kind of edge and gives None if a single one differs.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_, getitem
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.bundle.native import Booster

LEAVES = 64  # a word of masks; deeper trees go to the library
STRIDE = 256  # between the leaves of two trees: the low byte of a place is free for the count
MOST_BYTES = 32 * 2**20
PROBES = 256
bitwise_count, add_up = np.bitwise_count, np.add.accumulate
pack, unpack = struct.Struct("f").pack, struct.Struct("f").unpack
LARGE = np.finfo(np.float32).max
Tree = dict[str, Any]


class Room(NamedTuple):
    """Where one row is scored: the trees' words, and the places of their leaves, whose low bytes are counted."""

    words: bytearray
    counted: NDArray[np.uint64]
    places: NDArray[np.int64]
    low_bytes: NDArray[np.uint8]

    @classmethod
    def of(cls, trees: int) -> Room:
        words = bytearray(8 * trees)
        places = np.arange(trees, dtype=np.int64) * STRIDE
        low_bytes = places.view(np.uint8)[0 if sys.byteorder == "little" else 7 :: 8]
        return cls(words, np.frombuffer(words, np.uint64), places, low_bytes)


class RowScorer:
    """Scores one row of a boosted model; safe to use from several threads. ``edges[f]`` ascend and end with infinity;
    ``tables[f]`` has one mask an interval and the mask of a missing value last; ``leaves`` are 64 values a tree."""

    def __init__(
        self,
        edges: list[list[float]],
        tables: list[list[int]],
        leaves: NDArray[np.float32],
        base: float,
        link: Callable[[float], float],
    ) -> None:
        self._edges, self._tables, self._link = edges, tables, link
        self._trees = len(leaves)
        self._bytes = 8 * self._trees
        self._ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * self._trees, "little")
        spread = np.zeros((self._trees, STRIDE), np.float32)
        spread[:, :LEAVES] = leaves
        spread[0] += np.float32(base)  # the sum begins with the base score
        self._leaf = spread.ravel().take
        self._rooms: list[Room] = []

    def score(self, row: Sequence[float]) -> float:
        """The score of an encoded row, whose values are exact in 32 bits and finite, or NaN: below no edge, so last."""
        masks = reduce(and_, map(getitem, self._tables, map(bisect_right, self._edges, row)))
        try:
            room = self._rooms.pop()
        except IndexError:  # the first row, or other threads score just now
            room = Room.of(self._trees)
        # each word becomes the bits below its one bit, as many as its leaf's number
        room.words[:] = (masks - self._ones).to_bytes(self._bytes, sys.byteorder)
        bitwise_count(room.counted, room.low_bytes)
        steps = self._leaf(room.places)
        self._rooms.append(room)
        return self._link(add_up(steps).item(-1))  # one after the other: np.sum adds in pairs


def build(booster: Booster, feature_types: list[str]) -> RowScorer | None:
    """The model prepared for single rows, or None where it is of a kind, or a size, that only the library predicts."""
    learner = json.loads(booster.to_json())["learner"]  # not orjson: a threshold may be Infinity
    link = LINKS.get(learner["objective"]["name"])
    trees = learner["gradient_booster"].get("model", {}).get("trees", [])
    if link is None or learner["gradient_booster"]["name"] != "gbtree" or not trees:
        return None
    if any(len(tree["left_children"]) > 2 * LEAVES - 1 for tree in trees):
        return None
    edges = _edges(trees, feature_types)
    if 8 * len(trees) * sum(len(each) + 1 for each in edges) > MOST_BYTES:
        return None
    tables, leaves = _tables(trees, edges)
    to_score, to_margin = link
    base = to_margin(float(np.float32(learner["learner_model_param"]["base_score"].strip("[]"))))
    scorer = RowScorer(edges, tables, leaves, base, to_score)
    probes = _probes(edges, feature_types)
    same = np.array([scorer.score(row) for row in probes.tolist()], np.float32) == booster.predict(probes)
    return scorer if same.all() else None


def _edges(trees: list[Tree], feature_types: list[str]) -> list[list[float]]:
    """By feature its thresholds, each once, and infinity; of a category one between any two codes."""
    found: list[set[float]] = [set() for _ in feature_types]
    for tree in trees:
        chosen = _chosen_categories(tree)
        values = np.asarray(tree["split_conditions"], np.float32).tolist()
        for node, (left, place) in enumerate(zip(tree["left_children"], tree["split_indices"], strict=True)):
            if left >= 0:
                found[place].update(chosen[node] if tree["split_type"][node] == 1 else (values[node],))
    return [  # through an array: floats made one after the other lie together, and a bisection reads few lines
        np.array([*(range(1, int(max(each)) + 2) if kind == "c" and each else sorted(each)), np.inf]).tolist()
        for each, kind in zip(found, feature_types, strict=True)
    ]


def _tables(trees: list[Tree], edges: list[list[float]]) -> tuple[list[list[int]], NDArray[np.float32]]:
    """The features' masks by interval, and the values of the leaves by tree from left to right."""
    words = [np.empty((len(each) + 1, len(trees)), np.uint64) for each in edges]
    leaves = np.zeros((len(trees), LEAVES), np.float32)
    for number, tree in enumerate(trees):
        chosen = _chosen_categories(tree)
        values = np.asarray(tree["split_conditions"], np.float32).tolist()
        nodes, count = _leaf_numbers(tree, values, leaves[number])
        for table in words:
            table[:, number] = (1 << count) - 1
        for node, first, middle, end in nodes:
            place = tree["split_indices"][node]
            right = np.zeros(len(words[place]), bool)
            if tree["split_type"][node] == 1:
                right[chosen[node]] = True
            else:  # right is where the value is not below the threshold
                right[bisect_right(edges[place], values[node]) :] = True
            right[-1] = not tree["default_left"][node]
            lost_left, lost_right = (1 << middle) - (1 << first), (1 << end) - (1 << middle)
            words[place][:, number] &= ~np.where(right, np.uint64(lost_left), np.uint64(lost_right))
    return [[int.from_bytes(row.tobytes(), sys.byteorder) for row in table] for table in words], leaves


def _leaf_numbers(
    tree: Tree, values: list[float], leaves: NDArray[np.float32]
) -> tuple[list[tuple[int, int, int, int]], int]:
    """Each inner node with the numbers of its first leaf, its first leaf to the right and its last leaf + 1, and how
    many leaves there are; ``leaves`` gets their values."""
    left, right = tree["left_children"], tree["right_children"]
    found: list[tuple[int, int, int, int]] = []
    count = 0

    def walk(node: int) -> None:
        nonlocal count
        if left[node] < 0:
            leaves[count] = values[node]
            count += 1
            return
        first = count
        walk(left[node])
        middle = count
        walk(right[node])
        found.append((node, first, middle, count))

    walk(0)
    return found, count


def _chosen_categories(tree: Tree) -> dict[int, list[int]]:
    """By node the codes that go right; every other code goes left."""
    spans = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return {node: tree["categories"][start : start + size] for node, start, size in spans}


def _probes(edges: list[list[float]], feature_types: list[str]) -> NDArray[np.float32]:
    """Rows of thresholds, their nearest neighbours, far values, every kind of code, and missing values."""
    random = np.random.default_rng(0)
    rows = np.empty((PROBES, len(edges)), np.float32)
    for place, (each, kind) in enumerate(zip(edges, feature_types, strict=True)):
        drawn = random.choice(np.asarray(each[:-1] or [0.0], np.float32), PROBES)
        if kind == "c":
            drawn = random.integers(0, len(each) + 2, PROBES).astype(np.float32)
        else:
            ways = random.integers(0, 4, PROBES)
            far = np.clip(drawn, -LARGE / 1000, LARGE / 1000) * 1000
            near = np.clip(drawn, -LARGE, LARGE)
            drawn = np.choose(ways, [near, np.nextafter(near, -LARGE), np.nextafter(near, LARGE), far])
        rows[:, place] = np.where(random.random(PROBES) < 0.15, np.nan, drawn)
    return rows


def _libm() -> tuple[Callable[[float], float], Callable[[float], float]]:
    library = ctypes.PyDLL(ctypes.util.find_library("m"))  # keeps the interpreter's lock for the instant
    for name in ("expf", "logf"):
        getattr(library, name).argtypes = [ctypes.c_float]
        getattr(library, name).restype = ctypes.c_float
    return library.expf, library.logf


_expf, _logf = _libm()


def _sigmoid(margin: float) -> float:
    """1 / (1 + exp(-x)) as XGBoost computes it: -x at most 88.7, each step rounded to 32 bits.

    A sum or a quotient of two 32-bit floats rounded to 64 and then to 32 bits is the one rounded at once
    (S. A. Figueroa, 1995: 53 >= 2 * 24 + 2).
    """
    (below,) = unpack(pack(1.0 + _expf(-margin if margin > -88.7 else 88.7)))
    score: float = unpack(pack(1.0 / below))[0]
    return score


def _logit(probability: float) -> float:
    one = np.float32(1.0)
    return -_logf(float(one / np.float32(probability) - one))


LINKS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "binary:logistic": (_sigmoid, _logit),
    "reg:squarederror": (lambda margin: margin, lambda value: value),
}
"""By objective: from margin to score, and from base score to margin."""
