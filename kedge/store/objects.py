"""The store in object storage (S3 and its like). Credentials come from the environment, never from the address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from kedge.errors import StoreError, UsageError
from kedge.store.base import Item
from kedge.store.files import manifest_last, write_file


def storage_options() -> dict[str, str]:
    """What Delta's reader and writer need to know about object storage, from the environment; no credentials."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    options = {"aws_conditional_put": "etag"}
    if endpoint:
        options |= {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http:")).lower()}
    return options


class ObjectStore:
    """See :class:`kedge.store.Store`. ``put_if_absent`` is a conditional PUT (``If-None-Match: *``)."""

    def __init__(self, url: str) -> None:
        from obstore.store import S3Store

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket or "@" in bucket:
            raise UsageError(f"store {url!r}: write s3://bucket/prefix; credentials come from the environment")
        self._url = url.rstrip("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
        settings: dict[str, Any] = {"client_options": {"allow_http": bool(endpoint and endpoint.startswith("http:"))}}
        if endpoint:
            settings["endpoint"] = endpoint
        self._store = S3Store(bucket, prefix=prefix.strip("/") or None, **settings)

    @property
    def url(self) -> str:
        return self._url

    def uri(self, key: str) -> str:
        return f"{self._url}/{self._key(key)}"

    def options(self) -> dict[str, str]:
        return storage_options()

    def get(self, key: str) -> bytes:
        with self._translated("read", key):
            return bytes(self._store.get(self._key(key)).bytes())

    def put(self, key: str, data: bytes) -> None:
        with self._translated("write", key):
            self._store.put(self._key(key), data)

    def put_file(self, key: str, file: Path) -> None:
        with self._translated("write", key):
            self._store.put(self._key(key), file)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._translated("write", key):
            try:
                self._store.put(self._key(key), data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        yield from (item.key for item in self.items(prefix))

    def items(self, prefix: str) -> list[Item]:
        with self._translated("list", prefix):
            found = [item for page in self._store.list(prefix or None) for item in page]
        listed = (Item(key=str(each["path"]), size=each["size"], modified=each["last_modified"]) for each in found)
        return sorted(listed, key=lambda item: item.key)

    def folders(self, prefix: str) -> list[str]:
        with self._translated("list", prefix):
            found = self._store.list_with_delimiter(prefix)["common_prefixes"]
        return sorted(PurePosixPath(path).name for path in found)

    def delete(self, key: str) -> None:
        with suppress(KeyError), self._translated("delete", key):
            self._store.delete(self._key(key))

    def upload(self, folder: Path, prefix: str) -> None:
        for file in manifest_last(folder):
            self.put_file(f"{prefix}/{file.relative_to(folder).as_posix()}", file)

    def fetch(self, prefix: str, into: Path) -> Path:
        found = list(self.keys(prefix))
        if not found:
            raise KeyError(prefix)
        for key in found:
            write_file(into / PurePosixPath(key).relative_to(prefix), self.get(key))
        return into

    def _key(self, key: str) -> str:
        if not key or key.startswith("/") or ".." in PurePosixPath(key).parts:
            raise UsageError(f"store {self._url}: {key!r} is not a key: relative, without '..'")
        return key

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        """The client's errors as ours; its first line says what happened, the rest is its own debugging."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (FileNotFoundError, BaseError) as exc:
            if isinstance(exc, FileNotFoundError) and verb != "write" and "NoSuchBucket" not in str(exc):
                raise KeyError(key) from None
            reason = str(exc).strip().split("\n", 1)[0]
            raise StoreError(f"store {self._url}: cannot {verb} {key}: {reason}") from exc
