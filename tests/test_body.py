"""Bodies are unpacked within bounds, and what is no JSON is told in the words of its sender."""

import gzip

import orjson
import pytest
import zstandard

from kedge.body import UnreadableBody, encoding_of, json_fault, packing, unpacked

PACKED = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_comes_back_as_it_was(encoding):
    body = b'{"a": 1}' * 1000
    packed = PACKED[encoding](body)
    assert packing(packed) == encoding
    assert unpacked(packed, encoding, 10_000) == body
    assert unpacked(packed + PACKED[encoding](b"more"), encoding, 10_000) == body + b"more"


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize(
    ("body", "words"), [(b"0" * 30_000_000, "200 times as large"), (b"ab" * 9000, "more than 10,000")]
)
def test_a_body_that_swells_is_refused(encoding, body, words):
    most = 10_000 if len(body) < 100_000 else 50_000_000
    with pytest.raises(UnreadableBody, match=words) as caught:
        unpacked(PACKED[encoding](body), encoding, most)
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("spoil", [lambda packed: packed[:-6], lambda packed: b"?" + packed, lambda packed: packed[:3]])
def test_a_body_that_is_not_whole_is_told(encoding, spoil):
    with pytest.raises(UnreadableBody, match=f"not whole {encoding}"):
        unpacked(spoil(PACKED[encoding](orjson.dumps(list(range(100))))), encoding, 10_000)


@pytest.mark.parametrize("header", [b"br", b"deflate", b"gzip, gzip", b"compress"])
def test_an_encoding_that_is_not_read_is_named(header):
    with pytest.raises(UnreadableBody, match=f"content-encoding: '{header.decode()}'") as caught:
        encoding_of(header)
    assert caught.value.reason == "media-type"


@pytest.mark.parametrize("header", [b"", b"identity", b" GZIP", b"x-gzip", b"zstd"])
def test_encodings_that_are_read(header):
    assert encoding_of(header) in ("", "gzip", "zstd")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": NaN}', "line 1, column 7: NaN is no JSON number; send null"),
        ('{"ä": [1,\n nan]}'.encode(), "line 2, column 2: nan is no JSON number"),
        (b'{"a": Infinity}', "Infinity is no JSON number"),
        (b'{"a": -Infinity}', "Infinity is no JSON number"),
        (b'{"a": None}', "None is Python's word; JSON has null"),
        (b'{"a": True}', "JSON has true"),
        (b"{'a': 1}", "double quotes"),
        (b'{"a": [1,]}', "a comma before the closing bracket"),
        (b'{"a": 1', "cut off"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"a": 1}\n{"a": 2}', "one value, not lines"),
        (gzip.compress(b"{}", mtime=0), "content-encoding: gzip"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8: byte 8"),
        (b"a=1&b=2", "looks like a form"),
        (b'{"a": 1e400}', "line 1, column 7: a number is larger than 1.8e308"),
        (rb'{"a": "\ud800"}', "half of a character"),
        (b"[" * 3000, "nested deeper than 1,024"),
        (b"{a: 1}", "a name in double quotes"),
    ],
)
def test_what_is_no_json_is_told_by_its_cause(body, words):
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(body)
    assert words in json_fault(body, caught.value)
