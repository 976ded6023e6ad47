"""Tables in S3, Google Cloud Storage and Azure, against stand-ins in this process."""

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from kedge.api.comparison import profile
from kedge.clouds import place_of
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store, open_store
from kedge.tables import snapshot, sources
from kedge.tables.cloud_files import file_system
from tests import clouds
from tests.tables.conftest import END

Policies = Callable[..., Policy]


@pytest.fixture(params=["s3", "gs", "abfss"])
def depot(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    with clouds.storage(request.param, tmp_path) as (address, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield address


def test_tables_and_snapshots_in_object_storage_are_those_on_disk(
    depot: str, parcels: pa.Table, policy_for: Policies, store: Store
) -> None:
    for format, write in (("parquet", pq.write_table), ("csv", pa_csv.write_csv)):
        for number in range(2):
            sink = io.BytesIO()
            write(parcels.slice(5 * number, 5), sink)
            open_store(f"{depot}/{format}").put(f"{number}.{format}", sink.getvalue())
    write_deltalake(f"{depot}/delta", parcels, storage_options=place_of(depot).options)
    names = set()
    for format in ("parquet", "csv", "delta"):
        policy = policy_for(f"{depot}/{format}", format)
        for place in (open_store(f"{depot}/kedge"), store):
            table = sources.open_source(policy.data.source, policy.data, store=place, model=policy.model)
            taken = snapshot.take(table, policy, place, end=END)
            names.add(taken.fingerprint)
            assert snapshot.read(place, taken)["items"].to_pylist() == [float(k) for k in range(10)]
    assert len(names) == 1
    policy = policy_for(f"{depot}/nowhere")
    with pytest.raises(DataError, match=rf"{depot}/nowhere: no \.parquet or \.pq file there"):
        sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)


def test_a_file_that_is_gone_when_it_is_opened_is_not_found(depot: str) -> None:
    system, path = file_system(f"{depot}/gone.csv")
    for opened in (system.open_input_file, system.open_input_stream):
        with pytest.raises(FileNotFoundError):
            opened(path)


def test_tables_in_object_storage_are_recognised_profiled_and_keep_the_columns_of_their_folders(
    depot: str, parcels: pa.Table
) -> None:
    sink = io.BytesIO()
    pq.write_table(parcels, sink)
    lake = open_store(f"{depot}/lake")
    for key in ("train.parquet", "sent/day=2026-03-02/a.parquet", "sent/day=2026-03-03/a.parquet"):
        lake.put(key, sink.getvalue())
    write_deltalake(f"{depot}/lake/delta", parcels, storage_options=place_of(depot).options)
    found = {place: sources.source_at(f"{depot}/lake/{place}").format for place in ("train.parquet", "sent", "delta")}
    assert found == {"train.parquet": "parquet", "sent": "parquet", "delta": "delta"}
    lake.put("packed.CSV.gz", gzip.compress(b"parcel,items\np1,3\np2,4\n"))
    for place, rows in (("packed.CSV.gz", 2), ("train.parquet", 10), ("sent", 20), ("delta", 10)):
        assert profile(f"{depot}/lake/{place}").rows == rows
    assert profile(f"{depot}/lake/sent").columns["day"].values == ("2026-03-02", "2026-03-03")
    with pytest.raises(DataError, match=f"{depot}/lake/none: no such file or folder"):
        profile(f"{depot}/lake/none")
    lake.put("ice/metadata/v1.metadata.json", b"{}")
    lake.put("ice/data/a.parquet", sink.getvalue())
    with pytest.raises(DataError, match=f"{depot}/lake/ice: is an Iceberg table, which kedge does not read"):
        profile(f"{depot}/lake/ice")
