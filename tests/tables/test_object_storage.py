"""Tables in object storage, against a real S3 interface in this process."""

import io
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from moto.server import ThreadedMotoServer

from kedge.api.comparison import profile
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.store.objects import storage_options
from kedge.tables import snapshot, sources
from tests.tables.conftest import END

Policies = Callable[..., Policy]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="depot")
    try:
        yield open_store("s3://depot/kedge")
    finally:
        server.stop()


def test_tables_and_snapshots_in_object_storage_are_those_on_disk(
    bucket: Store, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    for format, write in (("parquet", pq.write_table), ("csv", pa_csv.write_csv)):
        for number in range(2):
            sink = io.BytesIO()
            write(parcels.slice(5 * number, 5), sink)
            open_store(f"s3://depot/{format}").put(f"{number}.{format}", sink.getvalue())
    write_deltalake("s3://depot/delta", parcels, storage_options=storage_options())
    names = set()
    for format in ("parquet", "csv", "delta"):
        policy = policy_for(f"s3://depot/{format}", format)
        for place in (bucket, store):
            table = sources.open_source(policy.data.source, policy.data, store=place, model=policy.model)
            taken = snapshot.take(table, policy, place, end=END)
            names.add(taken.fingerprint)
            assert snapshot.read(place, taken)["items"].to_pylist() == [float(k) for k in range(10)]
    assert len(names) == 1
    policy = policy_for("s3://depot/nowhere")
    with pytest.raises(DataError, match=r"s3://depot/nowhere: no \.parquet or \.pq file there"):
        sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)


def test_tables_in_object_storage_are_recognised_profiled_and_keep_the_columns_of_their_folders(
    bucket: Store, parcels: pa.Table
) -> None:
    sink = io.BytesIO()
    pq.write_table(parcels, sink)
    lake = open_store("s3://depot/lake")
    for key in ("train.parquet", "sent/day=2026-03-02/a.parquet", "sent/day=2026-03-03/a.parquet"):
        lake.put(key, sink.getvalue())
    write_deltalake("s3://depot/lake/delta", parcels, storage_options=storage_options())
    found = {
        place: sources.source_at(f"s3://depot/lake/{place}").format for place in ("train.parquet", "sent", "delta")
    }
    assert found == {"train.parquet": "parquet", "sent": "parquet", "delta": "delta"}
    for place, rows in (("train.parquet", 10), ("sent", 20), ("delta", 10)):
        assert profile(f"s3://depot/lake/{place}").rows == rows
    assert profile("s3://depot/lake/sent").columns["day"].values == ("2026-03-02", "2026-03-03")
    with pytest.raises(DataError, match="s3://depot/lake/none: no such file or folder"):
        profile("s3://depot/lake/none")
    lake.put("ice/metadata/v1.metadata.json", b"{}")
    lake.put("ice/data/a.parquet", sink.getvalue())
    with pytest.raises(DataError, match="s3://depot/lake/ice: is an Iceberg table, which kedge does not read"):
        profile("s3://depot/lake/ice")
