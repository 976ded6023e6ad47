"""The store in object storage: S3, Google Cloud Storage and Azure, against stand-ins in this process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from kedge.errors import StoreError, UsageError
from kedge.store import Store, open_store, write_file
from tests import clouds


@pytest.fixture(scope="module", params=["s3", "gs", "abfss"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        clouds.storage(request.param, tmp_path_factory.mktemp("pod")) as (address, variables),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield address


@pytest.fixture
def store(bucket: str) -> Store:
    return open_store(f"{bucket}/{uuid4().hex}/team/kedge")


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


def test_what_is_fetched_is_a_copy_of_the_folder(store: Store, tmp_path: Path) -> None:
    store.put("bundles/m/1/bundle.json", b"{}")
    store.put("bundles/m/1/deep/model.ubj", b"\x00\x01")
    back = store.fetch("bundles/m/1", tmp_path / "into")
    assert (back / "bundle.json").read_bytes() == b"{}"
    assert (back / "deep" / "model.ubj").read_bytes() == b"\x00\x01"
    with pytest.raises(KeyError):
        store.fetch("bundles/none", tmp_path / "into")


def test_addresses_hold_the_prefix_and_no_credentials(store: Store) -> None:
    assert store.uri("logs/m") == f"{store.url}/logs/m"
    assert store.url.endswith("/team/kedge")
    assert "test" not in store.options().values()
    for scheme in ("s3", "gs", "az", "abfss"):
        with pytest.raises(UsageError, match="credentials come from the environment") as raised:
            open_store(f"{scheme}://key:secret@bucket/prefix")
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "/etc", "../outside", "a/../../b"])
def test_a_key_that_leaves_the_prefix_is_refused(store: Store, key: str) -> None:
    for act in (store.get, store.delete, store.uri, lambda name: store.put(name, b"")):
        with pytest.raises(UsageError, match="is not a key"):
            act(key)


def test_a_bucket_that_is_not_there_is_said_by_every_verb(bucket: str) -> None:
    address = f"{bucket.replace(clouds.BUCKET, 'no-such-bucket')}/x"
    gone = open_store(address)
    for act in (
        lambda: gone.get("a"),
        lambda: gone.put("a", b""),
        lambda: gone.put_if_absent("a", b""),
        lambda: list(gone.keys("")),
        lambda: gone.delete("a"),
    ):
        with pytest.raises(StoreError, match=f"store {address}: cannot .*there is no such bucket or container"):
            act()


SECRETS = {
    "s3": {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    "gs": {},
    "az": {"AZURE_STORAGE_ACCESS_KEY": "c2VjcmV0", "AZURE_STORAGE_ACCOUNT_NAME": "bank"},
}
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}


@pytest.mark.parametrize("scheme", ["s3", "az"])
def test_storage_that_does_not_answer_is_said_with_the_variable(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS[scheme], ENDPOINTS[scheme]: "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=rf"store {scheme}://bucket: cannot read a: it does .*\${ENDPOINTS[scheme]}"):
        open_store(f"{scheme}://bucket").get("a")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_who_is_not_known_and_who_may_not_is_told_what_to_give_and_no_secret(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with clouds.serving() as server:
        variables = server.google() if scheme == "gs" else server.azure(tmp_path)
        for name, value in {**variables, "AZURE_STORAGE_ACCOUNT_NAME": clouds.ACCOUNT}.items():
            monkeypatch.setenv(name, value)
        for server.issues, server.refuses in (("stolen", False), (clouds.TOKEN, True)):
            with pytest.raises(StoreError, match=rf"store {scheme}://depot/x: cannot write a: access is denied") as no:
                open_store(f"{scheme}://{clouds.BUCKET}/x").put("a", b"")
            assert "stolen" not in str(no.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/no/file"}, "Unable to open service account file from /no/file"),
        ({"GOOGLE_SERVICE_ACCOUNT_KEY": '{"secret": 1}'}, "Unable to decode service account file"),
    ],
)
def test_credentials_that_are_none_are_said_without_them(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"store gs://bucket: .*{said}") as raised:
        open_store("gs://bucket/x")
    assert "secret" not in str(raised.value)


def test_a_container_without_its_account_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(UsageError, match="names no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or write abfss://"):
        open_store("az://container/prefix")


def test_the_pages_of_a_listing_are_read_to_the_end(store: Store) -> None:
    for number in range(2 * clouds.PAGE + 1):
        store.put(f"records/m/{number}/a.json", b"")
    assert len(list(store.keys("records"))) == len(store.folders("records/m")) == 2 * clouds.PAGE + 1


def test_a_large_file_comes_whole(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50_000
    write_file(tmp_path / "large", data)
    store.put_file("large", tmp_path / "large")
    assert store.get("large") == data
