"""The store in a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from kedge.errors import StoreError, UsageError, cause
from kedge.store.base import Item
from kedge.store.files import copy_file, sync_folder, write_beside, write_file


class LocalStore:
    """See :class:`kedge.store.Store`.

    >>> import tempfile
    >>> store = LocalStore(Path(tempfile.mkdtemp()))
    >>> store.put_if_absent("records/fraud/check/1.json", b"{}"), store.put_if_absent("records/fraud/check/1.json", b"")
    (True, False)
    >>> list(store.keys("records/fraud"))
    ['records/fraud/check/1.json']
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()  # made by the first write: who only reads leaves no folder behind
        try:
            there = next(path for path in (self._root, *self._root.parents) if path.exists())
        except OSError as exc:
            raise self._refused("be opened", exc) from exc
        if not there.is_dir():
            raise StoreError(f"store {self._root}: cannot be a folder: {there} is a file")

    @property
    def url(self) -> str:
        return str(self._root)

    def uri(self, key: str) -> str:
        return str(self._path(key))

    def options(self) -> dict[str, str]:
        return {}

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as exc:
            raise self._refused(f"read {key}", exc) from exc

    def put(self, key: str, data: bytes) -> None:
        try:
            write_file(self._path(key), data)
        except OSError as exc:
            raise self._refused(f"write {key}", exc) from exc

    def put_file(self, key: str, file: Path) -> None:
        try:
            copy_file(file, self._path(key))
        except OSError as exc:
            raise self._refused(f"write {key}", exc) from exc

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = write_beside(path, data)
            try:
                path.hardlink_to(beside)  # the one operation that is atomic and refuses to replace
            except FileExistsError:
                return False
            finally:
                beside.unlink()
            sync_folder(path.parent)
        except OSError as exc:
            raise self._refused(f"write {key}", exc) from exc
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(path.relative_to(self._root).as_posix() for path in self._files(prefix))

    def items(self, prefix: str) -> list[Item]:
        found = []
        for path in self._files(prefix):
            with suppress(FileNotFoundError):
                seen, key = path.stat(), path.relative_to(self._root).as_posix()
                found.append(Item(key=key, size=seen.st_size, modified=datetime.fromtimestamp(seen.st_mtime, UTC)))
        return sorted(found, key=lambda item: item.key)

    def _files(self, prefix: str) -> Iterator[Path]:
        folder = self._path(prefix) if prefix else self._root
        return (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part"))

    def folders(self, prefix: str) -> list[str]:
        folder = self._path(prefix)
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise self._refused(f"delete {key}", exc) from exc
        with suppress(OSError):  # not empty: the others stay
            for folder in path.relative_to(self._root).parents[:-1]:
                self._root.joinpath(folder).rmdir()

    def fetch(self, prefix: str, into: Path) -> Path:  # noqa: ARG002  (the other store needs it)
        folder = self._path(prefix)
        if not folder.is_dir():
            raise KeyError(prefix)
        return folder

    def _refused(self, what: str, exc: OSError) -> StoreError:
        return StoreError(f"store {self._root}: cannot {what}: {cause(exc, self._root)}")

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\0" in key:
            raise UsageError(f"store {self._root}: {key!r} is not a key: relative, without '..'")
        return self._root.joinpath(*parts)
