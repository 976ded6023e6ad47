"""Plain values in, plain values out: what the pipeline hands the step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from kedge import notify as messages
from kedge import policy as policies
from kedge import records, steps
from kedge.records import Evaluated, Record, RunFinished
from kedge.registry import trainings
from kedge.store import Store, open_store, write_file


def notify(policy: dict[str, Any], store: str, run: str, card: Any, registry: str = "") -> str:
    """Run the step; ``card`` is the KFP Markdown. Never raises: who hears of a run must not decide its end.

    Of a training MLflow hears too, at ``registry``.
    """
    try:
        parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)
        finished = steps.with_retries("notify", lambda: steps.finalize_run(opened, parsed.name, run))
        write_file(Path(card.path), messages.card(finished, _evaluated(opened, finished)).encode())
        if parsed.notify.url_variable is not None:  # else whoever submitted it, and the card, say it
            steps.say(f"notify: {messages.text(finished)}")
        steps.say(f"notify: {messages.send(parsed, finished)}")
        if registry:
            trainings.tell(parsed, opened, registry)
        return finished.data.state
    except Exception as exc:  # noqa: BLE001
        steps.say(f"notify: failed: {type(exc).__name__}: {exc}")
        return "unknown"


def rejected(policy: dict[str, Any], store: str, run: str) -> NoReturn:
    """End the process with exit code 1 and the run's verdict as its last line."""
    parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)
    finished = steps.with_retries("rejected", lambda: steps.finalize_run(opened, parsed.name, run))
    sys.exit(f"kedge: {messages.text(finished)}")


def _evaluated(store: Store, finished: Record[RunFinished]) -> Record[Evaluated] | None:
    bundle = finished.data.bundle
    if not bundle:
        return None
    return records.find(store, finished.model, Evaluated, records.evaluation_key(bundle, finished.data.run))
