"""The log while several write to it, put its files together, drop old days and read it, all at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from shutil import rmtree

import pyarrow as pa
import pytest

from kedge import policy as policies
from kedge.errors import DataError, StoreError
from kedge.tables import appending, log, upkeep

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = policies.parse(
    {
        "model": {"name": "payments", "target": "returned", "features": {"amount": {"type": "number"}}},
        "data": {"source": {"format": "log"}},
    }
)
BATCHES, ROWS = 12, 5


def batch(writer, number, time=NOON):
    ids = [f"{writer}-{number}-{row}" for row in range(ROWS)]
    return pa.table({"_id": ids, "_time": pa.array([time] * ROWS, log.TIME)})


def write(store, writer):
    for number in range(BATCHES):
        appending.append(store, POLICY, "predictions", batch(writer, number), writer=writer, sequence=number)


def keep_tidy(store, done):
    """Compacts and drops old days until told to end; another's commit may win, as the collector's upkeep allows."""
    tidied = 0
    while not done():
        try:
            upkeep.compact(store, POLICY)
            upkeep.drop_old(store, POLICY, timedelta(0), NOON)
        except StoreError:
            continue
        tidied += 1
    return tidied


def read(store):
    rows = log.read_window(store, POLICY, NOON, NOON + timedelta(hours=1), columns=["_id"], labels="none")
    return rows["_id"].to_pylist()


def test_two_writers_lose_nothing_while_files_are_put_together_and_readers_see_whole_batches(store):
    old = batch("old", 0, NOON - timedelta(days=9))
    appending.append(store, POLICY, "predictions", old, writer="old", sequence=0)
    seen = []
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, store, name) for name in ("one", "two")]

        def done():
            return all(writer.done() for writer in writers)

        tidied = pool.submit(keep_tidy, store, done)
        while not done():
            seen.append(read(store))
        for writer in writers:
            writer.result()
        tidied.result()
    upkeep.compact(store, POLICY)
    upkeep.drop_old(store, POLICY, timedelta(0), NOON)
    everything = {f"{w}-{n}-{r}" for w in ("one", "two") for n in range(BATCHES) for r in range(ROWS)}
    assert sorted(read(store)) == sorted(everything)
    assert appending.known_ids(store, POLICY, ["old-0-0"]) == set()
    assert all(len(ids) == len(set(ids)) and len(ids) % ROWS == 0 for ids in seen)
    assert [len(ids) for ids in seen] == sorted(len(ids) for ids in seen)


def test_a_table_opened_before_files_are_put_together_is_read_whole_after_it(store):
    write(store, "one")
    opened = appending.open_table(store, "logs/payments/predictions").to_pyarrow_dataset()
    assert upkeep.compact(store, POLICY) == BATCHES
    upkeep.vacuum(store, POLICY)
    assert opened.count_rows() == BATCHES * ROWS


def test_files_of_other_days_and_other_hours_of_the_day_are_not_opened(store, tmp_path):
    for number, hours in enumerate((0, -3, -30)):
        rows = batch("one", number, NOON + timedelta(hours=hours))
        appending.append(store, POLICY, "predictions", rows, writer="one", sequence=number)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("_day=*/*.parquet")}
    assert len(files) == 3
    for path in sorted(files, key=lambda path: files[path])[1:]:
        path.unlink()
    assert len(read(store)) == ROWS
    with pytest.raises(StoreError):
        log.read_window(store, POLICY, NOON - timedelta(hours=4), NOON)


@pytest.fixture
def days(store):
    """The days that are left of thirty, one row received a day, after the retention of five of them."""
    for number in range(30):
        moment = pa.array([NOON - timedelta(days=number)], log.TIME)
        rows = pa.table({"_id": [f"r{number}"], "_time": moment, "_received": moment})
        appending.append(store, POLICY, "predictions", rows, writer="one", sequence=number)

    def left(now, **options):
        upkeep.drop_old(store, POLICY, timedelta(days=5), now, **options)
        return len(appending.days(appending.open_table(store, "logs/payments/predictions")))

    return left


def test_days_older_than_the_retention_are_dropped(days):
    assert days(NOON) == 6


def test_a_clock_that_is_ahead_drops_nothing_that_is_young_beside_the_newest_row(days):
    assert days(NOON + timedelta(days=400)) == 6


@pytest.mark.parametrize("received", [timedelta(0), timedelta(hours=2)])
def test_a_clock_that_was_ahead_while_a_row_was_received_drops_nothing_young(days, store, received):
    ahead = NOON + timedelta(days=400)
    moment = pa.array([ahead - received], log.TIME)
    rows = pa.table({"_id": ["new"], "_time": pa.array([NOON], log.TIME), "_received": moment})
    appending.append(store, POLICY, "predictions", rows, writer="two", sequence=0)
    with pytest.raises(DataError, match=r"would drop \d\d days at once .* Check the clock .*--max-drop-days"):
        days(ahead, max_days=7)
    assert days(NOON, max_days=30) == 6


def test_a_clock_that_was_ahead_for_a_moment_leaves_a_young_log_alone(store):
    for number, moment in enumerate((NOON, NOON + timedelta(days=400))):
        times = pa.array([moment], log.TIME)
        rows = pa.table({"_id": [f"r{number}"], "_time": times, "_received": times})
        appending.append(store, POLICY, "predictions", rows, writer="one", sequence=number)
    upkeep.drop_old(store, POLICY, timedelta(days=5), NOON + timedelta(days=400))
    assert len(appending.days(appending.open_table(store, "logs/payments/predictions"))) == 2


def _cut(folder):
    newest = max(folder.glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_cut, "12.json is cut off"),
        (lambda folder: max(folder.glob("*.json")).write_bytes(b""), "12.json is empty"),
        (lambda folder: (folder / f"{5:020}.json").write_bytes(b""), "5.json is empty"),
        (lambda folder: min(folder.glob("*1.json")).unlink(), "1.json is missing"),
        (lambda folder: (folder / f"{0:020}.json").write_bytes(b""), "0.json is cut off"),
        (lambda folder: (folder / "_last_checkpoint").write_text('{"version":1,"size":3}'), "1.checkpoint.parquet is"),
    ],
)
def test_a_damaged_log_of_a_table_is_named_with_what_to_do(store, tmp_path, damage, what):
    write(store, "one")
    damage(tmp_path / "store/logs/payments/predictions/_delta_log")
    told = rf"predictions: the table's _delta_log is damaged \(0*{what}.*; restore it"
    for work in (read, lambda store: write(store, "two")):
        with pytest.raises(StoreError, match=told) as refused:
            work(store)
        assert "\n" not in str(refused.value)


def test_an_appender_that_holds_its_table_open_names_a_commit_that_another_left_empty(store, tmp_path):
    opened = {}
    for number in range(2):
        appending.append(store, POLICY, "predictions", batch("a", number), writer="a", sequence=number, opened=opened)
    (tmp_path / f"store/logs/payments/predictions/_delta_log/{3:020}.json").write_bytes(b"")
    with pytest.raises(StoreError, match=r"3\.json is empty"):
        appending.append(store, POLICY, "predictions", batch("a", 2), writer="a", sequence=2, opened=opened)


def test_a_table_without_its_log_is_no_new_table(store, tmp_path):
    write(store, "one")
    rmtree(tmp_path / "store/logs/payments/predictions/_delta_log")
    for work in (read, lambda store: write(store, "two")):
        with pytest.raises(StoreError, match="its _delta_log is gone, its files are there"):
            work(store)


def test_what_was_appended_is_on_the_disk_before_anybody_is_told(store, tmp_path, monkeypatch):
    """A journal's segment is deleted then, and a node may lose its power in the same moment."""
    synced, fsync = set(), os.fsync

    def remember(handle):
        synced.add(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", remember)
    write(store, "one")
    upkeep.compact(store, POLICY)
    root = tmp_path / "store/logs/payments/predictions"
    assert {str(path) for path in root.rglob("*")} | {str(root), str(root.parent)} <= synced


def test_an_upkeep_that_fails_is_a_fault_of_the_store_with_its_table(store, tmp_path):
    write(store, "one")
    for file in (tmp_path / "store").rglob("_day=*/*.parquet"):
        file.write_bytes(b"no Parquet")
    for work in (upkeep.compact, lambda *given: upkeep.remove_repeats(*given, NOON - timedelta(days=999), tmp_path)):
        with pytest.raises(StoreError, match=r"logs/payments/predictions: "):
            work(store, POLICY)
