"""The two demonstrations: the story of the payments, and anyone's table replayed in time order."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import yaml

from kedge import code
from kedge import records as ledger
from kedge.choice import Score
from kedge.demo import page, payments, story
from kedge.demo.loop import Block, Loop, command, environment, set_clock
from kedge.demo.payments import Task
from kedge.demo.processes import platform
from kedge.errors import DataError, RunError, UsageError
from kedge.policy import Policy, load
from kedge.records import Promoted
from kedge.store import open_store, write_file

Say = Callable[[str], None]


MODELS: dict[Task, dict[str, object]] = {
    "binary": {},
    "multiclass": {"classes": list(payments.OUTCOMES), "description": "What becomes of a direct debit."},
    "regression": {"description": "Days until a direct debit's money is there."},
}
"""What another task says of the model; the rest of the policy is one for all."""


def tell_story(folder: Path, say: Say, task: Task = "binary") -> Path:
    """Run the story of the payments in ``folder`` and return its page.

    Args:
        task: What is asked of a payment; the story is the same.

    Raises:
        RunError: the story did not come true; the message says which claims failed.
    """
    _emptied(folder)
    raw = yaml.safe_load((Path(__file__).parent / "payments.yaml").read_text())
    if task != "binary":
        del raw["model"]["positive_label"]
        raw["model"] |= {"task": task, "target": payments.TARGETS[task], **MODELS[task]}
    file = _policy_file(folder, raw, folder / "warehouse")
    policy = load(file)
    story.write_history(folder / "warehouse", task)
    slow = _slow_policy(folder, raw)
    variables = environment(folder, **{code.VARIABLE: "1"})  # of the story's own candidate, whose feature code is slow

    def retrain(bad: story.Bad) -> None:
        loop.start("submit", "--policy", str(slow if bad == "slow" else file), "--local", "--key", bad)

    with _running(folder, file, policy, payments.START, say, variables) as loop:
        loop.run(story.blocks(folder / "warehouse", retrain, task))
    records = ledger.read(open_store(folder / "store"), policy.name)
    expected = story.expectations(records)
    report = page.write(folder / "demo.html", policy, loop.tallies, records, expected)
    say(page.summary(loop.tallies, records, expected))
    failed = [x for x in expected if not x.came_true]
    if failed:
        raise RunError("the story did not come true: " + "; ".join(f"{x.claim} ({x.seen})" for x in failed))
    return report


def replay(data: Path, policy_file: Path, folder: Path, say: Say, *, warm_up: int = 8, most: int | None = None) -> Path:
    """Replay a table in time order through the running parts and return the page.

    Args:
        data: The table; it takes the place of the policy's own source.
        policy_file: Its policy: a block lasts ``monitor.window_seconds``; labels come late as it says.
        folder: Emptied, then holds everything of the demo.
        say: Told each line.
        warm_up: Blocks the first model is trained on.
        most: Blocks replayed at most; None: all.

    Raises:
        UsageError: the table or the policy does not exist, or it predicts a number.
    """
    if not data.exists():
        raise UsageError(f"{data}: no such file")
    raw = yaml.safe_load(policy_file.read_text()) if policy_file.exists() else {}
    if load(policy_file).model.task == "regression":
        raise UsageError(f"{policy_file}: model.task: the demo counts right decisions, so it needs classes")
    _emptied(folder)
    policy = load(_policy_file(folder, raw, data.resolve()))
    blocks = list(_cut(policy, folder))
    if len(blocks) <= warm_up:
        raise DataError(f"{data}: {len(blocks)} blocks of {policy.monitor.window_seconds:g} s; needs over {warm_up}")
    start = blocks[warm_up].start
    with _running(folder, folder / "policy.yaml", policy, start, say, environment(folder)) as loop:
        loop.run(blocks[warm_up:][:most])
    records = ledger.read(open_store(folder / "store"), policy.name)
    say(page.summary(loop.tallies, records, ()))
    return page.write(folder / "demo.html", policy, loop.tallies, records, ())


@contextlib.contextmanager
def _running(
    folder: Path, file: Path, policy: Policy, start: datetime, say: Say, variables: Mapping[str, str]
) -> Iterator[Loop]:
    """The platform with a first model in front of the traffic."""
    set_clock(folder, start)
    say(f"starting Envoy, the collector and two slots; all files in {folder}")
    with platform(file, folder / "store", variables) as addresses:
        say("training and releasing the first model")
        first = command(("submit", "--policy", str(file), "--local", "--key", "first"), folder, variables)
        try:
            first.wait(900)
        finally:
            first.stop()
        yield Loop(
            policy=policy,
            policy_file=file,
            folder=folder,
            addresses=addresses,
            variables=variables,
            frozen=_first_model(folder, policy),
            say=say,
        )


def _first_model(folder: Path, policy: Policy) -> Callable[[pa.Table], list[Score]]:
    """Scores of the model that was released first, as if nobody had ever touched it again."""
    from kedge import bundle

    store = open_store(folder / "store")
    promoted = ledger.read(store, policy.name, Promoted)
    if not promoted:
        raise RunError(f"the first model was not released; see {folder}/log/kedge.log")
    frozen = bundle.fetch(store, policy.name, promoted[0].data.bundle, folder / "cache")
    predictor, signature = frozen.load_model(), frozen.signature

    def scores(rows: pa.Table) -> list[Score]:
        found: list[Score] = predictor.score(signature.encode(rows)).tolist()
        return found

    return scores


def _cut(policy: Policy, folder: Path) -> Iterator[Block]:
    """The policy's own source in blocks of one monitoring window."""
    from kedge.tables import sources

    store = open_store(folder / "store")
    table = sources.open_source(policy.data.source, policy.data, store=store, model=policy.model)
    names = [*policy.model.features, policy.model.target]
    rows = pa.Table.from_batches(table.batches()).sort_by("_time")
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise DataError(f"{policy.data.source.location}: no column {', '.join(map(repr, missing))}")
    named = "_id" in rows.column_names
    ids = rows["_id"] if named else pa.array([f"row-{index}" for index in range(rows.num_rows)])
    rows = rows.select([*names, "_time"]).append_column("_id", ids)
    length = timedelta(seconds=policy.monitor.window_seconds)
    begin, last = rows["_time"][0].as_py(), rows["_time"][-1].as_py()
    times = rows["_time"].to_numpy()
    while begin <= last:
        low, high = (times.searchsorted(_naive(x)) for x in (begin, begin + length))
        yield Block(f"{begin:%Y-%m-%d}", begin, begin + length, rows.slice(low, high - low))
        begin += length


def _naive(time: datetime) -> object:
    import numpy as np

    return np.datetime64(time.replace(tzinfo=None), "ns")


def _slow_policy(folder: Path, raw: dict[str, object]) -> Path:
    """The policy of a team that brings feature code, which takes its time at each request.

    After three days its champion is stale: a fresher one need only be no worse by a tenth.
    """
    write_file(folder / "accounts" / "features.py", story.SLOW.encode())
    gates = {**cast(dict[str, object], raw["gates"]), "stale_after_seconds": 259_200, "margin": 0.1}
    code_of = {"code": str(folder / "accounts"), "features": {"transform": "accounts.features:build"}}
    brought = raw | code_of | {"gates": gates}
    write_file(folder / "slow.yaml", yaml.safe_dump(brought, sort_keys=False).encode())
    return folder / "slow.yaml"


def _policy_file(folder: Path, raw: dict[str, object], location: Path) -> Path:
    data = raw.get("data")
    if isinstance(data, dict):
        data["source"] = {**data.get("source", {}), "location": str(location)}
    write_file(folder / "policy.yaml", yaml.safe_dump(raw, sort_keys=False).encode())
    return folder / "policy.yaml"


def _emptied(folder: Path) -> None:
    """An empty folder that is surely the demo's own."""
    marker = folder / ".kedge-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise UsageError(f"{folder}: not empty and not a demo's folder; name another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    write_file(marker, b"")
