"""What a step does about faults that pass, and what it leaves behind when one does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kedge import records, steps
from kedge.data import step as ingest
from kedge.errors import BundleError, Conflict, DataError, RegistryError, RunError, StoreError, UsageError
from kedge.notify import step as notify
from kedge.store import open_store
from tests.records.made import record
from tests.training import rows


class Answered(Exception):
    """What Kubernetes' client raises."""

    def __init__(self, status: int) -> None:
        self.status = status


class Refused(Exception):
    """What MLflow's client raises."""

    def __init__(self, status: int) -> None:
        self._status = status

    def get_http_status_code(self) -> int:
        return self._status


def because(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def real_faults() -> list[BaseException]:
    import httpx
    import requests
    import urllib3
    from obstore.exceptions import GenericError

    return [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        requests.exceptions.ConnectionError("reset"),
        requests.exceptions.ReadTimeout("late"),
        urllib3.exceptions.MaxRetryError(None, "/", None),  # type: ignore[arg-type]
        GenericError("HTTP error: error sending request"),
        OSError("When reading key: AWS Error SLOW_DOWN during HeadObject operation"),
        ConnectionResetError(104, "reset"),
        TimeoutError(),
        Answered(503),
        Answered(429),
        Refused(500),
    ]


@pytest.mark.parametrize("fault", real_faults(), ids=lambda fault: type(fault).__name__)
def test_a_fault_of_the_network_or_of_a_server_passes_whatever_wraps_it(fault) -> None:
    assert steps.transient(fault)
    assert steps.transient(because(StoreError("store s3://x: cannot read k"), fault))
    assert steps.transient(because(DataError("source s3://x"), because(OSError("read"), fault)))


@pytest.mark.parametrize(
    "fault",
    [
        DataError("column missing"),
        BundleError("altered"),
        ZeroDivisionError(),
        FileNotFoundError(2, "no such file"),
        OSError(28, "No space left on device"),
        because(StoreError("store"), PermissionError(13, "denied")),
        because(RegistryError("registry"), Refused(404)),
        because(Conflict("route"), Answered(409)),
        because(RunError("not allowed"), Answered(403)),
    ],
    ids=repr,
)
def test_what_trying_again_cannot_mend_does_not_pass(fault) -> None:
    assert not steps.transient(fault)


def test_a_fault_before_another_error_on_purpose_is_not_its_cause() -> None:
    def meant() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise DataError("the table is not there") from None

    with pytest.raises(DataError) as raised:
        meant()
    assert not steps.transient(raised.value)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds waited; nothing waits."""
    waited: list[float] = []
    monkeypatch.setattr(steps.time, "sleep", waited.append)
    return waited


def failing(*faults: BaseException):
    """Work that ends with these, one a try, and then well."""
    left = list(faults)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


def test_work_is_tried_again_and_the_log_says_why(waits, capsys) -> None:
    fault = because(StoreError("store s3://b: cannot read k: reset"), ConnectionResetError())
    assert steps.with_retries("train", failing(fault, TimeoutError("late"))) == "done"
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("kedge: train: try 2 of 5 in ")
    assert first.endswith("after a fault that may pass: store s3://b: cannot read k: reset")
    assert second.startswith("kedge: train: try 3 of 5")
    assert len(waits) == 2


def test_waits_grow_are_random_and_have_a_limit(waits) -> None:
    for _ in range(40):
        with pytest.raises(TimeoutError):
            steps.with_retries("x", failing(*[TimeoutError()] * steps.TRIES))
    assert len(waits) == 40 * (steps.TRIES - 1)
    assert 0 < max(waits) <= steps.MAX_WAIT
    assert max(waits[0::4]) <= 2
    assert max(waits[3::4]) > 2
    assert len(set(waits)) > 100


def test_after_the_last_try_the_fault_itself_is_raised(waits) -> None:
    last = TimeoutError("the last")
    with pytest.raises(TimeoutError, match="the last"):
        steps.with_retries("x", failing(*[TimeoutError()] * (steps.TRIES - 1), last, RuntimeError("never")))


def test_the_users_mistake_is_not_tried_again(waits, tmp_path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(DataError):
        steps.run_step(store, "fraud", "ingest", failing(DataError("no column x")), run="r")
    (finished,) = records.read(store, "fraud", records.RunFinished)
    assert (finished.data.step, finished.data.exit_code) == ("ingest", 2)
    assert waits == []


def test_a_network_that_stays_away_is_no_mistake_of_the_user(waits, tmp_path) -> None:
    store = open_store(tmp_path)
    fault = because(DataError("source s3://lake: unreadable"), TimeoutError())
    with pytest.raises(DataError):
        steps.run_step(store, "fraud", "ingest", failing(*[fault] * steps.TRIES), run="r")
    (finished,) = records.read(store, "fraud", records.RunFinished)
    assert finished.data.exit_code == 1  # so the run is tried again


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(steps.PIPELINE_RUN, "5f2b")
    return open_store(tmp_path)


def test_a_step_that_knows_no_run_leaves_its_reason_for_the_last_step(store) -> None:
    with pytest.raises(DataError):
        steps.run_step(store, "fraud", "validate", failing(DataError("3 % of the rows are invalid")))
    assert records.read(store, "fraud") == []
    concluded = steps.finalize_run(store, "fraud", "by-hand")
    assert concluded.key == "by-hand"
    assert concluded.data == records.RunFinished(
        run="by-hand", state="failed", step="validate", reason="3 % of the rows are invalid", exit_code=2
    )


def test_a_step_that_began_and_never_ended_was_killed(store) -> None:
    class Killed(BaseException):
        pass

    with pytest.raises(Killed):
        steps.run_step(store, "fraud", "train", failing(Killed()))  # type: ignore[arg-type]
    data = steps.finalize_run(store, "fraud", "by-hand").data
    assert (data.step, data.exit_code) == ("train", 1)
    assert data.reason.startswith("the step ended without a word; was it killed")


def test_a_step_does_not_fail_for_want_of_its_note(store, monkeypatch) -> None:
    def away(key: str, data: bytes) -> None:
        raise StoreError(f"store s3://b: cannot write {key}: timed out")

    monkeypatch.setattr(store, "put", away)
    assert steps.run_step(store, "fraud", "train", lambda: "bundle") == "bundle"


def test_a_run_whose_steps_all_ended_well_without_a_verdict_failed(store) -> None:
    steps.run_step(store, "fraud", "evaluate", lambda: True)
    data = steps.finalize_run(store, "fraud", "by-hand").data
    assert data.reason.startswith("after evaluate no step left a verdict")
    assert data.state == "failed"


def test_another_pipelines_notes_are_not_this_ones(store, monkeypatch) -> None:
    steps.run_step(store, "fraud", "evaluate", lambda: True)
    monkeypatch.setenv(steps.PIPELINE_RUN, "another")
    assert steps.finalize_run(store, "fraud", "by-hand").data.reason.startswith("no step left a verdict")


def test_the_verdict_a_step_left_stands(store) -> None:
    for attempt in (1, 2):
        records.append(store, record("run-started", steps.attempt_key("r", attempt), rows.END, run="r"))
    steps.finish(store, "fraud", "r", "rejected", step="evaluate", reason="p = 0.3")
    concluded = steps.finalize_run(store, "fraud", "r")
    assert (concluded.key, concluded.data.state) == ("r.2", "rejected")
    assert len(records.read(store, "fraud", records.RunFinished)) == 1


def test_a_result_that_is_gone_is_no_mistake_of_the_user_and_is_made_anew_by_the_next_attempt(store) -> None:
    store.put("bundles/fraud/b/bundle.json", b"{}")
    steps.require_artifact(store, "bundles/fraud/b/bundle.json", "train")
    with pytest.raises(RunError, match=r"bundles/fraud/c/bundle\.json is not there, though train named it") as refused:
        steps.require_artifact(store, "bundles/fraud/c/bundle.json", "train")
    assert refused.value.exit_code == 1


def test_a_run_without_a_name_is_known_by_the_id_of_the_pipelines_run(monkeypatch) -> None:
    monkeypatch.setenv(steps.PIPELINE_RUN, "5f2b")
    assert (steps.run_name(""), steps.run_name("given")) == ("5f2b", "given")
    monkeypatch.delenv(steps.PIPELINE_RUN)
    assert steps.run_name("given") == "given"
    with pytest.raises(UsageError, match="the run has no name: give the parameter `run`"):
        steps.run_name("")


def test_the_steps_of_a_run_without_a_name_agree_on_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(steps.PIPELINE_RUN, "5f2b")
    policy, store = rows.policy(tmp_path / "nowhere.parquet").to_dict(), str(tmp_path / "store")
    with pytest.raises(DataError):
        ingest.ingest(policy, store, "", "", None)
    assert notify.notify(policy, store, "", SimpleNamespace(path=tmp_path / "card.md")) == "failed"
    (finished,) = records.read(open_store(store), "fraud", records.RunFinished)
    assert (finished.key, finished.data.run, finished.data.step) == ("5f2b", "5f2b", "ingest")
