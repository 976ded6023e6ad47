"""KServe's payload logger: raw requests and answers, one event each, in any order, never sent again."""

import struct
from datetime import UTC, datetime

import orjson
import pytest

from kedge.collector import kserve
from kedge.collector.declared import Declared
from kedge.policy import parse
from kedge.tables import log

ROW = {"amount": 12.5, "country": "DE"}


def headers(kind, identity="a", time="2026-03-02T12:00:00.000001Z", **more):
    """As the agent of v0.20 writes them."""
    return {
        "Ce-Specversion": "1.0",
        "Ce-Id": identity,
        "Ce-Time": time,
        "Ce-Recordedtime": time,
        "Ce-Type": f"org.kubeflow.serving.inference.{kind}",
        "Ce-Source": "http://localhost:9081/",
        "Ce-Inferenceservicename": "payments-green",
        "Ce-Namespace": "ml",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "",
        "Ce-Metadata": "{}",
        "Content-Type": "application/json",
    } | more


@pytest.fixture
def rows(store, declared):
    def read():
        day = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
        found = log.read_window(store, declared(), *day, labels="none").to_pylist()
        return sorted(found, key=lambda row: row["_id"])

    return read


V2_NAMED = {
    "inputs": [
        {"name": "country", "shape": [1, 1], "datatype": "BYTES", "data": ["DE"]},
        {"name": "amount", "shape": [1], "datatype": "FP64", "data": [12.5]},
        {"name": "extra", "shape": [1], "datatype": "FP64", "data": [1]},
    ]
}
PAIRS = {
    "v1 objects": ({"instances": [ROW]}, {"predictions": [0.75]}),
    "v1 lists in the order of the features": ({"instances": [[12.5, "DE"]]}, {"predictions": [[0.25, 0.75]]}),
    "v2 one tensor a feature": (
        V2_NAMED,
        {
            "outputs": [
                {"name": "prediction", "shape": [1], "datatype": "INT64", "data": [1]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [0.75]},
            ]
        },
    ),
    "v2 one tensor of rows": (
        {"inputs": [{"name": "input-0", "shape": [1, 2], "datatype": "BYTES", "data": [[12.5, "DE"]]}]},
        {"outputs": [{"name": "output-0", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]},
    ),
}


@pytest.mark.parametrize("protocol", PAIRS)
@pytest.mark.parametrize("first", ["request", "response"])
def test_a_request_and_its_answer_become_one_prediction_in_whichever_order_they_come(start, rows, protocol, first):
    bodies = dict(zip(("request", "response"), PAIRS[protocol], strict=True))
    times = {"request": "2026-03-02T12:00:00Z", "response": "2026-03-02T12:00:00.0125Z"}
    second = {"request": "response", "response": "request"}[first]
    with start() as client:
        sent = client.post("/", json=bodies[first], headers=headers(first, time=times[first]))
        assert sent.status_code == 202
        assert client.post("/v1/flush").json() == {"appended": 1}
        assert rows() == []
        client.post("/", json=bodies[second], headers=headers(second, time=times[second]))
        client.post("/", json=bodies[first], headers=headers(first, time=times[first]))
        client.post("/v1/flush")
    (row,) = rows()
    assert row.pop("_received") > datetime(2026, 3, 2, tzinfo=UTC)
    assert row == {
        "_id": "a", "_time": datetime(2026, 3, 2, 12, tzinfo=UTC), "_version": "", "_slot": "green", "_score": 0.75,
        "_prediction": 1.0, "_latency_ms": 12.5, **ROW,
    }  # fmt: skip


def test_rows_of_one_request_get_ids_of_their_own(start, rows):
    with start() as client:
        client.post("/", json={"instances": [ROW, {"amount": None}]}, headers=headers("request"))
        client.post("/", json={"predictions": [0.75, 0.25]}, headers=headers("response"))
        client.post("/v1/flush")
    assert [(row["_id"], row["_score"], row["country"]) for row in rows()] == [("a-0", 0.75, "DE"), ("a-1", 0.25, None)]


def test_a_binary_v2_body_is_read_though_the_header_that_splits_it_is_lost(start, rows):
    texts = struct.pack("<I2s", 2, b"DE")
    described = {
        "inputs": [
            {"name": "amount", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
            {"name": "country", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}},
        ]
    }
    answer = {"outputs": [{"name": "s", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}
    binary = {"Content-Type": "application/octet-stream"}
    with start() as client:
        request = orjson.dumps(described) + struct.pack("<d", 12.5) + texts
        assert client.post("/", content=request, headers=headers("request", **binary)).status_code == 202
        response = orjson.dumps(answer) + struct.pack("<f", 0.75)
        assert client.post("/", content=response, headers=headers("response", **binary)).status_code == 202
        client.post("/v1/flush")
    assert [(row["amount"], row["country"], row["_score"]) for row in rows()] == [(12.5, "DE", 0.75)]


def test_the_model_version_comes_from_the_annotation_that_is_named(start, rows):
    annotated = {"Ce-Annotations": '{"kedge.dev/bundle":"0123abcd"}'}
    with start() as client:
        client.post("/", json={"instances": [ROW]}, headers=headers("request", **annotated))
        client.post("/", json={"predictions": [0.75]}, headers=headers("response", **annotated))
        client.post("/v1/flush")
    assert rows()[0]["_version"] == "0123abcd"


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("request", b"{}", "neither v1"),
        ("request", b"", "not JSON"),
        ("request", b'{"instances": []}', "1 to 100,000 rows"),
        ("request", b'{"instances": [[1]]}', "a list of 2 values"),
        ("request", b'{"instances": [{"amount": "x"}]}', "feature 'amount' must be a number"),
        ("request", b'{"inputs": [{"name": "amount", "shape": [3], "datatype": "FP64", "data": [1]}]}', "shape [3]"),
        ("request", b'{"inputs": [{"name": "amount", "shape": "x", "data": [1]}]}', "list of sizes"),
        ("request", b'{"inputs": [5]}', "a tensor is an object"),
        ("request", b'{"inputs": [{"name": "a", "shape": [1], "parameters": {"binary_data_size": 9}}]}', "9 bytes"),
        ("response", b'{"outputs": []}', "no outputs"),
        ("response", b'{"predictions": ["a"]}', "score must be"),
        ("response", b'{"predictions": [[0.1, 0.2, 0.7]]}', "score must be"),
    ],
)
def test_payloads_of_another_shape_are_refused_by_name(start, kind, body, words):
    with start() as client:
        answer = client.post("/", content=body, headers=headers(kind))
        assert answer.status_code in (400, 422)
        assert words in answer.json()["error"]


def test_a_service_of_a_model_nobody_declared_is_refused(start):
    with start() as client:
        other = headers("request", **{"Ce-Inferenceservicename": "fraud-blue"})
        assert client.post("/", json={"instances": [ROW]}, headers=other).status_code == 422


def test_a_request_and_a_response_that_reached_different_collectors_find_each_other(start, rows):
    with start(spool="one") as one, start(spool="two") as two:
        one.post("/", json={"instances": [ROW]}, headers=headers("request"))
        two.post("/", json={"predictions": [0.75]}, headers=headers("response"))
    assert [(row["_id"], row["_score"], row["amount"]) for row in rows()] == [("a", 0.75, 12.5)]


@pytest.mark.parametrize(("asked", "answered"), [(2, 1), (3, 2), (2, 3)])
def test_an_answer_with_another_number_of_rows_is_no_prediction(start, rows, asked, answered):
    with start() as client:
        client.post("/", json={"instances": [ROW] * asked}, headers=headers("request"))
        client.post("/", json={"predictions": [0.75] * answered}, headers=headers("response"))
    assert rows() == []


def test_a_label_of_a_pair_is_known_and_read_with_it(start, store, declared):
    label = {"model": "payments", "labels": [{"id": "a-1", "label": 1, "observed_at": "2026-03-02T13:00:00Z"}]}
    with start() as client:
        client.post("/", json={"instances": [ROW, ROW]}, headers=headers("request"))
        client.post("/", json={"predictions": [0.75, 0.5]}, headers=headers("response"))
        assert client.post("/v1/labels?require_known=true", json=label).status_code == 202
        label["labels"][0]["id"] = "a-2"
        assert client.post("/v1/labels?require_known=true", json=label).status_code == 422
    day = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
    found = log.read_labelled(store, declared(), *day, columns=["_id", "_score", "amount", "_latency_ms"])
    assert found.drop_columns(["_label", "_observed"]).to_pylist() == [
        {"_id": "a-1", "_score": 0.5, "amount": 12.5, "_latency_ms": 0.0}
    ]


@pytest.mark.parametrize(
    "request_body",
    [
        {"instances": [{"Umsatz.netto": 12.5, "country": "DE"}]},
        {"instances": [{"amount": 12.5, "country": "DE"}]},
        {
            "inputs": [
                {"name": "Umsatz.netto", "shape": [1], "datatype": "FP64", "data": [12.5]},
                {"name": "country", "shape": [1], "datatype": "BYTES", "data": ["DE"]},
            ]
        },
    ],
    ids=["v1", "own names", "v2"],
)
def test_a_service_that_kedge_did_not_train_may_call_a_feature_as_tables_do(request_body):
    features = {"amount": {"type": "number", "column": "Umsatz.netto"}, "country": {"type": "category"}}
    model = {"name": "payments", "target": "y", "features": features}
    declared = Declared(parse({"model": model, "data": {"source": {"format": "log"}}}), None)
    assert kserve.request_rows(declared, request_body) == [(12.5, "DE")]
