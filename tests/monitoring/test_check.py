from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss

from kedge import bundle, policy, records
from kedge.drift import Profile
from kedge.errors import BundleError, DataError, NothingServed
from kedge.monitoring import run
from kedge.monitoring.check import ChampionReference, _other_loss, observe, read
from kedge.monitoring.estimate import recorded
from kedge.records import Reference, Window, check_key, quarantined_windows
from kedge.tables import appending
from tests.monitoring.world import DAY, RULES, START, rows
from tests.records.made import record


def look(world, day, **monitor):
    """The record of the check at the end of a day, counted from 0."""
    return run.run(world.rules(**monitor), world.store, now=START + (day + 1) * DAY)


def test_a_quiet_day_is_measured_compared_and_asks_for_nothing(world):
    world.serve(rows(600, START, 1))
    found = look(world, 0)
    data = found.record.data
    assert (data.verdict, data.action, data.rows) == ("quiet", "none", 600)
    assert data.inputs.verdict == "compared"
    assert set(data.inputs.detail["features"]) == {"amount", "age", "card", "land"}  # not the hashed one
    assert data.estimate.risen is False
    assert found.due is None


def test_the_policys_metrics_are_of_the_labelled_rows_in_record_and_page(world):
    world.serve(rows(600, START, 1))
    asked = world.rules().model_copy(update={"metrics": (policy.Metric(name="f1"), policy.Metric(name="auc"))})
    found = run.run(asked, world.store, now=START + DAY).record.data
    kept = records.newest(world.store, "fraud", records.Checked, 1)[-1].data.performance.metrics
    assert kept == found.performance.metrics
    assert kept.keys() == {"f1", "auc"}
    assert 0.5 < kept["f1"].low < kept["f1"].value < kept["f1"].high <= 1
    assert "<td>auc</td>" in world.store.get(found.report).decode()


def test_the_labelled_loss_is_the_mean_log_loss_against_the_bundles_own(world):
    table = rows(600, START, 1)
    world.serve(table)
    seen = look(world, 0).record.data.performance
    opened = bundle.fetch(world.store, "fraud", world.champion, world.folder)
    scores = opened.load_model().score(opened.signature.encode(table))
    assert seen.loss.value == pytest.approx(log_loss(table["fraud"], scores))
    assert seen.wrong.value == pytest.approx(np.mean((scores >= 0.5) != table["fraud"].to_numpy()))
    assert seen.reference == Reference(loss=opened.manifest.metrics["loss"], rows=700)  # a quarter of 7 * 400 rows


def test_a_changed_relation_pays_for_a_retraining(world):
    world.serve(rows(600, START, 10, flipped=True))
    found = look(world, 0)
    assert (found.record.data.verdict, found.record.data.action) == ("error rose", "retrain")
    assert found.record.data.regret["pending"]
    assert found.record.data.alarm["open"]
    assert found.due.key == found.record.key


def test_shifted_inputs_are_named_and_only_attended_to(world):
    table = rows(600, START, 3)
    older = pa.array(table["age"].to_numpy() + 25)
    small = pa.array(table["amount"].to_numpy() * 0.6)
    world.serve(table.set_column(2, "age", older).set_column(1, "amount", small), labels_after=None)
    data = look(world, 0).record.data
    assert set(data.inputs.drifted) == {"age", "amount"}
    assert data.action == "warn"
    assert "inputs drifted" in data.reasons[0]


def test_outcomes_and_scores_are_compared_with_those_the_champion_was_judged_on(world):
    table = rows(900, START, 1)
    positive = table.filter(table["fraud"].to_numpy() == 1)
    world.serve(positive)
    data = look(world, 0).record.data
    assert data.outcomes.drifted == ("_label",)
    assert data.scores.drifted == ("_score",)
    page = world.store.get(data.report).decode()
    assert "Outcomes" in page
    assert "_label" in page


def test_outcomes_of_a_quiet_day_have_not_drifted_and_without_a_verdict_nothing_is_said(world):
    world.serve(rows(600, START, 1))
    data = look(world, 0).record.data
    assert (data.outcomes.verdict, data.outcomes.drifted) == ("compared", ())
    assert look(world, 5).record.data.outcomes.verdict == "too few rows"


def test_features_that_move_together_otherwise_are_named_though_each_looks_as_before(world):
    table = rows(600, START, 1)
    ordered = np.argsort(table["amount"].to_numpy())
    land = np.empty(600, dtype=object)
    land[ordered] = sorted(table["land"].to_pylist())
    world.serve(table.set_column(4, "land", pa.array(land)), labels_after=None)
    data = look(world, 0).record.data
    assert data.inputs.drifted == ()
    assert {data.inputs.pairs[0].first, data.inputs.pairs[0].second} == {"amount", "land"}
    assert (data.action, data.verdict) == ("warn", "pairs of inputs drifted")
    assert "Pairs that move together otherwise" in world.store.get(data.report).decode()


def changed(**model):
    """The policy with another model section."""
    return policy.parse({**RULES, "model": {**RULES["model"], **model}})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"task": "regression"}, "says regression, champion .* predicts binary"),
        ({"task": "multiclass", "classes": [0, 1, 2]}, r"says multiclass \(0, 1, 2\), champion .* predicts binary"),
        ({"features": {**RULES["model"]["features"], "land": {"type": "number"}}}, "'land' holds values of type"),
    ],
)
def test_a_policy_of_another_task_or_type_than_the_champions_is_refused_by_name(world, model, said):
    world.serve(rows(300, START, 1))
    with pytest.raises(DataError, match=said):
        run.run(changed(**model), world.store, now=START + DAY)


def test_features_that_only_the_new_policy_has_or_lacks_are_left_out(world):
    world.serve(rows(600, START, 1))
    features = {name: each for name, each in RULES["model"]["features"].items() if name != "age"}
    found = run.run(changed(features={**features, "new": {"type": "number"}}), world.store, now=START + DAY)
    assert found.record.data.verdict == "quiet"
    assert set(found.record.data.inputs.detail["features"]) == {"amount", "card", "land"}


def test_figures_of_a_champion_that_was_trained_for_another_loss_are_no_yardstick(world):
    manifest = bundle.fetch(world.store, "fraud", world.champion, world.folder / "cache").manifest
    trained = manifest.model_copy(update={"task": "regression", "loss": "squared"})
    regression = changed(task="regression", loss="absolute")
    assert "trained for the loss squared, the policy says absolute" in _other_loss(regression, trained, "b" * 40)
    assert not _other_loss(changed(task="regression"), trained, "b" * 40)


def test_a_champion_of_an_older_version_has_no_pairs_and_is_checked_all_the_same(world):
    """Its profile holds no pairs and its bundle no errors of the calibration."""
    opened = bundle.fetch(world.store, "fraud", world.champion, world.folder)
    profile = Profile.from_json(opened.profile())
    older = ChampionReference(
        profile=replace(profile, dependence=None),
        loss=Reference(loss=0.5, rows=700),
        calibration=recorded({"calibration_intercept": 0.0, "calibration_slope": 1.0}),
    )
    world.serve(rows(600, START, 1))
    policy_of, state = world.rules(), records.read_state(world.store, "fraud")
    _, seen = read(policy_of, world.store, state, Window(start=START, end=START + DAY))
    found = observe(policy_of, older, seen)
    assert (found.inputs.verdict, found.inputs.pairs) == ("compared", ())
    assert found.estimate.verdict == "estimated"


def corrupt_day(day: int, seed: int) -> pa.Table:
    table = rows(600, START + day * DAY, seed)
    lost = np.random.default_rng(seed).random(600) < 0.7
    return table.set_column(1, "amount", pa.array(table["amount"].to_numpy(), mask=lost))


def test_a_corrupt_feed_is_quarantined_and_its_window_remembered(world):
    world.serve(corrupt_day(0, 4), labels_after=None)
    found = look(world, 0).record
    assert (found.data.action, found.data.verdict) == ("quarantine", "corrupt feed")
    assert "amount: 66 % missing, 0 % when trained" in found.data.reasons[0]
    assert quarantined_windows(world.store, "fraud") == (Window(start=START, end=START + DAY),)


def test_labels_of_a_quarantined_windows_rows_are_no_error_of_the_model(world):
    world.serve(corrupt_day(0, 4), labels_after=DAY)
    world.serve(rows(600, START + DAY, 5), labels_after=DAY)
    unseen = look(world, 1).record.data  # nobody looked at day 0: its rows count, and the loss rises
    assert (unseen.performance.rows, unseen.performance.worse) == (600, True)
    world.serve(corrupt_day(2, 6), labels_after=DAY)
    assert look(world, 2).record.data.performance.rows == 600  # of day 1; day 2 is quarantined
    world.serve(rows(600, START + 3 * DAY, 7), labels_after=DAY)
    assert look(world, 3).record.data.performance.verdict == "too few labels"
    data = look(world, 4).record.data
    assert (data.performance.rows, data.performance.worse) == (600, False)


def test_rows_out_of_the_policys_range_are_quarantined(world):
    table = rows(600, START, 8)
    amount = table["amount"].to_numpy().copy()
    amount[::10] = -1.0
    world.serve(table.set_column(1, "amount", pa.array(amount)), labels_after=None)
    assert "amount: 10 % of rows outside 0 to 1000 or infinite" in look(world, 0).record.data.reasons[0]


def test_an_empty_window_is_a_check_that_says_nothing_about_drift(world):
    found = look(world, 0)
    assert (found.record.data.verdict, found.record.data.rows) == ("too few rows", 0)
    assert found.record.data.inputs.drifted == ()
    assert found.record.data.reasons == ("too few rows to say anything about drift: 0; too few labels: 0",)
    assert found.written


def test_too_few_rows_are_not_compared_however_different_they_are(world):
    table = rows(150, START, 9)
    world.serve(table.set_column(2, "age", pa.array(table["age"].to_numpy() + 500)))
    data = look(world, 0).record.data
    assert (data.inputs.verdict, data.rows) == ("too few rows", 150)


def test_a_handful_of_rows_is_no_quarantine_whatever_they_hold(world):
    world.serve(corrupt_day(0, 4).slice(0, 40), labels_after=None)
    data = look(world, 0).record.data
    assert (data.verdict, data.action) == ("too few rows", "none")


def test_performance_and_scores_are_the_champions_own_rows(world):
    world.serve(rows(600, START, 1))
    world.serve(rows(400, START, 2, flipped=True), version="c" * 40)
    data = look(world, 0).record.data
    assert data.rows == 1000
    assert data.performance.rows == 600
    assert data.performance.worse is False
    assert data.estimate.rows == 600


def test_after_a_promotion_the_new_champion_begins_with_a_clean_slate(world):
    world.serve(rows(600, START, 10, flipped=True))
    assert look(world, 0).record.data.regret["rows_since_change"] == 600
    records.append(world.store, record("promoted", "again", START + DAY, bundle="d" * 40))
    records.append(world.store, record("rolled-back", "again", START + 1.1 * DAY, bundle="d" * 40))
    world.serve(rows(600, START + DAY, 11, flipped=True))
    data = look(world, 1).record.data
    assert data.champion.tenure_id == "rolled-back/again"
    assert data.champion.bundle == world.champion
    assert data.regret["rows_since_change"] == 540  # those of this tenure


def test_new_labels_are_counted_since_the_champion_was_trained(world):
    world.serve(rows(600, START, 1))
    assert look(world, 0, triggers={"new_labels": 10_000}).record.data.new_labels == 600
    assert look(world, 1, triggers={"new_labels": 600}).record.data.action == "retrain"
    world.serve(rows(50, START + 2 * DAY, 2))
    assert look(world, 2, triggers={"new_labels": 600}).record.data.new_labels == 50  # since that retraining


def test_a_champion_whose_rows_are_old_is_retrained_where_the_policy_says_so(world):
    data = look(world, 9, triggers={"max_age_seconds": 10 * 86_400.0}).record.data
    assert data.action == "retrain"
    assert "training rows end 10 days ago" in data.reasons[0]


def test_the_estimate_is_calibrated_by_the_bundle_and_near_the_labelled_loss(world):
    world.serve(rows(2000, START, 12))
    data = look(world, 0).record.data
    assert data.estimate.calibrated is True
    assert data.estimate.loss.value == pytest.approx(data.performance.loss.value, rel=0.15)


def test_the_report_is_one_page_without_scripts_that_names_what_was_seen(world):
    for day in range(2):
        world.serve(rows(600, START + day * DAY, 10 + day, flipped=True))
    look(world, 0)
    data = look(world, 1).record.data
    assert data.report == "reports/fraud/check-20260304T000000Z.html"
    html = world.store.get(data.report).decode()
    assert "error rose" in html
    assert "<script" not in html
    assert "amount" in html
    assert "Against the loss when trained" in html


def test_the_same_window_is_checked_once_and_late_rows_do_not_change_what_stands(world):
    world.serve(rows(600, START, 1))
    first = look(world, 0)
    world.serve(rows(600, START, 2, flipped=True))
    again = look(world, 0)
    assert (first.written, again.written) == (True, False)
    assert again.record == records.read(world.store, "fraud", records.Checked)[0]
    assert len(records.read(world.store, "fraud", records.Checked)) == 1


def test_the_first_check_of_a_day_is_told_from_those_after_it(world):
    world.serve(rows(600, START, 1))
    hours = (24, 30, 47, 48, 48, 71)
    found = [run.run(world.rules(), world.store, now=START + timedelta(hours=hour)) for hour in hours]
    assert [each.begins_day for each in found] == [True, False, False, True, False, False]


def test_a_job_started_again_within_the_minute_looks_at_the_same_window(world):
    world.serve(rows(600, START, 1))
    rules = world.rules()
    first = run.run(rules, world.store, now=START + DAY + timedelta(seconds=3))
    again = run.run(rules, world.store, now=START + DAY + timedelta(seconds=41))
    assert first.written
    assert not again.written
    assert first.record.key == check_key(START + DAY)


def test_of_two_processes_at_once_one_writes_and_both_see_what_stands(world, monkeypatch):
    """The other one writes between this one's first look and its record."""
    world.serve(rows(600, START, 1))
    append = records.append
    other = []

    def overtaken(store, item):
        if not other:
            other.append(None)
            other[0] = look(world, 0)
        return append(store, item)

    monkeypatch.setattr(run.records, "append", overtaken)
    mine = look(world, 0)
    assert other[0].written
    assert not mine.written
    assert mine.record == other[0].record


def test_without_a_promotion_there_is_nothing_to_watch(world):
    world.store.delete(f"records/fraud/promoted/{world.champion}-1.json")
    with pytest.raises(NothingServed, match="no bundle was promoted yet"):
        look(world, 0)


def test_a_champion_with_a_flipped_byte_is_refused_and_nothing_is_written(world):
    place = f"bundles/fraud/{world.champion}/profile.json"
    raw = bytearray(world.store.get(place))
    raw[len(raw) // 2] ^= 1
    world.store.put(place, bytes(raw))
    with pytest.raises(BundleError, match="altered"):
        look(world, 0)
    assert records.read(world.store, "fraud", records.Checked) == []
    assert list(world.store.keys("reports")) == []


def test_labels_for_ids_nobody_predicted_are_left_out(world):
    world.serve(rows(600, START, 1))
    time = pa.array([START] * 50, pa.timestamp("us", tz="UTC"))
    unknown = pa.table({"_id": [f"nobody-{k}" for k in range(50)], "_label": [1.0] * 50, "_observed": time})
    appending.append(world.store, world.policy, "labels", unknown, writer="other", sequence=1)
    assert look(world, 0).record.data.performance.rows == 600


def test_labels_of_the_table_the_policy_declares_are_read_before_the_check(world, tmp_path):
    table = rows(600, START, 1)
    world.serve(table, labels_after=None)
    outcomes = pa.table({"id": [f"1-{k}" for k in range(600)], "label": table["fraud"], "observed_at": table["at"]})
    pq.write_table(outcomes, tmp_path / "outcomes.parquet")
    data = {
        **RULES["data"],
        "labels": {"source": {"format": "parquet", "location": str(tmp_path / "outcomes.parquet")}},
    }
    declared = policy.parse({**RULES, "data": data})
    seen = run.run(declared, world.store, now=START + DAY).record.data
    assert seen.label_source.appended == 600
    assert seen.performance.rows == 600


def test_metrics_are_of_the_newest_judged_rows_and_a_broken_limit_warns_or_retrains(world):
    """Three quiet days, then a relation that turned."""
    limit = (policy.Metric(name="accuracy", min=0.7),)
    asked = world.rules().model_copy(update={"metrics": limit})
    for day in range(3):
        world.serve(rows(600, START + day * DAY, day, flipped=day == 2))
        found = run.run(asked, world.store, now=START + (day + 1) * DAY).record.data
        assert found.performance.metric_rows == 600 * (day + 1)
        assert bool(found.performance.broken_limits) == (day == 2)
    assert "accuracy 0." in "; ".join(found.reasons)
    assert f"over the newest {1800:,} judged rows" in world.store.get(found.report).decode()
