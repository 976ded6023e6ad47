"""Events of every mode, from the socket to the log."""

from datetime import UTC, datetime

import orjson
import pytest

from kedge.tables import log

TIME = "2026-03-02T12:00:00.000001Z"
AT = datetime(2026, 3, 2, 12, 0, 0, 1, tzinfo=UTC)
DAY = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))


def post_batch(client, *events, **options):
    headers = {"content-type": "application/cloudevents-batch+json"}
    return client.post("/", content=orjson.dumps(events), headers=headers, **options)


@pytest.fixture
def rows(store, declared):
    def read(policy=None, **options):
        table = log.read_window(store, policy or declared(), *DAY, **options)
        return sorted(table.to_pylist(), key=lambda row: row["_id"])

    return read


def test_a_prediction_is_the_same_row_in_binary_structured_and_batched_mode(start, event, rows):
    with start() as client:
        structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
        assert client.post("/", content=orjson.dumps(event("a")), headers=structured).status_code == 202
        assert post_batch(client, event("b"), event("c")).status_code == 202
        whole = event("d")
        binary = {f"ce-{name}": value for name, value in whole.items() if name != "data"}
        assert client.post("/", json=whole["data"], headers=binary).status_code == 202
        assert client.post("/v1/flush").json()["appended"] == 4
    found = rows(labels="none")
    assert [row.pop("_id") for row in found] == ["a", "b", "c", "d"]
    assert all(row.pop("_received") > AT for row in found)
    assert found == 4 * [
        {
            "_time": AT, "_version": "v1", "_slot": "blue", "_score": 0.25, "_prediction": 0.0, "_latency_ms": 1.5,
            "amount": 12.5, "country": "DE",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "many"), [("Application/CloudEvents+JSON", 0), ("application/CLOUDEVENTS-batch+json", 1)]
)
def test_a_content_type_is_known_in_any_case(start, event, kind, many):
    with start() as client:
        content = orjson.dumps([event("a")] if many else event("a"))
        assert client.post("/", content=content, headers={"content-type": kind}).status_code == 202
        assert client.post("/v1/flush").json()["appended"] == 1


def test_an_empty_category_is_logged_as_missing_however_it_is_sent(start, event, rows):
    features = {"amount": 1.5, "country": ""}
    with start() as client:
        batch = [event("a", features=features), event("b")]
        for content, kind in (
            (batch, "-batch"),
            (event("c", features=features), ""),
            (event("d", features=features, prediction=None), ""),
        ):
            headers = {"content-type": f"application/cloudevents{kind}+json"}
            assert client.post("/", content=orjson.dumps(content), headers=headers).status_code == 202
        client.post("/v1/flush")
    assert {row["_id"]: row["country"] for row in rows()} == {"a": None, "b": "DE", "c": None, "d": None}


def test_of_events_sent_again_under_an_id_the_first_is_read(start, event, rows):
    with start() as client:
        assert post_batch(client, event("a"), event("a"), event("b")).status_code == 202
        post_batch(client, event("a", score=0.75))
    with start() as client:
        post_batch(client, event("b", score=0.75), event("c"))
        client.post("/v1/flush")
    assert [(row["_id"], row["_score"]) for row in rows()] == [("a", 0.25), ("b", 0.25), ("c", 0.25)]


def test_labels_meet_their_predictions_whichever_came_first(start, event, rows):
    label = {"model": "payments", "labels": [{"id": "a", "label": 1, "observed_at": TIME}]}
    with start() as client:
        assert client.post("/v1/labels", json=label).json() == {"accepted": 1}
        assert client.post("/v1/flush").json() == {"appended": 1}
        assert rows() == []
        post_batch(client, event("a"), event("b"))
        client.post("/v1/labels", json=label)
    assert [(row["_id"], row["_label"], row["_observed"]) for row in rows()] == [("a", 1.0, AT), ("b", None, None)]


@pytest.mark.parametrize("content", [b"[]", b"[ ]"])
def test_an_empty_batch_is_fine(start, content):
    with start() as client:
        headers = {"content-type": "application/cloudevents-batch+json"}
        assert client.post("/", content=content, headers=headers).status_code == 202
