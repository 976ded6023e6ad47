from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.errors import StoreError, UsageError
from kedge.records import Record, append, find, latest, newest, quarantine, quarantined_windows, read
from kedge.records.record import KINDS
from kedge.store import Store, open_store
from tests.records.counting import Counting

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def check(key: str = "2026-03-02T12:00:00+00:00", **more: object) -> Record:
    return Record(model="fraud", kind="check", key=key, time=NOON, **more)  # type: ignore[arg-type]


def test_a_record_reads_back_as_it_was_written(store: Store) -> None:
    data = {"verdict": "compared", "drifted": ["amount"], "share": 0.25, "loss": None, "deep": {"a": [1, 2]}}
    assert append(store, check(data=data, actor="ana"))
    [found] = read(store, "fraud")
    assert (found.model, found.kind, found.key, found.time) == ("fraud", "check", "2026-03-02T12:00:00+00:00", NOON)
    assert (found.data, found.actor) == (data, "ana")
    assert found.written is not None


def test_a_second_record_of_one_kind_and_key_is_never_written(store: Store) -> None:
    assert append(store, check(data={"first": True}))
    assert not append(store, check(data={"first": False}))
    assert [record.data for record in read(store, "fraud")] == [{"first": True}]
    assert append(store, replace(check(), kind="run-started"))
    assert append(store, replace(check(), model="churn"))


def test_records_come_in_order_of_event_time_then_writing(store: Store) -> None:
    for hours, key in ((3, "c"), (1, "a"), (2, "b")):
        append(store, replace(check(key), time=NOON + timedelta(hours=hours)))
    append(store, replace(check("z"), kind="promoted", time=NOON + timedelta(hours=1), written=NOON))
    assert [record.key for record in read(store, "fraud")] == ["z", "a", "b", "c"]
    assert [record.key for record in read(store, "fraud", ["check"])] == ["a", "b", "c"]
    found = latest(store, "fraud", "check")
    assert found is not None
    assert found.key == "c"
    assert latest(store, "fraud", "approved") is None
    assert read(store, "nobody") == []


def test_times_of_other_zones_are_the_same_moments(store: Store) -> None:
    vienna = datetime.fromisoformat("2026-03-02T13:00:00+01:00")
    append(store, replace(check(), time=vienna))
    assert read(store, "fraud")[0].time == NOON


def test_a_time_without_offset_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match=r"record check/k: time 2026-03-02 12:00:00 has no offset; use UTC"):
        append(store, replace(check("k"), time=datetime(2026, 3, 2, 12)))


@pytest.mark.parametrize("key", ["", "a/b", "../x", ".hidden", "x" * 201])
def test_a_key_that_is_no_plain_name_is_refused(store: Store, key: str) -> None:
    with pytest.raises(UsageError, match="must be a plain name of at most 200 characters"):
        append(store, check(key))
    assert list(store.keys("")) == []


def test_an_unknown_kind_is_refused_with_those_allowed(store: Store) -> None:
    with pytest.raises(UsageError, match="record kind 'chekc' must be one of check, run-started"):
        append(store, replace(check(), kind="chekc"))  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"{}", b'{"time": "noon", "written": "noon"}', b"null"])
def test_a_broken_record_is_named_with_its_place(store: Store, raw: bytes) -> None:
    store.put("records/fraud/check/1.json", raw)
    with pytest.raises(StoreError, match=r"store/records/fraud/check/1\.json: not a record kedge wrote"):
        read(store, "fraud")


def test_who_did_it_is_the_environments_word_or_the_user(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDGE_ACTOR", "release-bot")
    append(store, check("1"))
    monkeypatch.delenv("KEDGE_ACTOR")
    monkeypatch.setattr("getpass.getuser", lambda: "bo")
    append(store, check("2"))

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    append(store, check("3"))
    actors = {record.key: record.actor for record in read(store, "fraud")}
    assert actors["1"] == "release-bot"
    assert actors["2"] == "bo"
    assert actors["3"].startswith("uid-")


@given(
    st.sampled_from(KINDS),
    st.text(st.sampled_from("abz019-_.:+T"), min_size=1, max_size=30).filter(
        lambda key: not key.startswith((".", ":"))
    ),
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=9))
    ),
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, kind: str, key: str, data: dict[str, object], time: datetime
) -> None:
    store = open_store(tmp_path_factory.mktemp("store"))
    assert append(store, Record(model="m", kind=kind, key=key, time=time, data=data))  # type: ignore[arg-type]
    [found] = read(store, "m")
    assert (found.kind, found.key, found.time, found.data) == (kind, key, time, data)


def test_the_newest_are_read_and_the_others_only_listed() -> None:
    counted = Counting()
    for hour in range(30):
        time = NOON + timedelta(hours=hour)
        append(counted, replace(check(f"{time:%Y%m%dT%H%M%SZ}"), time=time))
    assert [item.time.hour for item in newest(counted, "fraud", "check", 3)] == [15, 16, 17]
    assert counted.reads == 3
    before = newest(counted, "fraud", "check", 2, before="20260303T150000Z")
    assert [item.time.hour for item in before] == [13, 14]
    assert newest(counted, "fraud", "check", 0) == []
    assert newest(counted, "nobody", "check", 3) == []


def test_a_record_is_found_by_its_key_with_one_read() -> None:
    counted = Counting()
    for key in ("a", "b"):
        append(counted, check(key, data={"key": key}))
    found = find(counted, "fraud", "check", "b")
    assert found is not None
    assert found.data == {"key": "b"}
    assert counted.reads == 1
    assert find(counted, "fraud", "check", "c") is None


def test_quarantined_windows_are_joined_where_they_touch_and_none_is_read() -> None:
    counted = Counting()
    hours = [NOON + timedelta(hours=hour) for hour in range(12)]
    for start, end in ((0, 2), (1, 3), (3, 4), (9, 10), (9, 10)):
        quarantine(counted, "fraud", hours[start], hours[end])
    quarantine(counted, "churn", hours[5], hours[6])
    assert quarantined_windows(counted, "fraud") == [(hours[0], hours[4]), (hours[9], hours[10])]
    assert counted.reads == 0
    counted.put("quarantined/fraud/notes.txt", b"")
    with pytest.raises(StoreError, match=r"quarantined/fraud/notes\.txt: not a mark kedge made"):
        quarantined_windows(counted, "fraud")
