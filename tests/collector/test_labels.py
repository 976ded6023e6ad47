"""Labels by the request and by the file."""

import asyncio
import gzip
import io
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from kedge.collector.bulk import MAX_LOOKED_UP, Bulk
from kedge.collector.declared import Declared
from kedge.collector.intake import Intake
from kedge.collector.labels import from_json
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.tables import confined, log

BATCHED = {"content-type": "application/cloudevents-batch+json"}
OBSERVED = datetime(2026, 3, 2, 12, 0, 0, 1, tzinfo=UTC)
ROWS = pa.table({"id": ["a", "b"], "label": [1, 0], "observed_at": pa.array([OBSERVED] * 2, log.TIME), "note": [1, 2]})


def as_parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def as_csv(table):
    file = io.BytesIO()
    times = pa.array([time.isoformat() for time in table["observed_at"].to_pylist()])
    pa.csv.write_csv(table.set_column(2, "observed_at", times), file)
    return file.getvalue()


def as_lines(table):
    rows = table.select(["id", "label", "observed_at"]).to_pylist()
    return b"\n".join(map(orjson.dumps, rows)) + b"\n\n"


FILES = {
    "application/vnd.apache.parquet": as_parquet,
    "text/csv": as_csv,
    "application/x-ndjson": as_lines,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_labels_is_the_same_labels_also_when_it_is_sent_twice(start, store, declared, kind):
    with start() as client:
        for _ in range(2):
            answer = client.post("/v1/labels?model=payments", content=FILES[kind](ROWS), headers={"content-type": kind})
            assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        client.post("/v1/flush")
    found = log.read_labels(store, declared(), None).to_pylist()
    assert sorted({(row["_id"], row["_label"], row["_observed"]) for row in found}) == [
        ("a", 1.0, OBSERVED),
        ("b", 0.0, OBSERVED),
    ]


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("application/vnd.apache.parquet", b"PAR1 nothing", "not a Parquet file"),
        ("application/vnd.apache.parquet", as_parquet(ROWS.select(["label"])), "columns ['id'] are missing"),
        (
            "application/vnd.apache.parquet",
            as_parquet(ROWS.set_column(1, "label", [["x", "y"]])),
            "id 'a': model payments",
        ),
        (
            "application/vnd.apache.parquet",
            as_parquet(ROWS.set_column(2, "observed_at", pa.array([OBSERVED] * 2, pa.timestamp("us")))),
            "observed_at must be an RFC 3339 time with offset",
        ),
        (
            "application/vnd.apache.parquet",
            as_parquet(ROWS.set_column(2, "observed_at", pa.array([OBSERVED] * 2, pa.timestamp("us", "Asia/Tokyo")))),
            "Asia/Tokyo",
        ),
        ("text/csv", b"id;label\n1;2\n", "the file has 'id;label'; columns are separated by commas"),
        ("text/csv", b"id,label\na,1\nb\n", "not a CSV file"),
        ("text/csv", b"id,label\na,1\nb\n", "line 3: 1 cells, the header has 2"),
        ("text/csv", b"id,label\na,yes\n", "line 2: model payments"),
        ("text/csv", b'id,label\na,"1\n', "not a CSV file"),
        ("text/csv", b"id,label\n\xff,1\n", "line 2 is not UTF-8"),
        ("text/csv", "id,label\na,1\n".encode("utf-16"), "the file is UTF-16; send UTF-8"),
        ("text/csv", b"id,label\ra,1\r", "lines end with \\r alone"),
        ("text/csv", b"id,label\n" + b"a" * 70_000 + b",1\n", "line 2 has more than 65,536 bytes"),
        ("application/x-ndjson", b'{"id": "a", "label": 1}\n{"id": ', "line 2 is not JSON"),
        (
            "application/x-ndjson",
            b'{"id": "a", "label": 1}\n{"id": NaN}\n',
            "line 2 is not JSON: column 8: NaN is no JSON",
        ),
        ("application/x-ndjson", b'{"id": "' + b"a" * 70_000, "line 1 has more than 65,536 bytes"),
        ("application/x-ndjson", b'{"id": "a", "label": 1}\n{"id": "b", "label": "x"}', "line 2: model payments"),
    ],
)
def test_a_file_that_is_no_labels_is_refused_whole_and_by_row(start, kind, content, words):
    with start() as client:
        answer = client.post("/v1/labels?model=payments", content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 413, 422)
        assert words in answer.json()["error"]
        assert client.post("/v1/flush").json()["appended"] == 0


def test_cells_and_columns_count_as_what_they_look_like(start, store, declared):
    numbers = pa.table({"id": [7, 8], "label": [True, False], "count": pa.array([1, 2], pa.uint64())})
    with start() as client:
        for kind, content in (
            ("text/csv", b"\xef\xbb\xbfnote,label,id\r\nx, 1 ,1\r\n,0.0,2\r\n\r\n,TRUE,3\r\n"),
            ("application/vnd.apache.parquet", as_parquet(numbers)),
            ("application/vnd.apache.parquet", as_parquet(ROWS.set_column(0, "id", ROWS["id"].dictionary_encode()))),
        ):
            answer = client.post("/v1/labels?model=payments", content=content, headers={"content-type": kind})
            assert answer.status_code == 202, answer.text
        client.post("/v1/flush")
    found = {row["_id"]: row["_label"] for row in log.read_labels(store, declared(), None).to_pylist()}
    assert found == {"1": 1.0, "2": 0.0, "3": 1.0, "7": 1.0, "8": 0.0, "a": 1.0, "b": 0.0}


def test_text_that_looks_like_a_number_is_text_where_the_outcome_is(start, store, declared):
    policy = declared(positive="1")
    with start(policy) as client:
        headers = {"content-type": "text/csv"}
        answer = client.post("/v1/labels?model=payments", content=b"id,label\na,1\nb,0\n", headers=headers)
        assert answer.status_code == 202, answer.text
        client.post("/v1/flush")
    found = {row["_id"]: row["_label"] for row in log.read_labels(store, policy, None).to_pylist()}
    assert found == {"a": 1.0, "b": 0.0}


def test_a_file_needs_a_model_and_may_not_be_too_large(start):
    with start(max_bulk_bytes=1000) as client:
        headers = {"content-type": "text/csv"}
        assert client.post("/v1/labels", content=b"id,label\n", headers=headers).status_code == 422
        assert client.post("/v1/labels?model=x", content=b"id,label\n", headers=headers).status_code == 422
        large = b"id,label\n" + b"a,1\n" * 1000
        assert client.post("/v1/labels?model=payments", content=large, headers=headers).status_code == 413


def test_labels_of_ids_nobody_predicted_are_refused_where_that_is_asked_for(start, event, tmp_path):
    label = {"model": "payments", "labels": [{"id": "a", "label": 1}, {"id": "nobody", "label": 1}]}
    with start() as client:
        client.post("/", content=orjson.dumps([event("a")]), headers=BATCHED)
        answer = client.post("/v1/labels?require_known=true", json=label)
        assert (answer.status_code, "'nobody'" in answer.json()["error"]) == (422, True)
        label["labels"].pop()
        assert client.post("/v1/labels?require_known=true", json=label).status_code == 202
    with start(spool="another") as client:  # it has not seen the prediction itself; the log has
        assert client.post("/v1/labels?require_known=true", json=label).status_code == 202


class SlowLog:
    """A collector that looks ids up until it is told to end."""

    def __init__(self, declared, settings):
        self.declared, self.intake = declared, Intake(declared, settings)
        self.looked_up, self.ends = 0, asyncio.Event()

    async def require_known(self, model, ids):
        self.looked_up += 1
        await self.ends.wait()

    async def keep(self, taken, size):
        pass


def test_ids_are_looked_up_for_so_many_at_once_and_others_come_again(declared, tmp_path):
    body = orjson.dumps({"model": "payments", "labels": [{"id": "a", "label": 1}]})
    settings = Settings(spool=tmp_path)

    async def at_once():
        collector = SlowLog({"payments": Declared(declared(), None)}, settings)
        bulk = Bulk(collector, settings)
        waiting = [
            asyncio.create_task(bulk.keep(*from_json(body, None), require_known=True)) for _ in range(MAX_LOOKED_UP)
        ]
        while collector.looked_up < MAX_LOOKED_UP:
            await asyncio.sleep(0.001)
        with pytest.raises(RequestRejected, match="send again later") as refused:
            await bulk.keep(*from_json(body, None), require_known=True)
        other = await bulk.keep(*from_json(body, None), require_known=False)
        collector.ends.set()
        later = await asyncio.gather(*waiting, bulk.keep(*from_json(body, None), require_known=False))
        return refused.value.reason, other, later

    assert asyncio.run(at_once()) == ("busy", 1, [1] * (MAX_LOOKED_UP + 1))


def test_a_check_shows_in_the_metrics_also_after_a_restart(start):
    figures = {"drifted_features": 3, "drifted_importance": 0.5}
    with start() as client:
        assert client.post("/v1/checks", json={"model": "payments", "figures": figures}).status_code == 202
        for bad in (
            {"model": "x", "figures": figures},
            {"model": "payments"},
            [],
            {"model": "payments", "figures": {"A": 1}},
        ):
            assert client.post("/v1/checks", json=bad).status_code in (400, 422)
    with start() as client:
        assert 'kedge_check{figure="drifted_features",model="payments"} 3.0' in client.get("/metrics").text


def test_a_label_that_is_neither_class_is_422_and_named_whichever_way_it_comes(start, declared):
    policy = declared(positive="yes", negative="no")
    neither = "label 'maybe' is neither the positive label 'yes' nor the negative label 'no'"
    with start(policy) as client:
        rows = [{"id": "a", "label": "yes"}, {"id": "b", "label": "maybe"}]
        single = client.post("/v1/labels", json={"model": "payments", "labels": rows})
        headers = {"content-type": "text/csv"}
        file = client.post("/v1/labels?model=payments", content=b"id,label\na,yes\nb,maybe\n", headers=headers)
        good = client.post("/v1/labels?model=payments", content=b"id,label\na,yes\nb,no\n", headers=headers)
    assert (single.status_code, file.status_code, good.status_code) == (422, 422, 202)
    assert neither in single.text
    assert f"line 3: model payments: {neither}" in file.text


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
def test_a_file_that_was_compressed_is_read_whether_it_says_so_or_not(start, store, declared, kind, headers):
    with start() as client:
        content = gzip.compress(FILES[kind](ROWS))
        answer = client.post("/v1/labels?model=payments", content=content, headers={"content-type": kind} | headers)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        client.post("/v1/flush")
    assert sorted(log.read_labels(store, declared(), None)["_id"].to_pylist()) == ["a", "b"]


PARQUET = {"content-type": "application/vnd.apache.parquet"}


def swollen(**options):
    """Small files of labels that are large when they are read: an id of a megabyte, many times."""
    ids = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), ["x" * 1_000_000])
    table = pa.table({"id": ids if options.get("use_dictionary") else ids.cast(pa.string()), "label": [1] * 200})
    made = io.BytesIO()
    pq.write_table(table, made, compression="zstd", **options)
    return made.getvalue()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_dictionary": True}, "a text of 1,000,000 bytes"),
        ({"use_dictionary": False, "data_page_size": 1 << 30}, "MiB of memory"),  # whatever its footer says
    ],
)
def test_a_parquet_file_that_swells_is_refused_within_bounded_memory(start, monkeypatch, options, words):
    monkeypatch.setattr(confined, "MEMORY_BYTES", 160 << 20)
    content = swollen(**options)
    assert len(content) < 60_000
    with start() as client:
        answer = client.post("/v1/labels?model=payments", content=content, headers=PARQUET)
        assert (answer.status_code, words in answer.json()["error"]) == (413, True)


def test_a_spoilt_parquet_file_is_no_parquet_file(start):
    content = swollen(use_dictionary=True)
    endless = b"PAR1" + b"\xff" * (4 << 20) + (4 << 20).to_bytes(4, "little") + b"PAR1"  # a number of 4 MiB
    with start() as client:
        for spoilt in (content[:-8], content[:-12] + b"????PAR1", b"PAR1", content[:400] + content[-8:], endless):
            answer = client.post("/v1/labels?model=payments", content=spoilt, headers=PARQUET)
            assert (answer.status_code, "Parquet" in answer.json()["error"]) == (400, True)
