from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.drift.arrow_reader import aligned_numbers
from kedge.errors import DataError
from kedge.tables.columns import LARGEST, convert, negatives

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def values(column: pa.Array, kind: str, **more: object) -> list[object]:
    return convert(column, kind, **more).values.to_pylist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1.0, float("nan"), 3.0], pa.float32()),
        pa.array([Decimal("1.00"), None, Decimal("3.00")]),
        pa.array(["1", "", "3.0"]),
        pa.array(["1", "NA", " 3 "], pa.large_string()),
        pa.array(["1", None, "3"]).dictionary_encode(),
    ],
)
def test_a_number_is_one_whatever_it_was_stored_as(column: pa.Array) -> None:
    assert values(column, "number") == [1.0, None, 3.0]
    assert values(column, "integer") == [1.0, None, 3.0]


def test_a_negative_zero_is_zero_so_that_equal_values_have_equal_bytes() -> None:
    assert str(values(pa.array([-0.0]), "number")[0]) == "0.0"


def test_a_fraction_is_no_integer() -> None:
    read = convert(pa.array([1.0, 2.5, None]), "integer")
    assert read.values.to_pylist() == [1.0, None, None]
    assert read.wrong.tolist() == [False, True, False]
    assert read.reason == "is not a whole number"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.array([1, 0, None]),
        pa.array([1.0, 0.0, float("nan")]),
        pa.array(["True", "false", ""]),
        pa.array(["1", "0.0", "null"]),
    ],
)
def test_a_boolean_is_one_whatever_it_was_stored_as(column: pa.Array) -> None:
    assert values(column, "boolean") == [1.0, 0.0, None]


def test_another_number_is_no_boolean() -> None:
    assert convert(pa.array([1, 2, 0]), "boolean").wrong.tolist() == [False, True, False]


def test_a_category_is_text_as_a_request_would_send_it() -> None:
    assert values(pa.array([1, None, 30]), "category") == ["1", None, "30"]
    assert values(pa.array([1.0, float("nan"), 2.5]), "category") == ["1", None, "2.5"]
    assert values(pa.array(["NA", "", None]), "category") == ["NA", None, None]
    assert values(pa.array([True, False]), "category") == ["true", "false"]


def test_times_are_utc_whatever_they_were_stored_as() -> None:
    seven = datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert values(pa.array(["2026-03-02T08:00:00+01:00", "2026-03-02 07:00"]), "time") == [seven, seven]
    assert values(pa.array([seven], pa.timestamp("ns", tz="Europe/Vienna")), "time") == [seven]
    assert values(pa.array([datetime(2026, 3, 2, 7)], pa.timestamp("s")), "time") == [seven]
    assert values(pa.array([date(2026, 3, 2)]), "time") == [datetime(2026, 3, 2, tzinfo=UTC)]


def test_a_bare_number_is_no_time_because_it_does_not_say_its_unit() -> None:
    assert convert(pa.array(["1772438400"]), "time").wrong.tolist() == [True]
    with pytest.raises(DataError, match="a bare number does not say its unit"):
        convert(pa.array([1772438400]), "time")


@pytest.mark.parametrize(
    ("column", "label"),
    [
        (pa.array([1, 0, None]), 1),
        (pa.array([1.0, 0.0, None]), 1),
        (pa.array([1, 0, None]), "1"),
        (pa.array([True, False, None]), True),
        (pa.array([True, False, None]), 1),
        (pa.array([True, False, None]), "true"),
        (pa.array(["1", "0", ""]), 1),
        (pa.array(["1.0", "0.0", "NA"]), 1),
        (pa.array(["True", "False", None]), True),
        (pa.array(["yes", "no", ""]), "yes"),
        (pa.array(["NA", "no", ""]), "NA"),
        (pa.array([0, 1, None]), False),
    ],
)
def test_the_positive_label_is_found_in_every_spelling(column: pa.Array, label: str | int | bool) -> None:
    assert values(column, "positive", positive_label=label) == [1.0, 0.0, None]


@pytest.mark.parametrize(
    ("column", "positive", "negative"),
    [
        (pa.array(["yes", "no", "", "maybe", "Yes"]), "yes", "no"),
        (pa.array(["yes", "no", "NA", " no", "None of them"]), "yes", "no"),
        (pa.array([1, 0, None, 2, -1]), 1, 0),
        (pa.array([1.0, 0.0, float("nan"), 0.5, float("inf")]), 1, 0),
        (pa.array([1, 0, None, 2, 3]), "1", "0"),
        (pa.array([1, 0, None, 2, 3]), True, False),
        (pa.array(["1.0", "0", "NA", "2", "x"]), 1, 0),
        (pa.array(["TRUE", "false", "null", "yes", "x"]), True, False),
        (pa.array(["yes", "no", None, "x", "y"]).dictionary_encode(), "yes", "no"),
    ],
)
def test_a_label_that_is_neither_is_wrong_and_missing_ones_are_missing(
    column: pa.Array, positive: str | int | bool, negative: str | int | bool
) -> None:
    read = convert(column, "positive", positive, negative)
    assert read.values.to_pylist() == [1.0, 0.0, None, None, None]
    assert read.wrong.tolist() == [False, False, False, True, True]
    assert read.reason == f"is neither model.positive_label {positive!r} nor model.negative_label {negative!r}"


def test_booleans_are_either_label() -> None:
    read = convert(pa.array([True, False, None]), "positive", 0, 1)
    assert read.values.to_pylist() == [0.0, 1.0, None]
    assert not read.wrong.any()


@pytest.mark.parametrize(
    ("spelled", "positive", "found"),
    [
        (["yes", "no"], "yes", ["no"]),
        (["no", "maybe", "yes", "YES", ""], "yes", ["no", "maybe", "YES"]),
        (["1", "0", "1.0", "0.0", "nan"], 1, ["0"]),
        (["True", "False"], 1, ["False"]),
        (["1.0", "0.0"], "1", ["0.0"]),
        (["true", "false", "NA", "x"], True, ["false", "x"]),
        (["0", "1", "2", "3"], 1, ["0", "2", "3"]),
        ([], 1, []),
    ],
)
def test_labels_that_count_as_negative_are_told_apart_by_value_not_by_spelling(
    spelled: list[str], positive: str | int | bool, found: list[str]
) -> None:
    assert negatives(spelled, positive) == found


def test_a_negative_label_no_number_can_be_is_an_error() -> None:
    with pytest.raises(DataError, match=r"holds int64, and model\.negative_label is 'none'"):
        convert(pa.array([1, 0]), "positive", "1", "none")


def test_a_positive_label_no_number_can_be_is_an_error() -> None:
    with pytest.raises(DataError, match=r"holds int64, and model\.positive_label is 'yes'"):
        convert(pa.array([1, 0]), "positive", "yes")


@given(st.lists(st.one_of(st.none(), TEXT), max_size=20), st.sampled_from(["number", "integer", "boolean", "time"]))
def test_text_is_read_or_marked_wrong_and_never_raises(texts: list[str | None], kind: str) -> None:
    read = convert(pa.array(texts, pa.string()), kind)  # type: ignore[arg-type]
    assert len(read.values) == len(read.wrong) == len(texts)
    assert all(value is None for value, wrong in zip(read.values.to_pylist(), read.wrong, strict=True) if wrong)


@given(st.lists(st.one_of(st.none(), st.floats(-LARGEST, LARGEST)), max_size=20))
def test_numbers_survive_a_text_file(numbers: list[float | None]) -> None:
    texts = pa.array([None if number is None else repr(number) for number in numbers], pa.string())
    assert values(texts, "number") == list(numbers)


def test_one_absurd_value_is_one_invalid_value_from_every_type() -> None:
    for column in (
        pa.array([1.5, 1e39, -1.797e308]),
        pa.array(["1.5", "1e39", "-1.797e308"]),
        pa.array(["1.5", "1e39", "-1.797e308"]).dictionary_encode(),
        pa.array([Decimal("1.5"), Decimal("1e39"), Decimal("-1e40")]),
    ):
        read = convert(column, "number")
        assert read.values.to_pylist() == [1.5, None, None]
        assert read.wrong.tolist() == [False, True, True]
        assert read.reason == "is beyond ±3.4e+38, the range of a model"


def test_an_infinity_is_kept_for_the_check_that_counts_it() -> None:
    assert values(pa.array([float("inf"), -float("inf")]), "number") == [float("inf"), -float("inf")]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 10**17], pa.timestamp("s")),
        pa.array([0, 10**17], pa.timestamp("ms", tz="Europe/Vienna")),
        pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()),
        pa.array(["1970-01-01", "0001-01-01T00:00:00+14:00"]),
    ],
)
def test_a_time_outside_the_calendar_is_one_invalid_value(column: pa.Array) -> None:
    read = convert(column, "time")
    assert read.values.to_pylist() == [datetime(1970, 1, 1, tzinfo=UTC), None]
    assert read.wrong.tolist() == [False, True]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_duration_is_seconds_whatever_its_unit(unit: str) -> None:
    column = pa.array([timedelta(days=200, seconds=3), None, timedelta(seconds=-2)], pa.duration(unit))
    assert values(column, "number") == [200 * 86400 + 3.0, None, -2.0]
    assert values(column.slice(1), "number") == [None, -2.0]


def test_a_short_decimal_is_the_same_number_whatever_width_held_it() -> None:
    numbers = [0.1, -2.35, 16777216.0, 1e-7]
    for kind in (pa.float32(), pa.float64()):
        assert values(pa.array([*numbers, None], kind), "number") == [*numbers, None]
        assert values(pa.array([0.1, None], kind), "category") == ["0.1", None]
    assert values(pa.array([0.1, None], pa.float16()), "number") == [0.1, None]


@pytest.mark.parametrize("scale", [2, 7, 18])
def test_a_decimal_is_the_number_and_the_text_that_a_file_of_text_says(scale: int) -> None:
    said = ["0", "3", "1200.5", "81.41", *(f"{cents / 100:.2f}" for cents in range(100, 3000, 7))]
    column = pa.array([Decimal(text) for text in said], pa.decimal128(38, scale))
    assert values(column, "number") == [float(text) for text in said]
    assert aligned_numbers(column).tolist() == [float(text) for text in said]
    assert values(column, "category")[:4] == values(column, "id")[:4] == said[:4]


def test_sixteen_digit_ids_stored_as_floats_are_as_many_ids_as_there_are() -> None:
    ids = [4_539_148_803_436_467 + k for k in range(2000)]
    assert values(pa.array(ids, pa.float64()), "id") == [str(number) for number in ids]
    assert len(set(values(pa.array(ids, pa.float64()), "category"))) == 2000


def test_an_id_that_a_float_cannot_hold_is_refused_with_the_reason() -> None:
    read = convert(pa.array([17.0, 2.0**53, 0.5, None]), "id")
    assert read.values.to_pylist() == ["17", None, None, None]
    assert read.wrong.tolist() == [False, True, True, False]
    assert "is no id: a double holds whole numbers exactly below 9,007,199,254,740,992 only" in read.reason
    assert convert(pa.array([16_777_217.0], pa.float32()), "id").wrong.tolist() == [True]


@pytest.mark.parametrize("kind", ["id", "category"])
def test_a_text_is_the_same_whatever_type_wrote_it(kind: str) -> None:
    three = [pa.array([3]), pa.array([Decimal("3.00")]), pa.array(["3"], pa.string_view()), pa.array([3.0])]
    assert [values(column, kind) for column in three] == [["3"]] * 4
    when = datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert values(pa.array([when], pa.timestamp("ns", "UTC")), kind) == values(
        pa.array([when], pa.timestamp("s")), kind
    )


def test_a_uuid_is_the_text_that_people_write() -> None:
    given = [UUID(int=k * 12_345_678_901_234_567) for k in range(3)]
    column = pa.array([*(each.bytes for each in given), None], pa.binary(16)).cast(pa.uuid())
    assert values(column, "id") == [*map(str, given), None]
    assert values(column.slice(1, 2), "category") == [str(given[1]), str(given[2])]


@pytest.mark.parametrize("kind", ["number", "category", "id", "time"])
@pytest.mark.parametrize(
    "column", [pa.array([b"x"]), pa.array([b"xx"], pa.binary(2)), pa.array([[1]]), pa.array([{"a": 1}])]
)
def test_what_no_model_input_is_made_of_is_one_sentence(column: pa.Array, kind: str) -> None:
    with pytest.raises(DataError, match="which no model input is made of; flatten it, cast it to text or leave it out"):
        convert(column, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("format", "texts", "numbers"),
    [
        ("1,234.5", ["1,234.50", "$12.50", "7%", "1234", "-1,000", "€ 1,234,567", "NA", ""], None),
        ("1.234,5", ["1.234,50", "12,50 $", "7 %", "1234", "-1.000", "1.234.567 €", "NA", ""], None),
        ("1,234.5", ["12,5", "1,23,456", "x", "$"], [None] * 4),
        ("1.234,5", ["12.5", "1.23.456", "x", "%"], [None] * 4),
    ],
)
def test_numbers_written_with_separators_and_signs_are_read_as_declared(
    format: str, texts: list[str], numbers: list[float | None] | None
) -> None:
    read = convert(pa.array(texts), "number", format=format)
    good = [1234.5, 12.5, 7.0, 1234.0, -1000.0, 1234567.0, None, None]
    assert read.values.to_pylist() == (good if numbers is None else numbers)
    assert read.wrong.any() == (numbers is not None)
    assert read.reason == f"is not written as {format}"


def test_a_number_that_is_none_in_its_format_is_invalid_as_any_other() -> None:
    assert convert(pa.array(["1,234.5"]), "integer", format="1,234.5").wrong.tolist() == [True]
    assert convert(pa.array(["9" * 40]), "number", format="1,234.5").wrong.tolist() == [True]
    assert convert(pa.array([1234.5]), "number", format="1,234.5").values.to_pylist() == [1234.5]


def test_times_written_day_first_are_read_as_declared() -> None:
    read = convert(pa.array(["31.12.2025 10:20", "2025-12-31 10:20", ""]), "time", format="%d.%m.%Y %H:%M")
    assert read.values.to_pylist() == [datetime(2025, 12, 31, 10, 20, tzinfo=UTC), None, None]
    assert read.wrong.tolist() == [False, True, False]
    assert read.reason == "is not written as %d.%m.%Y %H:%M"


def test_fractions_of_a_second_are_read_where_the_format_says_so_and_may_be_absent() -> None:
    texts = ["31.12.2025 10:20:30.000001", "31.12.2025 10:20:30,5", "31.12.2025 10:20:30", "31.12.2025 10:20:30.x"]
    read = convert(pa.array(texts), "time", format="%d.%m.%Y %H:%M:%S.%f")
    times = [None if time is None else time.microsecond for time in read.values.to_pylist()]
    assert (times, read.wrong.tolist()) == ([1, 500_000, 0, None], [False, False, False, True])
    for text, format in (
        ("31-DEC-25 10.20.30.123456 AM", "%d-%b-%y %I.%M.%S.%f %p"),
        ("12/31/2025 11:20:30.123456 +0100", "%m/%d/%Y %H:%M:%S.%f %z"),
    ):
        [time] = convert(pa.array([text]), "time", format=format).values.to_pylist()
        assert time == datetime(2025, 12, 31, 10, 20, 30, 123_456, tzinfo=UTC)


def test_midnight_may_be_the_end_of_a_day() -> None:
    texts = ["2026-02-28 24:00", "2026-02-28T24:00:00Z", "2026-02-28 24:00:00.000", "2026-02-28 24:01"]
    read = convert(pa.array(texts), "time")
    assert read.values.to_pylist() == [*[datetime(2026, 3, 1, tzinfo=UTC)] * 3, None]
    assert read.wrong.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "text", ["-", "--", ".", "#N/A", "<NA>", "NaT", "\\N", " NA ", "#DIV/0!", "(null)", "N.A.", "Null"]
)
def test_what_other_programs_write_for_no_value_is_missing_where_numbers_are_read(text: str) -> None:
    for kind in ("number", "integer", "boolean"):
        read = convert(pa.array(["1", text]), kind)
        assert (read.values.to_pylist(), read.wrong.any()) == ([1.0, None], False)
    assert convert(pa.array(["1", text]), "category").values.to_pylist() == ["1", text]


@pytest.mark.parametrize(
    ("text", "format", "number"),
    [
        ("(1,234.50)", "1,234.5", -1234.5),
        ("$(7)", "1,234.5", -7.0),
        ("12.50-", "1,234.5", -12.5),
        ("\u221212.5", "1,234.5", -12.5),
        ("1'234.50", "1,234.5", 1234.5),
        ("1\u2019234.50", "1,234.5", 1234.5),
        ("1\u202f234,50 \u20ac", "1.234,5", 1234.5),
        ("EUR 1.234,5", "1.234,5", 1234.5),
        ("12 345 USD", "1,234.5", 12345.0),
        ("\u20b91,00,000", "1,234.5", None),
        ("0,123", "1,234.5", None),
        ("0,123", "1.234,5", 0.123),
        ("1-2", "1,234.5", None),
        ("(", "1,234.5", None),
        ("1e3", "1,234.5", None),
    ],
)
def test_numbers_as_accountants_and_countries_write_them(text: str, format: str, number: float | None) -> None:
    read = convert(pa.array([text]), "number", format=format)
    assert (read.values.to_pylist(), read.wrong.tolist()) == ([number], [number is None])


def test_times_that_are_numbers_are_read_by_their_unit_to_the_microsecond() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    ticks = round(moment.timestamp() * 10**6)
    for format, value in (
        ("unix_microseconds", pa.array([ticks, None])),
        ("unix_microseconds", pa.array([str(ticks), ""])),
        ("unix_nanoseconds", pa.array([ticks * 1000 + 7, None])),
        ("unix_seconds", pa.array([ticks / 10**6, float("nan")])),
        ("unix_milliseconds", pa.array([ticks / 10**3, None])),
    ):
        assert convert(value, "time", format=format).values.to_pylist() == [moment, None], format
    for format in ("unix_seconds", "unix_nanoseconds"):
        for held in (pa.int8(), pa.uint8(), pa.uint64(), pa.float16()):
            assert convert(pa.array([100], pa.int64()).cast(held), "time", format=format).values[0].as_py().year == 1970
    seconds = convert(pa.array([10**18, 0, 2**63 - 1]), "time", format="unix_seconds")
    assert (seconds.wrong.tolist(), seconds.values[1].as_py().year) == ([True, False, True], 1970)
    assert convert(pa.array([20260131, 20261331]), "time", format="%Y%m%d").wrong.tolist() == [False, True]


def test_text_is_read_alike_whatever_arrow_calls_it() -> None:
    for kind, text in (("time", "2026-03-01"), ("number", "1.5"), ("boolean", "true"), ("category", "a")):
        reads = [convert(pa.array([text, None, ""], held), kind) for held in (pa.string(), pa.string_view())]
        assert reads[0].values.equals(reads[1].values), kind


def test_a_time_may_name_its_zone_as_utc_or_gmt() -> None:
    texts = ["2026-03-01 12:00:00 UTC", "2026-03-01 12:00:00.5 GMT", "2026-03-01T12:00:00Z", "2026-03-01 12:00:00"]
    texts += ["2026-03-01 13:00:00 UTC+01:00", "2026-03-01T13:00:00+01:00[Europe/Vienna]", "2026-03-01T12:00Z[UTC]"]
    assert [time.hour for time in convert(pa.array(texts), "time").values.to_pylist()] == [12] * 7


def test_what_tools_write_for_no_value_is_no_outcome_unless_it_is_a_class() -> None:
    texts = pa.array(["cat", "NA", "None", "dog", "eel"])
    read = convert(texts, "class", classes=["cat", "dog", "None"])
    assert read.values.to_pylist() == [0.0, None, 2.0, 1.0, None]
    assert read.wrong.tolist() == [False, False, False, False, True]
    read = convert(texts, "positive", "cat", "None")
    assert read.values.to_pylist() == [1.0, None, 0.0, None, None]
    assert read.wrong.tolist() == [False, False, False, True, True]


def test_nanoseconds_since_1970_are_the_same_time_as_text() -> None:
    numbers = pa.array([1_772_323_200_123_456_999, None])
    texts = pa.array([" 1772323200123456999", "NA"])
    read = [convert(column, "time", format="unix_nanoseconds").values for column in (numbers, texts)]
    assert read[0].equals(read[1])
