"""Plain values in, plain values out: what the pipeline passes to the steps ingest and validate, and takes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedge import clock, steps
from kedge import policy as policies
from kedge.data import ingest as ingestion
from kedge.data import validate as validation
from kedge.store import open_store, write_file
from kedge.tables import snapshot


def ingest(policy: dict[str, Any], store: str, run: str, end: str, rows: Any) -> str:
    """Run the step; ``rows`` is the KFP Dataset that gets the manifest. Raises what :func:`ingest.run` raises."""
    parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)

    def keep() -> str:
        name = ingestion.run(parsed, opened, clock.parse("end", end) if end else None)
        taken = snapshot.load(opened, parsed.name, name)
        write_file(Path(rows.path), snapshot.manifest(taken))
        rows.metadata |= {"fingerprint": name, "rows": taken.rows, "newest": str(taken.newest)}
        return name

    return steps.run_step(opened, parsed.name, "ingest", keep, run=run)


def validate(policy: dict[str, Any], store: str, fingerprint: str, rows: Any, report: Any) -> str:
    """Run the step; ``rows`` and ``report`` are the KFP artefacts. Raises what :func:`validate.run` raises."""
    parsed, opened = policies.parse(policy), open_store(store)

    def check() -> str:
        name = validation.run(parsed, opened, fingerprint, Path(report.path))
        cleaned = snapshot.load(opened, parsed.name, name)
        write_file(Path(rows.path), snapshot.manifest(cleaned))
        rows.metadata |= {"fingerprint": name, "rows": cleaned.rows}
        return name

    return steps.run_step(opened, parsed.name, "validate", check)
