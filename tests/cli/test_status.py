from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from kedge import policy
from kedge import records as ledger
from kedge.cli import build
from kedge.cli.status import look, screen, watched
from kedge.errors import StoreError, UsageError
from kedge.rollout.local.folder import Folder
from kedge.rollout.model import Rollout, Route
from kedge.store import open_store
from kedge.store.identity import begin
from tests.records.made import record

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
A, B = "a" * 40, "b" * 40
RULES = {
    "model": {"name": "fraud", "target": "y", "features": {"x": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
    "monitor": {"budget": {"cooldown_seconds": 86_400}},
}


def event(hour: float, kind: str, key: str, **data):
    return record(kind, key, START + hour * HOUR, **data)


def check(hour: float, action: str, **data):
    end = START + hour * HOUR
    return event(
        hour,
        "check",
        f"{end:%Y%m%dT%H%M%SZ}",
        action=action,
        verdict="loss rose",
        rows=1234,
        reasons=["labelled loss rose: 0.5 against 0.3"],
        report="reports/fraud/check-x.html",
        decision_key=f"key-{hour:g}",
        champion={"bundle": A, "since": START, "tenure_id": f"promoted/{A}-1"},
        signals={signal: {"breached": True, "labels": 9, "evidence_id": f"{hour:g}"} for signal in ("error", "shift")},
        **data,
    )


def seen(records, *, hours=10.0, asked=None, rollout=None) -> str:
    return "\n".join(screen(look("fraud", ledger.ModelState.of(records), asked, rollout, START + hours * HOUR)))


PROMOTED = [event(0, "registered", A, bundle=A, version="3"), event(1, "promoted", f"{A}-1", bundle=A)]


def test_a_model_without_records_says_what_to_do_first():
    text = seen([])
    assert "champion    none" in text
    assert "kedge submit --policy FILE" in text


def test_a_first_model_that_passed_is_to_be_released_or_where_the_policy_says_so_approved():
    passed = [event(0, "registered", A, bundle=A, version="1")]
    assert "kedge submit --policy FILE --release aaaaaaaaaaaa" in seen(passed)
    here = look("fraud", ledger.ModelState.of(passed), None, None, START, local=True)
    assert "`kedge submit --policy FILE --local --release aaaaaaaaaaaa`" in here.next[0]
    text = seen(passed, asked=policy.parse({**RULES, "release": {"approval": "manual"}}))
    assert "waits for `kedge approve`" in text
    assert "kedge submit" not in text


def test_the_champion_is_told_with_version_age_and_since_when():
    assert "version 3, bundle aaaaaaaaaaaa, since 2026-03-02 01:00 UTC (9 h)" in seen(PROMOTED)


def test_the_last_check_is_told_with_its_reasons():
    text = seen([*PROMOTED, check(2, "none"), check(3, "warn")])
    assert "2026-03-02 03:00 UTC: loss rose; action: warn; 1,234 rows; reports/fraud/check-x.html" in text
    assert "labelled loss rose: 0.5 against 0.3" in text


def test_a_failed_run_is_told_with_step_and_reason():
    run = [
        event(2, "run-started", "retrain-fraud-1", run="retrain-fraud-1", pipeline="retrain"),
        event(3, "run-finished", "retrain-fraud-1", state="failed", step="train", reason="one class only"),
    ]
    assert "retrain-fraud-1 failed at train: one class only (2026-03-02 03:00 UTC)" in seen([*PROMOTED, *run])


def test_the_table_of_all_models_has_the_beginning_of_a_long_reason_only(store, tmp_path):
    ledger.append(store, event(2, "run-started", "r1"))
    reason = "loss is higher " * 30
    ledger.append(store, event(3, "run-finished", "r1", state="rejected", step="evaluate", reason=reason))
    *_, fraud = CliRunner().invoke(build(), ["status", "--store", str(tmp_path)]).output.splitlines()
    assert "rejected at evaluate: loss is higher" in fraud
    assert " ... (2026-03-02 03:00 UTC)" in fraud
    one = CliRunner().invoke(build(), ["status", "--store", str(tmp_path), "--model", "fraud"]).output
    assert one.count("loss is higher") == 30


def test_a_run_that_could_not_be_judged_is_told_with_what_it_needs():
    run = event(3, "run-finished", "r1", state="inconclusive", step="evaluate", reason="80 more are needed")
    assert "r1 inconclusive at evaluate: 80 more are needed" in seen([*PROMOTED, event(2, "run-started", "r1"), run])


def test_the_run_that_started_last_counts_and_may_still_be_going():
    runs = [
        event(2, "run-started", "r1", run="r1"),
        event(3, "run-started", "r2", run="r2"),
        event(4, "run-finished", "r1", state="rejected"),
    ]
    assert "r2 is going since 2026-03-02 03:00 UTC" in seen([*PROMOTED, *runs])


def test_a_first_release_that_the_platform_failed_is_told_with_when_it_is_tried_again():
    told = [event(1, "registered", A, bundle=A, version="1"), event(1.5, "release-started", f"{A}-1", bundle=A)]

    def tried(number: int) -> list:
        key, about = f"r.{number}", {"run": "r", "pipeline": "release", "bundle": A}
        ended = {"run": "r", "state": "failed", "step": "deploy", "reason": "install KServe", "exit_code": 1}
        return [event(number, "run-started", key, **about), event(number + 0.2, "run-finished", key, **ended)]

    once = [*told, *tried(2)]
    text = seen(once, asked=policy.parse(RULES))
    assert "the release of aaaaaaaaaaaa failed once, by no fault of the bundle's; `kedge doctor` says" in text
    assert (
        "the next `kedge monitor` tries it again; at once: `kedge submit --policy FILE --release aaaaaaaaaaaa`" in text
    )
    assert "trains and releases a first model" not in text
    thrice = [*once, *tried(3), *tried(4)]
    assert "failed 3 times" in seen(thrice, asked=policy.parse(RULES))
    assert "the first `kedge monitor` after 2026-03-03 04:00 UTC tries it again" in seen(
        thrice, asked=policy.parse(RULES)
    )
    assert "a later `kedge monitor` tries it again" in seen(thrice)


def test_cooldown_budget_and_schedule_are_what_comes_next():
    asked = policy.parse(RULES)
    run = [
        event(9, "run-started", "r1", run="r1", pipeline="retrain"),
        event(9.5, "run-finished", "r1", state="rejected"),
    ]
    text = seen([*PROMOTED, *run], asked=asked)
    assert "checks ask for no retraining before 2026-03-03 09:00 UTC (cooldown)" in text
    assert "1 of 30 retrainings of the period are used" in text
    assert "on a cluster checks run by the schedule '0 * * * *' (UTC)" in text
    assert "cooldown" not in seen([*PROMOTED, *run], asked=asked, hours=40)


def test_a_decision_nobody_submitted_is_driven_on_by_the_next_check():
    text = seen([*PROMOTED, check(3, "retrain")])
    assert "the retraining decided on at 2026-03-02 03:00 UTC is not done" in text
    done = [
        event(4, "run-started", "r", run="r", pipeline="retrain", decision_key="key-3"),
        event(5, "run-finished", "r", state="rejected"),
    ]
    assert "is not done" not in seen([*PROMOTED, check(3, "retrain"), *done])


def test_a_bundle_that_waits_for_approval_is_told_where_the_policy_asks_for_it():
    asked = policy.parse({**RULES, "release": {"approval": "manual"}})
    waiting = [*PROMOTED, event(5, "registered", B, bundle=B, version="4")]
    assert "bundle bbbbbbbbbbbb waits for `kedge approve`" in seen(waiting, asked=asked)
    approved = [*waiting, event(6, "approved", B)]
    assert "waits for" not in seen(approved, asked=asked)
    assert "waits for" not in seen(waiting, asked=policy.parse(RULES))


def rollout(state: str) -> Rollout:
    return Rollout(
        bundle=B, uri="x", slot="green", champion=A, attempt=1, run="r", started=START, since=START, state=state, step=1
    )


def test_a_release_under_way_shows_what_it_has_seen_against_what_it_needs(store, tmp_path):
    from kedge.rollout import progress

    needs = progress.Need(measure="requests", has=37, needs=100), progress.Need(measure="seconds", has=120, needs=300)
    at = progress.of(policy.parse(RULES), rollout("canary"), START)
    running = [*PROMOTED, event(0, "release-started", f"{B}-1", bundle=B)]
    state = ledger.ModelState.of(running)
    shown = look("fraud", state, None, None, START, replace(at, needs=needs))
    text = "\n".join(screen(shown))
    assert "bundle bbbbbbbbbbbb in slot green: canary 25 %: 37 of 100 requests, 120 of 300 s" in text
    over = ledger.ModelState.of([*running, event(0.5, "rolled-back", f"{B}-1", bundle=B)])
    assert "rollout     none" in "\n".join(screen(look("fraud", over, None, None, START, at)))


def test_a_release_is_followed_line_by_line_until_it_has_ended():
    from kedge.rollout import progress

    asked = policy.parse(RULES)
    running = [*PROMOTED, event(1.5, "release-started", f"{B}-1", bundle=B)]
    steps = [progress.of(asked, rollout("canary"), START), progress.of(asked, rollout("bake"), START)]
    back = event(2, "rolled-back", f"{B}-1", bundle=B, reason="failed requests at 25 %")
    looks = iter(
        [look("fraud", ledger.ModelState.of(running), asked, None, START, step) for step in (*steps[:1], *steps)]
        + [look("fraud", ledger.ModelState.of([*running, back]), asked, None, START, steps[1])]
    )
    lines = list(watched(lambda: next(looks), lambda _seconds: None))
    assert [line for line in lines if "canary 25 %" in line and "then 50 %" in line] == [lines[4]]
    assert [line.partition(" ")[2] for line in lines[-2:]] == [
        "bundle bbbbbbbbbbbb in slot green: bake 95 %; then promoted",
        "bundle bbbbbbbbbbbb rolled back: failed requests at 25 %",
    ]


def test_what_cannot_be_followed_is_refused():
    done = CliRunner().invoke(build(), ["status", "--watch"])
    assert isinstance(done.exception, UsageError)


def test_a_rollout_under_way_is_told_and_an_ended_one_is_not():
    assert "bundle bbbbbbbbbbbb in slot green: canary step 2 since 2026-03-02" in seen(
        PROMOTED, rollout=rollout("canary")
    )
    assert "rollout     none" in seen(PROMOTED, rollout=rollout("promoted"))


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path)
    for item in [*PROMOTED, check(3, "warn")]:
        ledger.append(opened, item)
    return opened


def test_the_command_reads_records_and_the_local_platforms_route(store, tmp_path):
    Folder(tmp_path / "platform").swap_route("fraud", Route(weights={"blue": 100}, rollout=rollout("canary")))
    done = CliRunner().invoke(build(), ["status", "--model", "fraud", "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "canary step 2" in done.output
    assert "action: warn" in done.output


def test_a_record_dated_ahead_is_named(store, tmp_path):
    ledger.append(store, replace(PROMOTED[0], key="ahead", time=datetime.now(UTC) + timedelta(days=365)))
    done = CliRunner().invoke(build(), ["status", "--model", "fraud", "--store", str(tmp_path)])
    assert f"records/fraud/{PROMOTED[0].kind}/ahead.json is dated 20" in done.output


def test_the_command_prints_json_for_scripts(store, tmp_path):
    done = CliRunner().invoke(build(), ["status", "--model", "fraud", "--store", str(tmp_path), "--json"])
    body = json.loads(done.output)
    assert body["champion"]["bundle"] == A
    assert body["version"] == "3"
    assert body["check"]["data"]["action"] == "warn"
    assert body["rollout"] is None


def test_without_a_name_every_model_of_the_store_has_a_line(store, tmp_path):
    ledger.append(store, replace(PROMOTED[0], model="churn"))
    done = CliRunner().invoke(build(), ["status", "--store", str(tmp_path)])
    head, churn, fraud = done.output.splitlines()
    assert head.split("  ")[0] == "model"
    assert churn.split() == ["churn", "none", "none", "yet", "-", "none", "yet"]
    assert fraud.startswith("fraud  aaaaaaaaaaaa since 2026-03-02 01:00 UTC  2026-03-02 03:00 UTC: loss rose")
    body = json.loads(CliRunner().invoke(build(), ["status", "--store", str(tmp_path), "--json"]).output)
    assert [(each["model"], each["check"] and each["check"]["data"]["action"]) for each in body] == [
        ("churn", None),
        ("fraud", "warn"),
    ]


def test_a_store_without_a_model_says_how_one_begins(tmp_path):
    begin(open_store(tmp_path))
    done = CliRunner().invoke(build(), ["status", "--store", str(tmp_path)])
    assert (done.exit_code, "no models yet; `kedge init TABLE` begins" in done.output) == (0, True)


@pytest.mark.parametrize("command", ["status", "status --model fraud", "history --model fraud", "approve aaaaaaaa"])
def test_an_empty_store_is_no_new_beginning(command, tmp_path):
    rules, table = tmp_path / "fraud.yaml", {"source": {"format": "csv", "location": "x.csv"}, "time_column": "t"}
    rules.write_text(json.dumps({**RULES, "data": table}))
    words = [*command.split(), "--store", str(tmp_path / "gone")]
    if command.startswith("approve"):
        words += ["--policy", str(rules)]
    with pytest.raises(StoreError, match=r"is empty: it has no store\.json"):
        CliRunner().invoke(build(), words, catch_exceptions=False)
    assert not (tmp_path / "gone").exists()


def test_policy_and_model_together_are_a_usage_error(tmp_path):
    words = ["status", "--store", str(tmp_path), "--model", "fraud", "--policy", "x.yaml"]
    done = CliRunner().invoke(build(), words)
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2


def test_a_model_the_store_does_not_know_is_a_mistake_that_names_those_it_knows(tmp_path):
    ledger.append(open_store(tmp_path), PROMOTED[0])
    done = CliRunner().invoke(build(), ["status", "--model", "frauds", "--store", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).endswith("no records of a model 'frauds'; it has fraud")


def test_the_policys_metrics_are_told_with_the_last_check():
    figures = {"f1": {"value": 0.8, "low": 0.7, "high": 0.9}}
    measured = {"verdict": "measured", "rows": 80, "reference": None, "metrics": figures, "metric_rows": 900}
    assert "f1 0.8 (0.7 to 0.9) over 900 rows" in seen([*PROMOTED, check(2, "none", performance=measured)])
