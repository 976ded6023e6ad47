import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.errors import DataError, StoreError
from kedge.policy import Policy
from kedge.records import Window
from kedge.store import Store
from kedge.tables import snapshot, sources
from kedge.tables.fingerprint import canonical_order, fingerprint
from kedge.tables.snapshot import Snapshot
from tests.tables.conftest import END

Policies = Callable[..., Policy]


def taken(policy: Policy, store: Store, end: datetime | None = END) -> Snapshot:
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    return snapshot.take(table, policy, store, end=end)


@pytest.fixture
def file(tmp_path: Path, parcels: pa.Table) -> Path:
    pq.write_table(parcels, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_a_snapshot_reads_back_in_time_order(file: Path, parcels: pa.Table, policy_for: Policies, store: Store) -> None:
    pq.write_table(parcels.take([4, 9, 0, 2, 1, 3, 8, 7, 5, 6]), file)
    made = taken(policy_for(file), store)
    rows = snapshot.read(store, snapshot.load(store, "parcels", made.fingerprint))
    assert rows.column_names == ["_time", "_id", "weight", "items", "express", "country", "late"]
    assert rows["_time"].to_pylist() == parcels["sent"].to_pylist()
    assert rows["items"].to_pylist() == [float(k) for k in range(10)]
    assert (made.rows, made.oldest, made.newest) == (10, *(parcels["sent"][k].as_py() for k in (0, 9)))
    assert made.source == str(file)
    assert made.target_values == {"0": 7, "1": 3}


@pytest.mark.parametrize("part_rows", [3, 100])
def test_the_newest_rows_before_a_time_are_read_from_as_few_parts_as_hold_them(
    file: Path, parcels: pa.Table, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr(snapshot, "PART_ROWS", part_rows)
    monkeypatch.setattr(snapshot, "SLICE_ROWS", min(part_rows, snapshot.SLICE_ROWS))
    made = taken(policy_for(file), store)
    times = sorted(parcels["sent"].to_pylist())
    assert len(made.parts) == (4 if part_rows == 3 else 1)
    if part_rows == 3:
        store.put(f"snapshots/parcels/{made.fingerprint}/{made.parts[0].name}", b"not needed")
    rows = snapshot.newest(store, made, 4, before=times[8], columns=["_time", "items"])
    assert rows["_time"].to_pylist() == times[4:8]


def test_the_fingerprint_is_of_the_rows_and_not_of_their_layout(
    tmp_path: Path, file: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    made = taken(policy_for(file), store).fingerprint
    assert len(made) == 40
    pa_csv.write_csv(parcels.take([4, 9, 0, 2, 1, 3, 8, 7, 5, 6]), tmp_path / "t.csv")
    assert taken(policy_for(tmp_path / "t.csv", "csv"), store).fingerprint == made
    folder = tmp_path / "days"
    folder.mkdir()
    pq.write_table(parcels.slice(5), folder / "1.parquet", row_group_size=2)
    pq.write_table(parcels.slice(0, 5), folder / "2.parquet")
    assert taken(policy_for(folder), store).fingerprint == made
    assert len(snapshot.all_of(store, "parcels")) == 1


@pytest.mark.parametrize("column", ["weight", "items", "express", "country", "late", "parcel", "sent"])
def test_one_changed_value_is_another_fingerprint(
    column: str, file: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    before = taken(policy_for(file), store).fingerprint
    values = parcels[column].to_pylist()
    values[0] = {"country": "BE", "parcel": "q", "express": False, "sent": datetime(2026, 3, 1, 23, tzinfo=UTC)}.get(
        column, 1
    )
    pq.write_table(parcels.set_column(parcels.column_names.index(column), column, pa.array(values)), file)
    assert taken(policy_for(file), store).fingerprint != before


def test_a_missing_value_is_not_zero_and_not_an_empty_text() -> None:
    def of(values: list[object], kind: pa.DataType) -> str:
        time = pa.array([0] * len(values)).cast(pa.timestamp("us", tz="UTC"))
        return fingerprint(pa.table({"_time": time, "x": pa.array(values, kind)}))

    assert of([0.0, 1.0], pa.float64()) != of([None, 1.0], pa.float64())
    assert of(["", "b"], pa.string()) != of([None, "b"], pa.string())
    assert of(["a", "bc"], pa.string()) != of(["ab", "c"], pa.string())


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.one_of(st.none(), st.floats(allow_nan=False)),
        st.one_of(st.none(), st.sampled_from(["a", "b", "aa"])),
    ),
    min_size=1,
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 7))
def test_neither_order_nor_chunks_change_the_fingerprint(
    rows: list[tuple[int, float | None, str | None]], dice: random.Random, chunk: int
) -> None:
    def table(order: list[tuple[int, float | None, str | None]], size: int) -> pa.Table:
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        schema = pa.schema([("_time", pa.timestamp("us", tz="UTC")), ("x", pa.float64()), ("c", pa.string())])
        kinds = (pa.int64(), pa.float64(), pa.string())
        return pa.concat_tables(
            [
                pa.table(
                    [
                        pa.array([row[index] for row in part], kind).cast(field.type)
                        for index, (kind, field) in enumerate(zip(kinds, schema, strict=True))
                    ],
                    schema=schema,
                )
                for part in parts
            ]
        )

    rows = [(time, None if number is None else number + 0.0, text) for time, number, text in rows]
    shuffled = list(rows)
    dice.shuffle(shuffled)
    first = canonical_order(table(rows, len(rows)))
    assert fingerprint(first) == fingerprint(canonical_order(table(shuffled, chunk)))
    assert first["_time"].to_pylist() == sorted(first["_time"].to_pylist())


def test_later_rows_too_young_ones_and_too_old_ones_are_left_out(
    file: Path, policy_for: Policies, store: Store
) -> None:
    end = datetime(2026, 3, 2, 8, tzinfo=UTC)
    made = taken(policy_for(file, label_delay_seconds=7200, history_seconds=5 * 3600), store, end)
    assert snapshot.read(store, made, ["items"])["items"].to_pylist() == [3.0, 4.0, 5.0]
    assert made.end == end


def test_without_an_end_the_clock_is_asked(
    file: Path, policy_for: Policies, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock").write_text("2026-03-02T02:00:00+00:00")
    monkeypatch.setenv("KEDGE_CLOCK", str(tmp_path / "clock"))
    assert taken(policy_for(file), store, None).rows == 2


def test_an_empty_table_and_an_empty_time_range_are_told_apart(
    file: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    with pytest.raises(DataError, match=r"10 rows lie from 2026-03-02T00:00:00.* to .*, none before 1999-01-01"):
        taken(policy_for(file), store, datetime(1999, 1, 1, tzinfo=UTC))
    pq.write_table(parcels.slice(0, 0), file)
    with pytest.raises(DataError, match=r"t\.parquet: empty: not one row"):
        taken(policy_for(file), store)
    assert list(store.keys("")) == []


def test_a_table_that_lost_its_newest_rows_is_refused_and_both_are_named(
    file: Path, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    before = taken(policy_for(file), store)
    pq.write_table(parcels.slice(0, 7), file)
    with pytest.raises(DataError) as raised:
        taken(policy_for(file), store, END + timedelta(days=1))
    message = str(raised.value)
    assert "time goes backwards: its newest usable row is of 2026-03-02 06:00:00+00:00" in message
    assert f"snapshot {before.fingerprint}" in message
    assert "had one of 2026-03-02 09:00:00+00:00" in message
    assert len(snapshot.all_of(store, "parcels")) == 1


def test_a_longer_label_delay_or_another_row_time_is_no_going_backwards(
    file: Path, policy_for: Policies, store: Store
) -> None:
    taken(policy_for(file), store, datetime(2026, 3, 2, 10, tzinfo=UTC))
    assert taken(policy_for(file, label_delay_seconds=7200), store, datetime(2026, 3, 2, 10, tzinfo=UTC)).rows == 8
    for start in ("2001-01-01", "2000-01-01"):
        row_time = {"start": start, "step_seconds": 60}
        assert taken(policy_for(file, time_column=None, row_time=row_time), store).rows == 10


def test_rows_left_out_as_corrupt_are_no_going_backwards(file: Path, policy_for: Policies, store: Store) -> None:
    taken(policy_for(file), store)
    policy = policy_for(file)
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    corrupt = [Window(start=datetime(2026, 3, 2, 8, tzinfo=UTC), end=datetime(2026, 3, 2, 12, tzinfo=UTC))]
    assert snapshot.take(table, policy, store, end=END, without=corrupt).rows == 8


def test_looking_back_on_purpose_is_no_going_backwards(file: Path, policy_for: Policies, store: Store) -> None:
    taken(policy_for(file), store)
    assert taken(policy_for(file), store, datetime(2026, 3, 2, 5, tzinfo=UTC)).rows == 5


def test_a_value_that_cannot_be_read_is_kept_as_a_fault(tmp_path: Path, policy_for: Policies, store: Store) -> None:
    file = tmp_path / "t.csv"
    head = "parcel,sent,weight,items,express,country,late\n"
    file.write_text(head + "a,2026-03-02T01:00:00,1,1,1,AT,1\nb,2026-03-02T00:00:00,x,1,1,AT,0\nc,soon,1,1,1,AT,0\n")
    made = taken(policy_for(file, "csv"), store)
    assert made.faults == 2
    rows = snapshot.read(store, made, provenance=True).to_pylist()
    assert [(row["_row"], row["_fault"]) for row in rows] == [
        (2, "column 'weight': 'x' is not a number"),
        (1, None),
        (3, "column 'sent': 'soon' is not a time such as 2026-03-02T08:00:00Z"),
    ]


def test_provenance_is_no_part_of_the_fingerprint_and_read_on_demand(
    file: Path, policy_for: Policies, store: Store
) -> None:
    made = taken(policy_for(file), store)
    assert "_row" not in made.columns
    rows = snapshot.read(store, made, ["items"], provenance=True)
    assert rows.column_names == ["items", "_file", "_row"]
    assert rows["_row"].to_pylist() == list(range(1, 11))


def test_derive_without_a_row_less_is_the_parent(file: Path, policy_for: Policies, store: Store) -> None:
    made = taken(policy_for(file), store)
    rows = snapshot.read(store, made, provenance=True)
    assert snapshot.derive(store, made, [rows], 10) == made
    fewer = snapshot.derive(store, made, [rows.slice(1)], 9)
    assert (fewer.parent, fewer.rows) == (made.fingerprint, 9)
    assert snapshot.read(store, fewer, ["items"])["items"][0].as_py() == 1.0


def test_an_altered_or_missing_part_is_never_read(file: Path, policy_for: Policies, store: Store) -> None:
    made = taken(policy_for(file), store)
    key = f"snapshots/parcels/{made.fingerprint}/{made.parts[0].name}"
    raw = bytearray(store.get(key))
    raw[len(raw) // 2] ^= 1
    store.put(key, bytes(raw))
    with pytest.raises(StoreError, match=r"part-00000-\w+\.parquet: altered since it was written"):
        snapshot.read(store, made)
    store.delete(key)
    with pytest.raises(StoreError, match=r"part-00000-\w+\.parquet: missing"):
        snapshot.read(store, made)


def test_an_unknown_snapshot_and_an_unknown_column_are_named(file: Path, policy_for: Policies, store: Store) -> None:
    with pytest.raises(DataError, match="no snapshot 00ff of model parcels"):
        snapshot.load(store, "parcels", "00ff")
    made = taken(policy_for(file), store)
    with pytest.raises(DataError, match=f"snapshot {made.fingerprint}: no column 'size'; it has _time, _id"):
        snapshot.read(store, made, ["size"])


def test_a_broken_manifest_is_named(file: Path, policy_for: Policies, store: Store) -> None:
    made = taken(policy_for(file), store)
    store.put(f"snapshots/parcels/{made.fingerprint}/snapshot.json", b'{"rows": 3}')
    with pytest.raises(StoreError, match=r"snapshot\.json: not a snapshot kedge wrote"):
        snapshot.load(store, "parcels", made.fingerprint)


def test_large_snapshots_are_several_parts(
    file: Path, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taken(policy_for(file), store)
    monkeypatch.setattr(snapshot, "PART_ROWS", 3)
    for key in list(store.keys("snapshots")):
        store.delete(key)
    made = taken(policy_for(file), store)
    assert [part.rows for part in made.parts] == [3, 3, 3, 1]
    assert made.fingerprint == whole.fingerprint
    assert snapshot.read(store, made).equals(snapshot.read(store, replace(made)))
    assert snapshot.read(store, made)["items"].to_pylist() == [float(k) for k in range(10)]


def test_a_take_cut_short_leaves_nothing_that_reads_as_a_snapshot(
    file: Path, policy_for: Policies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise StoreError("store: cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "put_if_absent", full)
        with pytest.raises(StoreError):
            taken(policy_for(file), store)
    assert snapshot.all_of(store, "parcels") == []
    assert taken(policy_for(file), store).rows == 10


def test_the_same_rows_again_renew_a_snapshot_and_complete_one_that_lacks_a_part(
    file: Path, policy_for: Policies, store: Store
) -> None:
    made = taken(policy_for(file), store)
    manifest, part = (f"snapshots/parcels/{made.fingerprint}/{name}" for name in ("snapshot.json", made.parts[0].name))
    os.utime(Path(store.url, manifest), (0, 0))
    assert taken(policy_for(file), store) == made
    assert store.items(manifest.rpartition("/")[0])[-1].modified.year > 1970
    store.delete(part)
    assert snapshot.read(store, taken(policy_for(file), store)).num_rows == made.rows
