import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.tables import ids

TEXTS = st.lists(st.text("ab0é", max_size=3) | st.text("xy", min_size=7, max_size=18), max_size=40)


def chunked(texts, cut=2):
    whole = pa.chunked_array([["not of it", *texts[:cut]], texts[cut:]], pa.string())
    return whole.slice(1)


def naive(one, other):
    return [one.index(text) for text in one], [one.index(text) if text in one else -1 for text in other]


@given(TEXTS, TEXTS)
def test_equal_ids_of_any_length_meet_and_no_others(one, other):
    first, found = ids.match(chunked(one), chunked(other))
    assert (first.tolist(), found.tolist()) == naive(one, other)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 36])
def test_ids_of_one_length_over_several_blocks(length, monkeypatch):
    monkeypatch.setattr(ids, "BLOCK", 16)
    random = np.random.default_rng(length)
    one, other = (["".join(random.choice(list("abcd"), length)) for _ in range(100)] for _ in range(2))
    other += one[20:60]
    first, found = ids.match(chunked(one, 33), chunked(other, 90))
    assert (first.tolist(), found.tolist()) == naive(one, other)


@given(TEXTS, TEXTS)
def test_ids_that_share_their_hash_are_told_apart(one, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "MIX", np.uint64(0))
        first, found = ids.match(chunked(one), chunked(other))
    assert (first.tolist(), found.tolist()) == naive(one, other)


def test_ids_that_share_their_slots_in_every_round_are_told_apart(monkeypatch):
    monkeypatch.setattr(ids, "ROUNDS", 1)
    one, other = [f"id-{k:06}" for k in range(500)], [f"id-{k:06}" for k in range(250, 750)]
    first, found = ids.match(chunked(one + one), chunked(other))
    assert (first.tolist(), found.tolist()) == ([*range(500)] * 2, [*range(250, 500)] + [-1] * 250)
