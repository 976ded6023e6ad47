import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.errors import StoreError, UsageError
from kedge.store import Store, open_store

PARTS = st.text(st.sampled_from("abcXYZ019-_. "), min_size=1, max_size=8).filter(lambda part: part.strip(". ") == part)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(KEYS, st.binary(max_size=200), st.binary(max_size=200))
def test_what_was_put_last_is_what_is_got(tmp_path_factory: pytest.TempPathFactory, key: str, old: bytes, new: bytes):
    store = open_store(tmp_path_factory.mktemp("store"))
    store.put(key, old)
    store.put(key, new)
    assert store.get(key) == new
    assert list(store.keys("")) == [key]
    assert not store.put_if_absent(key, old)
    assert store.get(key) == new
    store.delete(key)
    store.delete(key)
    assert list(store.keys("")) == []
    assert store.put_if_absent(key, old)
    assert store.get(key) == old


def test_keys_are_those_below_a_prefix_and_not_those_that_begin_alike(store: Store) -> None:
    for key in ("records/a/1.json", "records/ab/1.json", "records/a/0/z.json", "logs/a"):
        store.put(key, b"")
    assert list(store.keys("records/a")) == ["records/a/0/z.json", "records/a/1.json"]
    assert list(store.keys("nothing/here")) == []
    assert len(list(store.keys(""))) == 4


def test_a_key_that_does_not_exist_is_a_key_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        store.get("records/none.json")
    with pytest.raises(KeyError):
        store.fetch("bundles/none", tmp_path / "into")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../../b", "a\0b"])
def test_a_key_that_leaves_the_store_is_refused(store: Store, key: str) -> None:
    for act in (store.get, store.delete, store.uri, lambda name: store.put(name, b"")):
        with pytest.raises(UsageError, match="is not a key"):
            act(key)


def test_addresses_say_where_things_are(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.url == str(tmp_path / "store")
    assert store.uri("a/b") == str(tmp_path / "store/a/b")
    assert store.options() == {}
    monkeypatch.chdir(tmp_path)
    assert open_store("store").url == store.url
    assert open_store(f"file://{tmp_path}/store").url == store.url
    with pytest.raises(UsageError, match="ftp:// is not supported; use a folder or s3://bucket/prefix or gs://"):
        open_store("ftp://bucket")


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store: cannot be a folder: .*/file is a file"):
        open_store(tmp_path / "file" / "store")


def test_who_only_reads_makes_no_folder(tmp_path: Path) -> None:
    store = open_store(tmp_path / "nothing")
    assert (list(store.keys("records")), list(store.keys(""))) == ([], [])
    store.delete("records/1.json")
    with pytest.raises(KeyError):
        store.get("records/1.json")
    assert not (tmp_path / "nothing").exists()
    assert store.put_if_absent("records/1.json", b"{}")
    assert list(store.keys("")) == ["records/1.json"]


def test_what_is_fetched_is_the_folder_itself(store: Store, tmp_path: Path) -> None:
    store.put("bundles/m/1/deep/model.ubj", b"\x00\x01")
    assert (store.fetch("bundles/m/1", tmp_path / "into") / "deep" / "model.ubj").read_bytes() == b"\x00\x01"


def _race(
    root: str, barrier: "multiprocessing.synchronize.Barrier", wins: "multiprocessing.Queue[int]", who: int
) -> None:
    store = open_store(root)
    for turn in range(40):
        barrier.wait(30)
        if store.put_if_absent(f"records/m/check/{turn}.json", str(who).encode()):
            wins.put(turn)
    wins.put(-1)


def test_of_two_processes_at_once_exactly_one_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    barrier, wins = context.Barrier(2), context.Queue()
    racers = [context.Process(target=_race, args=(str(tmp_path), barrier, wins, who)) for who in (1, 2)]
    for racer in racers:
        racer.start()
    won, ended = [], 0
    while ended < 2:
        turn = wins.get(timeout=60)
        if turn < 0:
            ended += 1
        else:
            won.append(turn)
    for racer in racers:
        racer.join(60)
    assert sorted(won) == list(range(40))
    assert not list(tmp_path.rglob("*.part"))


DIES = """
import os, pathlib, sys
from kedge.store import open_store
pathlib.Path.rename = pathlib.Path.hardlink_to = lambda *_: os._exit(9)
store = open_store(sys.argv[1])
getattr(store, sys.argv[2])("records/m/check/1.json", b"new")
"""


@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
def test_a_process_that_dies_between_write_and_rename_leaves_nothing_to_see(verb: str, store: Store) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, store.url, verb], check=False)
    assert ended.returncode == 9
    assert list(store.keys("")) == []
    with pytest.raises(KeyError):
        store.get("records/m/check/1.json")
    assert store.put_if_absent("records/m/check/1.json", b"later")
    assert store.get("records/m/check/1.json") == b"later"


def test_a_writer_that_dies_leaves_the_old_bytes(store: Store) -> None:
    store.put("records/m/check/1.json", b"old")
    subprocess.run([sys.executable, "-c", DIES, store.url, "put"], check=False)
    assert store.get("records/m/check/1.json") == b"old"


CAN_MOUNT = os.geteuid() == 0 and sys.platform == "linux"


def _mounted(folder: Path) -> bool:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not CAN_MOUNT, reason="a full disk is made with a small tmpfs, which needs root on Linux")
@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
def test_a_full_disk_is_an_error_that_leaves_the_old_bytes(verb: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not _mounted(disk):
        pytest.skip("mount is not permitted here")
    try:
        store = open_store(disk)
        store.put("a", b"old")
        with pytest.raises(StoreError, match=rf"store {disk}: cannot write b: No space left on device") as raised:
            getattr(store, verb)("b", bytes(200_000))
        assert raised.value.exit_code == 1
        with pytest.raises(StoreError, match="cannot write a"):
            store.put("a", bytes(200_000))
        assert store.get("a") == b"old"
        assert [path.name for path in disk.iterdir()] == ["a"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_in_the_middle_of_a_write_leaves_no_part_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for verb in (store.put, store.put_if_absent):
        with pytest.raises(StoreError, match="No space left on device"):
            verb("b", b"new")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


def test_folders_are_listed_without_their_keys(tmp_path):
    store = open_store(tmp_path)
    assert store.folders("records") == []
    for key in ("records/b/check/1.json", "records/a/check/1.json", "records/a/promoted/1.json", "records/stray.json"):
        store.put(key, b"{}")
    assert store.folders("records") == ["a", "b"]


def test_items_have_size_and_age_and_no_empty_folder_is_left(store: Store, tmp_path: Path) -> None:
    store.put("a/b/1", b"123")
    store.put("a/c/2", b"")
    os.utime(tmp_path / "store/a/b/1", (0, 0))
    assert [(item.key, item.size) for item in store.items("a")] == [("a/b/1", 3), ("a/c/2", 0)]
    assert store.items("a")[0].modified == datetime.fromtimestamp(0, UTC)
    store.delete("a/b/1")
    assert store.folders("a") == ["c"]
    store.delete("a/c/2")
    assert (store.folders("a"), store.items("a"), (tmp_path / "store").is_dir()) == ([], [], True)
