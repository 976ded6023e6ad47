"""What the steps of the small pipelines do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from kedge import steps
from kedge.errors import DataError
from kedge.store import open_store

BUNDLE = "b" * 40


def verdict(policy: dict[str, Any], store: str, run: str, passed: bool) -> bool:
    return steps.run_step(open_store(store), policy["model"]["name"], "verdict", lambda: passed, run=run)


def closing(policy: dict[str, Any], store: str, run: str) -> str:
    opened, model = open_store(store), policy["model"]["name"]
    done = lambda: steps.finish(opened, model, run, "succeeded", bundle=BUNDLE, version="7")  # noqa: E731
    steps.run_step(opened, model, "closing", done, run=run)
    return "7"


def broken(policy: dict[str, Any], store: str, run: str, how: str) -> bool:
    def work() -> bool:
        if how == "user":
            raise DataError("column 'amount' is missing")
        if how == "crash":
            raise ZeroDivisionError("it happens")
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    return steps.run_step(open_store(store), policy["model"]["name"], "broken", work, run=run)


def slow(policy: dict[str, Any], store: str, run: str) -> str:
    opened = open_store(store)

    def wait() -> None:
        opened.put("step-pid", str(os.getpid()).encode())
        while not Path(store, "go-on").exists():
            time.sleep(0.05)

    steps.run_step(opened, policy["model"]["name"], "slow", wait, run=run)
    return closing(policy, store, run)
