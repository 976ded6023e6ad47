"""Commands of a page that are run as they stand: shell blocks marked ``sh runnable``."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from kedge.cpus import PATIENT
from kedge.rollout.local.servers import free_port

ROOT = Path(__file__).parents[2]
MARK = "```sh runnable"
PORTS = ("8080", "8081")
MAX_SECONDS = 550


def pages() -> list[Path]:
    """Pages that have such a block."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if MARK in path.read_text()]


def blocks(page: str) -> list[str]:
    """Their text, in order.

    >>> blocks(f"text\\n{MARK}\\necho a\\n```\\n```sh\\nmake demo\\n```")
    ['echo a\\n']
    """
    return [part.partition("```")[0].removeprefix("\n") for part in page.split(MARK)[1:]]


def checkout(folder: Path) -> Path:
    """A folder as a reader has it after ``make install``: the examples, and both commands in ``.venv/bin``."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, words in (("kedge", "-P -m kedge.cli"), ("python", "")):
        command = folder / ".venv" / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        command.chmod(0o755)
    return folder


def run(page: Path, folder: Path) -> str:
    """Run a page's blocks as one script that ends at its first failure; what it printed.

    Ports that the page names are replaced by free ones, and whatever it left running is ended.
    """
    names = ("PATH", "HOME", "SSL_CERT_FILE", *PATIENT)
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    script = "".join(blocks(page.read_text()))
    ports = {port: str(free_port()) for port in PORTS}
    script = re.sub("|".join(PORTS), lambda found: ports[found[0]], script)
    with tempfile.TemporaryFile("w+") as printed:
        shell = subprocess.Popen(
            ["timeout", str(MAX_SECONDS), "bash", "-euo", "pipefail", "-c", script],  # ends also if this test is killed
            cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(MAX_SECONDS + 10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
        printed.seek(0)
        text = printed.read()
    assert code == 0, f"{page.name} ended with {code}:\n{text}"
    return text
