"""``kedge score``: what the command prints, and its exit codes."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from kedge.cli import build
from kedge.errors import NothingServed, UsageError
from tests.scoring.conftest import ROWS, champion, world  # noqa: F401  (fixtures)


def command(world, *words):  # noqa: F811
    policy = world.folder / "churn.json"
    policy.write_text(json.dumps(world.policy.to_dict()))
    given = ["score", "--policy", str(policy), "--store", world.store.url, *map(str, words)]
    return CliRunner().invoke(build(["score"]), given)


def test_it_says_how_many_rows_whose_answers_and_where(world, champion, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.folder}/mlflow.db")
    output = world.folder / "scores.parquet"
    done = command(world, "--data", world.table(), "--output", output)
    assert done.exit_code == 0, done.output
    assert done.output == f"churn: {ROWS} rows scored by bundle {champion.id[:12]}: {output}\n"
    again = command(world, "--data", world.table(), "--output", output, "--json")
    said = json.loads(again.stdout)
    assert (said["rows"], said["logged"], said["written"]) == (ROWS, False, False)
    assert "scored before at" in again.stderr


def test_mistakes_are_the_users(world):  # noqa: F811
    done = command(world, "--data", world.table(), "--output", world.folder / "scores.parquet")
    assert isinstance(done.exception, NothingServed)
    done = command(world, "--data", world.table(), "--output", world.table(), "--at", "yesterday")
    assert isinstance(done.exception, UsageError)
    assert "--at 'yesterday'" in str(done.exception)
