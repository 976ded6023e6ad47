"""One encoding, whether rows come as a table, as JSON or one by one."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.bundle import Input, Signature, observed_categories
from kedge.errors import DataError
from tests.bundle import models

SIGNATURE = Signature.of(models.payments_policy().model)
GOOD = {"amount": 12.5, "age_days": 7, "ratio": None, "recurring": True, "country": "DE"}
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.none() | FLOATS | st.integers(-(2**53), 2**53) | st.floats(-1e38, 1e38),
            "age_days": st.integers(-(2**40), 2**40),
            "ratio": st.none() | FLOATS,
            "recurring": st.none() | st.booleans(),
            "country": st.none() | st.sampled_from(models.COUNTRIES) | st.text(max_size=5),
        }
    ),
    min_size=1,
    max_size=20,
)


def test_numbers_stay_truth_is_one_a_category_is_its_place_and_missing_is_nan():
    matrix = SIGNATURE.encode_rows([GOOD, GOOD | {"recurring": False, "country": "unseen", "ratio": 2}])
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[12.5, 7, np.nan, 1, 2], [12.5, 7, 2, 0, np.nan]])


def test_an_empty_category_is_a_missing_value_and_refused_where_it_must_be_given():
    assert np.isnan(SIGNATURE.encode_rows([GOOD | {"country": ""}])[0, 4])
    given = Signature((Input(name="country", type="category", nullable=False, categories=("AT", "DE")),))
    assert given.encode_row({"country": "DE"}) == np.float32(1).tobytes()
    for wrong in (
        lambda: given.encode_row({"country": ""}),
        lambda: given.encode_rows([{"country": ""}, {"country": "AT"}]),
    ):
        with pytest.raises(DataError, match="feature 'country': must not be empty, which is a missing value"):
            wrong()
    with pytest.raises(DataError, match="1 missing values"):
        given.encode(pa.table({"country": ["AT", ""]}))


@given(ROWS)
def test_table_rows_and_single_rows_have_the_same_bits(rows):
    many = SIGNATURE.encode_rows(rows)
    schema = pa.schema([
        ("amount", pa.float64()), ("age_days", pa.int64()), ("ratio", pa.float64()), ("recurring", pa.bool_()),
        ("country", pa.string()),
    ])  # fmt: skip
    floats = [row | {"amount": None if row["amount"] is None else float(row["amount"])} for row in rows]
    table = SIGNATURE.encode(pa.Table.from_pylist(floats, schema))
    singles = b"".join(map(SIGNATURE.encode_row, rows))
    assert many.tobytes() == table.tobytes() == singles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": "12"}, "feature 'amount': must be a number or null, got text '12'"),
        ({"amount": True}, "feature 'amount': must be a number or null, got a boolean True"),
        ({"amount": [1]}, "feature 'amount': must be a number or null, got a list"),
        ({"amount": 1e39}, "feature 'amount': must be within"),
        ({"amount": 10**400}, "feature 'amount': must be within"),
        ({"amount": math.inf}, "feature 'amount': must be within"),
        ({"age_days": None}, "feature 'age_days': must not be null"),
        ({"age_days": math.nan}, "feature 'age_days': must not be null"),
        ({"age_days": 1.5}, "feature 'age_days': must be a whole number"),
        ({"recurring": 2}, "feature 'recurring': must be true or false"),
        ({"recurring": "yes"}, "feature 'recurring': must be true or false or null, got text 'yes'"),
        ({"country": 3}, "feature 'country': must be text or null, got a number 3"),
        ({"country": {"a": 1}}, "feature 'country': must be text or null, got an object"),
        ({"extra": 1}, "feature 'extra': not one of the model's: amount, age_days, ratio, recurring, country"),
    ],
)
def test_fault_names_the_feature_and_what_is_allowed(change, message):
    with pytest.raises(DataError) as single:
        SIGNATURE.encode_row(GOOD | change)
    with pytest.raises(DataError) as many:
        SIGNATURE.encode_rows([GOOD, GOOD | change])
    assert message in str(single.value)
    assert message in str(many.value)
    assert str(many.value).startswith("row 1: ")


def test_missing_feature_and_a_row_that_is_no_object_are_named():
    short = {name: value for name, value in GOOD.items() if name != "ratio"}
    with pytest.raises(DataError, match="feature 'ratio': missing; send null"):
        SIGNATURE.encode_row(short)
    with pytest.raises(DataError, match=r"feature 'ratio': missing \(the row has 'Ratio %'\); send null"):
        SIGNATURE.encode_row({**short, "Ratio %": 0.5})
    for bad in (None, 1, "x", [1, 2, 3, 4, 5]):
        with pytest.raises(DataError, match="must be an object of features by name"):
            SIGNATURE.encode_row(bad)
        with pytest.raises(DataError, match="row 1: must be an object of features by name"):
            SIGNATURE.encode_rows([GOOD, bad])


def test_long_names_and_values_are_cut_in_messages():
    with pytest.raises(DataError) as seen:
        SIGNATURE.encode_row(GOOD | {"amount": "x" * 10_000})
    assert len(str(seen.value)) < 200
    with pytest.raises(DataError) as seen:
        SIGNATURE.encode_row(GOOD | {"y" * 10_000: 1})
    assert len(str(seen.value)) < 600


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["1"]), "feature 'amount': a number cannot be read from a column of type string"),
        (pa.array([math.inf]), "feature 'amount': infinite"),
        (pa.array([1e300]), "feature 'amount': infinite, or beyond"),
    ],
)
def test_table_that_cannot_be_read_as_declared_is_refused(column, message):
    table = models.payments().slice(0, 1)
    with pytest.raises(DataError, match=message):
        SIGNATURE.encode(table.set_column(0, "amount", column))


def test_table_without_a_feature_or_with_a_forbidden_null_is_refused():
    table = models.payments().slice(0, 2)
    with pytest.raises(DataError, match="feature 'ratio': no such column; the table has age_days, amount"):
        SIGNATURE.encode(table.drop(["ratio"]))
    with pytest.raises(DataError, match="feature 'age_days': 1 missing values"):
        SIGNATURE.encode(table.set_column(1, "age_days", pa.array([1, None])))


def test_categories_may_be_dictionary_encoded_or_whole_numbers_in_tables():
    signature = Signature((Input(name="day", type="category", categories=("1", "2", "7")),))
    for column in (
        pa.array(["7", "1", None, "9"]),
        pa.array(["7", "1", None, "9"]).dictionary_encode(),
        pa.array([7, 1, None, 9]),
        pa.chunked_array([pa.array(["7", "1"]), pa.array([None, "9"], pa.string())]),
    ):
        np.testing.assert_array_equal(signature.encode(pa.table({"day": column}))[:, 0], [2, 0, np.nan, np.nan])


def test_categories_come_from_the_policy_or_else_from_the_rows():
    model = models.payments_policy(country={"type": "category"}, extra={"type": "category", "values": ["b", "a"]}).model
    table = pa.table({"country": pa.array(["NL", None, "AT", "NL"]), "extra": pa.array(["x", "x", "x", "x"])})
    found = observed_categories(model, table)
    assert found == {"country": ("AT", "NL")}
    by_name = {each.name: each.categories for each in Signature.of(model, found).inputs}
    assert by_name["country"] == ("AT", "NL")
    assert by_name["extra"] == ("b", "a")
    with pytest.raises(DataError, match="feature 'country': a category without values"):
        Signature.of(model)
