"""Plain values in, plain values out: what the pipeline hands the step and takes from it."""

from __future__ import annotations

from typing import Any

from components import policy as policies
from components import step
from components.register import register as stage
from components.register.registry import Registry
from components.store import open_store


def register(policy: dict[str, Any], store: str, registry: str, run: str, bundle: str) -> str:
    """Run the step. Raises what :func:`register.run` raises."""
    parsed, opened, run = policies.parse(policy), open_store(store), step.run_name(run)
    return step.perform(
        opened, parsed.name, "register", lambda: stage.run(parsed, opened, Registry(registry), run, bundle), run=run
    )
