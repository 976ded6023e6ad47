"""Whatever is sent, the answer is one the OpenAPI document names, and the collector goes on."""

import json

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
KINDS = [
    "application/cloudevents+json", "application/cloudevents-batch+json", "application/json", "text/csv",
    "application/x-ndjson", "application/vnd.apache.parquet", "x",
]  # fmt: skip
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def client(start):
    with start() as client:
        yield client


@QUICK
@given(
    path=st.sampled_from(["/", "/v1/labels", "/v1/labels?model=payments", "/v1/checks"]),
    kind=st.sampled_from(KINDS),
    body=st.binary(max_size=200)
    | JSON.map(
        orjson.dumps,
    ),
)
def test_no_body_brings_an_answer_of_500(client, path, kind, body):
    answer = client.post(path, content=body, headers={"content-type": kind})
    assert answer.status_code < 500
    assert answer.status_code == 202 or answer.json()["error"]


@QUICK
@given(
    changes=st.dictionaries(st.sampled_from(["id", "time", "type", "specversion", "source", "data"]), JSON, max_size=2),
    data=st.dictionaries(
        st.sampled_from(["model", "features", "score", "prediction", "version", "slot", "latency_ms"]), JSON, max_size=3
    ),
)
def test_no_change_of_a_good_event_brings_an_answer_of_500(client, event, changes, data):
    whole = event()
    whole["data"] |= data
    headers = {"content-type": "application/cloudevents+json"}
    answer = client.post("/", content=orjson.dumps(whole | changes), headers=headers)
    assert answer.status_code < 500
    assert answer.status_code == 202 or answer.json()["error"]


@QUICK
@given(
    kind=st.sampled_from(["request", "response"]),
    body=st.fixed_dictionaries(
        {},
        optional={
            "instances": st.lists(JSON, max_size=3),
            "predictions": st.lists(JSON, max_size=3),
            "inputs": st.lists(st.fixed_dictionaries({"name": JSON, "shape": JSON, "data": JSON}) | JSON, max_size=3),
            "outputs": st.lists(st.fixed_dictionaries({"name": JSON, "shape": JSON, "data": JSON}) | JSON, max_size=3),
        },
    ),
)
def test_no_payload_of_a_model_server_brings_an_answer_of_500(client, kind, body):
    headers = {"ce-specversion": "1.0", "ce-id": "a", "ce-source": "s", "ce-inferenceservicename": "payments-blue"}
    headers["ce-type"] = f"org.kubeflow.serving.inference.{kind}"
    answer = client.post("/", content=orjson.dumps(body), headers=headers)
    assert answer.status_code < 500
    assert answer.status_code == 202 or answer.json()["error"]


@QUICK
@given(
    path=st.sampled_from(["/v1/labels", "/v1/checks"]),
    labels=st.lists(
        st.fixed_dictionaries(
            {"id": st.text(min_size=1, max_size=8) | JSON, "label": st.sampled_from([0, 1, True]) | JSON}
        )
        | JSON,
        max_size=3,
    ),
    figures=st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True) | st.text(), st.integers() | JSON, max_size=3),
)
def test_no_labels_and_no_check_of_a_declared_model_bring_an_answer_of_500(client, path, labels, figures):
    value = (
        {"model": "payments", "labels": labels} if path == "/v1/labels" else {"model": "payments", "figures": figures}
    )
    answer = client.post(path, content=json.dumps(value))
    assert answer.status_code < 500
    assert answer.status_code == 202 or answer.json()["error"]


def test_answers_keep_to_the_openapi_document(client):
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data):
        for operation in schema.get_all_operations():
            case = data.draw(operation.ok().as_strategy())
            answer = case.call()
            case.validate_response(
                answer,
                checks=[
                    schemathesis.checks.not_a_server_error,
                    schemathesis.specs.openapi.checks.status_code_conformance,
                    schemathesis.specs.openapi.checks.content_type_conformance,
                    schemathesis.specs.openapi.checks.response_schema_conformance,
                ],
            )

    each()


def test_the_described_fields_are_those_that_are_taken(client, event):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    whole = event()
    assert set(whole) == set(schemas["Prediction"]["properties"])
    assert set(whole["data"]) == set(schemas["PredictionData"]["properties"])
    bare = {name: whole[name] for name in schemas["Prediction"]["required"]}
    bare |= {"id": "b", "data": {name: whole["data"][name] for name in schemas["PredictionData"]["required"]}}
    for sent in (whole, bare):
        headers = {"content-type": "application/cloudevents+json"}
        assert client.post("/", content=orjson.dumps(sent), headers=headers).status_code == 202
