"""A request's body: unpacked within bounds, why it is no JSON in the words of who sent it, its values in messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, Literal

import orjson

from kedge.errors import DataError

MAX_RATIO = 200
"""Of unpacked to packed bytes; a table of numbers and repeating texts reaches 50."""
SLACK = 1 << 20
"""Bytes that may be unpacked whatever the ratio."""
CHUNK = 1 << 16
ZSTD_CHUNK = 256
MAX_WINDOW = 8 << 20
"""Memory of zstd's decoder; what RFC 8878 asks every decoder to have."""
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
WORDS = {
    "NaN": "NaN is no JSON number; send null",
    "nan": "nan is no JSON number; send null",
    "Infinity": "Infinity is no JSON number; send null or a finite number",
    "inf": "inf is no JSON number; send null or a finite number",
    "None": "None is Python's word; JSON has null",
    "True": "True is Python's word; JSON has true",
    "False": "False is Python's word; JSON has false",
    "undefined": "undefined is JavaScript's word; JSON has null",
    "'": "JSON has double quotes around texts and names, not single ones",
}

PLAIN = {None: "null", True: "true", False: "false"}

Reason = Literal["media-type", "too-large", "too-slow", "malformed"]


class UnreadableBody(DataError):
    """A body that is packed in a way nobody reads here, too large, too slow, damaged, or not what it says."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def packing(body: bytes) -> str:
    """How a body is packed by its first bytes: gzip, zstd, or empty if it is not.

    >>> packing(gzip.compress(b"{}")), packing(b"{}")
    ('gzip', '')
    """
    return next((name for magic, name in MAGIC.items() if body.startswith(magic)), "")


def encoding_of(header: bytes) -> str:
    """What a ``content-encoding`` header says; empty for none.

    Raises:
        UnreadableBody: an encoding, or several, that are not read here.
    """
    name = header.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return ""
    if name in ("gzip", "x-gzip", "zstd"):
        return name.removeprefix("x-")
    raise UnreadableBody("media-type", f"content-encoding: {name[:40]!r} is not read here; send gzip, zstd or none")


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body as it was before it was packed.

    Args:
        encoding: As :func:`encoding_of` or :func:`packing` says.
        most: Bytes it may have.

    Raises:
        UnreadableBody: too large, or not of this encoding.
    """
    return b"".join(parts(BytesIO(body), len(body), encoding, most)) if encoding else body


def parts(packed: BinaryIO, size: int, encoding: str, most: int) -> Iterator[bytes]:
    """The same of a file of so many bytes, part by part."""
    length = 0
    try:
        stream = _opened(packed, encoding)
        while part := stream.read(CHUNK):
            length += len(part)
            if length > most:
                raise UnreadableBody("too-large", f"the body has more than {most:,} bytes when it is unpacked")
            if length > MAX_RATIO * size + SLACK:
                raise UnreadableBody(
                    "too-large",
                    f"the body is more than {MAX_RATIO} times as large when it is unpacked; send it as it is",
                )
            yield part
    except (OSError, EOFError, zlib.error) as exc:
        raise UnreadableBody(
            "malformed", f"content-encoding: the body is not whole {encoding}: it is damaged or was cut off"
        ) from exc


def _opened(packed: BinaryIO, encoding: str) -> Any:
    """Something to read from, whose faults are Python's own."""
    if encoding == "gzip":
        return gzip.GzipFile(fileobj=packed)
    return _Zstd(packed)


class _Zstd:
    """A little at a time: a few bytes may be a megabyte."""

    def __init__(self, packed: BinaryIO) -> None:
        import zstandard

        self._fault = zstandard.ZstdError
        self._decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._frame = self._decoder.decompressobj()
        self._packed, self._rest, self._begun = packed, b"", False

    def read(self, _: int) -> bytes:
        while data := self._rest or self._packed.read(ZSTD_CHUNK):
            if self._frame.eof:
                self._frame = self._decoder.decompressobj()
            self._begun = True
            try:
                part = self._frame.decompress(data)
            except self._fault as exc:
                raise OSError(str(exc)) from exc
            self._rest = self._frame.unused_data
            if part:
                return part
        if self._begun and not self._frame.eof:
            raise EOFError
        return b""


def json_of(body: bytes) -> Any:
    """The JSON value in a body. NaN, Infinity and nesting beyond 1,024 levels are not JSON here.

    Raises:
        UnreadableBody: malformed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise UnreadableBody("malformed", json_fault(body, exc)) from None


def json_fault(body: bytes | memoryview, fault: orjson.JSONDecodeError) -> str:
    """Why a body is no JSON: what its sender most likely did.

    >>> try:
    ...     orjson.loads(b'{"amount": NaN}')
    ... except orjson.JSONDecodeError as exc:
    ...     json_fault(b'{"amount": NaN}', exc)
    'the body is not JSON: line 1, column 12: NaN is no JSON number; send null'
    """
    return f"the body is not JSON: {json_cause(bytes(body), fault)}"


def json_cause(body: bytes, fault: orjson.JSONDecodeError) -> str:
    """The same without what it is about."""
    if not body.strip():
        return "it is empty"
    if packed := packing(body):
        return f"it is {packed}; say so in the header content-encoding: {packed}"
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it is UTF-16; send UTF-8"
    if body[:3] == b"\xef\xbb\xbf":
        return "it begins with a byte order mark; send UTF-8 without it"
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        return f"it is not UTF-8: byte {exc.start + 1:,} belongs to no character"
    if not text.lstrip().startswith(("{", "[", '"')) and "=" in text.partition("\n")[0]:
        return "it looks like a form; send a JSON object"
    place = f"line {fault.lineno}, column {fault.colno}: "
    rest = text[fault.pos :]
    if not rest:
        return "it ends within a value: it was cut off, or content-length is too small"
    if fault.pos and text[fault.pos - 1] in "+-" and rest.startswith(("Infinity", "inf")):
        rest = rest.removeprefix("-")
    for word, cause in WORDS.items():
        if rest.startswith(word):
            return place + cause
    if "trailing comma" in fault.msg:
        return f"{place}a comma before the closing bracket; JSON has none there"
    if "after document" in fault.msg:
        return f"{place}something follows the JSON value; send one value, not lines of them"
    if "depth limit" in fault.msg or "recursion" in fault.msg:
        return "it is nested deeper than 1,024"
    if "infinity" in fault.msg:
        return f"{place}a number is larger than 1.8e308, the largest of 64 bits; send a smaller one, or null"
    if "surrogate" in fault.msg:
        return f"{place}a \\ud800 to \\udfff is half of a character; send the whole pair, or the character itself"
    if "string key" in fault.msg:
        return f"{place}a name in double quotes is expected"
    return f"{place}{fault.msg}"


def shown(value: object) -> str:
    """A value from outside for a message: short, quoted, without control characters; JSON's words as JSON has them.

    >>> shown(None), shown(True), shown("yes"), shown([True])
    ('null', 'true', "'yes'", 'a list')
    """
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = PLAIN[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
