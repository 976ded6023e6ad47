"""Files in object storage as Arrow opens them, by the client that the store and Delta Lake have too.

Of S3 Arrow has a client of its own, which also knows the profiles of a laptop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from kedge.clouds import S3, Place, place_of, reason

AHEAD_BYTES = 4 << 20
"""Read ahead of who reads a file from its beginning to its end."""

PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


def file_system(location: str) -> tuple[Any, str]:
    """What opens files there, and the location's path in it: in object storage relative to the bucket.

    Raises:
        UsageError: an address that names no object storage.
    """
    if "://" not in location:
        return pafs.LocalFileSystem(), location
    place = place_of(location)
    if place.cloud is S3:
        return pafs.SubTreeFileSystem(place.bucket, pafs.S3FileSystem(**_s3_settings(place))), place.key
    return CloudFiles(place), place.key


def _s3_settings(place: Place) -> dict[str, Any]:
    """Where S3 is; credentials are found by the client itself."""
    settings: dict[str, Any] = {}
    if "aws_endpoint" in place.config:
        scheme, _, host = place.config["aws_endpoint"].partition("://")
        settings |= {"endpoint_override": host, "scheme": scheme}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return settings | ({"region": region} if region else {})


class CloudFiles:
    """The verbs of an Arrow file system that kedge needs, in one bucket; errors are OSError, as Arrow's."""

    def __init__(self, place: Place) -> None:
        self._place, self._store = place, place.open()

    def get_file_info(self, path: Any) -> Any:
        """Of a path its type and size; of a selector the files below it."""
        if isinstance(path, pafs.FileSelector):
            with self.translated():
                pages = list(self._store.list(f"{path.base_dir}/" if path.base_dir else None))
            return [
                pafs.FileInfo(item["path"], pafs.FileType.File, size=item["size"]) for page in pages for item in page
            ]
        try:
            return pafs.FileInfo(path, pafs.FileType.File, size=self.size(path))
        except FileNotFoundError:
            with self.translated():
                below: Any = next(iter(self._store.list(f"{path}/", chunk_size=1)), [])
            return pafs.FileInfo(path, pafs.FileType.Directory if below else pafs.FileType.NotFound)

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(_Ranges(self, path), mode="r")

    def open_input_stream(self, path: str) -> Any:
        stream = pa.BufferedInputStream(self.open_input_file(path), AHEAD_BYTES)
        packed = PACKED.get(PurePosixPath(path).suffix.lower())
        return stream if packed is None else pa.CompressedInputStream(stream, packed)

    def open_output_stream(self, path: str) -> Any:
        return pa.PythonFile(_Upload(self, path), mode="w")

    def delete_file(self, path: str) -> None:
        with self.translated():
            self._store.delete(path)

    def size(self, path: str) -> int:
        """Bytes of a file; FileNotFoundError where there is none."""
        with self.translated():
            return int(self._store.head(path)["size"])

    def read(self, path: str, start: int, end: int) -> bytes:
        with self.translated():
            return bytes(self._store.get_range(path, start=start, end=end))

    def upload(self, path: str) -> Any:
        import obstore

        return obstore.open_writer(self._store, path)

    @contextmanager
    def translated(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as exc:
            raise OSError(reason(self._place.root, exc)) from exc


class _Upload:
    """A file that is written from its beginning to its end."""

    closed = False

    def __init__(self, files: CloudFiles, path: str) -> None:
        self._files, self._file = files, files.upload(path)

    def write(self, data: bytes) -> int:
        with self._files.translated():
            self._file.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with self._files.translated():
                self._file.close()


class _Ranges:
    """A file of which ranges are asked for."""

    closed = False

    def __init__(self, files: CloudFiles, path: str) -> None:
        self._files, self._path, self._at, self._size = files, path, 0, files.size(path)

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._at + count, self._size)
        data = self._files.read(self._path, self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        self._at = to + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
