"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import policy as policies
from components import step
from components.store import open_store, write_file
from components.tables import snapshot
from components.validate import validate as stage


def validate(policy: dict[str, Any], store: str, fingerprint: str, rows: Any, report: Any) -> str:
    """Run the step; ``rows`` and ``report`` are the KFP artefacts. Raises what :func:`validate.run` raises."""
    parsed, opened = policies.parse(policy), open_store(store)

    def check() -> str:
        name = stage.run(parsed, opened, fingerprint, Path(report.path))
        cleaned = snapshot.load(opened, parsed.name, name)
        write_file(Path(rows.path), snapshot.manifest(cleaned))
        rows.metadata |= {"fingerprint": name, "rows": cleaned.rows}
        return name

    return step.perform(opened, parsed.name, "validate", check)
