"""The same in object storage: log, Parquet file and Delta table."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from kedge.clouds import place_of
from kedge.store import open_store
from kedge.tables import log
from tests import clouds
from tests.scoring.conftest import ROWS


@pytest.fixture(params=["s3", "gs", "abfss"])
def bucket(request, monkeypatch, tmp_path, world):
    with clouds.storage(request.param, tmp_path) as (address, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        world.store = open_store(f"{address}/store")
        world.release(world.bundle())
        yield address


def test_a_table_is_scored_from_object_storage_into_it(world, bucket):
    files = open_store(bucket)
    rows = io.BytesIO()
    pq.write_table(pq.read_table(world.table()), rows)
    files.put("rows.parquet", rows.getvalue())
    first = world.score(f"{bucket}/rows.parquet", f"{bucket}/scores.parquet")
    assert (first.logged, first.written) == (True, True)
    assert pq.read_table(io.BytesIO(files.get("scores.parquet"))).num_rows == ROWS
    assert len(log.read_window(world.store, world.policy, world.now, world.now.replace(hour=3))) == ROWS
    for written in (True, False):
        again = world.score(f"{bucket}/rows.parquet", f"{bucket}/scores")
        assert (again.logged, again.written) == (False, written)
    table = DeltaTable(f"{bucket}/scores", storage_options=place_of(bucket).options)
    assert table.to_pyarrow_dataset().count_rows() == ROWS
    assert table.version() == 1
