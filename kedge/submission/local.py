"""Run a pipeline with KFP's local runner, in a process of its own.

KFP's runner sets handlers on the root logger, replaces ``print`` and keeps its settings for the process; here it may.
The process reads one line of JSON from standard input, ``{"spec": "retrain.yaml", "arguments": {...}}``, and runs until
the pipeline ends or standard input is closed: whoever started it holds the other end, so its death, however it comes,
ends the pipeline and every step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from typing import Any

from kedge.steps import PIPELINE_RUN


def main() -> None:
    """Run the pipeline that standard input names; exit 1 if a step failed."""
    order = json.loads(sys.stdin.buffer.readline())
    with tempfile.TemporaryDirectory(prefix="kedge-run-") as root:
        os.environ["TMPDIR"] = tempfile.mkdtemp(dir=root)  # KFP's steps leave files in theirs
        os.environ[PIPELINE_RUN] = f"local-{uuid.uuid4()}"
        threading.Thread(target=_end_with_parent, args=(root,), daemon=True).start()
        try:
            run(order["spec"], order["arguments"], root)
        except RuntimeError as exc:  # what KFP raises when a step fails; the step has said why
            sys.stderr.write(f"{exc}\n")
            sys.exit(1)


def run(spec: str, arguments: dict[str, Any], root: str) -> None:
    """Run the compiled pipeline in the file ``spec`` in this process; its artefacts lie below ``root``.

    Raises:
        RuntimeError: a step failed.
    """
    from kfp import components, local

    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, workspace_root=tempfile.mkdtemp(dir=root),
        raise_on_error=True,
    )  # fmt: skip
    components.load_component_from_file(spec)(**arguments)


def _end_with_parent(root: str) -> None:
    while os.read(0, 1024):  # empty when the other end is closed; sys.stdin would be locked when the interpreter ends
        pass
    shutil.rmtree(root, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # the steps are in this process's group


if __name__ == "__main__":
    main()
