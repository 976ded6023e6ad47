"""Time passes: rows are asked for, outcomes become known, checks run, releases move, and all of it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from kedge import records
from kedge.choice import Score, choose
from kedge.demo.processes import Addresses, Command
from kedge.demo.traffic import Bank, Clients, Label, Request
from kedge.policy import Model, Policy
from kedge.progress import bar
from kedge.records import Checked, Data, Promoted, Record, RolledBack, RunFinished, RunStarted
from kedge.rollout import progress
from kedge.store import open_store, write_file
from kedge.tables import log

NEAR = 1.0
"""A number that is off by no more counts as right."""
SLICE = 50
"""Rows asked for between two looks at what else is going on, a release's included."""
LOOK_SECONDS = 60.0
"""Longest wait for a release to look at what it was sent; one that reads no evidence tells of no look."""


@dataclass(frozen=True)
class Block:
    """A stretch of time and the rows that happen in it: ``_id``, ``_time``, the features and the target."""

    name: str
    start: datetime
    end: datetime
    rows: pa.Table
    before: Callable[[], None] | None = None
    """What else happens as the block begins."""


@dataclass
class Tally:
    """How one block went. Counts of rows; ``wrong`` is the decision at the threshold against the outcome."""

    name: str
    end: datetime
    rows: int = 0
    failed: int = 0
    kept_wrong: int = 0
    frozen_wrong: int = 0
    repeated_wrong: int = 0
    notes: list[str] = field(default_factory=list)

    def accuracy(self, wrong: int) -> float | None:
        """Share of rows decided rightly, or None without rows."""
        return 1 - wrong / self.rows if self.rows else None


def _wrong(model: Model, score: Score, label: int | float | str) -> bool:
    """Whether a row was decided wrongly, or a number was further off than counts as right."""
    if isinstance(score, list):
        return model.classes[choose(score, model.costs.matrix)] != label
    if model.task == "regression":
        return abs(score - float(label)) > NEAR
    return (score >= model.threshold) != (label == model.positive_label)


class Loop:
    """Drives the running parts through time and remembers what it saw."""

    def __init__(
        self,
        *,
        policy: Policy,
        policy_file: Path,
        folder: Path,
        addresses: Addresses,
        variables: Mapping[str, str],
        frozen: Callable[[pa.Table], list[Score]],
        say: Callable[[str], None],
    ) -> None:
        self.policy, self.policy_file, self.folder = policy, policy_file, folder
        self.store = open_store(folder / "store")
        self.tallies: list[Tally] = []
        self._variables, self._frozen, self._say = variables, frozen, say
        self._clients = Clients(addresses.gateway, policy.name)
        self._bank = Bank(addresses.collector, policy.name)
        self._task: Command | None = None
        self._wanted: list[tuple[str, ...]] = []
        self._seen: set[tuple[str, str]] = {(x.kind, x.key) for x in records.read(self.store, policy.name)}
        self._last_label: int | float | str | None = None
        self._now = datetime.min.replace(tzinfo=UTC)

    def run(self, blocks: Iterable[Block]) -> None:
        """Live through the blocks, one check at the end of each; a release still under way is left where it stands."""
        ahead = list(blocks)
        try:
            with bar(self.policy.name, len(ahead), self._say) as (advance, say):
                for block in ahead:
                    say(self._live(block))
                    advance()
                self._finish()
        finally:
            self._clients.close()
            self._bank.close()
            if self._task is not None:
                self._task.stop()

    def start(self, *words: str) -> None:
        """Start a ``kedge`` command that may train and release, as soon as none is under way."""
        self._wanted.append(words)
        self._let_it_train()

    def _live(self, block: Block) -> str:
        """One block from its first row to its check, told in lines."""
        tally = Tally(block.name, block.end)
        self.tallies.append(tally)
        self._set_clock(block.start)
        if block.before is not None:
            block.before()
        for offset in range(0, block.rows.num_rows, SLICE):
            self._ask(block.rows.slice(offset, SLICE), tally)
            self._let_it_train()
        self._set_clock(block.end)
        self._bank.tell(block.end)
        self._wait_for_the_log(block, tally)
        if self._task is None:
            self.start("monitor", "--policy", str(self.policy_file), "--store", self.store.url, "--json")
        tally.notes += self._news()
        return self._line(tally)

    def _wait_for_the_log(self, block: Block, tally: Tally, seconds: float = 15) -> None:
        """Servers tell what they predicted behind their answers; a day is over when its predictions are in the log."""
        deadline = time.monotonic() + seconds
        while True:
            self._bank.flush()
            rows = log.read_window(self.store, self.policy, block.start, block.end, columns=["_id"], labels="none")
            missing = tally.rows - tally.failed - rows.num_rows
            if missing <= 0:
                return
            if time.monotonic() > deadline:
                tally.notes.append(f"{missing} predictions did not reach the log within {seconds:g} s")
                return
            time.sleep(0.05)

    def _ask(self, rows: pa.Table, tally: Tally) -> None:
        features, target = list(self.policy.model.features), self.policy.model.target
        values = rows.select(features).to_pylist()
        ids, times, labels = rows["_id"].to_pylist(), rows["_time"].to_pylist(), rows[target].to_pylist()
        self._set_clock(times[0])
        self._bank.tell(times[0])
        asked = [Request(*row) for row in zip(ids, times, values, strict=True)]
        delay = timedelta(seconds=self.policy.labels.due_seconds or 0)
        for answer, frozen, label, key, when in zip(
            self._clients.ask(asked), self._frozen(rows), labels, ids, times, strict=True
        ):
            self._count(tally, answer.score, frozen, label)
            self._bank.later(Label(key, label, when + delay))

    def _count(self, tally: Tally, kept: Score | None, frozen: Score, label: int | float | str) -> None:
        tally.rows += 1
        tally.failed += kept is None
        tally.kept_wrong += kept is None or _wrong(self.policy.model, kept, label)
        tally.frozen_wrong += _wrong(self.policy.model, frozen, label)
        tally.repeated_wrong += self._last_label is not None and self._last_label != label
        self._last_label = label

    def _let_it_train(self) -> None:
        """Hold the clock while a command checks or trains; while a canary needs traffic, let it run on a slice a look,
        so that a busy machine gives the release no fewer looks a day than an idle one."""
        deadline = time.monotonic() + LOOK_SECONDS
        while self._task is not None or self._wanted:
            if self._task is None:
                self._task = command(self._wanted.pop(0), self.folder, self._variables)
            elif not self._task.running:
                self._task.check()
                self._task = None
            elif not released(self.folder, self.policy.name):
                deadline = time.monotonic() + LOOK_SECONDS
                time.sleep(0.05)
            elif self._looked_at() or time.monotonic() > deadline:
                return
            else:
                time.sleep(0.05)

    def _looked_at(self) -> bool:
        """Whether the release has looked since the clock was set."""
        seen = progress.read(self.store, self.policy.name)
        return seen is not None and seen.time >= self._now

    def _set_clock(self, now: datetime) -> None:
        self._now = now
        set_clock(self.folder, now)

    def _finish(self) -> None:
        self._let_it_train()
        if self._task is not None:
            self._task.stop()
            self._task = None
        if self.tallies:
            self.tallies[-1].notes += self._news()

    def _news(self) -> list[str]:
        """What was recorded since the last look, in words."""
        fresh = [x for x in records.read(self.store, self.policy.name) if (x.kind, x.key) not in self._seen]
        self._seen |= {(x.kind, x.key) for x in fresh}
        return [": ".join(filter(None, words)) for words in map(told, fresh) if words]

    def _line(self, tally: Tally) -> str:
        shares = [
            f"{label} {100 * share:5.1f} %"
            for label, share in (
                ("kept", tally.accuracy(tally.kept_wrong)),
                ("frozen", tally.accuracy(tally.frozen_wrong)),
                ("same as before", tally.accuracy(tally.repeated_wrong)),
            )
            if share is not None
        ]
        failed = f"  {tally.failed} failed" if tally.failed else ""
        lines = [f"{tally.name:<46}{tally.rows:4} rows  right: {', '.join(shares)}{failed}"]
        return "\n".join([*lines, *(f"    {note}" for note in tally.notes)])


def told(event: Record[Data]) -> tuple[str, str] | None:
    """One record in words, what and why; None where there is nothing to tell."""
    match event.data:
        case Checked(action=action, reasons=reasons) if action != "none":
            return action, "; ".join(reasons)
        case RunStarted():
            return "started", event.key
        case RunFinished(state=state, step=step, reason=reason) if state == "failed" or step != "deploy":
            return state, f"{event.key}: {reason}" if reason else event.key
        case Promoted(bundle=bundle, reason=reason) | RolledBack(bundle=bundle, reason=reason):
            return event.kind, f"{bundle[:12]}, {reason}"
        case _:
            return None


def set_clock(folder: Path, now: datetime) -> None:
    """Move the demo's clock."""
    write_file(folder / "clock", now.isoformat().encode())


def command(words: Iterable[str], folder: Path, variables: Mapping[str, str]) -> Command:
    """Start a ``kedge`` command that lives in the demo's time and folder."""
    return Command(list(words), log=folder / "log" / "kedge.log", environment=variables)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What every process of a demo is told, by environment variables."""
    return {
        **more,
        "KEDGE_STORE": str(folder / "store"),
        "KEDGE_CLOCK": str(folder / "clock"),
        "KEDGE_ACTOR": "demo",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/store/mlflow.db",
    }


def released(folder: Path, model: str) -> bool:
    """Whether a candidate is in front of real traffic now, or baking, and needs the clock to go on."""
    from kedge.rollout.local.driver import LocalDriver

    route = LocalDriver(folder / "store" / "platform", model).route()
    return route.rollout is not None and route.rollout.state in ("shadow", "canary", "bake", "failover")
