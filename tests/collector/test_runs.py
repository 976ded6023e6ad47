"""What the index remembers is what it was given, however it was merged, forgotten and read again."""

import os
import sqlite3
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.collector import runs
from kedge.collector.index import Change, Index
from kedge.collector.runs import Runs
from kedge.errors import UsageError


def key(number):
    """Half of the keys begin with the same four bytes, as few do of real ones."""
    digest = blake2b(str(number).encode(), digest_size=16).digest()
    return b"same" + digest[4:] if number % 2 else digest


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(runs, "GENERATION", 40)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_keys_that_were_added_are_known_and_no_others(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "GENERATION", 40)
        patch.setattr(runs, "AT_ONCE", 15)  # a generation is put together in three turns
        db = sqlite3.connect(":memory:", isolation_level=None)
        kept, count = Runs(db), 0
        for number, size in enumerate(sizes):
            kept.add(number, 0, [key(count + place) for place in range(size)])
            count += size
        asked = [key(number) for number in range(count + 20)]
        assert kept.known(asked) == Runs(db).known(asked) == set(asked[:count])


def test_runs_of_like_size_are_merged_so_there_are_few():
    db = sqlite3.connect(":memory:", isolation_level=None)
    kept = Runs(db)
    for number in range(500):
        kept.add(number, 0, [key(10 * number + place) for place in range(10)])
    (count,) = db.execute("SELECT COUNT(*) FROM runs").fetchone()
    assert count <= runs.LIKE * np.log2(500) + 1
    assert db.execute("SELECT SUM(LENGTH(keys)) FROM pieces").fetchone() == (5000 * runs.KEY_BYTES,)


@pytest.mark.usefixtures("small")
def test_a_run_is_forgotten_when_its_youngest_key_is_old_enough(tmp_path):
    index = Index(tmp_path / "index.db")
    index.apply(Change(0, day=1, appended=[key(number) for number in range(40)]))
    index.apply(Change(1, day=2, appended=[key(number) for number in range(40, 50)]))
    assert index.forget(before_day=1, max_ids=1000, unmatched_before=0)["appended"] == 0
    assert index.forget(before_day=2, max_ids=1000, unmatched_before=0)["appended"] == 40
    assert index.known(map(key, range(50))) == set(map(key, range(40, 50)))


@pytest.mark.usefixtures("small")
def test_of_more_keys_than_may_be_remembered_the_oldest_generations_go(tmp_path):
    index = Index(tmp_path / "index.db")
    for number in range(5):
        generation = [key(40 * number + place) for place in range(40)]
        index.apply(Change(number, day=1, appended=generation))
    assert index.forget(before_day=1, max_ids=120, unmatched_before=0)["appended"] == 80
    assert index.known(map(key, range(200))) == set(map(key, range(80, 200)))
    assert index.forget(before_day=1, max_ids=120, unmatched_before=0)["appended"] == 0


@pytest.mark.usefixtures("small")
def test_a_change_that_fails_half_way_leaves_nothing_behind(tmp_path):
    index = Index(tmp_path / "index.db")
    index.apply(Change(0, day=1, appended=[key(1), key(2)]))
    with pytest.raises(sqlite3.Error):
        index.apply(Change(1, day=1, appended=[key(3)], unmatched=[("too", "few")]))
    assert index.known([key(1), key(2), key(3)]) == {key(1), key(2)}
    index.apply(Change(1, day=1, appended=[key(3)]))
    index.close()
    assert Index(tmp_path / "index.db").known([key(1), key(3)]) == {key(1), key(3)}


def test_few_keys_that_were_never_added_are_looked_for_in_the_file():
    kept = Runs(sqlite3.connect(":memory:", isolation_level=None))
    kept.add(1, 0, [os.urandom(16) for _ in range(100_000)])
    (generation,) = kept._generations
    assert len(generation.seen.bits) <= 5 * runs.GENERATION
    assert len(generation.seen.among(int.from_bytes(os.urandom(8)) for _ in range(20_000))) < 20_000 / 600


def test_a_spool_of_an_earlier_version_is_refused_and_left_as_it_is(tmp_path):
    db = sqlite3.connect(tmp_path / "index.db")
    db.execute("CREATE TABLE appended (key BLOB PRIMARY KEY, day INTEGER) WITHOUT ROWID")
    db.execute("INSERT INTO appended VALUES (?, 1)", (key(1),))
    db.commit()
    db.close()
    with pytest.raises(UsageError, match=r"version 1, this collector reads version 4.*/v1/flush"):
        Index(tmp_path / "index.db")
    assert sqlite3.connect(tmp_path / "index.db").execute("SELECT COUNT(*) FROM appended").fetchone() == (1,)
