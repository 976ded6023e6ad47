"""An empty place is never taken for a new beginning of a store that was used before."""

import pytest

from kedge.errors import StoreError
from kedge.store.identity import KEY, KnownStore, begin, identity_of, require


def test_a_store_gets_one_identity(store):
    assert identity_of(store) is None
    first = begin(store)
    assert begin(store) == first == require(store) == identity_of(store)


def test_an_empty_place_is_no_store(store, tmp_path):
    with pytest.raises(StoreError, match=r"is empty: it has no store\.json .* not\s+mounted"):
        require(store)
    assert not (tmp_path / "store").exists()


def test_a_store_of_an_earlier_version_gets_its_identity(store):
    store.put("records/fraud/checked/1.json", b"{}")
    assert require(store) == identity_of(store)


def test_whoever_wrote_before_takes_no_empty_and_no_other_store(store, tmp_path):
    known = KnownStore(store, tmp_path / "memory")
    known.verify()
    known.verify()
    kept = store.get(KEY)
    store.delete(KEY)
    with pytest.raises(StoreError, match="it is empty, or something else is mounted there"):
        known.verify()
    begin(store)
    with pytest.raises(StoreError, match="is another one"):
        known.verify()
    store.put(KEY, kept)
    known.verify()


def test_with_spool_and_store_away_together_nothing_begins_anew(store, tmp_path):
    memory = tmp_path / "spool" / "memory"
    known = KnownStore(store, memory)
    known.verify()
    memory.unlink()
    memory.parent.rmdir()
    store.delete(KEY)
    with pytest.raises(StoreError, match="it is empty, or something else is mounted there"):
        known.verify()
    assert not memory.parent.exists()


def test_a_memory_that_was_emptied_remembers_the_store_again(store, tmp_path):
    KnownStore(store, tmp_path / "memory").verify()
    (tmp_path / "memory").write_bytes(b"")
    KnownStore(store, tmp_path / "memory").verify()
    assert (tmp_path / "memory").read_text() == identity_of(store)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"{}"])
def test_a_spoilt_identity_is_named(store, content):
    store.put(KEY, content)
    with pytest.raises(StoreError, match=r"store\.json: is no store's identity"):
        identity_of(store)
