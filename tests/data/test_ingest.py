import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.ingest.component import ingest as component
from kedge import policy as policies
from kedge import records
from kedge.data import ingest, step
from kedge.errors import DataError, UsageError
from kedge.store import Store
from kedge.tables import snapshot

HEAD = "id,at,size,shop,sold\n"
END = "2026-03-03T00:00:00+00:00"


def asked(folder: Path) -> dict[str, Any]:
    return {
        "model": {
            "name": "shop",
            "target": "sold",
            "features": {"size": {"type": "number"}, "shop": {"type": "category"}},
        },
        "data": {
            "source": {"format": "csv", "location": str(folder / "rows.csv")},
            "time_column": "at",
            "id_column": "id",
        },
    }


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(
        HEAD + "".join(f"r{k},2026-03-02T0{k}:00:00Z,{k}.5,A,{k % 2}\n" for k in range(8))
    )
    return tmp_path / "rows.csv"


def test_the_same_rows_are_the_same_snapshot_in_any_order(rows: Path, tmp_path: Path, store: Store) -> None:
    policy = policies.parse(asked(tmp_path))
    first = ingest.run(policy, store, datetime(2026, 3, 3, tzinfo=UTC))
    head, *lines = rows.read_text().splitlines(keepends=True)
    rows.write_text(head + "".join(reversed(lines)))
    assert ingest.run(policy, store, datetime(2026, 3, 4, tzinfo=UTC)) == first
    assert snapshot.load(store, "shop", first).rows == 8


def test_the_step_hands_on_a_fingerprint_and_leaves_the_manifest(rows: Path, tmp_path: Path, store: Store) -> None:
    artefact = SimpleNamespace(path=str(tmp_path / "out" / "rows"), metadata={})
    name = component.python_func(asked(tmp_path), store.url, "run-1", END, artefact)
    assert json.loads(Path(artefact.path).read_text())["fingerprint"] == name
    assert artefact.metadata["rows"] == 8
    assert snapshot.load(store, "shop", name).end == datetime(2026, 3, 3, tzinfo=UTC)
    assert records.read(store, "shop") == []


def test_a_step_that_fails_leaves_its_reason_and_nothing_else(rows: Path, tmp_path: Path, store: Store) -> None:
    rows.write_text("id,at,size,sold\n")
    artefact = SimpleNamespace(path=str(tmp_path / "out" / "rows"), metadata={})
    with pytest.raises(DataError, match=r"rows\.csv: column 'shop' is missing; the table has: id, at, size, sold"):
        step.ingest(asked(tmp_path), store.url, "run-1", END, artefact)
    [left] = records.read(store, "shop")
    assert (left.kind, left.key) == ("run-finished", "run-1")
    assert (left.data.state, left.data.step, left.data.exit_code) == ("failed", "ingest", 2)
    assert "column 'shop' is missing" in left.data.reason
    assert list(store.keys("snapshots")) == []
    assert not Path(artefact.path).exists()


@pytest.mark.parametrize("end", ["tomorrow", "2026-13-01"])
def test_an_end_that_is_no_time_is_named(end: str, rows: Path, tmp_path: Path, store: Store) -> None:
    artefact = SimpleNamespace(path=str(tmp_path / "rows"), metadata={})
    with pytest.raises(UsageError, match=f"end '{end}': not a time"):
        step.ingest(asked(tmp_path), store.url, "run-1", end, artefact)


BAD = {
    "a missing file": (None, r"rows\.csv: no \.csv or .* file there; check data\.source\.location"),
    "an empty file": (b"", r"rows\.csv: empty; a CSV file begins with a line of column names"),
    "a header alone": (HEAD.encode(), r"rows\.csv: empty: not one row"),
    "a missing column": (b"id,at,sizes,shop,sold\n", r"rows\.csv: column 'size' \(did you mean 'sizes'\?\) is missing"),
    "no time that can be read": (b"id,at,size,shop,sold\na,soon,1,A,1\n", None),
    "bytes that are not UTF-8": (
        HEAD.encode() + b"a,2026-03-02,1,caf\xe9,1\n",
        r"rows\.csv, line 2: not UTF-8: byte 0xe9",
    ),
    "a broken line": (HEAD.encode() + b"a,2026-03-02\n", r"rows\.csv.*Expected 5 columns, got 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_an_error_of_exit_code_2_that_writes_nothing(what: str, tmp_path: Path, store: Store) -> None:
    content, said = BAD[what]
    if content is not None:
        (tmp_path / "rows.csv").write_bytes(content)
    if said is None:  # ingest keeps such rows with their fault; validate refuses them
        name = ingest.run(policies.parse(asked(tmp_path)), store, datetime(2026, 3, 3, tzinfo=UTC))
        assert snapshot.load(store, "shop", name).faults == 1
        return
    with pytest.raises(DataError, match=said) as raised:
        ingest.run(policies.parse(asked(tmp_path)), store, datetime(2026, 3, 3, tzinfo=UTC))
    assert raised.value.exit_code == 2
    assert list(store.keys("")) == []
