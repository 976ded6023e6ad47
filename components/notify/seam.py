"""Plain values in, plain values out: what the pipeline hands the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import notify as messages
from components import policy as policies
from components import record, step
from components.record import Record
from components.store import Store, open_store, write_file


def notify(policy: dict[str, Any], store: str, run: str, card: Any) -> str:
    """Run the step; ``card`` is the KFP Markdown. Never raises: who hears of a run must not decide its end."""
    try:
        parsed, opened, run = policies.parse(policy), open_store(store), step.run_name(run)
        finished = step.persistent("notify", lambda: step.conclude(opened, parsed.name, run))
        write_file(Path(card.path), messages.card(finished, _evaluated(opened, finished)).encode())
        step.say(f"notify: {messages.text(finished)}")
        step.say(f"notify: {messages.send(parsed, finished)}")
        return str(finished.data["state"])
    except Exception as exc:  # noqa: BLE001
        step.say(f"notify: failed: {type(exc).__name__}: {exc}")
        return "unknown"


def _evaluated(store: Store, finished: Record) -> Record | None:
    bundle = finished.data.get("bundle")
    if not bundle:
        return None
    return record.find(store, finished.model, "evaluated", record.evaluation_key(bundle, finished.data["run"]))
