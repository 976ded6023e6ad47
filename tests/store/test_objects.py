"""The store in object storage, against a real S3 interface in this process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from kedge.errors import StoreError, UsageError
from kedge.store import Store, open_store, write_file


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Store:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = f"bucket-{abs(hash(request.node.name)) % 10**8}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return open_store(f"s3://{bucket}/team/kedge")


def test_the_verbs_behave_as_on_a_disk(store: Store) -> None:
    store.put("records/a/1.json", b"old")
    store.put("records/a/1.json", b"new")
    store.put("records/ab/1.json", b"")
    assert store.get("records/a/1.json") == b"new"
    assert not store.put_if_absent("records/a/1.json", b"newer")
    assert store.put_if_absent("records/a/0/z.json", b"")
    assert list(store.keys("records/a")) == ["records/a/0/z.json", "records/a/1.json"]
    assert len(list(store.keys(""))) == 3
    assert (store.folders("records"), store.folders("records/a"), store.folders("no")) == (["a", "ab"], ["0"], [])
    assert [(item.key, item.size) for item in store.items("records/a")] == [
        ("records/a/0/z.json", 0), ("records/a/1.json", 3),
    ]  # fmt: skip
    assert abs(store.items("records/a")[0].modified - datetime.now(UTC)) < timedelta(minutes=5)
    store.delete("records/a/1.json")
    store.delete("records/a/1.json")
    with pytest.raises(KeyError):
        store.get("records/a/1.json")


def test_of_many_writers_at_once_exactly_one_writes(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5):
            wrote = list(pool.map(lambda who, t=turn: store.put_if_absent(f"r/{t}", str(who).encode()), range(8)))
            assert wrote.count(True) == 1
            assert store.get(f"r/{turn}") == str(wrote.index(True)).encode()


def test_upload_and_fetch_give_the_folder_back(store: Store, tmp_path: Path) -> None:
    write_file(tmp_path / "bundle" / "bundle.json", b"{}")
    write_file(tmp_path / "bundle" / "deep" / "model.ubj", b"\x00\x01")
    store.upload(tmp_path / "bundle", "bundles/m/1")
    back = store.fetch("bundles/m/1", tmp_path / "into")
    assert (back / "bundle.json").read_bytes() == b"{}"
    assert (back / "deep" / "model.ubj").read_bytes() == b"\x00\x01"
    with pytest.raises(KeyError):
        store.fetch("bundles/none", tmp_path / "into")


def test_addresses_hold_the_prefix_and_no_credentials(store: Store) -> None:
    assert store.uri("logs/m") == f"{store.url}/logs/m"
    assert store.url.endswith("/team/kedge")
    assert "test" not in store.options().values()
    with pytest.raises(UsageError, match="credentials come from the environment"):
        open_store("s3://key:secret@bucket/prefix")


@pytest.mark.parametrize("key", ["", "/etc", "../outside", "a/../../b"])
def test_a_key_that_leaves_the_prefix_is_refused(store: Store, key: str) -> None:
    for act in (store.get, store.delete, store.uri, lambda name: store.put(name, b"")):
        with pytest.raises(UsageError, match="is not a key"):
            act(key)


def test_a_bucket_that_is_not_there_is_a_store_error_with_its_address(store: Store) -> None:
    gone = open_store("s3://no-such-bucket/x")
    for act in (
        lambda: gone.get("a"),
        lambda: gone.put("a", b""),
        lambda: gone.put_if_absent("a", b""),
        lambda: list(gone.keys("")),
        lambda: gone.delete("a"),
    ):
        with pytest.raises(StoreError, match="store s3://no-such-bucket/x: cannot"):
            act()


def test_storage_that_does_not_answer_is_a_store_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(StoreError, match="store s3://bucket: cannot read a"):
        open_store("s3://bucket").get("a")
