"""Secrets that change while a process runs."""

import os
import signal
import threading

import pytest

from kedge import mounted_secrets
from kedge.mounted_secrets import end, look, renew, watch


@pytest.fixture
def folder(tmp_path):
    """Mounted as the kubelet does: links through ``..data``, which it turns at once."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "TOKEN").write_text("old")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "TOKEN").symlink_to("..data/TOKEN")
    return tmp_path


def turn(folder, **values):
    new = folder / "..two"
    new.mkdir()
    for name, value in values.items():
        (new / name).write_text(value)
    (folder / "..data.new").symlink_to("..two")
    os.replace(folder / "..data.new", folder / "..data")


def test_a_changed_secret_is_told_once_with_what_it_was(folder):
    told = []
    held = look(folder, None, lambda *both: told.append(both))
    held = look(folder, held, lambda *both: told.append(both))
    assert told == []
    turn(folder, TOKEN="new")
    for _ in range(2):
        held = look(folder, held, lambda *both: told.append(both))
    assert told == [({"TOKEN": b"old"}, {"TOKEN": b"new"})]


def test_what_cannot_be_read_for_the_moment_is_no_change(folder):
    told = []
    assert look(folder / "gone", {"TOKEN": b"old"}, lambda *both: told.append(both)) == {"TOKEN": b"old"}
    assert told == []


def test_variables_that_came_from_a_secret_are_set_anew_and_others_stay(monkeypatch):
    for name, value in (("TOKEN", "old"), ("MINE", "own"), ("GONE", "old")):
        monkeypatch.setenv(name, value)
    renew({"TOKEN": b"old", "MINE": b"theirs", "GONE": b"old"}, {"TOKEN": b"new", "MINE": b"other"})
    assert (os.environ["TOKEN"], os.environ["MINE"]) == ("new", "own")
    assert "GONE" not in os.environ


def test_a_process_that_reads_once_is_told_to_end_and_says_why_without_a_value(capsys):
    ended = []
    kept = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    try:
        end({"KEY": b"old", "SAME": b"x"}, {"KEY": b"new", "SAME": b"x"})
    finally:
        signal.signal(signal.SIGTERM, kept)
    said = capsys.readouterr().err
    assert ended == [True]
    assert "(KEY)" in said
    assert "new" not in said


def test_the_watch_sees_a_change_and_nothing_is_watched_without_a_folder(folder, monkeypatch):
    seen = threading.Event()
    monkeypatch.setattr(mounted_secrets, "SECONDS", 0.01)
    monkeypatch.delenv("KEDGE_SECRETS", raising=False)
    before = threading.active_count()
    watch(lambda *_: seen.set())
    assert threading.active_count() == before
    monkeypatch.setenv("KEDGE_SECRETS", str(folder))
    watch(lambda *_: seen.set())
    while not seen.wait(0.05):  # the thread's first look may be after the change
        (folder / "..data").is_symlink() and (folder / "one" / "TOKEN").write_text(os.urandom(4).hex())
