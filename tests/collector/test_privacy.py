"""What a policy marks private reaches no disk, and sampling takes an id whole or not at all."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge import policy as policies
from kedge.collector.declared import Declared
from kedge.collector.intake import sampled
from kedge.errors import DataError, UsageError
from kedge.tables import appending, log
from kedge.tables.privacy import Features

KEY = b"0123456789abcdef"
PRIVATE = {
    "person": {"type": "category", "privacy": "drop"},
    "mail": {"type": "category", "privacy": "hash"},
    "phone": {"type": "category", "privacy": "mask"},
    "age": {"type": "integer", "privacy": "bucket", "buckets": [0, 18, 65]},
    "amount": {"type": "number"},
}
SENT = {"person": "SECRET-NAME", "mail": "SECRET-MAIL", "phone": "SECRET-PHONE", "age": 41, "amount": 7.5}
BATCHED = {"content-type": "application/cloudevents-batch+json"}


def test_private_values_are_changed_before_anything_is_written(start, event, declared, store, tmp_path):
    policy = declared(**PRIVATE)
    with start(policy, hash_key=KEY) as client:
        events = [event("a", features=SENT | {"undeclared": "SECRET-TOO"})]
        client.post("/", content=orjson.dumps(events), headers=BATCHED)
        names = {"ce-specversion": "1.0", "ce-id": "k", "ce-source": "s", "ce-inferenceservicename": "payments"}
        names["ce-type"] = "org.kubeflow.serving.inference.request"
        assert client.post("/", json={"instances": [SENT]}, headers=names).status_code == 202
        assert any(path.stat().st_size > 100 for path in (tmp_path / "spool").rglob("*.log"))
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
        client.post("/v1/flush")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    window = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
    (row,) = log.read_window(store, policy, *window, labels="none", columns=list(PRIVATE)).to_pylist()
    assert row.pop("mail") not in ("SECRET-MAIL", None)
    assert row == {"person": None, "phone": "*", "age": "18", "amount": 7.5}


@pytest.mark.parametrize("privacy", ["keep", "drop", "mask", "hash"])
def test_an_empty_text_is_missing_under_any_privacy(declared, privacy):
    features = Features(declared(country={"type": "category", "privacy": privacy}), b"k" * 16)
    assert features.read({"country": ""}) == (None,)
    assert features.private([("", "DE")])[0][0] is None


def test_a_keyed_hash_needs_its_key_and_differs_with_it(declared):
    policy = declared(mail={"type": "category", "privacy": "hash"})
    with pytest.raises(UsageError, match="KEDGE_HASH_KEY"):
        Features(policy, None)
    one, again, other = (Features(policy, key).read({"mail": "a@b.c"}) for key in (KEY, KEY, KEY + b"x"))
    assert one == again != other


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.lists(st.integers()),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip
KINDS = {
    "n": {"type": "number"},
    "i": {"type": "integer"},
    "b": {"type": "boolean"},
    "c": {"type": "category"},
    "h": {"type": "number", "privacy": "hash"},
    "k": {"type": "integer", "privacy": "bucket", "buckets": [0, 10]},
}
MODEL = {"name": "m", "target": "t", "features": KINDS}
FEATURES = Features(policies.parse({"model": MODEL, "data": {"source": {"format": "log"}}}), KEY)


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(KINDS, VALUES)), max_size=4))
def test_a_row_is_read_or_refused_by_name_whatever_rows_came_before(rows):
    for row in rows:
        faults = {
            name
            for name, value in row.items()
            if not (
                value is None
                or (name in "nihk" and isinstance(value, (int, float)))
                or (name == "b" and isinstance(value, (bool, int, float)) and value in (0, 1))
                or (name == "c" and isinstance(value, str))
            )
        }
        if faults:
            with pytest.raises(DataError, match="|".join(f"feature '{name}'" for name in faults)):
                FEATURES.read(row)
        else:
            assert len(FEATURES.read(row)) == len(KINDS)


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller_one(ids, one, two):
    small, large = sorted((one, two))
    assert {name for name in ids if sampled(name, small)} <= {name for name in ids if sampled(name, large)}


def test_sampling_keeps_its_share():
    assert 2_850 < sum(sampled(str(number), 0.3) for number in range(10_000)) < 3_150


def test_prediction_halves_and_label_of_an_id_are_kept_or_left_out_together(start, event, store, declared):
    ids = [f"id-{number}" for number in range(60)]
    with start(sample=0.5) as client:
        client.post("/", content=orjson.dumps([event(name) for name in ids[:30]]), headers=BATCHED)
        for name in ids[30:]:
            for kind, body in (("request", {"instances": [{"amount": 1}]}), ("response", {"predictions": [0.5]})):
                head = {"ce-specversion": "1.0", "ce-id": name, "ce-source": "s", "ce-inferenceservicename": "payments"}
                head["ce-type"] = f"org.kubeflow.serving.inference.{kind}"
                assert client.post("/", json=body, headers=head).status_code == 202
        labels = [{"id": name, "label": 1} for name in ids]
        client.post("/v1/labels", json={"model": "payments", "labels": labels})
    logged = {}
    for table in appending.TABLES:
        found = appending.open_table(store, f"logs/payments/{table}").to_pyarrow_table(columns=["_id"])
        logged[table] = set(found["_id"].to_pylist())
    kept = {name for name in ids if sampled(name, 0.5)}
    assert logged["labels"] == kept
    assert logged["predictions"] == kept & set(ids[:30])
    assert logged["requests"] == logged["responses"] == kept & set(ids[30:])


def test_a_positive_label_is_one_and_any_other_zero(declared):
    from kedge.tables.outcomes import outcome_of

    assert [outcome_of(declared(positive="yes"), label) for label in ("yes", "no")] == [1.0, 0.0]
    assert [outcome_of(declared(), label) for label in (1, 0, True, False, 2)] == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert [outcome_of(declared(positive=True), label) for label in (True, 0)] == [1.0, 0.0]
    assert outcome_of(declared(task="regression"), 3) == 3.0
    for policy, label in ((declared(), "1"), (declared(positive="yes"), 1), (declared(task="regression"), True)):
        with pytest.raises(DataError):
            outcome_of(policy, label)
    for label in ("Yes", " yes", "YES"):
        with pytest.raises(DataError, match="the positive label is spelt 'yes'"):
            outcome_of(declared(positive="yes"), label)
    assert Declared(declared(), None).decision(0.5) == 1.0


def test_with_a_negative_label_one_that_is_neither_is_refused(declared):
    from kedge.tables.outcomes import outcome_of

    texts, numbers = declared(positive="yes", negative="no"), declared(negative=0)
    assert [outcome_of(texts, label) for label in ("yes", "no")] == [1.0, 0.0]
    assert [outcome_of(numbers, label) for label in (1, 0, True, False, 0.0)] == [1.0, 0.0, 1.0, 0.0, 0.0]
    for label in ("maybe", "Yes", "No", "no ", ""):
        with pytest.raises(
            DataError, match=f"label '{label}' is neither the positive label 'yes' nor the negative label"
        ):
            outcome_of(texts, label)
    with pytest.raises(DataError, match="label 2 is neither the positive label 1 nor the negative label 0"):
        outcome_of(numbers, 2)
    with pytest.raises(DataError, match="must be of the kind of the positive label 'yes'"):
        outcome_of(texts, 0)
