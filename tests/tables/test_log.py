import shutil
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge import policy as policies
from kedge.errors import DataError, StoreError, UsageError
from kedge.store import open_store
from kedge.tables import appending, log
from kedge.tables.ids import hashes_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def declared(**features):
    return policies.parse(
        {
            "model": {
                "name": "payments",
                "target": "returned",
                "features": {"amount": {"type": "number"}, "country": {"type": "category"}} | features,
            },
            "data": {"source": {"format": "log"}},
        }
    )


POLICY = declared()


def predictions(ids, *, time=NOON, received=NOON, **columns):
    count = len(ids)
    return pa.table(
        {
            "_id": ids,
            "_time": pa.array([time] * count, log.TIME),
            "_received": pa.array([received] * count, log.TIME),
            "_score": [0.5] * count,
        }
        | {name: list(values) for name, values in columns.items()}
    )


def labels(ids, values, *, observed=NOON, received=NOON):
    return pa.table(
        {
            "_id": ids,
            "_label": values,
            "_observed": pa.array([observed] * len(ids), log.TIME),
            "_received": pa.array([received] * len(ids), log.TIME),
        }
    )


def hour(store, policy=POLICY, **options):
    return log.read_window(store, policy, NOON - timedelta(hours=1), NOON + timedelta(hours=1), **options)


def test_a_log_nobody_wrote_to_is_an_empty_table_with_the_right_columns(store):
    table = hour(store)
    assert table.num_rows == 0
    assert table.column_names == [*log.schema(POLICY).names[:-1], "_label", "_observed"]
    assert table.schema.field("country").type == pa.string()
    assert hour(store, labels="none", columns=["amount"]).column_names == ["amount"]
    assert log.read_labelled(store, POLICY, NOON, NOON + timedelta(days=1)).num_rows == 0


def test_predictions_come_back_with_their_labels(store):
    appending.append(
        store,
        POLICY,
        "predictions",
        predictions(["a", "b"], amount=[1.0, None], country=["DE", "FR"]),
        writer="w",
        sequence=1,
    )
    appending.append(store, POLICY, "labels", labels(["b"], [1.0]), writer="w", sequence=1)
    rows = {row["_id"]: row for row in hour(store).to_pylist()}
    assert (rows["a"]["amount"], rows["a"]["_label"]) == (1.0, None)
    assert (rows["b"]["amount"], rows["b"]["_label"], rows["b"]["_observed"]) == (None, 1.0, NOON)
    assert hour(store, labels="inner", columns=["_id"]).column("_id").to_pylist() == ["b"]


def test_a_batch_sent_twice_by_a_restarted_writer_is_in_the_table_once(store):
    batch = predictions(["a"])
    assert appending.append(store, POLICY, "predictions", batch, writer="w", sequence=0)
    assert not appending.append(store, POLICY, "predictions", batch, writer="w", sequence=0)
    assert appending.append(store, POLICY, "predictions", predictions(["b"]), writer="w", sequence=1)
    assert appending.open_table(store, "logs/payments/predictions").count() == 2


def append(store, ids, sequence):
    appending.append(store, POLICY, "predictions", predictions(ids), writer="w", sequence=sequence)


def test_a_table_that_was_read_is_brought_up_to_date_and_not_opened_again(store, monkeypatch):
    append(store, ["a"], 1)
    assert hour(store)["_id"].to_pylist() == ["a"]
    append(store, ["b"], 2)
    monkeypatch.setattr(appending, "open_table", lambda store, key: None)
    assert sorted(hour(store)["_id"].to_pylist()) == ["a", "b"]


def test_after_a_fault_a_table_is_read_anew(store):
    append(store, ["a"], 1)
    hour(store)
    shutil.rmtree(store.uri("logs"))
    append(store, ["b"], 1)
    with pytest.raises(StoreError, match="logs/payments/predictions"):
        hour(store)
    assert hour(store)["_id"].to_pylist() == ["b"]


def test_an_event_two_writers_were_handed_is_read_once_as_it_was_received_first(store):
    late = predictions(["a", "b"], received=NOON + timedelta(seconds=9), amount=[2.0, 2.0])
    appending.append(store, POLICY, "predictions", late, writer="w1", sequence=1)
    appending.append(store, POLICY, "predictions", predictions(["a"], amount=[1.0]), writer="w2", sequence=1)
    assert sorted(hour(store, columns=["_id", "amount"], labels="none").to_pylist(), key=lambda row: row["_id"]) == [
        {"_id": "a", "amount": 1.0},
        {"_id": "b", "amount": 2.0},
    ]
    appending.append(store, POLICY, "labels", labels(["b", "a"], [1.0, 0.0]), writer="w1", sequence=1)
    assert {(row["_id"], row["_label"]) for row in hour(store).to_pylist()} == {("a", 0.0), ("b", 1.0)}


def test_the_label_observed_last_wins_whatever_the_order_it_arrived_in(store):
    appending.append(store, POLICY, "predictions", predictions(["a"]), writer="w", sequence=1)
    later = labels(["a"], [1.0], observed=NOON + timedelta(days=2), received=NOON)
    appending.append(store, POLICY, "labels", later, writer="w", sequence=1)
    appending.append(
        store, POLICY, "labels", labels(["a"], [0.0], received=NOON + timedelta(days=3)), writer="w", sequence=2
    )
    assert hour(store)["_label"].to_pylist() == [1.0]


def test_labels_and_corrections_observed_later_are_not_known_yet(store):
    appending.append(store, POLICY, "predictions", predictions(["a", "b"]), writer="w", sequence=1)
    appending.append(store, POLICY, "labels", labels(["a"], [0.0]), writer="w", sequence=1)
    later = labels(["a", "b"], [1.0, 1.0], observed=NOON + timedelta(days=2))
    appending.append(store, POLICY, "labels", later, writer="w", sequence=2)
    known = hour(store, known_at=NOON + timedelta(days=1))
    assert {(row["_id"], row["_label"]) for row in known.to_pylist()} == {("a", 0.0), ("b", None)}
    known = hour(store, known_at=NOON + timedelta(days=2))  # observed at that very moment
    assert {(row["_id"], row["_label"]) for row in known.to_pylist()} == {("a", 1.0), ("b", 1.0)}


def test_late_labels_are_those_of_earlier_predictions_and_corrections_are_told_apart(store):
    day = timedelta(days=1)
    for sequence, days in enumerate((0, 1, 9)):
        made = predictions([f"late-{days}", f"corrected-{days}"], time=NOON - days * day)
        appending.append(store, POLICY, "predictions", made, writer="w", sequence=sequence)
    names = ["late-0", "late-1", "late-9", "corrected-0", "corrected-1", "corrected-9"]
    appending.append(store, POLICY, "labels", labels(names[3:], [0.0] * 3), writer="w", sequence=1)
    again = labels(names, [1.0] * 6, observed=NOON + 2 * day)
    appending.append(store, POLICY, "labels", again, writer="w", sequence=2)
    unknown = labels(["late-1"], [0.0], observed=NOON + 5 * day)
    appending.append(store, POLICY, "labels", unknown, writer="w", sequence=3)
    span = {"since": NOON + day, "known_at": NOON + 3 * day, "columns": ["_time"]}
    found = log.read_late(store, POLICY, NOON - 5 * day, NOON, **span)
    assert found.column_names == ["_time", "_label", "_observed", "_corrected"]
    assert {(row["_label"], row["_corrected"]) for row in found.to_pylist()} == {(1.0, False), (1.0, True)}
    assert set(found["_time"].to_pylist()) == {NOON - day}
    ids = hashes_of(pa.chunked_array([["late-1", "corrected-1"]]))
    assert log.read_late(store, POLICY, NOON - 5 * day, NOON, **span, without=ids).num_rows == 0
    assert log.read_late(store, POLICY, NOON - 20 * day, NOON - 5 * day, **span).num_rows == 2


def test_the_window_holds_its_start_and_not_its_end(store):
    for sequence, minutes in enumerate((-60, 0, 59, 60)):
        batch = predictions([str(minutes)], time=NOON + timedelta(minutes=minutes))
        appending.append(store, POLICY, "predictions", batch, writer="w", sequence=sequence)
    assert set(hour(store)["_id"].to_pylist()) == {"-60", "0", "59"}


def test_labels_of_a_window_find_their_predictions_on_any_day(store):
    for sequence, days in enumerate((0, 40)):
        batch = predictions([f"day-{days}", f"other-{days}"], time=NOON - timedelta(days=days))
        appending.append(store, POLICY, "predictions", batch, writer="w", sequence=sequence)
    ids = ["day-0", "day-40", "never-predicted"]
    appending.append(store, POLICY, "labels", labels(ids, [1.0, 0.0, 1.0]), writer="w", sequence=1)
    found = log.read_labelled(store, POLICY, NOON, NOON + timedelta(hours=1), columns=["_id", "_time"])
    assert {(row["_id"], row["_label"]) for row in found.to_pylist()} == {("day-0", 1.0), ("day-40", 0.0)}
    assert log.read_labelled(store, POLICY, NOON + timedelta(hours=1), NOON + timedelta(hours=2)).num_rows == 0


def test_a_policy_that_gains_a_feature_reads_old_rows_with_nulls_before_and_after_it_writes(store):
    appending.append(store, POLICY, "predictions", predictions(["a"], amount=[1.0]), writer="w", sequence=1)
    wider = declared(age={"type": "number"})
    assert hour(store, wider)["age"].to_pylist() == [None]
    appending.append(store, wider, "predictions", predictions(["b"], age=[33.0]), writer="w", sequence=2)
    assert {row["_id"]: row["age"] for row in hour(store, wider).to_pylist()} == {"a": None, "b": 33.0}
    assert "age" not in hour(store).column_names


def test_a_feature_that_changed_its_type_is_refused_by_name(store):
    appending.append(store, POLICY, "predictions", predictions(["a"], amount=[1.0]), writer="w", sequence=1)
    hashed = declared(amount={"type": "number", "privacy": "hash"})
    with pytest.raises(DataError, match="'amount' is logged as double"):
        appending.append(store, hashed, "predictions", predictions(["b"], amount=["x"]), writer="w", sequence=2)


def test_rows_without_id_or_of_unknown_columns_and_naive_times_are_refused(store):
    with pytest.raises(DataError, match="_id must be given"):
        appending.append(store, POLICY, "predictions", predictions([None]), writer="w", sequence=1)
    with pytest.raises(DataError, match="not of this log"):
        appending.append(store, POLICY, "predictions", predictions(["a"], weight=[1]), writer="w", sequence=1)
    with pytest.raises(UsageError, match="no offset"):
        log.read_window(store, POLICY, NOON.replace(tzinfo=None), NOON)
    with pytest.raises(UsageError, match="no columns"):
        hour(store, columns=["weight"])


def test_known_ids_are_those_with_a_prediction(store):
    appending.append(store, POLICY, "predictions", predictions(["a", "b"]), writer="w", sequence=1)
    assert appending.known_ids(store, POLICY, ["a", "z"]) == {"a"}


EVENTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "cc", "an-id-of-some-length"]), st.integers(-3, 3), st.integers(0, 4)),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(EVENTS, EVENTS, st.sampled_from(["left", "inner", "none"]))
def test_a_window_is_what_a_naive_join_makes_of_duplicates_corrections_and_late_labels(predicted, labelled, which):
    """Each prediction: id, hours from noon, seconds until it was received. Each label: id, days from noon, likewise."""
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        for number, (name, hours, seconds) in enumerate(predicted):
            at, received = NOON + timedelta(hours=hours), NOON + timedelta(seconds=seconds + number / 100)
            batch = predictions([name], time=at, received=received, amount=[number])
            appending.append(store, POLICY, "predictions", batch, writer="w", sequence=number)
        for number, (name, days, seconds) in enumerate(labelled):
            at, received = NOON + timedelta(days=days), NOON + timedelta(seconds=seconds + number / 100)
            batch = labels([name], [number], observed=at, received=received)
            appending.append(store, POLICY, "labels", batch, writer="w", sequence=number)
        rows = hour(store, columns=["amount"], labels=which).to_pylist()
    earliest = {}
    for number, (name, hours, seconds) in enumerate(predicted):
        if -1 <= hours < 1 and (name not in earliest or seconds + number / 100 < earliest[name][0]):
            earliest[name] = seconds + number / 100, number
    latest = {}
    for number, (name, days, seconds) in enumerate(labelled):
        key = days, seconds + number / 100, number
        if days >= -1 and (name not in latest or key > latest[name]):
            latest[name] = key
    expected = {number: latest[name][2] if name in latest else None for name, (_, number) in earliest.items()}
    if which == "inner":
        expected = {number: label for number, label in expected.items() if label is not None}
    if which == "none":
        assert sorted(row["amount"] for row in rows) == sorted(expected)
    else:
        assert sorted((row["amount"], row["_label"]) for row in rows) == sorted(expected.items())


def test_an_outcome_that_is_told_again_counts_from_when_it_was_told_first(store):
    appending.append(store, POLICY, "predictions", predictions(["a", "b"]), writer="one", sequence=1)
    hours = [timedelta(hours=hour) for hour in range(1, 5)]
    for number, (outcome, hour) in enumerate(zip((0.0, 1.0, 1.0, 1.0), hours, strict=True)):
        rows = {"_id": ["a"], "_label": [outcome], "_observed": pa.array([NOON + hour], log.TIME)}
        appending.append(store, POLICY, "labels", pa.table(rows), writer="one", sequence=number)
    found = log.read_window(store, POLICY, NOON, NOON + timedelta(hours=1), columns=["_id"], labels="inner")
    assert found.to_pylist() == [{"_id": "a", "_label": 1.0, "_observed": NOON + hours[1]}]


@pytest.mark.parametrize("wanted", ["left", "inner", "none"])
def test_a_window_read_in_parts_is_the_window(store, monkeypatch, wanted):
    for minute in range(30):
        batch = predictions([f"{minute}-{k}" for k in range(5)], time=NOON + timedelta(minutes=minute))
        appending.append(store, POLICY, "predictions", batch, writer="w", sequence=minute)
    again = predictions(["3-0", "28-1"], time=NOON + timedelta(minutes=29), received=NOON + timedelta(hours=1))
    appending.append(store, POLICY, "predictions", again, writer="w", sequence=30)
    appending.append(store, POLICY, "labels", labels(["3-0", "20-2"], [1.0, 0.0]), writer="w", sequence=0)
    span = NOON, NOON + timedelta(hours=1)
    options = {"columns": ["_time", "_score", "_id"], "labels": wanted}
    whole = log.read_window(store, POLICY, *span, **options)
    monkeypatch.setattr(log, "PART_VALUES", 60)
    parts = list(log.read_parts(store, POLICY, *span, **options))
    assert len(parts) > 5
    assert all(part.column_names == whole.column_names for part in parts)
    read = pa.concat_tables(parts)
    assert read.sort_by("_id").to_pylist() == whole.sort_by("_id").to_pylist()
    without_id = pa.concat_tables(log.read_parts(store, POLICY, *span, columns=["_time"], labels="none"))
    assert (without_id.column_names, without_id.num_rows) == (["_time"], 150)


@pytest.mark.parametrize("wanted", ["left", "inner", "none"])
def test_a_batch_that_is_dated_alike_is_read_in_parts_too(store, monkeypatch, wanted):
    for sequence in range(4):
        append(store, [f"{sequence}-{k}" for k in range(50)], sequence)
    append(store, ["0-0", "later"], 4)
    appending.append(store, POLICY, "labels", labels(["3-0", "2-2"], [1.0, 0.0]), writer="w", sequence=0)
    span, options = (NOON, NOON + timedelta(hours=1)), {"columns": ["_score", "_id"], "labels": wanted}
    whole = log.read_window(store, POLICY, *span, **options)
    monkeypatch.setattr(log, "PART_VALUES", 60)
    parts = list(log.read_parts(store, POLICY, *span, **options))
    assert max(part.num_rows for part in parts) < 100 < whole.num_rows or wanted == "inner"
    assert pa.concat_tables(parts).sort_by("_id").to_pylist() == whole.sort_by("_id").to_pylist()
