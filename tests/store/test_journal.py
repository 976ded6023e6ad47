"""The journal on a disk that fails, goes away or holds what nobody wrote."""

import errno
import os

import pytest

from kedge.store import journal as journals
from kedge.store.journal import Journal, frame


def read(journal):
    damage = []
    rows = [bytes(payload) for segment in journal.rotate() for payload in journal.read(segment, damage.append)]
    return rows, damage


def failing(*arguments):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_after_a_folder_that_was_not_synced_nothing_is_acknowledged_in_that_file(tmp_path, monkeypatch):
    journal = Journal(tmp_path, segment_bytes=1000)
    monkeypatch.setattr(journals, "sync_folder", failing)
    with pytest.raises(OSError, match="Input/output"):
        journal.append(frame(b"lost"))
    monkeypatch.undo()
    journal.append(frame(b"kept"))
    assert read(journal) == ([b"kept"], [])
    assert [segment.number for segment in journal.rotate()] == [0, 1]


def test_nothing_is_written_where_the_journal_is_not_and_it_goes_on_when_it_is_back(tmp_path):
    folder, away = tmp_path / "journal", tmp_path / "away"
    journal = Journal(folder, segment_bytes=1000)
    journal.append(frame(b"a"))
    folder.rename(away)
    for appear in (lambda: None, folder.mkdir):  # gone, and what lies below a mount
        appear()
        for use in (lambda: journal.append(frame(b"b")), journal.probe):
            with pytest.raises(OSError, match="volume mounted"):
                use()
    assert list(folder.iterdir()) == []
    folder.rmdir()
    away.rename(folder)
    journal.probe()
    journal.append(frame(b"c"))
    assert read(journal) == ([b"a", b"c"], [])


def test_a_file_of_somebody_else_holds_up_nothing(tmp_path):
    for name in ("old-copy.log", "notes.log", "collect-1.log.bak"):
        (tmp_path / name).write_text("?")
    journal = Journal(tmp_path, segment_bytes=1000)
    journal.append(frame(b"a"))
    assert read(journal) == ([b"a"], [])


def test_what_was_taken_over_is_whole_though_others_follow(tmp_path):
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / f"collect-old-{3:012d}.log").write_bytes(frame(b"a"))
    journal = Journal(tmp_path / "journal", segment_bytes=1000)
    journal.adopt(aside)
    journal.append(frame(b"b"))
    assert read(journal) == ([b"a", b"b"], [])
    assert not list(aside.iterdir())
