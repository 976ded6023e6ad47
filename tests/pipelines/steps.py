"""What the steps of the small pipelines do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from components import step
from components.errors import DataError
from components.store import open_store

BUNDLE = "b" * 40


def verdict(policy: dict[str, Any], store: str, run: str, passed: bool) -> bool:
    with step.recorded(open_store(store), policy["model"]["name"], run, "verdict"):
        return passed


def closing(policy: dict[str, Any], store: str, run: str) -> str:
    opened, model = open_store(store), policy["model"]["name"]
    with step.recorded(opened, model, run, "closing"):
        step.finish(opened, model, run, "succeeded", bundle=BUNDLE, version="7")
    return "7"


def broken(policy: dict[str, Any], store: str, run: str, how: str) -> bool:
    with step.recorded(open_store(store), policy["model"]["name"], run, "broken"):
        if how == "user":
            raise DataError("column 'amount' is missing")
        if how == "crash":
            raise ZeroDivisionError("it happens")
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def slow(policy: dict[str, Any], store: str, run: str) -> str:
    opened = open_store(store)
    with step.recorded(opened, policy["model"]["name"], run, "slow"):
        opened.put("step-pid", str(os.getpid()).encode())
        while not Path(store, "go-on").exists():
            time.sleep(0.05)
    return closing(policy, store, run)
