import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.errors import StoreError, UsageError
from kedge.records import (
    Accepted,
    Approved,
    Checked,
    Data,
    Promoted,
    Quarantined,
    Record,
    RunFinished,
    RunStarted,
    Window,
    append,
    as_read,
    find,
    in_order,
    latest,
    newest,
    parse,
    quarantine,
    quarantined_windows,
    read,
)
from kedge.store import Store
from tests.records import made
from tests.records.counting import Counting

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def check(key: str = "2026-03-02T12:00:00+00:00", **data: object) -> Record[Checked]:
    return made.record("check", key, NOON, **data)


def test_a_record_reads_back_as_it_was_written(store: Store) -> None:
    drift = {"verdict": "compared", "drifted": ["amount"], "detail": {"share": 0.25, "loss": None, "deep": [1, 2]}}
    written = check(actor="ana", inputs=drift, reasons=["quiet"])
    assert append(store, written)
    (found,) = read(store, "fraud")
    assert (found.model, found.kind, found.key, found.time) == ("fraud", "check", "2026-03-02T12:00:00+00:00", NOON)
    assert (found.data, found.actor) == (written.data, "ana")
    assert found.data.inputs.detail == drift["detail"]
    assert found.written is not None


def test_a_second_record_of_one_kind_and_key_is_never_written(store: Store) -> None:
    assert append(store, check(verdict="first"))
    assert not append(store, check(verdict="second"))
    assert [record.data.verdict for record in read(store, "fraud", Checked)] == ["first"]
    assert append(store, made.record("run-started", check().key, NOON))
    assert append(store, replace(check(), model="churn"))


def test_records_come_in_order_of_event_time_then_writing(store: Store) -> None:
    for hours, key in ((3, "c"), (1, "a"), (2, "b")):
        append(store, replace(check(key), time=NOON + timedelta(hours=hours)))
    append(store, made.record("promoted", "z", NOON + timedelta(hours=1), bundle="b", written=NOON))
    assert [record.key for record in read(store, "fraud")] == ["z", "a", "b", "c"]
    assert [record.key for record in read(store, "fraud", Checked)] == ["a", "b", "c"]
    found = latest(store, "fraud", Checked)
    assert found is not None
    assert found.key == "c"
    assert latest(store, "fraud", Approved) is None
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


def test_an_unknown_kind_is_none_kedge_wrote() -> None:
    with pytest.raises(StoreError, match=r"^here: not a record kedge wrote \('chekc'\)"):
        parse({"model": "fraud", "kind": "chekc", "key": "k", "time": NOON, "data": {}}, "here")


def test_a_field_that_cannot_be_is_named_and_its_value_is_not_repeated() -> None:
    body = {"model": "fraud", "kind": "run-finished", "key": "r", "time": NOON, "data": {"state": "s3cret"}}
    with pytest.raises(StoreError, match="state: Input should be 'succeeded', 'rejected'") as refused:
        parse(body)
    assert "s3cret" not in str(refused.value)


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert made.record("approved", "k", NOON, bundle="b", mood="good").data == Approved(bundle="b")


def test_run_and_bundle_are_those_of_the_key_where_the_data_name_none() -> None:
    assert made.record("run-finished", "r.2", NOON, state="failed").data.run == "r.2"
    assert made.record("promoted", f"{'c' * 40}-2", NOON).data.bundle == "c" * 40
    with pytest.raises(StoreError, match="bundle: Field required"):
        made.record("promoted", "nobody", NOON)


def test_what_is_not_finite_or_numpys_is_as_it_will_be_read(store: Store) -> None:
    detail = {"psi": float("inf"), "rows": np.int64(3)}
    item = check(inputs={"verdict": "compared", "detail": detail})
    assert as_read(item).data.inputs.detail == {"psi": None, "rows": 3}
    mean = {"value": float("nan"), "low": 0.0, "high": 1.0, "error": 0.1, "blocks": 3}
    append(store, check(estimate={"verdict": "estimated", "rows": 9, "calibrated": True, "loss": mean}))
    assert math.isnan(find(store, "fraud", Checked, item.key).data.estimate.loss.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"{}", b'{"time": "noon", "written": "noon"}', b"null"])
def test_a_broken_record_is_named_with_its_place(store: Store, raw: bytes) -> None:
    store.put("records/fraud/check/1.json", raw)
    with pytest.raises(StoreError, match=r"store/records/fraud/check/1\.json: not a record kedge wrote"):
        read(store, "fraud")


@pytest.mark.parametrize(
    "field", [{"model": None}, {"key": 1}, {"actor": None}, {"time": "2026-03-02T12:00:00"}, {"written": "2026-03-02"}]
)
def test_a_record_of_which_a_field_was_changed_to_what_none_has_is_named(
    store: Store, field: dict[str, object]
) -> None:
    body = {"model": "fraud", "kind": "approved", "key": "k", "time": NOON.isoformat(), "data": {"bundle": "b"}}
    store.put("records/fraud/approved/k.json", orjson.dumps(body))
    assert len(read(store, "fraud")) == 1
    store.put("records/fraud/approved/k.json", orjson.dumps(body | field))
    with pytest.raises(StoreError, match=r"approved/k\.json: not a record kedge wrote"):
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
    st.one_of(
        st.builds(Approved, after_attempt=st.none() | st.integers(0, 2**63 - 1)),
        st.builds(RunFinished, exit_code=st.none() | st.integers(0, 2)),
        st.builds(Accepted, breaches=st.just(()), windows=st.just(())),
    ),
    st.text(st.sampled_from("abz019-_.:+T"), min_size=1, max_size=30).filter(
        lambda key: not key.startswith((".", ":"))
    ),
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_whatever_is_written_is_read(data: Data, key: str, time: datetime) -> None:
    store = Counting()
    item = as_read(Record(model="m", key=key, time=time, data=data))
    assert append(store, item)
    (found,) = read(store, "m")
    assert replace(found, actor="", written=None) == item


def test_the_newest_are_read_and_the_others_only_listed() -> None:
    counted = Counting()
    for hour in range(30):
        time = NOON + timedelta(hours=hour)
        append(counted, replace(check(f"{time:%Y%m%dT%H%M%SZ}"), time=time))
    assert [item.time.hour for item in newest(counted, "fraud", Checked, 3)] == [15, 16, 17]
    assert counted.reads == 3
    before = newest(counted, "fraud", Checked, 2, before="20260303T150000Z")
    assert [item.time.hour for item in before] == [13, 14]
    assert newest(counted, "fraud", Checked, 0) == []
    assert newest(counted, "nobody", Checked, 3) == []


def test_a_record_is_found_by_its_key_with_one_read() -> None:
    counted = Counting()
    for key in ("a", "b"):
        append(counted, check(key, verdict=key))
    found = find(counted, "fraud", Checked, "b")
    assert found is not None
    assert found.data.verdict == "b"
    assert counted.reads == 1
    assert find(counted, "fraud", Checked, "c") is None


def test_quarantined_windows_are_joined_where_they_touch_and_none_is_read() -> None:
    counted = Counting()
    hours = [NOON + timedelta(hours=hour) for hour in range(12)]
    for start, end in ((0, 2), (1, 3), (3, 4), (9, 10), (9, 10)):
        quarantine(counted, "fraud", Window(start=hours[start], end=hours[end]))
    quarantine(counted, "churn", Window(start=hours[5], end=hours[6]))
    whole, alone = Window(start=hours[0], end=hours[4]), Window(start=hours[9], end=hours[10])
    assert quarantined_windows(counted, "fraud") == (whole, alone)
    assert counted.reads == 0
    counted.put("quarantined/fraud/notes.txt", b"")
    with pytest.raises(StoreError, match=r"quarantined/fraud/notes\.txt: not a mark kedge made"):
        quarantined_windows(counted, "fraud")


def test_a_quarantined_window_is_a_record_of_its_end() -> None:
    counted = Counting()
    quarantine(counted, "fraud", Window(start=NOON, end=NOON + timedelta(hours=1)))
    (mark,) = read(counted, "fraud", Quarantined)
    assert (mark.kind, mark.time, mark.data.window.start) == ("quarantined", NOON + timedelta(hours=1), NOON)


def test_records_of_one_moment_have_one_order_whatever_came_first() -> None:
    run = [made.record("run-finished", "r", NOON, state="failed"), made.record("run-started", "r", NOON)]
    assert [type(item.data) for item in in_order(run)] == [RunStarted, RunFinished]
    first, second = (made.record("promoted", each, NOON, bundle=each) for each in ("a", "b"))
    assert in_order([second, first]) == in_order([first, second])
    assert [item.data.bundle for item in in_order([replace(first, written=NOON + timedelta(seconds=1)), second])] == [
        "b",
        "a",
    ]
    assert isinstance(first.data, Promoted)
