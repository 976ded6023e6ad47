"""Progress is shown to people and to nobody else."""

import io
import sys

import pyarrow as pa

from kedge import progress

BATCHES = [pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": [3]})]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_away_from_a_terminal_batches_pass_untouched_and_nothing_is_written(capsys):
    assert progress.watched(BATCHES, "reading") is BATCHES
    with progress.bar("days", 2, print) as (advance, say):
        advance()
        say("a line")
    assert capsys.readouterr() == ("a line\n", "")


def test_on_a_terminal_the_rows_are_counted_and_every_batch_comes_through(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.watched(BATCHES, "reading")) == BATCHES
    assert "3 rows" in terminal.getvalue()


def test_on_a_terminal_lines_stand_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar("days", 1, print) as (advance, say):
        say("[bold]as written")
        advance()
    assert "[bold]as written" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
