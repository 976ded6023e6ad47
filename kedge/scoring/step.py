"""Plain values in, plain values out: what the pipeline and the command hand the scoring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kedge import policy as policies
from kedge import steps
from kedge.policy import Policy
from kedge.rollout.step import ledger
from kedge.scoring.score import Scoring
from kedge.scoring.score import score as scored
from kedge.store import open_store


def score(policy: dict[str, Any], store: str, registry: str, data: str, output: str, query: str) -> int:
    """Run the step: how many rows were scored. Raises what :func:`kedge.scoring.score.score` raises."""
    parsed, opened = policies.parse(policy), open_store(store)
    done = steps.run_step(
        opened,
        parsed.name,
        "score",
        lambda: of_policy(parsed, store, registry, data, output, query=query or None, say=steps.say),
    )
    return done.rows


def of_policy(
    policy: Policy,
    store: str,
    registry: str,
    data: str,
    output: str,
    *,
    at: datetime | None = None,
    say: Callable[[str], None],
    **asked: Any,
) -> Scoring:
    """Score a table by addresses; ``asked`` are other arguments of :func:`kedge.scoring.score.score`."""
    opened = open_store(store)
    return scored(ledger(policy, opened, registry, now=at), data, output, at=at, say=say, **asked)
