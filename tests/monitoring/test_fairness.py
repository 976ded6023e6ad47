"""Fairness of what is served: the gate's figures on judged rows, followed over checks at a stated rate of errors."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import fairness, policy, records
from kedge.monitoring import run
from kedge.monitoring.fairness import MAX_GROUPS, OTHERS, PERIOD, follow
from kedge.monitoring.outcomes import Outcomes, Span
from kedge.records import Checked, Window
from kedge.records.cohort import Cohort
from kedge.records.exposition import figures
from tests.monitoring.test_decide import TENURE
from tests.monitoring.world import DAY, RULES, START, rows

DATA = {**RULES["data"], "extra_columns": ["sex"]}


def ruled(columns=("sex",), **rules):
    limits = {"max_parity_difference": 0.2, "max_odds_difference": None, "min_impact_ratio": None}
    fields = {"fairness": {"columns": list(columns), "min_rows": 50, **limits, **rules}}
    return policy.parse({**RULES, "data": DATA, "gates": fields, "labels": {"delay_seconds": 0}})


def due(shares=(0.5, 0.5), count=400, seed=1, groups=None):
    """Judged rows of which each group's share is decided positively."""
    random = np.random.default_rng(seed)
    group = np.arange(count) % len(shares)
    times = np.full(count, np.datetime64("2026-03-02T01", "us"))
    names = np.array(groups or [f"g{k}" for k in range(len(shares))], dtype=object)[group]
    return Outcomes(
        scores=(random.random(count) < np.array(shares)[group]) * 0.8 + 0.1,
        labels=(random.random(count) < 0.5).astype(float),
        times=times,
        late=np.zeros(count, dtype=bool),
        protected={"sex": (names, np.ones(count, dtype=bool))},
        span=Span(start=START, end=START, judged=START, late_from=START, late_since=None, last=None),
    )


JUDGED = Cohort(verdict="judged")


def checked(seen, champion=TENURE):
    return Checked(action="none", window=Window(start=START, end=START + DAY), champion=champion, fairness=seen)


def followed(rules, looks, *, before=None, end=START):
    for day, each in enumerate(looks):
        seen = follow(rules, each, JUDGED, before, TENURE.tenure_id, end + day * DAY)
        before = checked(seen)
    return seen


def test_rows_of_all_checks_of_a_period_add_up_and_tell_what_one_check_cannot():
    looks = [due((0.85, 0.35), 120, seed) for seed in range(6)]
    alone, together = followed(ruled(), looks[:1]).figures[0], followed(ruled(), looks).figures[0]
    assert (alone.verdict, together.verdict) == ("inconclusive", "exceeded")
    assert together.low > together.limit == 0.2
    assert "parity difference of sex" in together.sentence
    assert "95 % interval" in together.sentence
    assert "must be at most 0.2; decided positively are between" in together.sentence


def test_equal_groups_keep_the_limit_and_small_ones_are_told():
    seen = followed(ruled(min_impact_ratio=0.8), [due(), due((0.5, 0.5, 1.0), 60, groups=["g0", "g1", "rare"])])
    assert [(each.name, each.verdict) for each in seen.figures] == [
        ("parity difference", "kept"),
        ("impact ratio", "kept"),
    ]
    assert [(each.value, sum(each.counts)) for each in seen.counts["sex"]] == [("g0", 220), ("g1", 220), ("rare", 20)]
    few = followed(ruled(), [due(count=90)])
    assert few.figures[0].sentence.startswith("parity difference of sex: 0 of 2 groups have 50 rows")


def test_a_difference_at_the_limit_is_hardly_ever_called_beyond_it_however_often_one_looks():
    rules, called = ruled(), 0
    for seed in range(60):
        counts: dict[str, np.ndarray] = {}
        for look in range(15):
            part = due((0.6, 0.4), 200, 1000 * seed + look)
            found = fairness.count(rules.model, part.labels, part.scores, part.protected["sex"][0].tolist())
            counts = {name: counts.get(name, 0) + found[name] for name in found}
            if next(fairness.over_time(rules.gates, "sex", counts, 0.05)).shown:
                called += 1
                break
    assert called <= 3


def test_intervals_of_rates_hold_the_rate_and_narrow_with_rows():
    for hits, count in ((0, 50), (50, 50), (10, 50), (0, 0), (300, 1000)):
        low, high = fairness.bounds_of_rate(hits, count, 0.05)
        assert 0 <= low <= (hits / count if count else 0.5) <= high <= 1
    (low, high), (lower, higher) = (fairness.bounds_of_rate(n / 5, n, 0.05) for n in (10_000, 100))
    assert lower < low < 0.2 < high < higher


def test_each_figure_is_that_of_the_gate():
    rules = ruled(max_odds_difference=0.1, min_impact_ratio=0.8)
    part = due((0.7, 0.5))
    table = pa.table({"sex": part.protected["sex"][0].tolist()})
    gate = {each.name: each.value for each in fairness.fairness(rules, part.labels, part.scores, table)}
    live = {each.name: each for each in followed(rules, [part]).figures}
    assert {name: each.value for name, each in live.items()} == gate
    assert all(each.low <= each.value <= each.high for each in live.values())


def test_a_new_tenure_and_a_new_period_begin_anew():
    first = checked(followed(ruled(), [due()]))
    other = follow(ruled(), due(), JUDGED, first, "promoted/b", START + DAY)
    later = follow(ruled(), due(), JUDGED, first, TENURE.tenure_id, START + PERIOD)
    for seen in (other, later):
        assert sum(sum(each.counts) for each in seen.counts["sex"]) == 400


def test_a_check_without_a_verdict_keeps_what_was_counted():
    first = checked(followed(ruled(), [due()]))
    waiting = follow(ruled(), due(), Cohort(verdict="labels incomplete"), first, TENURE.tenure_id, START + DAY)
    assert waiting.counts == first.fairness.counts


def test_a_check_that_cannot_tell_the_groups_keeps_what_was_counted():
    first = checked(followed(ruled(), [due()]))
    blind = replace(due(), protected={}, unwatched={"sex": "is in neither"})
    seen = follow(ruled(), blind, JUDGED, first, TENURE.tenure_id, START + DAY)
    assert (seen.counts, seen.unwatched) == (first.fairness.counts, {"sex": "is in neither"})


def test_more_groups_than_a_record_bears_count_as_one():
    many = due(tuple([0.5] * 80), 800)
    counts = followed(ruled(), [many]).counts["sex"]
    assert (len(counts), counts[-1].value, sum(counts[-1].counts)) == (MAX_GROUPS + 1, OTHERS, 300)


@pytest.fixture
def served(world, tmp_path):
    """A day's rows with outcomes in a table that says more of each than the log does."""
    table = rows(900, START, 1)
    world.serve(table, labels_after=None)
    sex = np.where(table["amount"].to_numpy() > 500, "m", "f")

    def declared(columns):
        frame = {"id": [f"1-{k}" for k in range(900)], "label": table["fraud"], "observed_at": table["at"], **columns}
        pq.write_table(pa.table(frame), tmp_path / "outcomes.parquet")
        source = {"source": {"format": "parquet", "location": str(tmp_path / "outcomes.parquet")}}
        return ruled().model_copy(update={"data": policy.parse({**RULES, "data": {**DATA, "labels": source}}).data})

    return world, sex, declared


def test_a_column_that_is_no_feature_is_read_beside_the_outcomes(served):
    world, sex, declared = served
    data = run.run(declared({"sex": sex}), world.store, now=START + DAY).record.data
    assert (data.action, data.verdict) == ("warn", "groups decided differently")
    assert data.fairness.exceeded[0] in data.reasons
    assert sum(sum(each.counts) for each in data.fairness.counts["sex"]) == data.cohort.rows == 900
    assert "groups decided differently" in (page := world.store.get(data.report).decode())
    assert "parity difference" in page
    (kept,) = records.read(world.store, "fraud", Checked)
    assert kept.data.fairness == data.fairness
    assert figures(kept)["fairness_exceeded"] == 1.0


def test_a_column_that_nothing_holds_is_said_with_what_there_is(served):
    world, _, declared = served
    data = run.run(declared({}), world.store, now=START + DAY).record.data
    (said,) = [each for each in data.warnings if "fairness" in each]
    assert said.startswith("fairness of sex is not watched: it is neither in the prediction log nor in ")
    assert said.endswith("whose columns are id, label, observed_at")
    assert (data.fairness.figures, data.cohort.verdict) == ((), "judged")


def test_features_tell_groups_by_the_log_itself(world):
    world.serve(rows(600, START, 1))
    seen = run.run(ruled(["card", "land"]), world.store, now=START + DAY).record.data.fairness
    assert {name: [each.value for each in groups] for name, groups in seen.counts.items()} == {
        "card": ["false", "true"],
        "land": ["at", "de", "fr"],
    }
    unheld = run.run(ruled(), world.store, now=START + DAY + timedelta(hours=1)).record.data
    assert "data.labels names no table of outcomes that could hold it" in "".join(unheld.warnings)
