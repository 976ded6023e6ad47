"""What the collector tells Prometheus about checks, runs and releases: what the records say, no more."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import pytest

from kedge import records as ledger
from kedge.collector.declared import Declared
from kedge.collector.metrics import Metrics
from kedge.errors import StoreError
from kedge.policy import Metric
from kedge.records.exposition import REFRESH_SECONDS, ModelStates, limit_seconds, limits
from kedge.store import open_store
from tests.records.made import record

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def check(action="warn", *, key="20260302T120000Z", loss=0.25, written=NOON, **data):
    body = {
        "rows": 400,
        "inputs": {"verdict": "compared", "drifted": ["amount"], "drifted_importance": 0.75},
        "scores": {"verdict": "compared"},
        "performance": {
            "verdict": "measured", "rows": 80, "reference": {"loss": 0.2, "rows": 90}, "increase": 0.25,
            "loss": {"value": loss, "low": 0.1, "high": 0.9, "error": 0.1, "blocks": 8},
        },
        **data,
    }  # fmt: skip
    return record("check", key, NOON, model="payments", written=written, action=action, **body)


def happened(kind, key, **data):
    return record(kind, key, NOON, model="payments", written=NOON, **data)


@pytest.fixture
def collector(tmp_path, declared, monkeypatch):
    """A store, and a way to look at it through a page of metrics."""
    store, metrics, seconds = open_store(tmp_path), Metrics(), [0.0]
    monkeypatch.setattr("kedge.records.exposition.monotonic", lambda: seconds[0])
    monkeypatch.setattr(time, "time", lambda: NOON.timestamp() + seconds[0])
    model_states = ModelStates(store, {"payments": Declared(declared(), None)}, metrics)

    def look(*records):
        for each in records:
            ledger.append(store, each)
        seconds[0] += REFRESH_SECONDS
        model_states.refresh_if_due()
        return metrics.page()[0].decode().splitlines()

    look.store, look.metrics, look.seconds = store, metrics, seconds
    return look


def test_the_newest_check_is_shown_whatever_order_they_were_written_in(collector):
    page = collector(check("retrain", key="20260302T130000Z", loss=0.5), check("none", key="20260302T120000Z"))
    assert 'kedge_check_action{action="retrain",model="payments"} 1.0' in page
    assert 'kedge_check_action{action="none",model="payments"} 0.0' in page
    assert 'kedge_check{figure="loss",model="payments"} 0.5' in page
    assert 'kedge_check{figure="drifted_importance",model="payments"} 0.75' in page
    assert 'kedge_check{figure="drifted_features",model="payments"} 1.0' in page
    assert 'kedge_checked_timestamp_seconds{model="payments"} 1.7724528e+09' in page


def test_what_a_later_check_could_not_measure_shows_no_older_number(collector):
    collector(check())
    page = collector(
        check(key="20260302T130000Z", performance={"verdict": "too few labels", "rows": 0, "reference": None})
    )
    assert 'kedge_check{figure="loss",model="payments"} NaN' in page


def test_a_model_that_was_never_checked_shows_no_check_and_its_counts_begin_at_nothing(collector):
    page = collector()
    assert not [line for line in page if line.startswith(("kedge_check{", "kedge_checked", "kedge_check_action{"))]
    assert 'kedge_releases_total{model="payments",outcome="rolled-back"} 0.0' in page
    assert 'kedge_runs_total{model="payments",pipeline="retrain",state="failed"} 0.0' in page


def test_runs_are_counted_by_how_they_ended_and_a_new_attempt_is_a_run_of_its_own(collector):
    page = collector(
        happened("run-started", "retrain-payments-a", pipeline="retrain"),
        happened("run-finished", "retrain-payments-a", state="failed"),
        happened("run-started", "retrain-payments-a.2", pipeline="retrain"),
        happened("run-finished", "release-payments-form", state="succeeded"),  # started from the form: no announcement
    )
    assert 'kedge_runs_total{model="payments",pipeline="retrain",state="failed"} 1.0' in page
    assert 'kedge_runs_total{model="payments",pipeline="release",state="succeeded"} 1.0' in page
    assert 'kedge_runs_under_way{model="payments",pipeline="retrain"} 1.0' in page


def test_a_release_is_under_way_until_it_was_promoted_or_rolled_back(collector):
    line = 'kedge_release_started_timestamp_seconds{model="payments"} 1.7724528e+09'
    assert line in collector(happened("release-started", "abc-1", bundle="abc"))
    page = collector(happened("rolled-back", "abc-1", bundle="abc"))
    assert line not in page
    assert 'kedge_releases_total{model="payments",outcome="rolled-back"} 1.0' in page


def test_a_run_and_a_release_that_were_given_up_without_a_word_are_not_under_way_for_ever(collector):
    page = collector(
        happened("run-started", "release-payments-a", pipeline="release", bundle="abc"),  # its process was killed
        happened("run-started", "release-payments-a.2", run="release-payments-a", attempt=2, pipeline="release"),
        happened("run-finished", "release-payments-a.2", run="release-payments-a", state="succeeded"),
        happened("release-started", "abc-1", bundle="abc"),  # its route was deleted
        happened("promoted", "def-1", bundle="def"),
    )
    assert 'kedge_runs_under_way{model="payments",pipeline="release"} 0.0' in page
    assert not [line for line in page if line.startswith("kedge_release_started_timestamp_seconds{")]


def test_a_release_may_take_what_its_policy_gives_it(declared):
    policy = declared()  # 600 s to come up, three steps of at most three days, one hour of baking
    assert policy.release.shadow_percent == 0
    assert limit_seconds(policy) == 600 + 3 * 3 * 86_400 + 3600


def test_a_record_is_read_once_and_of_the_checks_only_the_newest(collector, monkeypatch):
    read = []
    get = type(collector.store).get
    monkeypatch.setattr(type(collector.store), "get", lambda store, key: read.append(key) or get(store, key))
    checks = [check(key=f"20260302T{hour:02}0000Z") for hour in range(12)]
    collector(*checks, happened("release-started", "abc-1", bundle="abc"))
    collector()
    assert sorted(read) == [
        "records/payments/check/20260302T110000Z.json",
        "records/payments/check/20260302T110000Z.json",
        "records/payments/release-started/abc-1.json",
    ]


def test_a_store_that_is_away_is_a_fault_in_words_and_the_last_figures_stay(collector, monkeypatch):
    def away(*_):
        raise StoreError("the bucket does not answer")

    collector(check())
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "newest", away)
        assert 'kedge_check{figure="drifted_importance",model="payments"} 0.75' in collector()
        assert "the bucket does not answer" in collector.metrics.faults["records"]
    collector()
    assert "records" not in collector.metrics.faults


def test_a_broken_record_of_one_model_hides_no_other_model(tmp_path, declared):
    store, metrics = open_store(tmp_path), Metrics()
    models = {name: Declared(declared(), None) for name in ("broken", "payments")}
    store.put("records/broken/check/20260302T120000Z.json", b"{")
    ledger.append(store, check())
    ModelStates(store, models, metrics).refresh_if_due()
    assert 'kedge_checked_timestamp_seconds{model="payments"}' in metrics.page()[0].decode()
    assert "records/broken/check/" in metrics.faults["records"]


def test_it_looks_at_most_once_a_minute(collector, monkeypatch):
    collector(check())
    monkeypatch.setattr("kedge.records.exposition.REFRESH_SECONDS", math.inf)
    collector(check("none", key="20260302T130000Z"))
    page = collector(check("quarantine", key="20260302T140000Z"))
    assert 'kedge_check_action{action="none",model="payments"} 1.0' in page


def test_a_running_collector_shows_what_the_store_says(start, store):
    ledger.append(store, check(written=datetime.now(UTC)))
    end = time.monotonic() + 20
    with start(interval_seconds=0.05) as client:
        while 'kedge_check_action{action="warn",model="payments"} 1.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_check_that_nothing_renews_is_shown_for_a_day_and_then_only_its_age(collector):
    page = collector(check("quarantine"))
    assert 'kedge_check_action{action="quarantine",model="payments"} 1.0' in page
    collector.seconds[0] += 86_400
    page = collector()
    assert not [line for line in page if line.startswith(("kedge_check{", "kedge_check_action{"))]
    assert any(line.startswith("kedge_checked_timestamp_seconds{") for line in page)


def test_limits_of_the_policy_and_what_waits_for_an_approval_are_shown(collector):
    waits = {"decision_key": "k", "approval_wanted": True, "trained_until": "2026-03-01T00:00:00+00:00"}
    page = collector(check("retrain", **waits))
    assert 'kedge_limit{figure="drifted_importance",model="payments"} 0.1' in page
    assert not [line for line in page if 'kedge_limit{figure="latency_ms"' in line]  # the policy sets none
    assert 'kedge_approval_waiting{model="payments",pipeline="retrain"} 1.0' in page
    assert 'kedge_approval_waiting{model="payments",pipeline="release"} 0.0' in page
    trained = [line for line in page if line.startswith("kedge_trained_until_timestamp_seconds{")]
    assert [float(line.split()[-1]) for line in trained] == [datetime(2026, 3, 1, tzinfo=UTC).timestamp()]


def test_the_policys_metrics_are_shown_by_name_with_their_intervals_and_limits(collector, declared):
    figures = {"f1": {"value": 0.8, "low": 0.7, "high": 0.9}}
    measured = {"verdict": "measured", "rows": 80, "reference": None, "metrics": figures, "broken_limits": ["f1 0.8"]}
    page = collector(check(performance=measured))
    for line in (
        '"f1",model="payments"} 0.8',
        '"f1_low",model="payments"} 0.7',
        '"broken_limits",model="payments"} 1.0',
    ):
        assert f"kedge_check{{figure={line}" in page
    asked = declared().model_copy(update={"metrics": (Metric(name="f1", min=0.85),)})
    assert limits(asked)["f1_min"] == 0.85
