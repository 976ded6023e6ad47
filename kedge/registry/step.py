"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from typing import Any

from kedge import policy as policies
from kedge import steps
from kedge.registry import register as stage
from kedge.registry.registry import Registry
from kedge.store import open_store


def register(policy: dict[str, Any], store: str, registry: str, run: str, bundle: str) -> str:
    """Run the step. Raises what :func:`register.run` raises."""
    parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)
    return steps.run_step(
        opened, parsed.name, "register", lambda: stage.run(parsed, opened, Registry(registry), run, bundle), run=run
    )
