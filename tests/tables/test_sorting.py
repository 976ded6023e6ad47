"""Rows that do not fit into memory come out in the order of rows that do."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.tables import sorting
from kedge.tables.fingerprint import canonical_order
from kedge.tables.sorting import Sorter

TIMES = st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=60)


def table(times: list[int | None], seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    values = [None if value == 3 else value for value in random.integers(0, 4, len(times)).tolist()]
    return pa.table(
        {
            "_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "x": pa.array(values, pa.float64()),
            "name": pa.array(["abc"[value] for value in random.integers(0, 3, len(times))]),
        }
    )


def ordered(rows: pa.Table, batch: int, folder: Path) -> pa.Table:
    sorter = Sorter(folder)
    for each in rows.to_batches(max_chunksize=batch):
        sorter.add(each)
    assert sorter.rows == rows.num_rows
    return pa.concat_tables(sorter.blocks())


@given(times=TIMES, seed=st.integers(0, 1000), run=st.integers(1, 9), block=st.integers(1, 5), batch=st.integers(1, 7))
def test_runs_merged_are_the_rows_sorted_at_once(
    times: list[int | None], seed: int, run: int, block: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = table(times, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "RUN_ROWS", run)
        patch.setattr(sorting, "BLOCK_ROWS", block)
        found = ordered(rows, batch, tmp_path_factory.mktemp("runs"))
    assert found.to_pylist() == canonical_order(rows).to_pylist()


def test_runs_of_rows_in_order_are_not_held_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_ROWS", 10)
    monkeypatch.setattr(sorting, "BLOCK_ROWS", 5)
    sizes: list[int] = []
    plain = sorting.canonical_order
    monkeypatch.setattr(sorting, "canonical_order", lambda rows: sizes.append(rows.num_rows) or plain(rows))
    ordered(table(list(range(200)), 0), 10, tmp_path)
    assert max(sizes) <= 10
