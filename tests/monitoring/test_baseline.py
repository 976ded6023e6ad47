"""A check against the same hours of earlier weeks, and with rows that depend on each other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kedge import policy
from kedge.drift.design_effects import MIN_BLOCKS
from kedge.errors import UserError
from kedge.monitoring import run
from tests.monitoring.world import DAY, RULES, START, World, rows


def served(world: World, day: int, *, older: float = 0.0, blocks: int = 0) -> None:
    """A day of rows; ages raised, or every row's amount that of its block."""
    table = rows(600, START + day * DAY, 100 + day)
    table = table.set_column(2, "age", pa.array(table["age"].to_numpy() + older))
    if blocks:
        levels = np.random.default_rng(day).uniform(0, 1000, blocks)
        table = table.set_column(1, "amount", pa.array(np.repeat(levels, 600 // blocks)))
    world.serve(table, labels_after=None)


def check(world: World, day: int, **drift: int) -> dict:
    made = run.run(world.rules(drift=drift), world.store, now=START + (day + 1) * DAY)
    page = world.store.get(made.record.data.report).decode()
    return vars(made.record.data.inputs) | {"page": page, "corrupt": made.record.data.reasons}


def test_sundays_that_are_always_different_drift_from_the_training_rows_but_not_from_sundays(world):
    for day in (0, 7, 14):
        served(world, day, older=30)
    plain = check(world, 14, seasonal_weeks=0)
    assert plain["drifted"] == ("age",)
    assert plain["against"] == "training rows"


def test_the_same_hours_of_earlier_weeks_are_the_reference_where_the_policy_asks(world):
    for day in (0, 7, 14):
        served(world, day, older=30)
    served(world, 13)
    seasonal = check(world, 14, seasonal_weeks=2)
    assert seasonal["drifted"] == ()
    assert seasonal["against"] == "the same hours of earlier weeks"
    assert seasonal["detail"]["reference_rows"] == 1200


def test_a_feed_broken_for_weeks_is_quarantined_by_the_training_rows_though_no_drift_from_those_weeks(world):
    for day in (0, 7, 14):
        table = rows(600, START + day * DAY, 100 + day)
        gaps = pa.array(table["age"].to_numpy(), mask=np.arange(600) % 5 < 4)
        world.serve(table.set_column(2, "age", gaps), labels_after=None)
    seen = check(world, 14, seasonal_weeks=2)
    assert seen["drifted"] == ()
    assert any(said.startswith("age: 80 % missing, 0 % when trained") for said in seen["corrupt"])


def test_without_earlier_weeks_the_training_rows_are_the_reference(world):
    served(world, 0)
    assert check(world, 0, seasonal_weeks=2)["against"] == "training rows"


def test_rows_that_depend_on_each_other_raise_no_alarm_once_past_windows_show_it(world):
    for day in range(13):
        served(world, day, blocks=12)
    seen = check(world, 12, past_windows=12)
    assert seen["design_effects"]["amount"] > 10
    assert seen["design_effects"]["age"] < 3
    assert "amount" not in seen["drifted"]


def test_dependent_rows_alarm_without_past_windows(world):
    served(world, 12, blocks=12)
    assert "amount" in check(world, 12)["drifted"]


def test_the_page_draws_the_drifted_columns_only(world):
    served(world, 0, older=30)
    seen = check(world, 0)
    labels, before, after = seen["histograms"]["age"]
    assert list(seen["histograms"]) == ["age"]
    assert len(labels) == len(before) == len(after)
    assert sum(after) == pytest.approx(600)
    assert seen["page"].count("<figcaption><b>age</b>") == 1


def test_fewer_past_windows_than_can_teach_anything_are_refused():
    policy.parse({**RULES, "monitor": {"drift": {"past_windows": MIN_BLOCKS}}})
    with pytest.raises(UserError, match="at least 8"):
        policy.parse({**RULES, "monitor": {"drift": {"past_windows": MIN_BLOCKS - 1}}})
