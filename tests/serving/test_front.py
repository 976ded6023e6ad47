"""What a request gets: a score, or the one sentence that names its fault."""

from __future__ import annotations

import gzip
import json
import logging
import struct
import threading
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kedge.serving import front as fronts
from kedge.serving.metrics import Histogram
from tests.bundle import models
from tests.serving.front import INFER, PREDICT, ROW, Server


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return models.written(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture
def server(made):
    return Server(made)


def tensors(rows, **changes):
    """A v2 request of these rows."""
    kinds = {"amount": "FP64", "age_days": "INT64", "ratio": "FP64", "recurring": "BOOL", "country": "BYTES"}
    return {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows]}
            for name, kind in kinds.items()
        ]
    } | changes


def test_v1_answers_the_score_of_each_row_with_id_version_and_slot(server, made):
    answer = server.predict(ROW, ROW | {"country": "unseen"}, ce_id="order-7")
    predictor = made.load_model()
    wanted = predictor.score(made.signature.encode_rows([ROW, ROW | {"country": "unseen"}])).tolist()
    assert answer.status == 200
    assert answer.json == {"predictions": wanted}
    assert answer.headers["x-request-id"] == "order-7"
    assert answer.headers["x-kedge-version"] == made.id
    assert answer.headers["x-kedge-slot"] == "blue"


def test_one_row_and_a_batch_give_the_same_bits(server, made):
    rows = made.golden_rows()
    batch = server.predict(*rows).json["predictions"]
    assert [server.predict(row).json["predictions"][0] for row in rows] == batch
    assert batch == made.golden.column("_score").to_pylist()


def test_v1_rows_may_be_lists_in_the_order_of_the_signature_and_are_kept_by_name(server):
    named = server.predict(ROW, ROW | {"ratio": 0.5}).json
    assert server.predict(list(ROW.values()), list((ROW | {"ratio": 0.5}).values())).json == named
    assert server.predict(list(ROW.values()), ROW | {"ratio": 0.5}).json == named
    assert [kept.scored.rows for kept in server.outbox._queue] == 3 * [[ROW, ROW | {"ratio": 0.5}]]
    listed = server.post("/v1/models/payments:explain", {"instances": [list(ROW.values())]})
    assert listed.json == server.post("/v1/models/payments:explain", {"instances": [ROW]}).json


def test_request_without_an_id_gets_one_no_other_has(server):
    ids = {server.predict(ROW).headers["x-request-id"] for _ in range(100)}
    assert len(ids) == 100


def test_v2_json_answers_score_and_prediction_under_its_own_id(server, made):
    rows = [ROW, ROW | {"amount": None, "country": None}]
    answer = server.post(INFER, tensors(rows, id="q-1"))
    scores = server.predict(*rows).json["predictions"]
    assert answer.json == {
        "model_name": "payments",
        "model_version": made.id,
        "id": "q-1",
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [2], "data": scores},
            {"name": "prediction", "datatype": "FP64", "shape": [2], "data": [float(score >= 0.5) for score in scores]},
        ],
    }
    assert server.post(INFER, tensors(rows, id="q-1"), {"ce-id": "first"}).headers["x-request-id"] == "first"
    column = tensors(rows)
    for tensor in column["inputs"]:
        tensor["shape"], tensor["data"] = [2, 1], [[value] for value in tensor["data"]]
    assert server.post(INFER, column).json["outputs"] == answer.json["outputs"]
    assert server.post(f"/v2/models/payments/versions/{made.id}/infer", column).status == 200


def test_v2_binary_tensors_go_in_and_out(server):
    rows = [ROW | {"ratio": 0.25}, ROW | {"country": "zürich", "ratio": 0.5}]
    raw = {
        "amount": np.array([row["amount"] for row in rows], "<f8").tobytes(),
        "age_days": np.array([row["age_days"] for row in rows], "<i4").tobytes(),
        "ratio": np.array([0.25, np.nan], "<f4").tobytes(),
        "recurring": b"\1\1",
        "country": b"".join(struct.pack("<I", len(text)) + text for text in (b"DE", "zürich".encode())),
    }
    kinds = {"amount": "FP64", "age_days": "INT32", "ratio": "FP32", "recurring": "BOOL", "country": "BYTES"}
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": kinds[name],
                    "shape": [2],
                    "parameters": {"binary_data_size": len(raw[name])},
                }
                for name in raw
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = server.send(INFER, head + b"".join(raw.values()), headers)
    assert answer.status == 200, answer.body
    end = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.body[:end])["outputs"]
    assert [output["parameters"] for output in outputs] == [{"binary_data_size": 16}, {"binary_data_size": 16}]
    wanted = server.predict(rows[0], rows[1] | {"ratio": None}).json["predictions"]
    assert np.frombuffer(answer.body[end : end + 16], "<f8").tolist() == wanted


def test_v2_gives_the_outputs_that_were_asked_for(server):
    asked = [{"name": "prediction"}]
    assert [output["name"] for output in server.post(INFER, tensors([ROW], outputs=asked)).json["outputs"]] == [
        "prediction"
    ]
    mixed = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    answer = server.post(INFER, tensors([ROW], outputs=mixed))
    end = int(answer.headers["inference-header-content-length"])
    assert struct.unpack("<d", answer.body[end:])[0] == server.predict(ROW).json["predictions"][0]


def test_explanation_sums_to_the_log_odds_of_the_score(server):
    (parts,) = server.post("/v1/models/payments:explain", {"instances": [ROW]}).json["explanations"]
    score = server.predict(ROW).json["predictions"][0]
    assert list(parts) == ["amount", "age_days", "ratio", "recurring", "country", "_bias"]
    assert sum(parts.values()) == pytest.approx(np.log(score / (1 - score)), abs=1e-4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({name: value for name, value in ROW.items() if name != "amount"}, "feature 'amount': missing"),
        (ROW | {"extra": 1}, "feature 'extra': not one of the model's"),
        (ROW | {"amount": "12"}, "feature 'amount': must be a number or null, got text '12'"),
        (ROW | {"age_days": None}, "feature 'age_days': must not be null"),
        (ROW | {"age_days": 1.5}, "feature 'age_days': must be a whole number"),
        (ROW | {"country": 1}, "feature 'country': must be text or null"),
        ([1, 2, 3, True, 5], "feature 'country': must be text or null"),
        ([1, 2, 3, 4], "4 values for the 5 features amount, age_days, ratio, recurring, country"),
        (7, "must be an object of features by name"),
        (None, "must be an object of features by name"),
    ],
)
def test_row_at_fault_gets_400_and_the_feature_is_named(server, row, message):
    for answer in (server.predict(row), server.post("/v1/models/payments:explain", {"instances": [row]})):
        assert answer.status == 400
        assert message in answer.json["error"]
    assert "row 1: " in server.predict(ROW, row).json["error"]
    assert server.metrics.requests["v1", 400] == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b'{"instances": [{"amount": NaN}]}', "the body is not JSON"),
        (b'{"instances": [{"amount": Infinity}]}', "the body is not JSON"),
        (b'{"instances": [{"amount": 1e999}]}', ""),
        (b'{"instances": ' + b"[" * 100_000, "the body is not JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b"{}", '"instances": must be a list'),
        (b'{"instances": []}', '"instances": must be a list of at least one'),
        (b'{"instances": {"amount": 1}}', '"instances": must be a list'),
    ],
)
def test_body_that_is_no_v1_request_gets_400(server, body, message):
    answer = server.send(PREDICT, body)
    assert answer.status == 400
    assert message in answer.json["error"]
    assert len(answer.body) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": None}, '"inputs": must be a list of tensors'),
        ({"inputs": []}, '"inputs": must be a list of tensors'),
        ({"inputs": [1]}, 'each must be an object with a "name"'),
        ({"inputs": [{"name": "nope", "shape": [1]}]}, "input 'nope': not a feature"),
        ({"inputs": [{"name": "amount", "shape": [1], "data": [1]}] * 2}, "input 'amount': given twice"),
        ({"inputs": [{"name": "amount", "shape": [1], "data": [1]}]}, "feature 'age_days': missing"),
        ({"inputs": [{"name": "amount", "shape": [2], "data": [1]}]}, "1 values, its shape says 2"),
        ({"inputs": [{"name": "amount", "shape": [-1], "data": []}]}, "shape must be [rows]"),
        ({"inputs": [{"name": "amount", "shape": [1, 3], "data": [1]}]}, "shape must be [rows]"),
        ({"inputs": [{"name": "amount", "shape": "1", "data": [1]}]}, "shape must be [rows]"),
        ({"inputs": [{"name": "amount", "shape": [1]}]}, "needs data, or binary_data_size"),
        (
            {"inputs": [{"name": "amount", "shape": [1], "parameters": {"binary_data_size": 10**9}}]},
            "needs data, or binary_data_size",
        ),
        ({"inputs": [{"name": "amount", "shape": [1], "parameters": [1]}]}, "needs data, or binary_data_size"),
        ({"outputs": [{"name": "nope"}]}, '"outputs": each must be'),
        ({"outputs": 1}, '"outputs": each must be'),
        ({"id": 7}, '"id": an id must be'),
        ({"id": "a b"}, '"id": an id must be'),
        ({"id": "x" * 200}, '"id": an id must be'),
    ],
)
def test_v2_request_at_fault_gets_400_and_the_input_is_named(server, change, message):
    answer = server.post(INFER, tensors([ROW]) | change)
    assert answer.status == 400
    assert message in answer.json["error"]


@pytest.mark.parametrize("length", ["0", "-1", "1e3", "9" * 20, "1000000", "x"])
def test_v2_json_length_outside_the_body_gets_400(server, length):
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
    answer = server.send(INFER, orjson.dumps(tensors([ROW])), headers)
    assert answer.status == 400
    assert "inference-header-content-length" in answer.json["error"]


def test_binary_data_that_does_not_fit_gets_400(server):
    for datatype, raw in (
        ("BYTES", b"\xff\xff\xff\xff"),
        ("BYTES", b"\1\0"),
        ("FP64", b"1234"),
        ("FP128", b"12345678"),
    ):
        head = orjson.dumps(
            {"inputs": [{"name": "amount", "datatype": datatype, "shape": [1],
                         "parameters": {"binary_data_size": len(raw)}}]}
        )  # fmt: skip
        headers = {"inference-header-content-length": str(len(head))}
        answer = server.send(INFER, head + raw, headers)
        assert answer.status == 400
        assert "input 'amount'" in answer.json["error"]
        assert "belong to no input" in server.send(
            INFER, orjson.dumps(tensors([ROW])) + b"rest",
            {"inference-header-content-length": str(len(orjson.dumps(tensors([ROW]))))},
        ).json["error"]  # fmt: skip


@pytest.mark.parametrize("evil", ["a\r\nset-cookie: x=1", "a\nb", "\x00", "a b", "ü", "", "x" * 129])
def test_id_that_could_not_stand_in_a_header_gets_400_and_is_not_echoed(server, evil):
    for answer in (server.predict(ROW, ce_id=evil), server.post(INFER, tensors([ROW], id=evil))):
        assert answer.status == 400
        assert "id must be 1 to 128 visible ASCII characters" in answer.json["error"]
        assert fronts.checked_id(answer.headers["x-request-id"], "answer") != evil


def test_wrong_content_type_gets_415_and_a_charset_is_fine(server):
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
    ):
        answer = server.predict(ROW, content_type=kind)
        assert answer.status == 415
        assert "must be application/json" in answer.json["error"]
    assert server.predict(ROW, content_type="application/json; charset=utf-8").status == 200
    assert server.predict(ROW, content_type="application/octet-stream").status == 415


def test_ten_megabytes_get_413_whether_declared_or_not(server):
    whole = [b"x" * 2**20] * 10
    declared = server.send(PREDICT, whole, {"content-length": str(10 * 2**20)})
    streamed = server.send(PREDICT, whole)
    waiting = server.send(PREDICT, [b"..."], {"content-length": str(10 * 2**20), "expect": "100-continue"})
    endless = server.send(PREDICT, [b"x" * 2**20] * 65 + [b"..."])
    for answer in (declared, streamed, waiting, endless):
        assert answer.status == 413
        assert "more than 4,194,304 bytes" in answer.json["error"]
        assert answer.headers["connection"] == "close"


def test_body_that_does_not_arrive_gets_408(server, monkeypatch):
    monkeypatch.setattr(fronts, "BODY_SECONDS", 0.05)
    answer = server.send(PREDICT, [b"{", b"..."])
    assert answer.status == 408
    assert "did not arrive within 0.05 s" in answer.json["error"]
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/other:predict", "/v2/models/other/infer", "/v1/models/payments:unload",
        "/v1/models/../payments:predict",
        "/v2/repository/models/payments/unload", "/v2/models/payments/versions/1/infer", "/etc/passwd", "/docs",
        "/" + "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_not_served_gets_404_and_never_reaches_kserve(server, path):
    for method in ("GET", "POST", "DELETE"):
        answer = server.send(path, method=method)
        assert answer.status == 404
        assert "this server has the model 'payments'" in answer.json["error"]
        assert len(answer.body) < 300


def test_wrong_method_gets_405_that_names_the_right_one(server):
    assert server.send(PREDICT, method="GET").json["error"] == "GET is not allowed here; use POST"
    assert server.send("/metrics", method="POST").json["error"] == "POST is not allowed here; use GET"


def test_probes_and_metadata_are_kserves_and_readiness_ends_with_the_first_signal(server):
    for path in ("/", "/metrics", "/v1/models", "/v1/models/payments", "/v2/health/ready", "/v2/models/payments"):
        assert server.send(path, method="GET").body == b"inner"
    server.front.draining = True
    for path in ("/v2/health/ready", "/v2/models/payments/ready"):
        assert server.send(path, method="GET").status == 503
    assert server.send("/v2/health/live", method="GET").body == b"inner"
    answer = server.predict(ROW)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


def test_model_that_fails_gives_500_without_a_trace_and_the_log_has_it(server, monkeypatch, caplog):
    def broken(rows):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.model, "score", broken)
    with caplog.at_level(logging.ERROR):
        answer = server.predict(ROW)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    named = answer.json["error"].rsplit(" ", 1)[1]
    assert named in caplog.text
    assert "secret detail" in caplog.text


def test_long_requests_and_slow_models_are_scored_off_the_event_loop(server, made, monkeypatch):
    threads = []
    score = server.model.score

    def noted(rows):
        threads.append(threading.current_thread())
        return score(rows)

    monkeypatch.setattr(server.model, "score", noted)
    main = threading.current_thread()
    server.predict(ROW)
    server.predict(*made.golden_rows() * 10)
    monkeypatch.setattr(server.model, "quick", False)
    server.predict(ROW)
    assert [thread is main for thread in threads] == [True, False, False]


def test_a_smoke_tests_rows_are_answered_and_counted_but_are_no_prediction_served(made):
    server = Server(made)
    assert server.predict(ROW, x_kedge_smoke="true").status == 200
    assert not server.outbox._queue
    server.predict(ROW)
    assert len(server.outbox._queue) == 1


def test_answered_rows_become_events_with_the_requests_id_and_time(made):
    server = Server(made, trust_event_time=True)
    server.predict(ROW, ce_id="a", ce_time="2026-03-02T01:00:00+01:00")
    server.predict(ROW, ROW, ce_id="b", ce_time="2026-03-02T00:00:01Z")
    server.predict(ROW | {"amount": "x"}, ce_id="c")
    server.post("/v1/models/payments:explain", {"instances": [ROW]})
    events = [event for slices in server.outbox._slices() for event in server.outbox._events(*slices)]
    assert [event["id"] for event in events] == ["a", "b-0", "b-1"]
    first = events[0]
    assert first["time"] == datetime(2026, 3, 2, tzinfo=UTC)
    assert first["type"] == "dev.kedge.prediction"
    assert first["source"] == "/payments/blue"
    assert first["data"]["features"] == ROW
    assert first["data"] | {"latency_ms": 0} == {
        "model": "payments", "version": made.id, "slot": "blue", "features": ROW, "latency_ms": 0,
        "score": server.predict(ROW).json["predictions"][0], "prediction": 0.0,
    }  # fmt: skip
    assert first["data"]["latency_ms"] > 0


@pytest.mark.parametrize("time", ["yesterday", "2026-03-02T00:00:00", "", "2026-13-01T00:00:00Z"])
def test_event_time_that_is_none_gets_400_only_where_it_is_trusted(made, time):
    answer = Server(made, trust_event_time=True).predict(ROW, ce_time=time)
    assert answer.status == 400
    assert "ce-time: must be a time such as" in answer.json["error"]
    assert Server(made).predict(ROW, ce_time=time).status == 200


def test_histogram_counts_edges_as_prometheus_does():
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.add(value)
    assert histogram.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert histogram.sum == 8.0


def test_metrics_hold_requests_by_version_and_status_latencies_by_stage_and_scores(server, made):
    from prometheus_client import CollectorRegistry, generate_latest

    server.predict(ROW)
    server.predict(ROW, ROW)
    server.predict({})
    registry = CollectorRegistry()
    registry.register(server.metrics)
    text = generate_latest(registry).decode()
    names = f'model_name="payments",model_version="{made.id}"'
    assert f'kedge_requests_total{{{names},protocol="v1",slot="blue",status="200"}} 2.0' in text
    assert f'kedge_requests_total{{{names},protocol="v1",slot="blue",status="400"}} 1.0' in text
    assert f'kedge_rows_total{{{names},slot="blue"}} 3.0' in text
    for stage in ("read", "encode", "score", "total"):
        assert f'kedge_request_seconds_count{{{names},slot="blue",stage="{stage}"}} 2.0' in text
    assert f'kedge_score_count{{{names},slot="blue"}} 3.0' in text
    assert f'kedge_events_waiting{{{names},slot="blue"}} 3.0' in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
NEAR = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | VALUES for name, value in {**ROW, "instances": 1}.items()}
)
HEADERS = st.dictionaries(
    st.sampled_from(["ce-id", "ce-time", "content-type", "inference-header-content-length"]),
    st.text(st.characters(max_codepoint=255), max_size=20) | st.sampled_from(["application/json", "5", "40"]),
)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    path=st.sampled_from([PREDICT, INFER, "/v1/models/payments:explain"]),
    body=st.binary(max_size=200)
    | VALUES.map(json.dumps).map(str.encode)
    | st.lists(NEAR, max_size=3).map(lambda rows: json.dumps({"instances": rows}).encode())
    | VALUES.map(lambda value: json.dumps({"inputs": value}).encode())
    | st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from([*ROW, "x"]), "shape": st.just([1]) | VALUES},
            optional={"data": st.just([1]) | VALUES, "datatype": VALUES, "parameters": VALUES},
        ),
        max_size=6,
    ).map(lambda inputs: json.dumps({"inputs": inputs}).encode()),
    headers=HEADERS,
)
def test_no_request_whatever_gets_anything_but_a_score_or_a_4xx_that_says_why(server, path, body, headers):
    before = sum(server.metrics.requests.values())
    answer = server.send(path, body, headers)
    assert answer.status == 200 or 400 <= answer.status < 500
    if answer.status != 200:
        assert set(answer.json) == {"error"}
        assert 0 < len(answer.json["error"]) < 600
    for name, value in answer.headers.items():
        assert value.isprintable(), (name, value)
    assert sum(server.metrics.requests.values()) == before + 1


def test_v2_one_tensor_of_rows_is_read_in_the_order_of_the_metadata(server):
    rows = [ROW, ROW | {"ratio": 0.5}]
    scores = server.predict(*rows).json["predictions"]
    flat = [value for row in rows for value in row.values()]
    for name in ("predict", next(iter(ROW))):
        for data in (flat, [list(row.values()) for row in rows]):
            tensor = {"name": name, "shape": [2, len(ROW)], "datatype": "BYTES", "data": data}
            answer = server.post(INFER, {"inputs": [tensor]})
            assert (answer.status, answer.json["outputs"][0]["data"]) == (200, scores)
    wrong = {"name": "predict", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}
    answer = server.post(INFER, {"inputs": [wrong]})
    assert (answer.status, answer.json["error"].startswith("input 'predict': rows of 3 values")) == (400, True)


def test_v1_rows_may_be_called_inputs_as_kserves_servers_read_them(server):
    assert server.post(PREDICT, {"inputs": [ROW]}).json == server.predict(ROW).json


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (zstandard.ZstdCompressor().compress, "zstd")])
def test_a_compressed_request_is_read(server, pack, name):
    body = orjson.dumps({"instances": [ROW]})
    assert server.send(PREDICT, pack(body), {"content-encoding": name}).json == server.predict(ROW).json
    swollen = server.send(PREDICT, pack(b" " * 9_000_000), {"content-encoding": name})
    assert (swollen.status, "unpacked" in swollen.json["error"]) == (413, True)
    cut = server.send(PREDICT, pack(body)[:-5], {"content-encoding": name})
    assert (cut.status, f"not whole {name}" in cut.json["error"]) == (400, True)


def test_an_encoding_that_is_not_read_gets_415_and_is_named(server):
    answer = server.post(PREDICT, {"instances": [ROW]}, {"content-encoding": "br"})
    assert (answer.status, "content-encoding: 'br'" in answer.json["error"]) == (415, True)


def test_nan_is_told_to_be_null(server):
    answer = server.send(PREDICT, b'{"instances": [{"amount": NaN}]}')
    assert (answer.status, "NaN is no JSON number; send null" in answer.json["error"]) == (400, True)
