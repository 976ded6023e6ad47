"""Whatever is wrong gets an answer below 500 that names the fault, is counted, and harms nobody else."""

import gzip
import socket
import time
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
import zstandard

from tests import metrics

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}


def refused(client, reason):
    return metrics.total(client.get("/metrics").text, "kedge_collect_refused_total", reason=reason)


@pytest.fixture
def post(event):
    def send(client, **changes):
        whole = event()
        data = changes.pop("data", {})
        whole["data"] |= data
        return client.post("/", content=orjson.dumps(whole | changes), headers=STRUCTURED)

    return send


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


BAD_BODIES = [
    (b"{", 400, "not JSON"),
    (b"", 400, "not JSON"),
    (b"[" * 5000, 400, "nested deeper"),
    (b'{"data": NaN}', 400, "not JSON"),
    (b'{"data": Infinity}', 400, "not JSON"),
    (b'"text"', 400, "a JSON object"),
    (b"\xff\xfe", 400, "not JSON"),
    (b'{"specversion": "0.3"}', 400, "specversion"),
    (b'{"specversion": "1.0", "type": "com.example"}', 422, "'com.example' is not collected"),
    (b'{"specversion": "1.0", "type": "dev.kedge.prediction", "id": "a"}', 400, "source is missing"),
    (b'{"specversion": "1.0", "type": "dev.kedge.prediction", "source": "s", "id": ""}', 422, "id must be"),
    (b'{"specversion": "1.0", "type": "dev.kedge.prediction", "source": "s", "id": "a\\n\\u0000"}', 422, "id must be"),
    (b'{"specversion": "1.0", "type": "dev.kedge.prediction", "source": "s", "id": "a"}', 400, "data"),
]
BAD_DATA = [
    ({"model": "../../etc/passwd"}, 422, "'../../etc/passwd' is not declared"),
    ({"model": None}, 422, "not declared"),
    ({"features": []}, 422, "features must be an object"),
    ({"features": {"amount": "12"}}, 422, "feature 'amount' must be a number, got '12'"),
    ({"features": {"amount": {}}}, 422, "feature 'amount' must be a number"),
    ({"features": {"country": 3}}, 422, "feature 'country' must be text, got 3"),
    ({"score": None}, 422, "score must be a finite number"),
    ({"score": "0.5"}, 422, "score must be a finite number"),
    ({"score": 1.5}, 422, "score must be a probability"),
    ({"prediction": "yes"}, 422, "prediction must be"),
    ({"latency_ms": []}, 422, "latency_ms must be"),
    ({"version": "v" * 200}, 422, "version must be at most 128"),
    ({"slot": "blue\r\nset-cookie: a=b"}, 422, "slot must be at most 128 printable"),
]


def test_each_fault_is_named_and_counted_and_good_events_go_on(start, post, event):
    with start() as client:
        for body, status, words in BAD_BODIES:
            answer = client.post("/", content=body, headers=STRUCTURED)
            assert (answer.status_code, words in answer.json()["error"]) == (status, True), (body, answer.text)
        for data, status, words in BAD_DATA:
            answer = post(client, data=data)
            assert (answer.status_code, words in answer.json()["error"]) == (status, True), (data, answer.text)
        for time in ("yesterday", "2026-03-02T12:00:00", 5, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00"):
            assert "RFC 3339" in post(client, time=time).json()["error"]
        assert refused(client, "malformed") >= 8
        assert refused(client, "unknown-model") == 2
        assert refused(client, "unknown-type") == 1
        assert refused(client, "invalid") == len(BAD_DATA) + 5
        assert post(client, id="good").status_code == 202
        assert client.post("/v1/flush").json()["appended"] == 1


def test_content_types_nobody_reads_are_refused(start, event):
    with start() as client:
        answer = client.post("/", content=orjson.dumps(event()), headers={"content-type": "text/xml"})
        assert (answer.status_code, "ce-id" in answer.json()["error"]) == (415, True)
        headers = {f"ce-{name}": value for name, value in event().items() if name != "data"}
        answer = client.post("/", content=b"a=1", headers=headers | {"content-type": "text/plain"})
        assert answer.status_code == 415
        for path in ("/v1/labels?model=payments", "/v1/checks"):
            assert client.post(path, content=b"x", headers={"content-type": "a/b"}).status_code == 415
        assert refused(client, "media-type") == 4


def test_a_large_body_is_refused_before_and_while_it_is_read(start):
    with start(max_body_bytes=100_000) as client:
        assert client.post("/", content=b"x" * 10_000_000, headers=STRUCTURED).status_code == 413

        def endless():
            for _ in range(100):
                yield b"x" * 10_000

        assert client.post("/", content=endless(), headers=STRUCTURED).status_code == 413
        assert refused(client, "too-large") == 2


def test_a_body_that_comes_too_slowly_is_refused_and_holds_nobody_up(start, post):
    with start(body_seconds=0.3) as client, socket.create_connection(("127.0.0.1", client.base_url.port)) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nhost: c\r\ncontent-type: application/cloudevents+json\r\n")
        slow.sendall(b"content-length: 500\r\n\r\n{")
        assert post(client, id="quick").status_code == 202
        slow.settimeout(10)
        assert b"408" in slow.recv(4096)
        assert refused(client, "too-slow") == 1


def test_a_sender_that_reads_only_after_ten_megabytes_sees_the_413(start, post):
    with start() as client:
        for path in ("/", "/v1/labels", "/v1/checks"):
            head = f"POST {path} HTTP/1.1\r\nhost: c\r\ncontent-type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as sender:
                sender.sendall(head.encode() + b"content-length: 10000000\r\n\r\n" + b"x" * 10_000_000)
                assert sender.recv(4096).startswith(b"HTTP/1.1 413")
        assert refused(client, "too-large") == 3
        assert post(client).status_code == 202


def test_a_slow_file_of_labels_is_refused_and_holds_up_no_other_file(start):
    address = "/v1/labels?model=payments"
    kind = {"content-type": "text/csv"}
    with start(body_seconds=1.0) as client, socket.create_connection(("127.0.0.1", client.base_url.port)) as slow:
        slow.sendall(f"POST {address} HTTP/1.1\r\nhost: c\r\ncontent-type: text/csv\r\n".encode())
        slow.sendall(b"content-length: 500\r\n\r\nid,label\n")
        assert client.post(address, content=b"id,label\na,1\n", headers=kind, timeout=10).json() == {"accepted": 1}
        slow.settimeout(10)
        assert b"408" in slow.recv(4096)
        assert refused(client, "too-slow") == 1


def test_a_sender_that_goes_away_within_its_body_is_counted_and_leaves_no_trace(start, caplog):
    with start() as client:
        for path in ("/", "/v1/labels", "/v1/labels?model=payments", "/v1/checks"):
            kind = "text/csv" if "?" in path else "application/json"
            with socket.create_connection(("127.0.0.1", client.base_url.port)) as sender:
                sender.sendall(f"POST {path} HTTP/1.1\r\nhost: c\r\ncontent-type: {kind}\r\n".encode())
                sender.sendall(b"content-length: 500\r\n\r\nid")
        deadline = time.monotonic() + 20
        while refused(client, "malformed") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_batch_keeps_the_good_events_and_names_the_bad(start, event):
    with start() as client:
        events = [event("a"), event("b", score=7), {"id": "c"}, event("d")]
        answer = client.post("/", content=orjson.dumps(events), headers=BATCHED)
        assert answer.status_code == 422
        assert answer.json()["accepted"] == 2
        assert [one["index"] for one in answer.json()["refused"]] == [1, 2]
        assert client.post("/", content=b"{}", headers=BATCHED).status_code == 400
        assert client.post("/v1/flush").json()["appended"] == 2


def test_events_from_another_time_are_refused_where_that_is_asked_for(start, post):
    now = datetime.now(UTC)
    with start(max_ahead_seconds=3600, max_age_seconds=86_400) as client:
        answer = post(client, id="a", time=(now + timedelta(days=1)).isoformat())
        assert (answer.status_code, "ahead of the collector's clock" in answer.json()["error"]) == (422, True)
        answer = post(client, id="b", time=(now - timedelta(days=2)).isoformat())
        assert (answer.status_code, "too old" in answer.json()["error"]) == (422, True)
        assert post(client, id="c", time=(now - timedelta(hours=1)).isoformat()).status_code == 202
        assert refused(client, "clock") == 2


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_label_of_the_future_is_refused_because_no_correction_could_follow_it(start, kind):
    label = {"id": "a", "label": 1, "observed_at": (datetime.now(UTC) + timedelta(days=400)).isoformat()}
    body = {"model": "payments", "labels": [label]} if kind == "application/json" else label
    with start() as client:
        where = "/v1/labels" if kind == "application/json" else "/v1/labels?model=payments"
        answer = client.post(where, content=orjson.dumps(body), headers={"content-type": kind})
        assert (answer.status_code, "ahead of the collector's clock" in answer.json()["error"]) == (422, True)
        assert client.post("/v1/flush").json()["appended"] == 0


def test_only_who_shows_the_token_may_send(start, event):
    with start(token="a-secret-of-some-length") as client:
        body = orjson.dumps(event())
        assert client.post("/", content=body, headers=STRUCTURED).status_code == 401
        wrong = {"authorization": "Bearer a-secret-of-some-lengtH"}
        assert client.post("/v1/flush", headers=wrong).status_code == 401
        right = {"authorization": "Bearer a-secret-of-some-length"}
        assert client.post("/", content=body, headers=STRUCTURED | right).status_code == 202
        assert client.get("/readyz").status_code == 200
        assert refused(client, "unauthorized") == 2


def test_headers_are_not_taken_over_into_the_answer(start):
    with start() as client:
        headers = {"ce-id": "%0d%0aset-cookie: a=b", "ce-type": "dev.kedge.prediction", "ce-specversion": "1.0"}
        answer = client.post("/", json={}, headers=headers | {"ce-source": "s"})
        assert answer.status_code == 422
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([{"id": "a"}], "label must be of the kind"),
        ([{"id": "a", "label": "yes"}], "label must be of the kind of the positive label 1"),
        ([{"id": "a", "label": None}], "label must be"),
        ([{"id": "a", "label": [1]}], "label must be"),
        ([{"id": "a", "label": 1, "observed_at": "soon"}], "observed_at must be an RFC 3339 time"),
        ([{"id": "a", "label": 1, "when": 1}], "unknown fields"),
        ([{"id": 5, "label": 1}], "id must be"),
        (["a"], "a label is an object"),
    ],
)
def test_a_label_that_is_none_is_named_and_nothing_of_its_request_is_taken(start, labels, words):
    with start() as client:
        labels = [{"id": "good", "label": 0}, *labels]
        answer = client.post("/v1/labels", json={"model": "payments", "labels": labels})
        assert answer.status_code == 422
        assert "labels[1]: " in answer.json()["error"]
        assert words in answer.json()["error"]
        assert client.post("/v1/flush").json()["appended"] == 0


def test_addresses_and_methods_that_do_not_exist_are_told_so_and_counted(start):
    with start() as client:
        for method, path in (("GET", "/"), ("PUT", "/"), ("GET", "/v1/labels"), ("DELETE", "/metrics")):
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["reason"]) == (405, "method")
            assert f"'{method}' is not served at '{path}'" in answer.json()["error"]
            assert answer.headers["allow"] in answer.json()["error"]
        for path in ("/../../etc/passwd", "/v1/labels/../x", "/%00", "/" + "a" * 3000):
            answer = client.post(path, json={})
            assert (answer.status_code, answer.json()["reason"]) == (404, "not-found")
            assert len(answer.content) < 300
        assert (refused(client, "method"), refused(client, "not-found")) == (4, 4)
        assert client.post("/v1/labels?model=payments&require_known=maybe", json={}).status_code == 422
        assert client.post("/v1/labels", json={"model": "other", "labels": []}).status_code == 422
        assert client.post("/v1/labels", json={"labels": []}).status_code == 400


def test_of_a_models_posted_figures_the_newest_are_shown_and_no_others(start):
    with start() as client:
        for number in range(150):
            body = {"model": "payments", "figures": {f"figure_{number}": number, "always": number}}
            assert client.post("/v1/checks", json=body).status_code == 202
        shown = [line for line in client.get("/metrics").text.splitlines() if line.startswith("kedge_check{")]
    with start() as client:
        again = [line for line in client.get("/metrics").text.splitlines() if line.startswith("kedge_check{")]
    assert sorted(shown) == sorted(again)
    assert [line.partition("figure=")[2] for line in sorted(shown)] == [
        '"always",model="payments"} 149.0',
        '"figure_149",model="payments"} 149.0',
    ]


@pytest.mark.parametrize("path", ["/", "/v1/labels", "/v1/labels?model=payments", "/v1/checks"])
def test_an_encoding_that_nobody_reads_is_named(start, event, path):
    kind = {"/": STRUCTURED, "/v1/labels?model=payments": {"content-type": "text/csv"}}.get(path, {})
    with start() as client:
        headers = {"content-type": "application/json", "content-encoding": "br"} | kind
        answer = client.post(path, content=orjson.dumps(event("a")), headers=headers)
        assert (answer.status_code, "content-encoding: 'br'" in answer.json()["error"]) == (415, True)


@pytest.mark.parametrize("many", [True, False])
def test_events_may_be_compressed(start, event, many):
    kind = BATCHED if many else STRUCTURED
    body = orjson.dumps([event("a")] if many else event("a"))
    with start() as client:
        for pack, name in ((gzip.compress, "gzip"), (zstandard.ZstdCompressor().compress, "zstd")):
            answer = client.post("/", content=pack(body), headers={"content-encoding": name} | kind)
            assert answer.status_code == 202
        assert client.post("/v1/flush").json() == {"appended": 2}


def test_probes_answer_when_idle_connections_fill_the_house(start, post):
    with start(max_connections=20) as client:
        address = (client.base_url.host, client.base_url.port)
        idle = [socket.create_connection(address) for _ in range(60)]
        try:
            for path in ("/healthz", "/readyz", "/metrics"):
                with httpx.Client(base_url=client.base_url) as prober:
                    assert prober.get(path).status_code == 200
            assert post(client).status_code == 202
        finally:
            for one in idle:
                one.close()


def test_probes_answer_when_all_connections_are_at_work_and_others_get_503(start, post, event):
    head = b"POST / HTTP/1.1\r\nhost: c\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    with start(max_connections=8) as client:
        address = (client.base_url.host, client.base_url.port)
        busy = [socket.create_connection(address) for _ in range(4)]  # a client's share
        try:
            for one in busy:
                one.sendall(head + b"{")  # the body never comes whole
            with httpx.Client(base_url=client.base_url) as other:
                assert other.get("/readyz").status_code == 200
            with httpx.Client(base_url=client.base_url) as other:
                body = orjson.dumps(event("b"))
                until(lambda: other.post("/", content=body, headers=STRUCTURED).status_code == 503)
        finally:
            for one in busy:
                one.close()


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
