from dataclasses import dataclass

import pyarrow as pa
import pytest

from kedge.monitoring.quarantine import breaches, out_of_range, share
from kedge.policy import Feature, parse


@dataclass
class Seen:
    """The part of a feature's comparison that the quarantine looks at."""

    null_rate: float = 0.0
    reference_null_rate: float = 0.0
    new_category_share: float | None = None


POLICY = parse(
    {
        "model": {
            "name": "fraud",
            "target": "y",
            "features": {"amount": {"type": "number", "min": 0, "max": 10}, "land": {"type": "category"}},
        },
        "data": {"source": {"format": "log"}},
        "monitor": {
            "quarantine": {"max_null_increase": 0.2, "max_new_category_share": 0.1, "max_out_of_range_share": 0.25}
        },
    }
)


def test_a_whole_feed_breaks_no_limit():
    compared = {"amount": Seen(null_rate=0.3, reference_null_rate=0.1), "land": Seen(new_category_share=0.1)}
    assert breaches(POLICY, {"amount": 0.25}, compared) == ()  # every limit reached, none passed


def test_each_limit_that_is_broken_is_told_with_its_column_cause_and_share():
    compared = {"amount": Seen(null_rate=0.31, reference_null_rate=0.1), "land": Seen(new_category_share=0.4)}
    missing, unknown, outside = breaches(POLICY, {"amount": 0.5}, compared)
    assert missing.sentence == "amount: 31 % missing, 10 % when trained (at most 20 % more allowed)"
    assert (missing.column, missing.cause, missing.share) == ("amount", "missing", 0.31)
    assert [(each.cause, each.share) for each in (unknown, outside)] == [("new categories", 0.4), ("out of range", 0.5)]
    assert unknown.sentence == "land: 40 % of rows in categories the reference did not know (at most 10 % allowed)"
    assert outside.sentence == "amount: 50 % of rows outside 0 to 10 or infinite (at most 25 % allowed)"


def test_features_that_could_not_be_compared_are_not_judged():
    assert breaches(POLICY, {"amount": 0.5}, {}) == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 10.0], 0),
        ([-0.1, 10.1, 5.0, None], 2),
        ([float("inf"), float("-inf")], 2),
        ([float("nan"), 1.0], 0),
        ([None, None], 0),
        ([], 0),
    ],
)
def test_rows_out_of_range(values, expected):
    column = pa.chunked_array([pa.array(values, pa.float64())])
    assert out_of_range(column, Feature(type="number", min=0, max=10)) == expected


def test_infinite_values_are_out_of_any_range_and_one_limit_may_be_open():
    column = pa.chunked_array([pa.array([float("inf"), -5.0, 5.0, 6.0])])
    assert out_of_range(column, Feature(type="number")) == 1
    assert out_of_range(column, Feature(type="number", min=0)) == 2


def test_shares_are_written_for_people():
    assert (share(0.314), share(1.0), share(0.0), share(0.004)) == ("31 %", "100 %", "0 %", "0.4 %")
