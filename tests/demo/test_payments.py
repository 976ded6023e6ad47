"""The generated payments are what the story says they are."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kedge.demo import payments, story
from kedge.demo.payments import COUNTRIES, SCHEMA, Weather
from kedge.policy import load


def test_a_day_is_the_same_every_time_and_another_day_is_another():
    assert payments.day(3, 50, Weather()).equals(payments.day(3, 50, Weather()))
    assert not payments.day(3, 50, Weather()).equals(payments.day(4, 50, Weather()))


def test_rows_follow_the_schema_in_time_order_within_their_day_with_unique_ids():
    table = payments.day(0, 200, Weather())
    assert table.schema == SCHEMA
    times = table["requested_at"].to_numpy()
    assert (np.diff(times) >= np.timedelta64(0)).all()
    assert {str(time)[:10] for time in times} == {"2026-03-02"}
    assert len(set(table["payment_id"].to_pylist())) == 200


def test_a_weekend_has_a_quarter_fewer_payments():
    assert [payments.day(number, 400, Weather()).num_rows for number in (4, 5, 6, 7)] == [400, 300, 300, 400]


def test_a_broken_feed_loses_balances_and_sends_an_unknown_country():
    table = payments.day(1, 1000, Weather(broken_feed=True))
    assert table["balance_ratio"].null_count / 1000 == pytest.approx(0.75, abs=0.05)
    assert set(table["country"].to_pylist()) - set(COUNTRIES) == {"ZZ"}


def test_new_rules_change_the_outcome_and_not_the_inputs():
    before, after = payments.day(1, 1000, Weather()), payments.day(1, 1000, Weather(new_rules=True))
    inputs = [name for name in before.column_names if name != "returned"]
    assert before.select(inputs).equals(after.select(inputs))
    assert (before["returned"].to_numpy() != after["returned"].to_numpy()).mean() > 0.15


def test_a_leak_adds_retries_to_returned_payments_only():
    table = payments.day(1, 1000, Weather())
    added = payments.leaked(table)["retries"].to_numpy() - table["retries"].to_numpy()
    returned = table["returned"].to_numpy() == 1
    assert (added[~returned] == 0).all()
    assert (added[returned] > 0).mean() > 0.8


def test_a_warehouse_that_counts_until_payday_changes_that_column_alone():
    table = payments.day(1, 100, Weather())
    turned = payments.until_payday(table)
    days = turned["days_since_payday"].to_numpy()
    assert (days + table["days_since_payday"].to_numpy() == 30).all()
    assert turned.drop_columns("days_since_payday").equals(table.drop_columns("days_since_payday"))
    assert days.min() >= 0


def test_the_slow_feature_code_is_slow_for_a_request_alone():
    brought = {}
    exec(compile(story.SLOW, "features.py", "exec"), brought)
    slept = []
    brought["time"] = SimpleNamespace(sleep=slept.append)
    frame = pd.DataFrame({"balance_ratio": [0.5, 0.2], "amount": [10.0, 200.0]})
    assert brought["build"](frame)["tight"].tolist() == [5.0, 40.0]
    assert slept == []
    assert [brought["build"](frame[row : row + 1])["tight"].item() for row in (0, 1)] == [5.0, 40.0]
    assert slept == [0.3]


def test_the_policy_of_the_demo_names_the_columns_of_its_payments():
    policy = load("kedge/demo/payments.yaml")
    named = {*policy.model.features, policy.model.target, policy.data.id_column, policy.data.time_column}
    assert named == set(SCHEMA.names)


def test_the_days_of_the_story_follow_each_other_without_a_gap():
    days = [number for episode in story.EPISODES for number in range(episode.first, episode.last + 1)]
    assert days == list(range(35))
