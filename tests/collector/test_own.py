"""A batch read by column is what its events are one by one; the short way answers like the ordinary one."""

import socket

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kedge.collector import connection, events
from kedge.collector.declared import Declared, time_of
from kedge.collector.own import OwnEvents

NOW = 1_772_452_800_000_000
VALUES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(0, 1) | st.text(max_size=3)


@example(changes=[{"prediction": 2**53 + 1}, {"latency_ms": 2**53 + 1}])
@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(
        st.dictionaries(
            st.sampled_from(["score", "prediction", "latency_ms", "version", "amount", "country"]), VALUES, max_size=1
        ),
        min_size=1,
        max_size=4,
    )
)
def test_rows_read_by_column_are_those_read_one_by_one(declared, event, changes):
    model = Declared(declared(), None)
    sent = []
    for number, change in enumerate(changes):
        whole = event(f"id-{number}")
        whole["data"]["features"] |= {name: change[name] for name in ("amount", "country") if name in change}
        whole["data"] |= {name: value for name, value in change.items() if name not in ("amount", "country")}
        sent.append(orjson.loads(orjson.dumps(whole)))
    own = OwnEvents({"payments": model})
    found = own.columns(orjson.dumps(sent), NOW)
    if found is not None:
        alone = [events.structured(value) for value in sent]
        assert list(zip(*found[1], strict=True)) == [
            model.row(one.id, one.data, time_of(one.time), NOW) for one in alone
        ]


def test_a_batch_of_good_events_is_read_by_column(declared, event):
    own = OwnEvents({"payments": Declared(declared(), None)})
    assert own.columns(orjson.dumps([event("a"), event("b")]), NOW)[1][0] == ("a", "b")
    assert own.row(orjson.dumps(event("a")), NOW)[1][0] == "a"


def test_an_event_names_its_model_though_there_is_only_one(declared, event, start):
    nameless = event("a")
    del nameless["data"]["model"]
    own = OwnEvents({"payments": Declared(declared(), None)})
    assert own.row(orjson.dumps(nameless), NOW) is None
    assert own.columns(orjson.dumps([event("b"), nameless]), NOW) is None
    with start() as client:
        answer = client.post(
            "/", content=orjson.dumps(nameless), headers={"content-type": "application/cloudevents+json"}
        )
    assert (answer.status_code, answer.json()["reason"]) == (422, "unknown-model")


def test_any_name_of_a_feature_is_read_and_models_are_told_apart(declared, event):
    odd = declared(**{"class": {"type": "number"}, "order total": {"type": "boolean"}})
    other = declared("returns", **{"class": {"type": "category"}})
    own = OwnEvents({"payments": Declared(odd, None), "returns": Declared(other, None)})
    sent = event("a", features={"class": 1.5, "order total": True, "unknown": [[1]]})
    model, row = own.row(orjson.dumps(sent), NOW)
    assert (model.name, row[8:]) == ("payments", (1.5, True))
    second = event("b", model="returns", features={"class": "x"})
    assert own.row(orjson.dumps(second), NOW)[1][8:] == ("x",)
    assert own.columns(orjson.dumps([sent, second]), NOW) is None
    assert own.row(orjson.dumps(event("c", model="returns", features={"class": 1.5})), NOW) is None


def test_a_batch_beyond_the_most_is_refused(start, event):
    small = orjson.dumps(event("a", features={}))
    with start() as client:
        sent = {"content": b"[" + b",".join([small] * 10_001) + b"]"}
        answer = client.post("/", headers={"content-type": "application/cloudevents-batch+json"}, **sent)
    assert answer.status_code == 413
    assert "at most 10,000 events, got 10,001" in answer.json()["error"]


def test_events_sent_at_once_or_in_pieces_are_answered_in_turn(start, event):
    def request(identity, **data):
        body = orjson.dumps(event(identity, **data))
        head = (
            f"POST / HTTP/1.1\r\nhost: c\r\ncontent-type: application/cloudevents+json\r\ncontent-length: {len(body)}"
        )
        return head.encode() + b"\r\n\r\n" + body

    with start() as client, socket.create_connection(("127.0.0.1", client.base_url.port)) as line:
        line.settimeout(20)
        line.sendall(request("a") + request("b", score=7) + request("c"))
        seen = b""
        while seen.count(b"HTTP/1.1 ") < 3 or not seen.endswith(b"\r\n\r\n"):
            seen += line.recv(65536)
        statuses = [part[:3] for part in seen.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"202", b"422", b"202"]
        whole = request("d")
        line.sendall(whole[:-20])
        assert client.get("/healthz").status_code == 200
        line.sendall(whole[-20:])
        assert line.recv(65536).startswith(b"HTTP/1.1 202")
        assert client.post("/v1/flush").json()["appended"] == 3


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_a_batch_in_pieces_is_answered_alike_by_the_short_and_the_long_way(start, event, monkeypatch, seconds):
    monkeypatch.setattr(connection, "SHORT_SECONDS", seconds)
    body = orjson.dumps([event("a"), event("b", score=7)])
    kind = "content-type: application/cloudevents-batch+json"
    whole = f"POST / HTTP/1.1\r\nhost: c\r\n{kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    with start() as client, socket.create_connection(("127.0.0.1", client.base_url.port)) as line:
        line.settimeout(20)
        line.sendall(whole[:-20])
        assert client.get("/healthz").status_code == 200
        line.sendall(whole[-20:])
        seen = b""
        while b"refused" not in seen:
            seen += line.recv(65536)
        assert b" 422 " in seen
        assert b'"accepted":1' in seen
