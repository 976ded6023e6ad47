"""Every call that the collector makes to its disk fails once, in turn: nothing acknowledged is lost."""

import asyncio
import errno
import os
import time
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from kedge.collector.collector import Collector
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import KedgeError
from kedge.store import open_store
from kedge.tables import appending

CALLS = ("open", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "statvfs")


class Failing:
    """Counts the calls about a folder, or about any open file, and lets one fail."""

    def __init__(self, monkeypatch, folder, number):
        self.count, self.failed = 0, ""
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name), str(folder), number))

    def _wrapped(self, name, real, folder, number):
        def call(*arguments, **options):
            if isinstance(arguments[0], int) or str(arguments[0]).startswith(folder):
                self.count += 1
                if self.count == number:
                    self.failed = name
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **options)

        return call


async def life(folder, policy, events, acknowledged):
    """A collector that starts, takes some events, appends and stops; it may refuse to start."""
    settings = Settings(spool=folder / "spool", interval_seconds=3600, reserve_bytes=0)
    collector = Collector(open_store(folder / "store"), [policy], settings)
    try:
        await collector.start()
    except (KedgeError, OSError):
        if collector._lock_handle is not None:
            os.close(collector._lock_handle)  # as the end of the process does
        return {"start": "failed"}
    for body in events:
        with suppress(RequestRejected):
            taken = collector.intake.one(orjson.dumps(body), time.time_ns() // 1000)
            await collector.keep([taken], 100)
            acknowledged.add(body["id"])
        with suppress(KedgeError):
            await collector.flush()
    await collector.stop()
    return collector.faults()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whichever_call_to_the_disk_fails_nothing_is_lost(declared, event, tmp_path, caplog):
    policy, number, failed = declared(), 0, set()
    while True:
        number += 1
        folder, acknowledged = tmp_path / str(number), set()
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            calls = Failing(patch, folder, number)
            asyncio.run(life(folder, policy, [event("a"), event("b")], acknowledged))
        if not calls.failed:
            break
        failed.add(calls.failed)
        asyncio.run(life(folder, policy, [event("c")], acknowledged))
        table = appending.open_table(open_store(folder / "store"), "logs/payments/predictions")
        ids = table.to_pyarrow_table(columns=["_id"])["_id"].to_pylist()
        assert acknowledged <= set(ids), calls.failed
        assert "c" in acknowledged
        assert not list(Path(folder).glob("spool/journal/*.log")), calls.failed
    assert failed >= {"open", "write", "fsync", "fdatasync", "unlink", "statvfs"}
    assert not [record for record in caplog.records if record.exc_info]
