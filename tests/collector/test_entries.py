"""What is in the journal is what was taken, and comes into the log once."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.collector.declared import Declared
from kedge.collector.entries import Taken, decode, frame_of
from kedge.collector.entries import frames as journalled
from kedge.errors import StoreError
from kedge.store.journal import frames
from kedge.tables import appending

VALUE = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.text(min_size=1), VALUE, VALUE | st.text()), min_size=1, max_size=5))
def test_entries_are_those_read_from_their_frames(declared, rows):
    payments = Declared(declared(), None)
    together = list(zip(*rows, strict=True))
    taken = [*(Taken("payments", "predictions", rows=(row,)) for row in rows)]
    taken += [Taken("payments", "predictions", frame=frame_of(payments, "predictions", together))]
    taken += [Taken("payments", "labels", rows=[("a", 1.0, 2, 3)])]
    data = journalled(taken, {"payments": payments})
    batch, single, labels = [decode(payload) for _, payload in frames(data, lambda length: None)]
    for read in (batch, single):
        assert (read.model, read.table, read.columns) == ("payments", "predictions", payments.columns["predictions"])
        assert list(read.values) == list(map(list, together))
        kinds = [[type(value) for value in column] for column in together]
        assert kinds == [[type(value) for value in column] for column in read.values]
    assert (labels.table, labels.values) == ("labels", [["a"], [1.0], [2], [3]])


def test_a_store_that_was_away_gets_each_row_once_from_the_journal(start, event, store, monkeypatch):
    append, calls = appending.append, []

    def away_once(*arguments, **options):
        calls.append(options["sequence"])
        if len(calls) == 1:
            raise StoreError("away")
        return append(*arguments, **options)

    monkeypatch.setattr(appending, "append", away_once)
    headers = {"content-type": "application/cloudevents-batch+json"}
    with start() as client:
        assert client.post("/", content=orjson.dumps([event("a"), event("b")]), headers=headers).status_code == 202
        assert client.post("/v1/flush").status_code == 503
        assert client.post("/v1/flush").json()["appended"] == 2
    assert calls == [0, 0]
    logged = appending.open_table(store, "logs/payments/predictions").to_pyarrow_table(columns=["_id"])
    assert sorted(logged["_id"].to_pylist()) == ["a", "b"]
