"""The same in object storage: log, Parquet file and Delta table."""

from __future__ import annotations

import boto3
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from moto.server import ThreadedMotoServer

from kedge.store import open_store
from kedge.store.objects import storage_options
from kedge.tables import log
from kedge.tables.files import s3_settings
from tests.scoring.conftest import ROWS


@pytest.fixture
def bucket(monkeypatch, world):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    values = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="kedge-scores")
    world.store = open_store("s3://kedge-scores/store")
    world.release(world.bundle())
    yield "s3://kedge-scores"
    server.stop()


def test_a_table_is_scored_from_object_storage_into_it(world, bucket):
    pq.write_table(pq.read_table(world.table()), "kedge-scores/rows.parquet", filesystem=_files())
    first = world.score(f"{bucket}/rows.parquet", f"{bucket}/scores.parquet")
    assert (first.logged, first.written) == (True, True)
    assert pq.read_table("kedge-scores/scores.parquet", filesystem=_files()).num_rows == ROWS
    assert len(log.read_window(world.store, world.policy, world.now, world.now.replace(hour=3))) == ROWS
    for written in (True, False):
        again = world.score(f"{bucket}/rows.parquet", f"{bucket}/scores")
        assert (again.logged, again.written) == (False, written)
    table = DeltaTable(f"{bucket}/scores", storage_options=storage_options())
    assert table.to_pyarrow_dataset().count_rows() == ROWS
    assert table.version() == 1


def _files():
    return pafs.S3FileSystem(**s3_settings())
