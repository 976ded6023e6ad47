from __future__ import annotations

from typing import Any

import pytest

from kedge import policy as policies
from kedge.policy.notes import notes

DAY = 86_400
MODEL = {"name": "fraud", "target": "y", "features": {"x": {"type": "number"}, "c": {"type": "category"}}}
DATA = {"source": {"format": "parquet", "location": "t.parquet"}, "time_column": "at"}
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NO_LIMIT = {"max_parity_difference": None, "max_odds_difference": None, "min_impact_ratio": None}


def said(rows_a_day: float | None = None, **sections: Any) -> list[str]:
    model, data = MODEL | sections.pop("model", {}), DATA | sections.pop("data", {})
    return notes(policies.parse({"labels": {"delay_seconds": 0}, "model": model, "data": data} | sections), rows_a_day)


@pytest.mark.parametrize(
    ("sections", "begins"),
    [
        ({"release": {"freeze": [{"hours": [0, 24]}]}}, "release.freeze: together they leave no hour"),
        ({"release": {"freeze": [{"weekdays": WEEK}]}}, "release.freeze: together they leave no hour"),
        ({"release": {"freeze": [{"hours": [0, 12]}, {"hours": [12, 24]}]}}, "release.freeze: together they leave no"),
        ({"release": {"freeze": [{"hours": [5, 5]}]}}, "release.freeze: together they leave no hour"),
        (
            {"release": {"freeze": [{"since": "2026-05-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}]}},
            "release.freeze.0: until is not after since",
        ),
        ({"release": {"mode": "batch", "steps": [{"percent": 10}]}}, "release.steps: says nothing with mode: batch"),
        ({"release": {"batch": {"min_labels": 9}}}, "release.batch: says nothing with mode: served"),
        ({"release": {"interval_seconds": 300_000}}, "release.interval_seconds: evidence is looked at every 3.47 days"),
        ({"release": {"expected_step_seconds": 4 * DAY}}, "release.expected_step_seconds: 4 days is longer than"),
        ({"release": {"capacity": {"max_start_seconds": 900}}}, "release.capacity.max_start_seconds: 15 min is never"),
        ({"release": {"steps": [{"percent": 100}]}}, "release.steps: at 100 % no champion is left"),
        (
            {"release": {"bake_champion_percent": 50, "steps": [{"percent": 90}]}},
            "release.bake_champion_percent: 50 leaves the candidate 50 % while it bakes, less than its last step",
        ),
        ({"release": {"analysis": {"min_failure_rate": 0.5}}}, "release.analysis.min_failure_rate: a candidate may"),
        (
            {"release": {"analysis": {"on_score_shift": "hold"}}, "labels": {"delay_seconds": 99 * DAY}},
            "release.analysis.on_score_shift: hold waits for outcomes, which are due after 99 days",
        ),
        ({"gates": {"min_improvement": 5.0, "max_loss": 0.5}}, "gates.min_improvement: a champion's loss is at most"),
        ({"gates": {"fairness": {"columns": ["c"], **NO_LIMIT}}}, "gates.fairness.columns: nothing limits"),
        ({"metrics": [{"name": "f1", "min": 1.5}]}, "metrics.0.min: f1 is at most 1: no challenger"),
        ({"metrics": [{"name": "log_loss", "max": -1}]}, "metrics.0.max: log_loss is at least 0: no challenger"),
        (
            {"model": {"task": "regression"}, "monitor": {"triggers": {"drift_and_estimate": True}}},
            "monitor.triggers.drift_and_estimate: a regression's error is not estimated",
        ),
        ({"costs": {"run": 1e6}}, "costs.horizon_rows: 2,000 wrong decisions cost 2,000, less than a retraining"),
        (
            {"monitor": {"triggers": {"max_age_seconds": 3600}, "budget": {"cooldown_seconds": DAY}}},
            "monitor.triggers.max_age_seconds: rows older than 1 h ask for a retraining, and monitor.budget.cooldown",
        ),
        (
            {"monitor": {"triggers": {"max_age_seconds": DAY}, "schedule": "0 0 * * 1", "window_seconds": 7 * DAY}},
            "monitor.triggers.max_age_seconds: rows older than 24 h ask for a retraining, and monitor.schedule lets",
        ),
        ({"train": {"monotone": {"x": "increasing"}}}, "train.monotone: linear holds no such constraint"),
        (
            {"train": {"search": {"seconds": 900}}, "cluster": {"steps": {"train": {"max_seconds": 600}}}},
            "train.search.seconds: 15 min of search do not fit",
        ),
        (
            {"model": {"features": {"x": {"type": "integer", "min": 0.2, "max": 0.8}}}},
            "model.features.x.min: no whole number lies from 0.2 to 0.8",
        ),
        ({"notify": {"notices": ["warning"]}}, "notify: nobody is told without url_variable"),
        ({"notify": {"url_variable": "CHAT", "states": [], "notices": []}}, "notify.url_variable: states and notices"),
    ],
)
def test_demands_that_cannot_all_be_had_are_named(sections: Any, begins: str) -> None:
    assert [note for note in said(**sections) if note.startswith(begins)]


def test_a_history_too_short_to_train_on_is_named_at_a_rate_of_rows() -> None:
    notes_at_rate = said(100, data={"history_seconds": DAY})
    assert [note for note in notes_at_rate if note.startswith("data.history_seconds: at 100 rows a day 24 h hold")]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"release": {"freeze": [{"weekdays": ["sat", "sun"]}, {"hours": [16, 8]}]}},
        {"release": {"freeze": [{"until": "2026-04-01T00:00:00Z"}]}},
        {"release": {"mode": "batch", "batch": {"min_labels": 9}}},
        {"release": {"steps": [{"percent": 95}], "bake_champion_percent": 5}},
        {"train": {"estimators": ["xgboost", "forest"], "monotone": {"x": "increasing"}}},
        {"metrics": [{"name": "mcc", "min": -0.5}, {"name": "f1", "min": 1.0}, {"name": "own.metrics:gain", "min": 7}]},
        {"model": {"features": {"x": {"type": "integer", "min": 0.2, "max": 1}}}},
        {"notify": {"url_variable": "CHAT"}},
    ],
)
def test_demands_that_can_be_had_need_no_words(sections: Any) -> None:
    assert said(10_000, **sections) == []
