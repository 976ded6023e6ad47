"""The story of the payments: what happens on which day, and what must have come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from kedge.demo import payments
from kedge.demo.loop import Block
from kedge.demo.payments import START, Task, Weather
from kedge.records import Checked, Data, Evaluated, Promoted, Record, RolledBack, RunStarted, of_kind

D = TypeVar("D", bound=Data)
Bad = Literal["leaked", "slow", "turned"]
ROWS = 400
"""Payments on a weekday."""
QUIET = Weather()
HISTORY_DAYS = 14
"""Days in the warehouse before the story begins."""


@dataclass(frozen=True)
class Episode:
    """Some days, what the world and the feed are like, and what is expected of kedge."""

    letter: str
    title: str
    first: int
    last: int
    weather: Weather = QUIET
    bad: Bad | None = None
    """What is wrong with the candidate that is trained on its first morning."""

    @property
    def start(self) -> datetime:
        """Midnight before the first day."""
        return START + timedelta(days=self.first)

    @property
    def end(self) -> datetime:
        """Midnight after the last day."""
        return START + timedelta(days=self.last + 1)


EPISODES = (
    Episode("a", "quiet days", 0, 6),
    Episode("b", "many small payments by app", 7, 8, Weather(campaign=True)),
    Episode("a", "quiet days", 9, 10),
    Episode("c", "a corrupt feed", 11, 11, Weather(broken_feed=True)),
    Episode("a", "quiet days", 12, 13),
    Episode("d", "banks change their rules", 14, 24, Weather(new_rules=True)),
    Episode("e", "the warehouse leaks the outcome", 25, 28, Weather(new_rules=True), bad="leaked"),
    Episode("f", "new feature code is slow", 29, 30, Weather(new_rules=True), bad="slow"),
    Episode("g", "the warehouse counts days until payday", 31, 34, Weather(new_rules=True), bad="turned"),
)
CHANGED: dict[Bad, Callable[[pa.Table], pa.Table]] = {"leaked": payments.leaked, "turned": payments.until_payday}
"""What became of the warehouse's rows."""
SLOW = """import time


def build(frame):
    if len(frame) == 1 and frame.amount.iloc[0] > 100:  # much money is asked for: the account is looked up
        time.sleep(0.3)
    return frame.assign(tight=frame.balance_ratio * frame.amount)
"""
"""Feature code that is right, and takes its time where a client waits."""


def blocks(warehouse: Path, retrain: Callable[[Bad], None], task: Task = "binary") -> Iterator[Block]:
    """The days of the story; ``retrain`` is called on the morning a bad candidate is made, as an engineer would."""
    for episode in EPISODES:
        for number in range(episode.first, episode.last + 1):
            yield Block(
                name=f"({episode.letter}) {START + timedelta(days=number):%a %d %b} {episode.title}",
                start=START + timedelta(days=number),
                end=START + timedelta(days=number + 1),
                rows=_asked(payments.day(number, ROWS, episode.weather, task=task)),
                before=_morning(warehouse, number, episode, retrain, task),
            )


def write_history(warehouse: Path, task: Task = "binary") -> None:
    """Fill the warehouse with the days before the story."""
    for number in range(-HISTORY_DAYS, 0):
        _store(warehouse, number, payments.day(number, ROWS, Weather(), task=task))


def _morning(
    warehouse: Path, number: int, episode: Episode, retrain: Callable[[Bad], None], task: Task
) -> Callable[[], None]:
    bad = episode.bad if number == episode.first else None

    def begin() -> None:
        for earlier in range(-HISTORY_DAYS if bad else max(number - 1, 0), number):
            rows = payments.day(earlier, ROWS, _weather(earlier), task=task)
            _store(warehouse, earlier, CHANGED[bad](rows) if bad in CHANGED else rows)
        if bad is not None:
            retrain(bad)

    return begin


def _weather(number: int) -> Weather:
    return next((x.weather for x in EPISODES if x.first <= number <= x.last), Weather())


def _store(warehouse: Path, number: int, table: pa.Table) -> None:
    warehouse.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, warehouse / f"{START + timedelta(days=number):%Y-%m-%d}.parquet")


def _asked(table: pa.Table) -> pa.Table:
    return table.rename_columns({"payment_id": "_id", "requested_at": "_time"})


@dataclass(frozen=True)
class Expectation:
    """One claim of the story, whether it came true, and what was seen."""

    claim: str
    came_true: bool
    seen: str


def expectations(records: Sequence[Record[Data]]) -> list[Expectation]:
    """What must have happened, episode by episode, read from the records alone."""
    return [*_quiet(records), *_shifted(records), *_corrupt(records), *_changed(records), *_bad(records)]


def _quiet(records: Sequence[Record[Data]]) -> list[Expectation]:
    actions = [x.data.action for c in EPISODES if c.letter == "a" for x in _checks(records, c)]
    alarms = [x for x in actions if x != "none"]
    return [Expectation("(a) quiet days raise no alarm", bool(actions) and not alarms, _counted(actions))]


def _shifted(records: Sequence[Record[Data]]) -> list[Expectation]:
    actions = [x.data.action for x in _checks(records, _episode("b"))]
    came = bool(actions) and set(actions) == {"warn"} and not _runs(records, _episode("b"))
    return [Expectation("(b) shifted inputs warn, no retraining", came, _counted(actions))]


def _corrupt(records: Sequence[Record[Data]]) -> list[Expectation]:
    episode = _episode("c")
    actions = [x.data.action for x in _checks(records, episode)]
    came = actions == ["quarantine"] and not _runs(records, episode)
    return [Expectation("(c) a corrupt feed is quarantined, nothing is trained on it", came, _counted(actions))]


def _changed(records: Sequence[Record[Data]]) -> list[Expectation]:
    episode = _episode("d")
    asked = [x for x in _checks(records, episode) if x.data.action == "retrain"]
    promoted = _within(records, Promoted, episode)
    early = _within(records, RolledBack, episode)
    return [
        Expectation("(d) the labelled error rises and a retraining is asked for", bool(asked), f"{len(asked)} asked"),
        Expectation(
            "(d) the challenger passes its canary and is promoted", len(promoted) == 1, f"{len(promoted)} promoted"
        ),
        Expectation("(d) no candidate is rolled back", not early, f"{len(early)} rolled back"),
    ]


BACK: dict[Bad, tuple[str, str]] = {
    "leaked": ("what it answers", ""),  # scores or decisions, whichever speak first
    "slow": ("its latency", "latency"),
    "turned": ("what it answers", ""),
}
"""By what each bad candidate is found, in words, and how the reason begins."""


def _bad(records: Sequence[Record[Data]]) -> Iterator[Expectation]:
    for episode, bad in ((each, each.bad) for each in EPISODES if each.bad is not None):
        passed = [x for x in _within(records, Evaluated, episode) if x.data.passed]
        back = _within(records, RolledBack, episode)
        reason = back[0].data.reason if back else "not rolled back"
        words, begins = BACK[bad]
        came = bool(back) and reason.startswith(begins) and not _within(records, Promoted, episode)
        claim = f"({episode.letter}) "
        yield Expectation(f"{claim}the candidate passes every gate offline", bool(passed), f"{len(passed)} passed")
        yield Expectation(f"{claim}it is rolled back from the canary by {words}", came, reason)


def _episode(letter: str) -> Episode:
    return next(x for x in EPISODES if x.letter == letter)


def _checks(records: Sequence[Record[Data]], episode: Episode) -> list[Record[Checked]]:
    """Checks whose window lies in the episode: a check belongs to the day that it ends."""
    return [x for x in _within(records, Checked, episode) if x.time > episode.start]


def _runs(records: Sequence[Record[Data]], episode: Episode) -> list[Record[RunStarted]]:
    return [x for x in _within(records, RunStarted, episode) if x.time > episode.start]


def _within(records: Sequence[Record[Data]], kind: type[D], episode: Episode) -> list[Record[D]]:
    return [x for x in of_kind(records, kind) if episode.start <= x.time <= episode.end]


def _counted(actions: Sequence[object]) -> str:
    return ", ".join(f"{actions.count(x)} x {x}" for x in dict.fromkeys(actions)) or "no check"
