"""KServe's payload logger: raw requests and answers, one event each, in any order, never sent again."""

import gzip
import struct
from datetime import UTC, datetime

import orjson
import pytest
import zstandard

from kedge.collector import kserve
from kedge.collector.declared import Declared
from kedge.collector.rejection import RequestRejected
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
        ("request", b'{"instances": []}', "1 to 100,000 rows"),
        ("request", b'{"instances": [[1]]}', "a list of 2 values"),
        ("request", b'{"instances": [{"amount": "x"}]}', "feature 'amount' must be a number"),
        ("request", b'{"inputs": [{"name": "amount", "shape": [3], "datatype": "FP64", "data": [1]}]}', "shape says 3"),
        ("request", b'{"inputs": [{"name": "amount", "shape": "x", "data": [1]}]}', "list of at most 4 sizes"),
        ("request", b'{"inputs": [5]}', "a row is an object or a list of 2 values"),
        (
            "request",
            b'{"inputs": [{"name": "a", "shape": [1], "parameters": {"binary_data_size": 9}}]}',
            "within the 0 bytes",
        ),
        ("response", b'{"outputs": []}', "no output ''"),
        ("response", b'{"predictions": ["a"]}', "`model.answer.label: true`"),
        ("response", b'{"predictions": [[0.1, 0.2, 0.7]]}', "`model.answer.index`"),
        ("response", b'{"predictions": [{"p": 0.1}]}', "an object with 'p'; `model.answer.field`"),
        ("response", b'{"predictions": [[]]}', "score must be a finite number, got null"),
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


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("response", b""),
        ("response", b'{"error": "feature amount: missing"}'),
        ("response", b'{"detail": [{"loc": ["body"]}]}'),
        ("response", b"upstream connect error or disconnect/reset before headers"),
        ("response", b"<html><body>503 Service Temporarily Unavailable</body></html>"),
        ("response", b'{"explanations": [{"amount": 0.25}]}'),
        ("response", b'{"name": "payments", "versions": ["1"], "platform": "xgboost"}'),
        ("response", b'"ok"'),
        ("request", b""),
        ("request", b'{"model": "x", "messages": []}'),
    ],
)
def test_what_is_no_prediction_is_counted_apart_and_is_no_refusal(start, rows, kind, body):
    with start() as client:
        assert client.post("/", content=body, headers=headers(kind)).status_code == 202
        page = client.get("/metrics").text
    assert f'kedge_collect_other_total{{kind="{kind}",model="payments"}} 1.0' in page
    assert "kedge_collect_refused_total{" not in page
    assert rows() == []


def test_what_an_explainer_logs_is_no_prediction(start, rows):
    with start() as client:
        explainer = {"Ce-Component": "explainer"}
        client.post("/", json={"instances": [ROW]}, headers=headers("request", **explainer))
        client.post("/", json={"predictions": [0.5]}, headers=headers("response", **explainer))
    assert rows() == []


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_payloads_that_were_compressed_are_read_though_the_header_that_says_so_is_lost(start, rows, pack):
    with start() as client:
        for kind, body in (("request", {"instances": [ROW]}), ("response", {"predictions": [0.75]})):
            assert client.post("/", content=pack(orjson.dumps(body)), headers=headers(kind)).status_code == 202
        swollen = client.post("/", content=pack(b" " * 40_000_000), headers=headers("response"))
        assert (swollen.status_code, "unpacked" in swollen.json()["error"]) == (413, True)
    assert [(row["_id"], row["_score"], row["amount"]) for row in rows()] == [("a", 0.75, 12.5)]


THREE = {"predictions": [[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]]}
OBJECTS = {"predictions": [{"class": "ham", "chance": {"spam": 0.1}}, {"class": "spam", "chance": {"spam": 0.9}}]}
TWO = {
    "outputs": [
        {"name": "predict", "shape": [2], "datatype": "INT64", "data": [0, 1]},
        {"name": "predict_proba", "shape": [2, 2], "datatype": "FP64", "data": [0.9, 0.1, 0.25, 0.75]},
    ]
}


@pytest.mark.parametrize(
    ("answer", "body", "scores"),
    [
        ({"index": 2}, THREE, [0.7, 0.1]),
        ({"field": "chance.spam"}, OBJECTS, [0.1, 0.9]),
        ({"field": "class", "label": True}, OBJECTS, [0.0, 1.0]),
        ({"label": True}, {"predictions": ["spam", "ham"]}, [1.0, 0.0]),
        ({}, TWO, [0.1, 0.75]),
        ({"output": "predict_proba", "index": 0}, TWO, [0.9, 0.25]),
        ({"output": "predict"}, TWO, [0.0, 1.0]),
    ],
)
def test_the_policy_says_which_part_of_an_answer_is_the_score(answer, body, scores):
    model = {"name": "payments", "target": "y", "positive_label": "spam", "features": {"amount": {"type": "number"}}}
    policy = parse({"model": model | {"answer": answer}, "data": {"source": {"format": "log"}}})
    assert kserve.response_scores(Declared(policy, None), body) == scores


def test_an_output_that_the_policy_names_and_the_answer_lacks_is_named():
    model = {"name": "payments", "target": "y", "features": {"amount": {"type": "number"}}, "answer": {"output": "p"}}
    declared = Declared(parse({"model": model, "data": {"source": {"format": "log"}}}), None)
    with pytest.raises(RequestRejected, match=r"no output 'p', it has .*`model\.answer\.output`"):
        kserve.response_scores(declared, TWO)


@pytest.mark.parametrize(
    "request_body",
    [
        {"inputs": [[12.5, "DE"]]},
        {"inputs": [{"amount": 12.5, "country": "DE"}]},
        {"inputs": [{"name": "amount", "shape": [1, 2], "datatype": "BYTES", "data": [12.5, "DE"]}]},
    ],
    ids=["v1 lists as inputs", "v1 objects as inputs", "a matrix called like a feature"],
)
def test_what_kserves_own_servers_accept_is_read(request_body, declared):
    assert kserve.request_rows(Declared(declared(), None), request_body) == [(12.5, "DE")]


def test_a_feature_of_two_values_a_row_is_refused(start):
    body = {"inputs": [{"name": "amount", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}, V2_NAMED["inputs"][0]]}
    with start() as client:
        answer = client.post("/", json=body, headers=headers("request"))
    assert answer.status_code == 422
    assert "feature 'amount' must be a number" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"predictions": [NaN]}', "NaN is no JSON number; send null"),
        (b'{"predictions": [1e400]}', "larger than 1.8e308"),
        (b'{"outputs": [{"name": "score", "shape": [-1], "data": [1]}]}', "whole numbers from 0 on"),
    ],
)
def test_an_answer_that_only_python_takes_for_json_is_refused_by_its_cause(start, body, words):
    with start() as client:
        answer = client.post("/", content=body, headers=headers("response"))
    assert answer.status_code == 400
    assert words in answer.json()["error"]
