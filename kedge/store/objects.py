"""The store in object storage. Credentials come from the environment or the pod's identity, never from the address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from kedge.clouds import ABSENT, place_of, reason
from kedge.errors import StoreError, UsageError
from kedge.store.base import Item
from kedge.store.files import write_file


class ObjectStore:
    """See :class:`kedge.store.Store`. ``put_if_absent`` is a conditional PUT: ``If-None-Match: *`` in S3 and Azure,
    ``x-goog-if-generation-match: 0`` in Google Cloud Storage."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            place = place_of(url)
            self._store, self._options = place.open(place.key), place.options
        except UsageError as exc:
            raise UsageError(f"store {exc}") from None

    @property
    def url(self) -> str:
        return self._url

    def uri(self, key: str) -> str:
        return f"{self._url}/{self._key(key)}"

    def options(self) -> dict[str, str]:
        return dict(self._options)

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
        """The client's errors as ours."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (FileNotFoundError, BaseError) as exc:
            if isinstance(exc, FileNotFoundError) and verb != "write" and not ABSENT.search(str(exc)):
                raise KeyError(key) from None
            raise StoreError(f"store {self._url}: cannot {verb} {key}: {reason(self._url, exc)}") from exc
