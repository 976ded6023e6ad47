"""Generated direct debits: will the payer's bank send the money back? Numbers, categories, gaps and a weekly season.

The relation between the columns and the outcome is known here, so the story can change the inputs without harm, break
the feed, change the relation itself, or let the warehouse leak the outcome into a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

START = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday: day 0 of the story."""

COUNTRIES = ("AT", "BE", "DE", "ES", "FR", "NL")
CHANNELS = ("app", "branch", "phone", "web")

SCHEMA = pa.schema(
    [
        ("payment_id", pa.string()),
        ("requested_at", pa.timestamp("us", tz="UTC")),
        ("amount", pa.float64()),
        ("balance_ratio", pa.float64()),
        ("account_age_days", pa.float64()),
        ("days_since_payday", pa.int64()),
        ("retries", pa.int64()),
        ("recurring", pa.bool_()),
        ("country", pa.string()),
        ("channel", pa.string()),
        ("returned", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What is going on in the payers' world, and in the feed, on one day."""

    campaign: bool = False
    """Many small payments by app: the inputs shift, the relation stays."""
    broken_feed: bool = False
    """The feed loses most balances and sends a country code nobody knows."""
    new_rules: bool = False
    """Banks change what they return: the relation itself changes."""


Task = Literal["binary", "multiclass", "regression"]
TARGETS: dict[Task, str] = {"binary": "returned", "multiclass": "outcome", "regression": "days_late"}
"""What is asked of a payment, by task: whether it comes back; what becomes of it; when the money is there."""
OUTCOMES = ("paid", "returned", "disputed")


def day(number: int, rows: int, weather: Weather, *, seed: int = 7, task: Task = "binary") -> pa.Table:
    """The payments of one day, in time order, with their outcomes.

    Args:
        number: Days since ``START``; negative days are the history the first model is trained on.
        rows: Payments on a weekday; weekends have a quarter fewer.
        weather: What is going on.
        seed: With ``number``, fixes every value.
        task: Which column holds the outcome, the last one; see ``TARGETS``.

    Returns:
        A table with ``SCHEMA``, of other tasks with another outcome.
    """
    random = np.random.default_rng([seed, number + 10_000])
    begin = START + timedelta(days=number)
    weekend = begin.weekday() >= 5
    count = rows * 3 // 4 if weekend else rows

    amount = np.exp(random.normal(4.3 + 0.12 * weekend, 0.9, count))
    channel = random.choice(len(CHANNELS), count, p=(0.35, 0.15, 0.10, 0.40))
    if weather.campaign:
        small = random.random(count) < 0.6
        amount = np.where(small, np.exp(random.normal(2.6, 0.4, count)), amount)
        channel = np.where(small, CHANNELS.index("app"), channel)
    amount = amount.round(2)
    balance_ratio = random.gamma(2.0, 0.25, count).round(4)
    account_age = random.gamma(1.5, 400, count).round()
    since_payday = random.integers(0, 31, count)
    retries = random.binomial(2, 0.03, count)
    recurring = random.random(count) < 0.55
    country = random.choice(len(COUNTRIES), count, p=(0.10, 0.10, 0.35, 0.15, 0.20, 0.10))

    chance = _chance(amount, balance_ratio, account_age, since_payday, retries, recurring, country, weather)
    returned = random.random(count) < chance

    gaps = random.random(count) < (0.75 if weather.broken_feed else 0.06)
    unknown = random.random(count) < (0.4 if weather.broken_feed else 0.0)
    times = np.sort(random.integers(0, 86_400_000_000, count))
    stamp = np.datetime64(begin.replace(tzinfo=None), "us") + times.astype("timedelta64[us]")
    table = pa.table(
        {
            "payment_id": [f"{_label(begin.date())}-{index:05d}" for index in range(count)],
            "requested_at": pa.array(stamp).cast(pa.timestamp("us", tz="UTC")),
            "amount": amount,
            "balance_ratio": pa.array(balance_ratio, mask=gaps),
            "account_age_days": pa.array(account_age, mask=random.random(count) < 0.03),
            "days_since_payday": since_payday,
            "retries": retries,
            "recurring": recurring,
            "country": np.where(unknown, "ZZ", np.asarray(COUNTRIES)[country]),
            "channel": np.asarray(CHANNELS)[channel],
            "returned": returned.astype(np.int64),
        },
        schema=SCHEMA,
    )
    if task == "binary":
        return table
    told = np.random.default_rng([seed, number + 10_000, 1])
    if task == "regression":
        outcome = pa.array(told.gamma(9.0, (1 + 6 * chance) / 9).round(2))
    else:
        disputed = told.random(count) < np.where(recurring != weather.new_rules, 0.15, 0.75)
        outcome = pa.array(np.asarray(OUTCOMES)[np.where(returned, 1 + disputed, 0)])
    return table.drop_columns(["returned"]).append_column(TARGETS[task], outcome)


def leaked(table: pa.Table, *, seed: int = 7) -> pa.Table:
    """The same payments as a later warehouse shows them: ``retries`` now counts those made because of the outcome.

    Offline the column predicts very well; at the moment of a real request it does not know the outcome yet.
    """
    random = np.random.default_rng([seed, table.num_rows])
    known, outcome = table["retries"].to_numpy(), table.column_names[-1]
    if outcome == "returned":
        retries = known + table[outcome].to_numpy() * (1 + random.binomial(2, 0.5, table.num_rows))
    elif outcome == "outcome":
        retries = known + 2 * np.array([OUTCOMES.index(each) for each in table[outcome].to_pylist()])
    else:
        retries = known + np.rint(table[outcome].to_numpy()).astype(np.int64)
    index = table.schema.get_field_index("retries")
    return table.set_column(index, "retries", pa.array(retries, pa.int64()))


def until_payday(table: pa.Table) -> pa.Table:
    """The same payments as a warehouse shows them that now counts the days until payday: a request still says since."""
    index = table.schema.get_field_index("days_since_payday")
    return table.set_column(index, "days_since_payday", pa.array(30 - table["days_since_payday"].to_numpy()))


def _chance(
    amount: NDArray[np.float64],
    balance_ratio: NDArray[np.float64],
    account_age: NDArray[np.float64],
    since_payday: NDArray[np.int64],
    retries: NDArray[np.int64],
    recurring: NDArray[np.bool_],
    country: NDArray[np.int64],
    weather: Weather,
) -> NDArray[np.float64]:
    """Chance that a payment is returned: a logistic model with two interactions, and another one under new rules."""
    size = np.log(amount / 75)
    tight = balance_ratio - 0.5
    late_month = (since_payday - 15) / 15
    young = np.exp(-account_age / 300)
    if weather.new_rules:
        score = -1.4 + 0.9 * size + 2.0 * tight - 1.6 * late_month + 1.0 * young + 1.0 * recurring + 0.5 * retries
    else:
        score = -1.6 + 1.3 * size + 3.2 * tight + 1.4 * late_month + 1.5 * young - 1.2 * recurring + 0.5 * retries
        score = score + 1.6 * tight * size
    score = score + np.asarray([0.0, 0.3, -0.3, 0.5, 0.1, -0.4])[country]
    result: NDArray[np.float64] = 1 / (1 + np.exp(-1.4 * score))
    return result


def _label(value: date) -> str:
    return value.strftime("%y%m%d")
