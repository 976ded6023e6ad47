"""Replay: rules by hand, the policy by the real parts, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from typer.testing import CliRunner

from kedge import policy as policies
from kedge.cli import build
from kedge.errors import DataError, UsageError
from kedge.policy.costs import RetrainingCosts
from kedge.replay import Blocks, Walk, blocks, history, replay, rules
from kedge.replay.adwin import Adwin
from kedge.replay.policy_walk import PolicyWalk
from kedge.store import open_store
from kedge.tables import appending

ROWS = 3000
RULES = {
    "model": {"name": "m", "target": "y", "features": {"a": {"type": "number"}, "b": {"type": "number"}}},
    "data": {"source": {"format": "parquet", "location": "x.parquet"}, "time_column": "at"},
    "train": {"estimators": ["linear"]},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """The relation turns round at row 1,500."""
    random = np.random.default_rng(3)
    inputs = random.normal(size=(ROWS, 2))
    way = np.where(np.arange(ROWS) < 1500, 1, -1)
    label = (way * inputs[:, 0] + 0.3 * random.normal(size=ROWS) > 0).astype(int)
    path = tmp_path_factory.mktemp("history") / "x.parquet"
    times = pd.date_range("2026-01-01", periods=ROWS, freq="min", tz="UTC")
    pd.DataFrame({"a": inputs[:, 0], "b": inputs[:, 1], "y": label, "at": times}).to_parquet(path)
    return path


def cut(path: Path, *, delay: float = 0, block: str = "250", start: int = 1000, **changes: object) -> Blocks:
    policy = history.with_source(policies.parse({**RULES, **changes}), str(path))
    return blocks.cut(policy, history.read(policy), block=block, start_rows=start, label_delay_seconds=delay)


@pytest.fixture(scope="module")
def result(table):
    return replay(cut(table), ["never", "every:1", "gated:2", "paired:2", "adwin"])


def walks(result) -> dict[str, Walk]:
    return {walk.rule: walk for walk in (result.policy, *result.rules)}


def test_blocks_begin_after_the_start_and_fill_whole(table):
    found = cut(table, block="300")
    assert found.edges == (1000, 1300, 1600, 1900, 2200, 2500, 2800)
    assert found.known == found.edges


def test_a_block_of_time_holds_the_rows_of_that_time(table):
    assert cut(table, block="2h").edges[:3] == (1000, 1120, 1240)


def test_more_blocks_than_memory_holds_are_refused_with_the_remedy(table, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_SCORES", 8000)
    assert len(cut(table, block="500")) == 4  # 2,000 + 1,500 + 1,000 + 500 scores
    with pytest.raises(UsageError, match="take longer blocks"):
        cut(table, block="200")


def test_with_a_delay_younger_rows_are_not_known(table):
    assert cut(table, delay=600).known[:2] == (990, 1240)


def test_the_policy_follows_the_change_and_never_does_not(result):
    found = walks(result)
    assert found["policy"].wrong < found["never"].wrong / 2
    assert 1 <= found["policy"].promotions <= 3
    assert [each.action for each in result.policy.decisions][:2] == ["none", "none"]


def test_reasons_say_what_is_expected_and_what_it_costs(result):
    first = next(each for each in result.policy.decisions if each.action == "retrain")
    assert "models retrained on the way would have saved" in first.reasons[0]
    assert first.block == 3  # the change is in the middle of block 2, which the first probe learns from


def test_the_score_is_errors_and_runs_and_promotions():
    walk = Walk(rule="r", block_costs=(10.0, 20.0), block_rows=(100, 100), wrong=30, runs=2, promotions=1, decisions=())
    assert walk.j(RetrainingCosts()) == 30 + 40 + 10
    assert walk.j(RetrainingCosts(error=2, run=1, release=0)) == 62
    assert walk.accuracy == 0.85


def test_rules_count_their_runs(result):
    found = walks(result)
    assert (found["never"].runs, found["never"].promotions) == (0, 0)
    assert (found["every:1"].runs, found["every:1"].promotions) == (7, 7)
    assert found["gated:2"].runs == 3


def test_the_best_schedule_is_no_dearer_than_any_rule_over_the_same_fits(result):
    best = result.best_schedule.j(result.costs)
    assert all(best <= walk.j(result.costs) + 1e-9 for walk in result.rules)


def test_the_best_schedule_is_the_cheapest_of_all_schedules(table):
    from itertools import combinations

    found = cut(table, block="500")
    fits = rules.NewestFits(found)
    spent = np.array([fits.block_costs(fit) for fit in range(len(found))])

    def price(chosen: tuple[int, ...]) -> float:
        serving, total = 0, 0.0
        for block in range(len(found)):
            serving = block if block in chosen else serving
            total += spent[serving, block]
        return total + 30 * len(chosen)

    every = [price(chosen) for size in range(4) for chosen in combinations(range(1, len(found)), size)]
    assert rules.best_schedule(fits, RetrainingCosts()).j(RetrainingCosts()) == pytest.approx(min(every))


def test_the_same_history_gives_the_same_walk(table):
    found = cut(table)
    assert PolicyWalk(found).walk() == PolicyWalk(found).walk()


def test_a_replay_that_was_killed_goes_on_with_what_it_fitted(table, tmp_path):
    found = cut(table)
    first = replay(found, ["never"], folder=tmp_path)
    kept = sorted(tmp_path.rglob("*.npy"))
    assert len(kept) == len(found)
    kept[1].write_bytes(b"cut off")
    assert replay(found, ["never"], folder=tmp_path).to_dict() == first.to_dict()


def test_adwin_finds_a_change_and_nothing_else():
    random = np.random.default_rng(5)
    quiet = Adwin()
    assert not any(quiet.update(float(value)) for value in random.random(5000) < 0.2)
    changed = [float(value) for value in np.concatenate([random.random(2000) < 0.2, random.random(500) < 0.5])]
    detector = Adwin()
    found = [place for place, value in enumerate(changed) if detector.update(value) > 0]
    assert 2000 <= found[0] < 2150


def command(*words: str):
    return CliRunner().invoke(build(["replay"]), ["replay", *words])


@pytest.fixture
def policy_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(RULES))
    return path


def test_the_command_prints_json_and_writes_a_page(policy_file, table, tmp_path):
    page = tmp_path / "replay.html"
    words = ["--policy", str(policy_file), "--data", str(table), "--block", "250", "--start-rows", "1000"]
    done = command(*words, "--vs", "never,every:2", "--costs", "run=5,release=2.5", "--json", "--html", str(page))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["blocks"] == 8
    assert set(found["rules"]) == {"policy", "never", "every:2"}
    ours = found["rules"]["policy"]
    assert ours["j"] == pytest.approx(ours["errors"] + 5 * ours["runs"] + 2.5 * ours["promotions"])
    assert set(ours["decisions"][0]) == {"block", "action", "reasons", "promoted"}
    assert {"errors", "runs", "promotions", "j", "accuracy"} <= set(found["best_schedule"])
    text = page.read_text()
    assert f"the policy would have cost {ours['j']:,.0f} with {ours['runs']} run" in text
    assert "mean of 2 blocks" in text  # a quarter of them: five of eight would be four points


def test_of_a_regression_it_prints_the_loss_and_no_share_that_is_right(policy_file, table):
    policy_file.write_text(yaml.safe_dump({**RULES, "model": {**RULES["model"], "task": "regression"}}))
    words = ["--policy", str(policy_file), "--data", str(table), "--block", "1000", "--start-rows", "1000"]
    done = command(*words, "--vs", "never")
    assert done.exit_code == 0, done.output
    assert done.stdout.split()[:6] == ["rule", "cost", "loss", "R²", "runs", "promotions"]


def test_without_a_block_a_window_of_weeks_is_one(policy_file, table):
    policy_file.write_text(yaml.safe_dump(RULES | {"monitor": {"window_seconds": 2_419_200}}))
    done = command("--policy", str(policy_file), "--data", str(table), "--start-rows", "1000")
    assert str(done.exception) == "3,000 rows are fewer than 1,000 to start with and two blocks of 2419200s"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vs", "sometimes"], "rules are never"),
        (["--vs", "never,never"], "given twice"),
        (["--vs", ""], "at least one rule"),
        (["--costs", "run=1,run=2"], "each once"),
        (["--costs", "runs=3"], "names are error"),
        (["--costs", "run=-1"], "run"),
        (["--block", "often"], "a time such as 12h"),
        (["--block", "5000"], "fewer than"),
        (["--block", "1" + "0" * 20 + "w"], "fewer than"),
        (["--start-rows", "10"], "at least 50"),
        (["--label-delay", "1000000"], "shorter than the delay"),
        (["--label-delay", "inf"], "shorter than the delay"),
    ],
)
def test_bad_input_is_named(policy_file, table, words, said):
    given = {"--block": "250", "--start-rows": "1000"} | dict(zip(words[::2], words[1::2], strict=True))
    with pytest.raises((UsageError, DataError), match=said):
        CliRunner().invoke(
            build(["replay"]),
            [
                "replay",
                "--policy",
                str(policy_file),
                "--data",
                str(table),
                *(word for pair in given.items() for word in pair),
            ],
            catch_exceptions=False,
        )


@pytest.mark.parametrize("place", ["", "away.csv", "m.yaml"])
def test_a_table_that_is_not_there_is_named(policy_file, place):
    with pytest.raises(UsageError, match="--data"):
        CliRunner().invoke(
            build(["replay"]), ["replay", "--policy", str(policy_file), "--data", place], catch_exceptions=False
        )


def test_a_policy_that_trains_on_its_log_says_the_time_column_of_another_table(table):
    logged = {**RULES, "data": {"source": {"format": "log"}}}
    with pytest.raises(UsageError, match=r"add data\.time_column"):
        history.with_source(policies.parse(logged), str(table))


def test_the_prediction_log_is_a_history(tmp_path):
    store = open_store(str(tmp_path))
    policy = policies.parse({**RULES, "data": {"source": {"format": "log"}}, "labels": {"delay_seconds": 0}})
    times = pd.date_range("2026-01-01", periods=300, freq="min", tz="UTC")
    ids, label = [f"r{row}" for row in range(300)], [float(row % 2) for row in range(300)]
    rows = {"_id": ids, "_time": times.as_unit("us"), "_version": ["v"] * 300, "_score": label, "_prediction": label}
    known = pd.DataFrame({"_id": ids, "_label": label, "_observed": times.as_unit("us")})
    for kind, frame in (("predictions", pd.DataFrame({**rows, "a": label, "b": label})), ("labels", known)):
        appending.append(store, policy, kind, pa.Table.from_pandas(frame), writer="w", sequence=1)
    assert history.read(policy, store).column("y").to_pylist() == label


def test_every_table_that_training_takes_can_be_replayed(policy_file, table, tmp_path):
    rows = pd.read_parquet(table)
    rows.to_csv(tmp_path / "X.CSV", index=False)
    rows.assign(day=rows["at"].dt.strftime("%Y-%m-%d")).to_parquet(tmp_path / "days", partition_cols=["day"])
    write_deltalake(tmp_path / "delta", pa.Table.from_pandas(rows))
    policy = policies.load(policy_file)
    plain = history.read(history.with_source(policy, str(table)))
    for place in ("X.CSV", "days", "delta"):
        assert history.read(history.with_source(policy, str(tmp_path / place))).num_rows == plain.num_rows == ROWS


def test_outcomes_are_known_when_the_policy_says_that_they_are_complete(policy_file, table):
    policy_file.write_text(yaml.safe_dump({**RULES, "labels": {"complete_after_seconds": 10**6}}))
    words = ["replay", "--policy", str(policy_file), "--data", str(table), "--block", "250"]
    with pytest.raises(DataError, match=r"1,000,000 s later"):
        CliRunner().invoke(build(["replay"]), words, catch_exceptions=False)


def test_rows_that_are_not_fit_are_refused_without_a_page_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("at,x,y\n" + "".join(f"2026-03-02T00:00:{k:02}Z,{k},1\n" for k in range(60)))
    model = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    source = {"format": "csv", "location": str(tmp_path / "t.csv")}
    with pytest.raises(DataError, match="one class only: all 60 good rows are positive") as refused:
        history.read(policies.parse({"model": model, "data": {"source": source, "time_column": "at"}}))
    assert "all of it" not in str(refused.value)
