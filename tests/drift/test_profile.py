"""Counting: exact, mergeable in any order, the same whatever the layout of the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge import drift
from kedge.drift import Profile, hashing
from kedge.drift.arrow_reader import texts
from kedge.drift.binning import Binner, Scratch
from kedge.drift.design_effects import design_effects
from kedge.drift.edges import fine_cuts, thinned
from kedge.drift.html_view import drift_page
from kedge.drift.numeric import NumberBuilder
from kedge.errors import DataError

SHAPES = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "far from zero": lambda rng, n: 1e3 + 1e-9 * rng.standard_normal(n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=3, size=n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "zero-inflated": lambda rng, n: np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(size=n)),
    "small counts": lambda rng, n: rng.poisson(3, n),
    "large counts": lambda rng, n: rng.poisson(300, n),
    "large integers": lambda rng, n: rng.integers(-(10**15), 10**15, n),
    "tenths": lambda rng, n: np.round(rng.standard_normal(n), 1),
    "tiny": lambda rng, n: rng.random(n) * 1e-300,
    "huge": lambda rng, n: (rng.random(n) - 0.5) * 1e308,
    "odd values": lambda rng, n: rng.choice([0.1, 0.2, 0.7, 1e9], n),
    "two scales": lambda rng, n: np.where(rng.random(n) < 0.5, 0, 1000) + 1e-6 * rng.standard_normal(n),
    "float32": lambda rng, n: rng.standard_normal(n).astype(np.float32),
    "one outlier": lambda rng, n: np.append(rng.standard_normal(n - 1), 1e12),
    "constant": lambda rng, n: np.full(n, 3.5),
}


def batch(**columns):
    return pa.record_batch({name: pa.array(values) for name, values in columns.items()})


def binned(edges, values):
    return np.bincount(np.searchsorted(edges, np.asarray(values, float), side="right"), minlength=len(edges) + 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_bins_of_any_column_are_about_equal_and_counted_exactly(shape):
    values = SHAPES[shape](np.random.default_rng(0), 30_000)
    made = drift.build([batch(x=values[k : k + 7000]) for k in range(0, 30_000, 7000)]).columns["x"]
    assert made.counts.tolist() == binned(made.edges, values).tolist()
    _, repeats = np.unique(values, return_counts=True)
    assert made.counts.max() <= 30_000 / 64 * 1.6 + repeats.max() + 1
    assert len(made.edges) <= 100


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200),
)
@settings(max_examples=150)
def test_counts_on_edges_are_those_of_a_plain_search(sample, values):
    edges, values = fine_cuts(np.array(sample)), np.array(values)
    binner = Binner(edges, Scratch())
    binner.add(values, float(values.min()), float(values.max()))
    assert binner.counts().tolist() == binned(edges, values).tolist()
    kept, counts = thinned(edges, binner.counts())
    assert counts.tolist() == binned(kept, values).tolist()


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60, unique=True))
@settings(max_examples=100)
def test_values_on_an_edge_and_beside_it_are_counted_on_their_side(edges):
    edges = np.sort(np.array(edges))
    edges = edges[np.append(True, np.diff(edges) > 0)]
    values = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    binner = Binner(edges, Scratch())
    binner.add(values, float(values.min()), float(values.max()))
    assert binner.counts().tolist() == binned(edges, values).tolist()


def test_the_first_rows_may_be_unlike_the_rest():
    values = np.sort(np.random.default_rng(1).standard_normal(80_000))
    builder = NumberBuilder("number", "double", 4096, Scratch())
    for k in range(0, 80_000, 2000):
        builder.add(pa.array(values[k : k + 2000]))
    made = builder.result()
    assert made.counts.tolist() == binned(made.edges, values).tolist()
    assert made.counts.max() < 80_000 / 8


@given(st.integers(0, 2**32), st.lists(st.integers(0, 400), min_size=2, max_size=5))
@settings(max_examples=25, deadline=None)
def test_shards_merge_to_the_same_bytes_in_any_order_and_grouping(seed, cuts):
    rng = np.random.default_rng(seed)
    reference = drift.build([rows(rng, 400)], dependence=True)
    whole = rows(rng, 400)
    bounds = sorted({0, 400, *cuts})
    shards = [drift.count(reference, [whole.slice(a, b - a)]) for a, b in pairwise(bounds)]
    expected = drift.count(reference, [whole]).to_json()
    shuffled = [shards[k] for k in rng.permutation(len(shards))]
    assert reduce(Profile.merge, shards).to_json() == expected
    assert reduce(Profile.merge, shuffled).to_json() == expected
    assert reduce(lambda a, b: b.merge(a), shuffled).to_json() == expected
    assert drift.count(reference, [whole.take(pa.array(rng.permutation(400)))]).to_json() == expected
    assert drift.count(reference, [whole.slice(k, 50) for k in range(0, 400, 50)], threads=3).to_json() == expected


def rows(rng, n):
    numbers = np.where(rng.random(n) < 0.1, np.inf, rng.standard_normal(n))
    texts_ = [f"v{k}" for k in rng.integers(0, 30, n)]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return pa.record_batch(
        {
            "x": pa.array(numbers, mask=rng.random(n) < 0.1),
            "c": pa.array(texts_, mask=rng.random(n) < 0.1),
            "b": pa.array(rng.random(n) < 0.5),
            "t": pa.array([start + timedelta(minutes=int(m)) for m in rng.integers(0, 10_000, n)]),
        }
    )


def test_a_profile_comes_back_from_json_as_it_was():
    made = drift.build([rows(np.random.default_rng(0), 300)], dependence=True)
    assert Profile.from_json(made.to_json()).to_json() == made.to_json()


def test_a_profile_of_twenty_columns_is_a_few_kilobytes():
    rng = np.random.default_rng(0)
    made = drift.build([batch(**{f"c{k}": rng.standard_normal(2000) for k in range(20)})])
    assert len(made.to_json()) < 45_000


@pytest.mark.parametrize(
    "raw",
    [b"", b"PAR1", b"[]", b'{"format": "other"}', b'{"format": "kedge-profile/1", "rows": 1, "columns": {"x": 3}}'],
)
def test_what_is_no_profile_is_refused_with_what_to_do(raw):
    with pytest.raises(DataError, match=r"profile.*(writes one|build it again)"):
        Profile.from_json(raw)


def test_a_damaged_profile_is_refused():
    raw = drift.build([batch(x=[1.0, 2.0, 3.0])]).to_json()
    with pytest.raises(DataError, match="damaged"):
        Profile.from_json(raw.replace(b'"counts":[1', b'"counts":[-1'))


def test_profiles_of_different_references_do_not_merge():
    first, second = (drift.build([batch(x=values)]) for values in ([1.0, 2.0, 5.0], [1.0, 9.0, 70.0]))
    with pytest.raises(DataError, match=r"column 'x': counted on other edges"):
        first.merge(second)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2, None, 3], pa.int8()), 3),
        (pa.array([1, 2, 2**63], pa.uint64()), 3),
        (pa.array([1.5, None], pa.float32()), 1),
        (pa.array([True, False, None]), 2),
        (pa.array([Decimal("1.25"), None, Decimal("-3")], pa.decimal128(9, 2)), 2),
        (pa.array([timedelta(seconds=3)]), 1),
        (pa.array([datetime(2026, 1, 1), None], pa.timestamp("s")), 1),
        (pa.array([20_000, None], pa.date32()), 1),
        (pa.array([1.0, 2.0, 3.0, None]).slice(1, 3), 2),
        (pa.array([1.0, 1.0, 2.0]).dictionary_encode(), 3),
        (pa.array(np.array([1, 2], np.float16)), 2),
        (pa.nulls(3), 0),
    ],
)
def test_every_type_of_number_and_time_is_counted(values, expected):
    made = drift.build([pa.record_batch({"x": values})]).columns["x"]
    assert made.finite == expected
    assert made.rows == len(values)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_text_is_counted(kind):
    made = drift.build([pa.record_batch({"c": pa.array(["a", "b", None, "a", "é"], pa.string()).cast(kind)})])
    column = made.columns["c"]
    assert dict(zip(column.values, column.counts.tolist(), strict=True)) == {"a": 2, "b": 1, "é": 1}
    assert column.null == 1


def test_a_number_can_be_counted_as_a_category():
    made = drift.build([batch(zip=[1.0, 2.0, float("nan"), 2.0])], {"zip": "category"})
    assert made.columns["zip"].values == ("2", "1")
    assert drift.count(made, [batch(zip=[2, 2, 3])]).columns["zip"].new == 1


def test_missing_not_a_number_and_infinite_values_are_counted_apart():
    column = drift.build([batch(x=[1.0, None, float("nan"), float("inf"), float("-inf"), 2.0])]).columns["x"]
    assert (column.finite, column.null, column.nan, column.infinite_above, column.infinite_below) == (2, 1, 1, 1, 1)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_an_empty_text_is_a_missing_value_in_a_reference_and_in_a_window(kind):
    def batch(*values):
        return pa.RecordBatch.from_pydict({"country": pa.array(values, pa.string()).cast(kind)})

    reference = drift.build([batch("AT", "", None, "DE"), batch("", "AT")])
    assert (reference.columns["country"].values, reference.columns["country"].null) == (("AT", "DE"), 3)
    window = drift.count(reference, [batch("", "AT", "FR"), batch("", None)]).columns["country"]
    assert (window.null, window.new, window.counts.tolist()) == (3, 1, [1, 0])


def test_a_reference_without_rows_is_refused():
    with pytest.raises(DataError, match="no rows"):
        drift.build([])


def test_a_reference_of_mixed_schemas_is_refused_by_name():
    with pytest.raises(DataError, match="'x' is double in one batch and string in another"):
        drift.build([batch(x=[1.0]), batch(x=["a"])])


def test_a_kind_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="'c' holds string, which cannot be counted as number"):
        drift.build([batch(c=["a"])], {"c": "number"})


def test_many_distinct_values_keep_the_frequent_by_name_and_the_rest_as_known():
    rng = np.random.default_rng(0)
    rare = [f"rare-{k}" for k in range(5000)]
    reference = drift.build([batch(c=rare + ["often"] * 3000 + [f"some-{k}" for k in range(999)] * 4)])
    column = reference.columns["c"]
    assert len(column.values) == 1000
    assert column.values[0] == "often"
    assert column.singletons == 5000
    counted = drift.count(reference, [batch(c=[*rng.choice(rare, 2000), *(f"new-{k}" for k in range(500))])])
    assert counted.columns["c"].new == pytest.approx(500, abs=20)  # the filter takes 1 % of the new for known
    assert hashing.distinct(column.registers) == pytest.approx(6000, rel=0.1)


def test_new_values_are_named_while_they_are_few():
    reference = drift.build([batch(c=["a", "b"])])
    few = drift.count(reference, [batch(c=["z", "z", "y"])]).columns["c"]
    many = drift.count(reference, [batch(c=[f"n{k}" for k in range(2000)])]).columns["c"]
    assert few.new_values == {"z": 2, "y": 1}
    assert many.new_values is None
    assert many.new == 2000


@given(st.lists(st.text(max_size=20), unique=True, max_size=60))
def test_a_bloom_filter_knows_all_it_was_given(values):
    hashed = hashing.hashes(texts(values))
    assert len(np.unique(hashed)) == len(values)
    assert hashing.known(hashing.bloom(hashed), hashed).all() or not values


def test_a_bloom_filter_takes_about_one_in_a_hundred_strangers_for_known():
    field = hashing.bloom(hashing.hashes(texts([f"a{k}" for k in range(10_000)])))
    strangers = hashing.hashes(texts([f"b{k}" for k in range(20_000)]))
    bits_set = np.unpackbits(np.frombuffer(field, np.uint8)).mean()
    assert hashing.known(field, strangers).mean() == pytest.approx(bits_set**hashing.PROBES, abs=0.01)
    assert bits_set**hashing.PROBES < 0.02


@pytest.mark.parametrize("count", [0, 1, 100, 3000, 100_000])
def test_distinct_values_are_estimated_within_a_tenth(count):
    sketch = hashing.registers(hashing.hashes(texts([f"value {k}" for k in range(count)])))
    assert hashing.distinct(sketch) == pytest.approx(count, rel=0.1)


def test_the_profile_of_a_window_is_those_of_its_hours_merged():
    rng = np.random.default_rng(0)
    reference = drift.build([batch(x=rng.standard_normal(500))])
    values = [rng.standard_normal(10) + hour for hour in range(3)]
    merged = reduce(Profile.merge, [drift.count(reference, [batch(x=part)]) for part in values])
    assert merged.to_json() == drift.count(reference, [batch(x=np.concatenate(values))]).to_json()


def test_windows_of_dependent_rows_are_calibrated_by_blocks():
    """Rows that keep the value of the row before for 20 rows: one twentieth of them are independent."""
    rng = np.random.default_rng(0)

    def slow(n):
        return np.repeat(rng.standard_normal(n // 20), 20)

    reference = drift.build([batch(x=slow(40_000), y=rng.standard_normal(40_000))])
    blocks = [drift.count(reference, [batch(x=slow(2000), y=rng.standard_normal(2000))]) for _ in range(40)]
    effects = design_effects(blocks)
    assert 12 < effects["x"] < 35
    assert effects["y"] < 2
    naive = calibrated = 0
    for _ in range(60):
        current = drift.count(reference, [batch(x=slow(2000), y=rng.standard_normal(2000))])
        naive += "x" in drift.compare(reference, current).drifted
        calibrated += "x" in drift.compare(reference, current, design_effects=effects).drifted
    assert naive > 30
    assert calibrated <= 6


def test_too_few_blocks_are_refused():
    with pytest.raises(DataError, match="at least 8"):
        design_effects([])


def quiet(reference, current):
    """Whether a column counted on a profile of the same values shows nothing at all."""
    known = Profile.from_json(drift.build([batch(x=reference)]).to_json())
    feature = drift.compare(known, drift.count(known, [batch(x=current)])).features["x"]
    return not feature.drifted and feature.psi == 0 and not feature.out_of_range_share


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("other", ["ms", "us", "ns"])
def test_the_same_durations_in_another_unit_are_no_drift(unit, other):
    seconds = np.random.default_rng(0).integers(-1000, 10**6, 3000)
    waits = [timedelta(seconds=int(each)) for each in seconds]
    assert quiet(pa.array(waits, pa.duration(unit)), pa.array(waits, pa.duration(other)))


def test_the_same_times_in_another_unit_are_no_drift():
    times = [datetime(2026, 3, 2) + timedelta(seconds=k) for k in range(3000)]
    assert quiet(pa.array(times, pa.timestamp("ns")), pa.array(times, pa.timestamp("s", tz="UTC")))


@pytest.mark.parametrize(
    "kinds", [(pa.float64(), pa.float32()), (pa.float32(), pa.float64()), (pa.float16(), pa.float32())]
)
def test_the_same_numbers_in_another_width_are_no_drift(kinds):
    tenths = pa.array(np.random.default_rng(0).integers(1, 10, 3000) / 10)
    assert quiet(tenths.cast(kinds[0]), tenths.cast(kinds[1]))


def test_a_profile_of_durations_in_their_tables_unit_is_read_as_seconds():
    waits = [timedelta(seconds=k % 90, milliseconds=500) for k in range(3000)]
    made = drift.build([batch(x=pa.array(waits, pa.duration("ms")))])
    body = made.to_json().replace(b"duration[s]", b"duration[ms]")
    ticks = drift.build([batch(x=[each / timedelta(milliseconds=1) for each in waits])]).columns["x"]
    for name in ("edges", "atoms"):
        written = getattr(made.columns["x"], name).tolist(), getattr(ticks, name).tolist()
        body = body.replace(orjson.dumps(written[0]), orjson.dumps(written[1]))
    for name in ("low", "high", "minimum", "maximum"):
        value = getattr(made.columns["x"], name)
        body = body.replace(f'"{name}":{value}'.encode(), f'"{name}":{value * 1000}'.encode())
    now = drift.count(Profile.from_json(body), [batch(x=pa.array(waits, pa.duration("ns")))])
    assert drift.compare(Profile.from_json(body), now).features["x"].psi == 0
    assert now.columns["x"].edges.tolist() == pytest.approx((ticks.edges / 1000).tolist())


ABSURD = {
    "largest": [1.797e308, -1.797e308] * 300,
    "smallest": [0.0, 5e-324] * 300,
    "both": [0.0, 5e-324, 1.797e308] * 200,
    "over everything": list(np.linspace(-1, 1, 600) * 1.797e308),
    "below everything": list(np.arange(600) * 1e-321),
    "one among many": [*np.random.default_rng(0).standard_normal(600), 1.797e308],
}


@pytest.mark.parametrize("reference", ABSURD)
@pytest.mark.parametrize("current", ABSURD)
def test_no_number_is_too_large_or_small_to_be_counted_compared_and_drawn(reference, current):
    known = drift.build([batch(x=ABSURD[reference])])
    counted = drift.count(known, [batch(x=ABSURD[current])])
    compared = drift.compare(known, counted)
    assert counted.columns["x"].finite == len(ABSURD[current])
    assert drift_page(compared, known, counted, title="t")
    assert orjson.dumps(compared.to_dict())


def test_times_beyond_the_calendar_are_counted_and_drawn():
    far = np.linspace(-(2**62), 2**62, 600).astype(np.int64)
    assert drift.build([batch(x=pa.array(far, pa.timestamp("us")))])._repr_html_()
