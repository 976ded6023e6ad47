"""What was acknowledged is kept and comes into the log once, whatever happens to the disk, the store or the process."""

import errno
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import orjson
import pytest

from kedge.collector.collector import Collector
from kedge.collector.settings import Settings
from kedge.errors import StoreError, UsageError
from kedge.store import identity, open_store
from kedge.store.journal import HEAD, MARK, Journal, Segment, frame
from kedge.tables import appending, log

DAY = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.fixture
def post(event):
    def send(client, identity, **data):
        return client.post("/", content=orjson.dumps(event(identity, **data)), headers=STRUCTURED)

    return send


class WritesOnlyLogs:
    """A store by credentials that may write ``logs/`` and read the rest."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, verb):
        method = getattr(self._store, verb)
        if verb not in ("put", "put_file", "put_if_absent", "delete", "upload"):
            return method

        def checked(key, *rest):
            if not key.startswith("logs/"):
                raise StoreError(f"{key}: access denied")
            return method(key, *rest)

        return checked


def test_a_collector_whose_credentials_write_only_logs_does_all_its_work(start, event, store, ids):
    identity.begin(store)
    with start(store=WritesOnlyLogs(store)) as client:
        body = orjson.dumps(event("a"))
        assert client.post("/", content=body, headers=STRUCTURED).status_code == 202
        assert client.post("/v1/labels", json={"model": "payments", "labels": [{"id": "a", "label": 1}]}).is_success
        assert client.post("/v1/flush").status_code == 200
        assert client.get("/readyz").json()["faults"] == {}
    assert ids() == ["a"]
    assert {key.split("/")[0] for key in store.keys("")} <= {"logs", "store.json"}


@pytest.fixture
def ids(store, declared):
    """Ids in the bare table, not through the reader, which would hide what was appended twice."""

    def read(table="predictions"):
        found = appending.open_table(store, f"logs/payments/{table}")
        return [] if found is None else sorted(found.to_pyarrow_table(columns=["_id"])["_id"].to_pylist())

    return read


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def away(store_folder):
    """A store that refuses: where its tables should be there is a file."""
    store_folder.mkdir(exist_ok=True)
    blocker = store_folder / "logs"
    if blocker.exists():
        blocker.rename(store_folder / "logs-hidden")
    blocker.write_text("away")


def back(store_folder):
    (store_folder / "logs").unlink()
    if (store_folder / "logs-hidden").exists():
        (store_folder / "logs-hidden").rename(store_folder / "logs")


def test_a_store_that_is_away_is_told_and_what_comes_meanwhile_is_kept_also_over_a_restart(start, post, ids, tmp_path):
    away(tmp_path / "store")
    with start() as client:
        assert post(client, "a").status_code == 202
        answer = client.post("/v1/flush")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "safe in the spool" in answer.json()["error"]
        ready = client.get("/readyz")
        assert (ready.status_code, "away since" in ready.json()["faults"]["store"]) == (200, True)
        assert "kedge_collect_store_up 0.0" in client.get("/metrics").text
        assert post(client, "b").status_code == 202
    with start() as client:
        assert post(client, "c").status_code == 202
        back(tmp_path / "store")
        assert client.post("/v1/flush").status_code == 200
        assert client.get("/readyz").json()["faults"] == {}
    assert ids() == ["a", "b", "c"]


def test_what_an_earlier_process_left_is_appended_without_being_asked(start, post, ids, tmp_path):
    away(tmp_path / "store")
    with start() as client:
        assert post(client, "a").status_code == 202
    back(tmp_path / "store")
    assert ids() == []
    with start():
        until(ids)
    assert ids() == ["a"]


def test_a_full_disk_is_told_and_nothing_half_written_is_ever_read(start, post, ids, monkeypatch):
    import os

    real = os.write
    full = []

    def write(handle, data):
        if full and len(data) > 40:
            if len(full) == 1:
                full.append("torn")
                return real(handle, bytes(data)[:50])  # a part still fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data)

    with start() as client:
        assert post(client, "a").status_code == 202
        monkeypatch.setattr("kedge.store.journal.os.write", write)
        monkeypatch.setattr("kedge.store.journal.write_file", lambda path, data: write(-1, data * 100))
        full.append("full")
        answer = post(client, "b")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "No space left" in answer.json()["error"]
        ready = client.get("/readyz")
        assert (ready.status_code, "No space left" in ready.json()["faults"]["spool"]) == (503, True)
        monkeypatch.undo()
        until(lambda: client.get("/readyz").status_code == 200)
        assert post(client, "b", score=0.5).status_code == 202  # refused before, so its id is still free
        client.post("/v1/flush")
        assert "kedge_collect_damaged_lines_total 0.0" in client.get("/metrics").text
    assert ids() == ["a", "b"]


def test_when_the_backlog_is_too_long_own_senders_wait_and_kserves_logger_is_taken(start, post, tmp_path):
    away(tmp_path / "store")
    with start(max_spool_bytes=100) as client:
        assert post(client, "a").status_code == 202
        until(lambda: "wait for the store" in client.get("/readyz").json()["faults"].get("spool", ""))
        answer = post(client, "b")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        attributes = {"ce-specversion": "1.0", "ce-id": "k", "ce-source": "s", "ce-inferenceservicename": "payments"}
        attributes["ce-type"] = "org.kubeflow.serving.inference.request"
        assert client.post("/", json={"instances": [{"amount": 1}]}, headers=attributes).status_code == 202


def test_a_segment_that_was_appended_before_a_crash_is_not_appended_twice(start, post, ids, tmp_path):
    """A crash between the append to Delta and the end of the segment: it is read again."""
    with start() as client:
        post(client, "a")
        kept = {path: path.read_bytes() for path in (tmp_path / "spool" / "journal").glob("*.log")}
        client.post("/v1/flush")
    for path, data in kept.items():
        path.write_bytes(data)
    with start() as client:
        post(client, "b")
        client.post("/v1/flush")
    assert ids() == ["a", "b"]


@pytest.fixture
def segment(start, post, tmp_path):
    """A closed segment with the events a, b and c, which the store did not take."""
    away(tmp_path / "store")
    with start() as client:
        for identity in "abc":
            post(client, identity)
    back(tmp_path / "store")
    (path,) = (tmp_path / "spool" / "journal").glob("*.log")
    return path


@pytest.mark.parametrize("place", [*range(HEAD.size), HEAD.size + 40])
def test_of_a_frame_with_a_flipped_bit_the_others_are_appended_and_the_segment_is_kept(start, ids, segment, place):
    raw = bytearray(segment.read_bytes())
    second = raw.index(MARK, 1)
    raw[second + place] ^= 1
    segment.write_bytes(raw)
    with start() as client:
        client.post("/v1/flush")
        assert "kedge_collect_damaged_lines_total 1.0" in client.get("/metrics").text
        fault = client.get("/readyz").json()["faults"]["journal"]
    assert segment.name in fault
    assert "check the disk" in fault
    assert ids() == ["a", "c"]
    assert (segment.parent.parent / "damaged" / segment.name).read_bytes() == raw


def test_a_segment_that_was_cut_is_told_wherever_it_was_cut(segment):
    journal, whole = Journal(segment.parent, segment_bytes=1), segment.read_bytes()
    named = Segment.of(segment)
    (segment.parent / named._replace(number=named.number + 1).file).write_bytes(frame(b"[]"))
    assert [*journal.read(named, lambda length: pytest.fail(f"damage of {length} bytes"))]
    for size in range(len(whole)):
        segment.write_bytes(whole[:size])
        damage = []
        list(journal.read(named, damage.append))
        assert damage


def test_the_last_segment_of_a_process_that_was_killed_has_no_end(segment):
    whole = segment.read_bytes()
    segment.write_bytes(whole[: whole.rindex(MARK)])
    read = Journal(segment.parent, segment_bytes=1).read(Segment.of(segment), pytest.fail)
    assert len(list(read)) == 3


def test_a_segment_that_cannot_be_read_is_set_aside_and_holds_up_nobody(start, post, ids, segment, tmp_path):
    segment.unlink()
    segment.mkdir()
    with start() as client:
        post(client, "d")
        client.post("/v1/flush")
        assert segment.name in client.get("/readyz").json()["faults"]["journal"]
    assert ids() == ["d"]
    assert (tmp_path / "spool" / "damaged" / segment.name).exists()


def test_a_segment_that_cannot_be_opened_for_a_moment_is_read_later(start, post, ids, monkeypatch):
    read, files_are_short = Journal.read, [True]

    def short_of_files(self, segment, on_damage):
        if files_are_short:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(self, segment, on_damage)

    monkeypatch.setattr(Journal, "read", short_of_files)
    with start() as client:
        post(client, "a")
        answer = client.post("/v1/flush")
        assert (answer.status_code, "Too many open files" in answer.json()["error"]) == (503, True)
        files_are_short.clear()
        assert client.post("/v1/flush").json() == {"appended": 1}
    assert ids() == ["a"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"rows": "?"}', b"\xff\xfe"])
def test_a_check_that_was_spoilt_in_the_spool_is_a_warning(start, tmp_path, content):
    file = tmp_path / "spool" / "checks" / "payments.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with start() as client:
        ready = client.get("/readyz")
        assert (ready.status_code, str(file) in ready.json()["faults"]["checks: payments"]) == (200, True)
        assert client.post("/v1/checks", json={"model": "payments", "figures": {"rows": 1}}).status_code == 202
        assert client.get("/readyz").json()["faults"] == {}


def test_a_file_half_received_by_a_killed_process_is_cleared(start, tmp_path):
    left = tmp_path / "spool" / "bulk-x1y2" / "received"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"id,label\n")
    with start():
        assert not left.parent.exists()


def test_a_spool_belongs_to_one_collector(start, declared, tmp_path):
    import asyncio

    with start():
        second = Collector(open_store(tmp_path / "store"), [declared()], Settings(spool=tmp_path / "spool"))
        with pytest.raises(UsageError, match="another collector uses it"):
            asyncio.run(second.start())


def test_two_collectors_append_to_one_log_and_an_event_sent_to_both_is_read_once(start, post, store, declared):
    with start(spool="one") as one, start(spool="two") as two:
        for identity in ("a", "b"):
            post(one, identity)
        for identity in ("b", "c"):
            post(two, identity)
        one.post("/v1/flush")
        two.post("/v1/flush")
    found = log.read_window(store, declared(), *DAY, labels="none")
    assert sorted(found["_id"].to_pylist()) == ["a", "b", "c"]


def test_rows_of_a_policy_that_is_gone_are_kept_in_the_spool_and_appended_when_it_is_back(
    start, post, declared, tmp_path, ids
):
    away(tmp_path / "store")
    with start() as client:
        post(client, "a")
        labels = [{"id": "a", "label": 1}]
        client.post("/v1/labels", json={"model": "payments", "labels": labels}).raise_for_status()
    back(tmp_path / "store")
    for _ in range(2):  # it is tried at each start
        with start(declared("fraud")) as client:
            client.post("/v1/flush")
            assert "start the collector again" in client.get("/readyz").json()["faults"]["set aside: payments"]
            assert 'kedge_collect_set_aside_total{model="payments"} 2.0' in client.get("/metrics").text
    with start() as client:
        client.post("/v1/flush")
        assert client.get("/readyz").json()["faults"] == {}
    assert (ids(), ids("labels")) == (["a"], ["a"])
    assert list((tmp_path / "spool" / "aside").iterdir()) == []


def test_a_policy_that_gains_or_loses_a_feature_while_rows_wait_loses_none_of_them(
    start, post, store, declared, tmp_path
):
    away(tmp_path / "store")
    with start() as client:
        post(client, "a", features={"amount": 1.0, "country": "DE"})
    back(tmp_path / "store")
    changed = declared(amount={"type": "number"}, age={"type": "integer"})
    with start(changed) as client:
        post(client, "b", features={"amount": 2.0, "age": 33})
        client.post("/v1/flush")
    rows = log.read_window(store, changed, *DAY, labels="none", columns=["_id", "amount", "age"]).to_pylist()
    assert sorted(map(tuple, (row.values() for row in rows))) == [("a", 1.0, None), ("b", 2.0, 33.0)]


def test_rows_the_log_refuses_hold_up_nobody_and_are_appended_when_the_policy_is_mended(
    start, post, declared, tmp_path, ids
):
    with start() as client:
        post(client, "a")
        client.post("/v1/flush")
    hashed = declared(amount={"type": "number", "privacy": "hash"}, country={"type": "category"})
    other = declared("other", amount={"type": "number"})
    with start(hashed, other, hash_key=b"0123456789abcdef") as client:
        post(client, "b", features={"amount": 12.5, "country": "DE"})
        post(client, "c", model="other")
        assert client.post("/v1/flush").json()["appended"] == 1
        assert "'amount' is logged as double" in client.get("/readyz").json()["faults"]["refused: payments"]
    with start(other, declared()) as client:
        client.post("/v1/flush")
    assert ids() == ["a", "b"]


def test_a_value_written_before_its_feature_became_private_does_not_come_into_the_log(
    start, post, store, declared, tmp_path
):
    away(tmp_path / "store")
    with start() as client:
        post(client, "a", features={"amount": 1.0, "country": "DE"})
    back(tmp_path / "store")
    hashed = declared(amount={"type": "number"}, country={"type": "category", "privacy": "hash"})
    with start(hashed, hash_key=b"0123456789abcdef") as client:
        client.post("/v1/flush")
    rows = log.read_window(store, hashed, *DAY, labels="none", columns=["_id", "amount", "country"])
    assert rows.to_pylist() == [{"_id": "a", "amount": 1.0, "country": None}]


def test_segments_are_numbered_and_closed_when_they_are_full_and_each_process_is_a_writer(tmp_path):
    journal = Journal(tmp_path, segment_bytes=50)
    journal.append(frame(b"x" * 60))
    assert journal.full
    journal.append(frame(b"y"))
    first, second = journal.rotate()
    assert (first.number, second.number, first.writer) == (0, 1, second.writer)
    assert [bytes(payload) for payload in journal.read(second, pytest.fail)] == [b"y"]
    later = Journal(tmp_path, segment_bytes=50)
    later.append(frame(b"z"))
    (third,) = {*later.rotate()} - {first, second}
    assert third.writer != first.writer
    assert [bytes(payload) for payload in later.read(third, pytest.fail)] == [b"z"]


def test_an_unreachable_collector_loses_nothing_it_acknowledged(start, post, ids):
    with start() as client:
        post(client, "a")
        address = client.base_url
    with pytest.raises(httpx.TransportError):
        httpx.get(address)
    assert ids() == ["a"]  # a stop appends what it can


def test_a_store_that_is_empty_where_there_was_one_takes_nothing_until_it_is_back(start, post, ids, tmp_path):
    with start() as client:
        post(client, "a")
        client.post("/v1/flush")
        (tmp_path / "store").rename(tmp_path / "unmounted")
        (tmp_path / "store").mkdir()
        assert post(client, "b").status_code == 202
        assert "it is empty" in client.post("/v1/flush").json()["error"]
        ready = client.get("/readyz")
        assert (ready.status_code, "it is empty" in ready.json()["faults"]["store"]) == (200, True)
        assert list((tmp_path / "store").iterdir()) == []
        (tmp_path / "store").rmdir()
        (tmp_path / "unmounted").rename(tmp_path / "store")
        assert client.post("/v1/flush").json() == {"appended": 1}
    assert ids() == ["a", "b"]


def test_a_store_that_goes_away_within_an_append_loses_nothing(start, post, ids, tmp_path, monkeypatch):
    append = appending.append

    def unmounted(*arguments, **options):
        (tmp_path / "store").rename(tmp_path / "unmounted")
        (tmp_path / "store").mkdir()
        append(*arguments, **options | {"opened": {}})

    with start() as client:
        post(client, "a")
        client.post("/v1/flush")
        post(client, "b")
        monkeypatch.setattr(appending, "append", unmounted)
        assert client.post("/v1/flush").status_code == 503
        monkeypatch.undo()
        (tmp_path / "store").rename(tmp_path / "was empty")
        (tmp_path / "unmounted").rename(tmp_path / "store")
        assert client.post("/v1/flush").json() == {"appended": 1}
    assert ids() == ["a", "b"]


def test_a_spool_whose_volume_went_away_takes_nothing_and_goes_on_when_it_is_back(start, post, ids, tmp_path):
    spool, kept = tmp_path / "spool", tmp_path / "kept"
    with start() as client:
        post(client, "a")
        spool.rename(kept)
        spool.mkdir()
        until(lambda: client.get("/readyz").status_code == 503)
        answer = post(client, "b")
        assert (answer.status_code, "volume mounted" in answer.json()["error"]) == (503, True)
        answer = client.post("/v1/flush")
        assert (answer.status_code, "volume mounted" in answer.json()["error"]) == (503, True)
        assert list(spool.rglob("*")) == []
        spool.rmdir()
        kept.rename(spool)
        until(lambda: client.get("/readyz").status_code == 200)
        assert post(client, "c").status_code == 202
        assert client.post("/v1/flush").status_code == 200
        assert client.get("/readyz").json()["faults"] == {}
    assert ids() == ["a", "c"]


@pytest.mark.parametrize("place", [".", "journal"])
def test_a_spool_that_cannot_be_used_is_a_sentence(tmp_path, place):
    (tmp_path / "policy.yaml").write_text(
        "model: {name: payments, target: y, features: {amount: {type: number}}}\ndata: {source: {format: log}}\n"
    )
    spool = tmp_path / "spool"
    (spool / place).parent.mkdir(exist_ok=True)
    (spool / place).touch()
    words = ["--store", tmp_path / "store", "--policy", tmp_path / "policy.yaml", "--spool", spool, "--port", "0"]
    ended = subprocess.run([sys.executable, "-m", "kedge.collector", *words], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"error: spool {spool}" in ended.stderr
    assert "Traceback" not in ended.stderr
