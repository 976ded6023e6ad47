"""What every command makes of one broken policy or table: a result, or an error that says where to look."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from kedge import policy as policies
from kedge.api import comparison
from kedge.cli.policy import table_faults
from kedge.data import ingest, validate
from kedge.errors import KedgeError, PolicyError
from kedge.policy.notes import notes
from kedge.scaffold import guess, look, write
from kedge.store import open_store
from kedge.tables.sources import source_at
from tests.fuzz import tables
from tests.fuzz.policies import mutant as broken_policy

END = datetime(2026, 3, 3, tzinfo=UTC)
COMMANDS = 5
"""So many are tried on each table."""


def policy(seed: int) -> str:
    """Empty if the policy was read, and reads the same as it travels; else its error.

    Raises:
        AssertionError: an error without file and line.
    """
    try:
        read = policies.read(broken_policy(seed), "p.yaml")
        notes(read)
        assert policies.parse(read.to_dict()).hash == read.hash
    except PolicyError as exc:
        for line in str(exc).splitlines():
            assert re.match(r"p\.yaml:\d+: \S", line), line
        return str(exc)
    return ""


def table(seed: int, folder: Path) -> list[str]:
    """The errors of each command over the table, none for those that read it.

    Raises:
        AssertionError: an error that names neither the table nor a column.
    """
    place, kind = tables.mutant(seed, folder)
    asked = tables.policy_for(str(place), kind)

    def scaffold() -> None:
        seen = look.look(source_at(str(place)))
        policies.read(write.policy_text("fuzz", seen, guess.guess(seen, "late"), str(place)), folder / "p.yaml")

    def train() -> None:
        store = open_store(folder / "store")
        validate.run(asked, store, ingest.run(asked, store, END))

    commands: Iterable[Callable[[], object]] = (
        scaffold,
        lambda: table_faults(folder / "p.yaml", asked),
        lambda: comparison.profile(place),
        lambda: comparison.compare(comparison.profile(place, policy=asked), place, policy=asked),
        train,
    )
    errors = [_error(command, folder) for command in commands]
    assert len(errors) == COMMANDS
    return [said for said in errors if said]


def twin(seed: int, folder: Path) -> str:
    """The fingerprint of a good table's rows, however it is stored."""
    place, kind = tables.twin(seed, folder)
    asked, store = tables.policy_for(str(place), kind), open_store(folder / "store")
    return validate.run(asked, store, ingest.run(asked, store, END))


def _error(command: Callable[[], object], folder: Path) -> str:
    try:
        command()
    except KedgeError as exc:
        said = str(exc)
        assert str(folder) in said or "--target" in said or "column" in said, said
        return said
    return ""


def summary(results: Iterable[str]) -> str:
    """How often each end was met, for people."""
    counts = Counter(re.sub(r"[\d',.]+|/\S+", "#", said.split("\n")[0])[:90] or "read" for said in results)
    by_count = sorted(counts.items(), key=lambda each: -each[1])
    return "\n".join(f"{count:6,} {said}" for said, count in by_count[:40])
