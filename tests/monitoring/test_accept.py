"""A feed that changed for good: a check asks, a person accepts, the rows count again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import policy as policies
from kedge import records
from kedge.data import ingest
from kedge.errors import UsageError
from kedge.monitoring import run
from kedge.monitoring.accept import accept
from kedge.records import Accepted, Checked, Quarantined, Window
from kedge.tables import snapshot
from tests.monitoring.world import DAY, RULES, START, World, rows
from tests.records import made


def changed(day: int, *, lands: float = 0.0, missing: float = 0.0) -> pa.Table:
    """A day of which a share of the rows comes from a new country, or without an amount."""
    random = np.random.default_rng(day)
    table = rows(600, START + day * DAY, day)
    land = np.where(random.random(600) < lands, "it", table["land"].to_numpy(zero_copy_only=False))
    amount = pa.array(table["amount"].to_numpy(), mask=random.random(600) < missing)
    table = table.set_column(table.column_names.index("land"), "land", pa.array(land))
    return table.set_column(table.column_names.index("amount"), "amount", amount)


def look(world: World, day: int, table: pa.Table | None = None, **monitor: object) -> Checked:
    """The check at the end of a day, in which these rows were answered."""
    world.serve(changed(day, lands=0.4) if table is None else table)
    rules = world.rules({"delay_seconds": 0}, **monitor)
    return run.run(rules, world.store, now=START + (day + 1) * DAY).record.data


def window(first: int, last: int) -> Window:
    return Window(start=START + first * DAY, end=START + (last + 1) * DAY)


def test_the_same_reason_at_the_same_level_asks_at_the_third_check(world):
    first, second, third = (look(world, day) for day in range(3))
    assert [data.action for data in (first, second, third)] == ["quarantine"] * 3
    assert [len(data.reasons) for data in (first, second, third)] == [1, 1, 2]
    assert third.reasons[1] == (
        "land: the same in 3 checks in a row; did the feed change for good? "
        'Then `kedge accept fraud --reason "..."` accepts the rows'
    )


def test_it_asks_when_the_policy_says_so(world):
    quarantine = {"ask_after_checks": 2}
    assert len(look(world, 0, quarantine=quarantine).reasons) == 1
    assert "in 2 checks in a row" in look(world, 1, quarantine=quarantine).reasons[1]


def test_another_level_begins_to_count_anew(world):
    look(world, 0)
    look(world, 1)
    data = look(world, 2, changed(2, lands=0.8))
    assert (data.corrupt[0].checks, len(data.reasons)) == (1, 1)


def test_a_whole_feed_in_between_begins_to_count_anew_and_too_few_rows_do_not(world):
    look(world, 0)
    few = look(world, 1, changed(1, lands=0.4).slice(0, 50))
    assert (few.action, few.verdict) == ("none", "too few rows")
    assert look(world, 2).corrupt[0].checks == 2
    assert look(world, 3, changed(3)).corrupt == ()
    assert look(world, 4).corrupt[0].checks == 1


def test_what_was_accepted_counts_again_and_quarantines_no_more_up_to_its_level(world):
    for day in range(3):
        look(world, day)
    item = accept(world.store, "fraud", "we sell to Italy now", START + 3 * DAY)
    assert item.data.windows == tuple(window(day, day) for day in range(3))
    assert [(breach.column, breach.cause) for breach in item.data.breaches] == [("land", "new categories")]
    assert records.quarantined_windows(world.store, "fraud") == ()
    assert look(world, 3).action != "quarantine"
    assert look(world, 4, changed(4, lands=0.3)).action != "quarantine"
    assert look(world, 5, changed(5, lands=0.9)).action == "quarantine"
    assert look(world, 6, changed(6, lands=0.4, missing=0.6)).reasons[0].startswith("amount: ")


def test_a_window_that_was_quarantined_for_something_else_too_stays_out(world):
    look(world, 0)
    look(world, 1, changed(1, lands=0.4, missing=0.6))
    look(world, 2)
    item = accept(world.store, "fraud", "we sell to Italy now", START + 3 * DAY)
    assert item.data.windows == (window(0, 0), window(2, 2))
    assert records.quarantined_windows(world.store, "fraud") == (window(1, 1),)


def test_rows_that_were_not_judged_yet_are_measured_again(world):
    world.serve(changed(0, lands=0.4), labels_after=DAY)
    delayed = world.rules({"delay_seconds": 86_400})
    assert run.run(delayed, world.store, now=START + DAY).record.data.action == "quarantine"
    accept(world.store, "fraud", "we sell to Italy now", START + DAY)
    world.serve(changed(1, lands=0.4), labels_after=DAY)
    assert run.run(delayed, world.store, now=START + 2 * DAY).record.data.cohort.rows == 600


def test_accepting_a_check_twice_is_accepting_it_once(world):
    look(world, 0)
    first = accept(world.store, "fraud", "we sell to Italy now", START + DAY)
    assert accept(world.store, "fraud", "again", START + 2 * DAY) == first
    assert len(records.read(world.store, "fraud", Accepted)) == 1


def test_a_whole_feed_needs_no_word(world):
    look(world, 0)
    look(world, 1, changed(1))
    with pytest.raises(UsageError, match="nothing is quarantined for now, so there is nothing to accept"):
        accept(world.store, "fraud", "fine", START + 2 * DAY)


def test_a_model_that_was_never_checked_has_nothing_to_accept(world):
    with pytest.raises(UsageError, match="no check of a model 'frued'"):
        accept(world.store, "frued", "fine", START)


def test_an_acceptance_says_why(world):
    look(world, 0)
    with pytest.raises(UsageError, match="say with --reason why"):
        accept(world.store, "fraud", "  ", START + DAY)


def test_a_quarantine_of_an_older_version_is_accepted_by_what_its_sentence_says(world):
    end = START + DAY
    sentence = "land: 43 % of rows in categories the reference did not know (at most 20 % allowed)"
    span = {"start": START, "end": end}
    old = made.check(end, "veto", window=span, corrupt=[sentence], inputs={"verdict": "compared"})
    records.append(world.store, old)
    world.store.put(f"vetoed/fraud/{START:%Y%m%dT%H%M%S.%fZ}_{end:%Y%m%dT%H%M%S.%fZ}", b"")
    (breach,) = accept(world.store, "fraud", "we sell to Italy now", end).data.breaches
    assert (breach.column, breach.cause, breach.share) == ("land", "new categories", 0.43)
    assert records.quarantined_windows(world.store, "fraud") == ()
    assert len(records.read(world.store, "fraud", Quarantined)) == 1  # records never change


def test_rows_of_an_accepted_window_are_trained_on_again(world, tmp_path: Path):
    for day in range(2):
        look(world, day)
    pq.write_table(pa.concat_tables([changed(day, lands=0.4) for day in range(3)]), tmp_path / "x.parquet")
    source = {"format": "parquet", "location": str(tmp_path / "x.parquet")}
    policy = policies.parse({**RULES, "data": {**RULES["data"], "source": source}})

    def trained_on() -> int:
        taken = ingest.run(policy, world.store, START + 3 * DAY + timedelta(hours=1))
        return snapshot.load(world.store, "fraud", taken).rows

    assert trained_on() == 600
    accept(world.store, "fraud", "we sell to Italy now", START + 2 * DAY)
    assert trained_on() == 1800
