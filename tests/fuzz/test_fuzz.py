"""The short form of the fuzzers; the long one: ``python -m tests.fuzz 5000``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kedge import policy as policies
from tests.fuzz import policies as broken
from tests.fuzz import tried

SHARE = int(os.environ.get("KEDGE_FUZZ", "1"))
"""So many times the usual number of mutants."""


def test_every_broken_policy_is_read_or_refused_with_file_and_line() -> None:
    ends = [tried.policy(seed) for seed in range(500 * SHARE)]
    assert ends.count("") > len(ends) / 50
    assert len(set(ends)) > len(ends) / 3


@pytest.mark.parametrize("seed", range(60 * SHARE))
def test_a_policy_written_otherwise_is_the_same(seed: int) -> None:
    assert policies.read(broken.twin(seed), "p.yaml").hash == policies.read(broken.VALID, "p.yaml").hash


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("first", range(0, 160 * SHARE, 20))
def test_every_broken_table_is_read_or_refused_with_its_place(first: int, tmp_path: Path) -> None:
    ends = []
    for seed in range(first, first + 20):
        (tmp_path / str(seed)).mkdir()
        ends.append(tried.table(seed, tmp_path / str(seed)))
    assert any(ends), "no table was broken enough for any command to refuse it"
    assert any(len(errors) < tried.COMMANDS for errors in ends), "no command read any table"


@pytest.mark.parametrize("first", range(0, 40 * SHARE, 10))
def test_the_same_rows_are_one_snapshot_however_they_are_stored(first: int, tmp_path: Path) -> None:
    names = set()
    for seed in range(first, first + 10):
        (tmp_path / str(seed)).mkdir()
        names.add(tried.twin(seed, tmp_path / str(seed)))
    assert len(names) == 1
