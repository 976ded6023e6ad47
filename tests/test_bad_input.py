"""What can be wrong with what a user gives, one test a kind, through the command (or the step, or the service) that
meets it: the message names the thing and the place, the exit code whose turn it is, and nothing half-written stays.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from kedge import policy as policies
from kedge.data import ingest, validate
from kedge.errors import DataError
from kedge.store import open_store
from tests.bundle import models

EXAMPLE = Path(__file__).parent.parent / "examples" / "payments.csv"
POLICY = """
model:
  name: payments
  task: binary
  target: returned
  features:
    amount: {type: number}
    retries: {type: integer}
    country: {type: category}
data:
  source: {format: csv, location: rows.csv}
  time_column: requested_at
  id_column: payment_id
"""
NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    """All of standard error."""


class Place:
    """A folder with a policy and its table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = EXAMPLE.read_text().splitlines()
        self.policy = folder / "payments.yaml"
        self.policy.write_text(POLICY)
        self.write(self.rows)

    def write(self, rows: list[str]) -> Path:
        table = self.folder / "rows.csv"
        table.write_text("\n".join(rows) + "\n")
        return table

    def alter(self, old: str, new: str) -> None:
        assert POLICY.count(old) == 1
        self.policy.write_text(POLICY.replace(old, new))

    def column(self, name: str, value: str) -> None:
        """The table with one value in every row of a column."""
        at = self.rows[0].replace('"', "").split(",").index(name)
        cells = [row.split(",") for row in self.rows[1:]]
        self.write([self.rows[0], *(",".join([*row[:at], value, *row[at + 1 :]]) for row in cells)])

    def run(self, *words: str, max_file_bytes: int | None = None, **variables: str) -> Ended:
        """Run ``python -m <words>`` in the folder."""

        def limit() -> None:
            assert max_file_bytes is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

        environment = {name: value for name, value in os.environ.items() if not name.startswith(("KEDGE", "MLFLOW"))}
        ended = subprocess.run(
            [sys.executable, "-m", *words], cwd=self.folder, env=environment | variables, capture_output=True,
            text=True, timeout=120, preexec_fn=limit if max_file_bytes else None, check=False,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stderr)

    def kedge(self, *words: str, max_file_bytes: int | None = None, **variables: str) -> Ended:
        return self.run("kedge.cli", *words, max_file_bytes=max_file_bytes, **variables)

    def submit(self, max_file_bytes: int | None = None, **variables: str) -> Ended:
        words = ("submit", "--policy", "payments.yaml", "--local", "--key", "k")
        return self.kedge(*words, max_file_bytes=max_file_bytes, **variables)

    def kept(self) -> set[str]:
        """Kinds of things in the store, but for MLflow's, which is told of every run."""
        return {path.name for path in (self.folder / ".kedge").glob("*") if not path.name.startswith("mlflow.db")}

    def validated(self) -> None:
        """Ingest and validate in this process, as a run does."""
        policy = policies.load(self.policy)
        source = policy.data.source.model_copy(update={"location": str(self.folder / "rows.csv")})
        policy = policy.model_copy(update={"data": policy.data.model_copy(update={"source": source})})
        store = open_store(str(self.folder / ".kedge"))
        validate.run(policy, store, ingest.run(policy, store, None))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def partial(folder: Path) -> list[str]:
    """Files that were begun and not finished."""
    return [path.name for path in folder.rglob("*.part")]


def test_a_policy_with_an_unknown_field_is_refused_with_its_line(place: Place) -> None:
    place.alter("  task: binary", "  task: binary\n  flavour: sweet")
    for words in (("policy", "check", "payments.yaml"), ("submit", "--policy", "payments.yaml", "--local")):
        ended = place.kedge(*words)
        assert (ended.code, place.kept()) == (2, set())
        assert ended.said.startswith("error: payments.yaml:5: model.flavour: unknown field; allowed here: name, task")


def test_a_missing_column_is_named_with_the_table_and_its_columns(place: Place) -> None:
    place.alter("    country:", "    weekday: {type: integer}\n    country:")
    ended = place.submit()
    assert ended.code == 2
    assert f"in step ingest: {place.folder}/rows.csv: column 'weekday' is missing; the table has: pay" in ended.said
    assert place.kept() == {"records", "runs"}


def test_a_wrong_type_is_named_with_its_rows_and_values(place: Place) -> None:
    place.alter("country: {type: category}", "country: {type: number}")
    with pytest.raises(DataError, match=r"'DE' is not a number.*first in .*/rows\.csv, row 1") as refused:
        place.validated()
    assert refused.value.exit_code == 2


def test_a_policys_field_of_a_wrong_type_is_refused_with_its_line(place: Place) -> None:
    place.alter("amount: {type: number}", "amount: {type: number, min: low}")
    ended = place.kedge("policy", "check", "payments.yaml")
    assert ended.code == 2
    assert ended.said.startswith("error: payments.yaml:7: model.features.amount.min")
    assert "'low'" in ended.said


HEAD = "amount,retries,country"


@pytest.mark.parametrize(
    ("words", "rows", "why"),
    [
        (("init", "rows.csv", "-o", "made"), [], "rows.csv: empty"),
        (("init", "rows.csv", "-o", "made"), ["a,b"], "rows.csv: empty: not one row"),
        (("profile", "rows.csv", "-o", "made"), ["a,b"], "rows.csv: empty: not one row"),
        (("profile", "rows.csv", "-o", "made", "--policy", "payments.yaml"), [HEAD], "rows.csv: empty: not one row"),
    ],
)
def test_an_empty_file_is_named(place: Place, words: tuple[str, ...], rows: list[str], why: str) -> None:
    place.write(rows)
    ended = place.kedge(*words)
    assert (ended.code, (place.folder / "made").exists()) == (2, False)
    assert why in ended.said


def test_an_empty_file_is_no_window_to_compare(place: Place) -> None:
    assert place.kedge("profile", "rows.csv", "-o", "reference.json").code == 0
    place.write(place.rows[:1])
    ended = place.kedge("drift", "--reference", "reference.json", "--current", "rows.csv", "--html", "made")
    assert (ended.code, (place.folder / "made").exists()) == (2, False)
    assert ended.said == "error: rows.csv: empty: not one row\n"


def test_an_empty_file_ends_a_run_before_anything_is_kept(place: Place) -> None:
    (place.folder / "rows.csv").write_bytes(b"")
    ended = place.submit()
    assert (ended.code, place.kept()) == (2, {"records", "runs"})
    assert f"in step ingest: {place.folder}/rows.csv: empty; a CSV file begins with" in ended.said


def test_a_column_without_any_value_is_named(place: Place) -> None:
    place.column("amount", "")
    with pytest.raises(DataError, match=r"column 'amount': not one of 1,104 rows has a value"):
        place.validated()


def test_one_class_only_is_named_with_the_targets_values(place: Place) -> None:
    place.column("returned", "1")
    with pytest.raises(DataError, match=r"column 'returned': one class only: all 1,104 .*positive_label is 1"):
        place.validated()


def test_duplicate_ids_are_named_with_the_column_and_the_first_row(place: Place) -> None:
    place.write([place.rows[0], *[place.rows[1]] * 30, *place.rows[31:]])
    with pytest.raises(DataError, match=r"29 rows: column 'payment_id' must be unique, saw 260223-00000; .*row 2,"):
        place.validated()


def test_time_going_backwards_is_named_with_the_table_and_both_times(place: Place) -> None:
    place.validated()
    before = sorted((place.folder / ".kedge" / "snapshots").rglob("*"))
    place.write(place.rows[:700])
    with pytest.raises(DataError, match=r"/rows\.csv: time goes backwards: .*2026-02-27.* had one of 2026-03-01"):
        place.validated()
    assert sorted((place.folder / ".kedge" / "snapshots").rglob("*")) == before


@pytest.mark.parametrize("words", [("init", "rows.csv", "-o", "made"), ("profile", "rows.csv", "-o", "made")])
def test_bytes_that_are_not_utf8_are_named_with_their_line(place: Place, words: tuple[str, ...]) -> None:
    lines = (place.folder / "rows.csv").read_bytes().split(b"\n")
    cells = lines[50].split(b",")
    lines[50] = b",".join([*cells[:-2], b'"w\xcbb"', cells[-1]])
    (place.folder / "rows.csv").write_bytes(b"\n".join(lines))
    ended = place.kedge(*words)
    assert (ended.code, (place.folder / "made").exists()) == (2, False)
    assert "rows.csv, line 51: not UTF-8: byte 0xcb; save the file as UTF-8" in ended.said


def test_a_truncated_parquet_file_is_named_by_every_command_that_reads_it(place: Place) -> None:
    table = place.folder / "rows.parquet"
    pq.write_table(pa_csv.read_csv(EXAMPLE), table)
    table.write_bytes(table.read_bytes()[:9000])
    place.alter("{format: csv, location: rows.csv}", "{format: parquet, location: rows.parquet}")
    for words in (("init", "rows.parquet", "-o", "made"), ("profile", "rows.parquet", "-o", "made")):
        ended = place.kedge(*words)
        assert (ended.code, (place.folder / "made").exists()) == (2, False)
        assert ended.said.startswith("error: rows.parquet: not a whole Parquet file")
    ended = place.submit()
    assert (ended.code, place.kept()) == (2, {"records", "runs"})
    assert f"in step ingest: {place.folder}/rows.parquet: not a whole Parquet file" in ended.said


@pytest.fixture
def collector(place: Place, free_port: Callable[[], int]) -> Iterator[httpx.Client]:
    port = free_port()
    words = ["--store", ".kedge", "--policy", "payments.yaml", "--spool", "spool", "--port", str(port)]
    command = [sys.executable, "-m", "kedge.collector", *words, "--reserve-mb", "0"]
    with subprocess.Popen(command, cwd=place.folder) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                wait_ready(process, client)
                yield client
        finally:
            process.terminate()


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            return int(taken.getsockname()[1])

    return find


def wait_ready(process: subprocess.Popen[bytes], client: httpx.Client, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the collector ended"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the collector was not ready in time")


def test_a_label_for_an_unknown_id_is_refused_by_its_id_or_kept(collector: httpx.Client) -> None:
    labels = {"model": "payments", "labels": [{"id": "nobody", "label": 1}]}
    refused = collector.post("/v1/labels?require_known=true", json=labels)
    assert (refused.status_code, "'nobody'" in refused.json()["error"]) == (422, True)
    assert collector.post("/v1/labels", json=labels).status_code == 202
    assert collector.post("/v1/flush", timeout=60).json() == {"appended": 1}


def test_a_bundle_with_one_flipped_byte_is_never_served(place: Place) -> None:
    made = models.written(place.folder / "made")
    model = made.folder / "model.ubj"
    raw = bytearray(model.read_bytes())
    raw[len(raw) // 2] ^= 1
    model.write_bytes(raw)
    ended = place.run("kedge.serving", "--bundle", "made", "--slot", "blue", "--port", "0")
    assert ended.code == 2
    assert "made/model.ubj" in ended.said
    assert "altered" in ended.said


def test_a_port_in_use_is_named(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        up = place.kedge("up", "--policy", "payments.yaml", "--port", port)
        words = ("--store", ".kedge", "--policy", "payments.yaml", "--spool", "spool", "--port", port)
        collect = place.run("kedge.collector", *words)
    for ended in (up, collect):
        assert ended.code == 2
        assert f"error: port {port} on 127.0.0.1: Address already in use; give another with --port" in ended.said


def test_no_mlflow_fails_the_run_with_its_address_and_keeps_what_was_trained(place: Place) -> None:
    place.policy.write_text(POLICY + "train: {estimators: [linear]}\ngates: {alpha: 0.2}\n")  # three features are weak
    ended = place.submit(MLFLOW_TRACKING_URI=NOBODY, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    assert ended.code == 1
    assert f"in step register: registry {NOBODY}: cannot log the training" in ended.said
    assert "is MLflow running there?" in ended.said
    assert "bundles" in place.kept()
    assert partial(place.folder) == []


def test_a_path_that_cannot_be_written_is_the_users_mistake(place: Place) -> None:
    (place.folder / "made").mkdir()
    ended = place.kedge("profile", "rows.csv", "-o", "made")
    assert (ended.code, ended.said.splitlines()[-1]) == (2, "error: made: Is a directory")
    assert sorted(path.name for path in place.folder.iterdir()) == ["made", "payments.yaml", "rows.csv"]


@pytest.mark.parametrize("words", [("init", "rows.csv", "-o", "made"), ("profile", "rows.csv", "-o", "made")])
def test_a_full_disk_leaves_no_half_of_a_file(place: Place, words: tuple[str, ...]) -> None:
    ended = place.kedge(*words, max_file_bytes=1000)
    assert (ended.code, ended.said.splitlines()[-1]) == (1, "error: made: File too large")
    assert sorted(path.name for path in place.folder.iterdir()) == ["payments.yaml", "rows.csv"]


def test_a_full_disk_fails_the_run_with_the_place_and_the_next_one_goes_on(place: Place) -> None:
    ended = place.submit(max_file_bytes=8192)
    assert ended.code == 1
    assert "in step ingest: " in ended.said
    assert ": File too large: the rows of a run lie there until they are sorted" in ended.said
    assert partial(place.folder) == []
    assert place.kept() <= {"records", "runs", "snapshots"}
    assert list((place.folder / ".kedge").rglob("snapshot.json")) == []
    place.validated()
