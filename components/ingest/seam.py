"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import policy as policies
from components import step
from components.errors import UsageError
from components.ingest import ingest as stage
from components.store import open_store, write_file
from components.tables import snapshot


def ingest(policy: dict[str, Any], store: str, run: str, end: str, rows: Any) -> str:
    """Run the step; ``rows`` is the KFP Dataset that gets the manifest. Raises what :func:`ingest.run` raises."""
    parsed, opened, run = policies.parse(policy), open_store(store), step.run_name(run)

    def keep() -> str:
        name = stage.run(parsed, opened, _time(end))
        taken = snapshot.load(opened, parsed.name, name)
        write_file(Path(rows.path), snapshot.manifest(taken))
        rows.metadata |= {"fingerprint": name, "rows": taken.rows, "newest": str(taken.newest)}
        return name

    return step.perform(opened, parsed.name, "ingest", keep, run=run)


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"end {text!r}: not a time such as 2026-03-02T00:00:00+00:00") from exc
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
