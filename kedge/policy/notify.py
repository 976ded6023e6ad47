"""Section `notify`: who is told how a run ended, and what else has to be known."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from kedge.policy.section import VARIABLE, Section


def _state_of_today(value: object) -> object:
    return "rejected" if value == "gated" else value  # its earlier name


RunState = Annotated[
    Literal["succeeded", "rejected", "inconclusive", "failed"],
    BeforeValidator(_state_of_today),
    WithJsonSchema({"type": "string", "enum": ["succeeded", "rejected", "inconclusive", "failed", "gated"]}),
]


Notice = Literal["warning", "quarantine", "approval", "rollback", "limits", "overdue"]


class Notify(Section):
    """Who is told how a run ended, and what else has to be known."""

    url_variable: Annotated[str, Field(pattern=VARIABLE)] | None = None
    """Name of the environment variable with the address to post to, so that no secret is in a policy: the incoming
    webhook of a chat, or anything that takes `{"text": "..."}`. On a cluster it comes from a Secret in
    `cluster.secrets`. Null: nobody."""
    states: tuple[RunState, ...] = ("succeeded", "rejected", "inconclusive", "failed")
    """Ends that are told; `rejected` is a candidate that did not pass or was rolled back, `inconclusive` one that there
    are too few rows to judge."""
    notices: tuple[Notice, ...] = ("warning", "quarantine", "approval", "rollback", "limits", "overdue")
    """Causes that are told, each once while it lasts: a check warns, a feed is quarantined, a retraining or a release
    waits for an approval, a champion was rolled back, who serves exceeds the guard's limits and cannot go back, a check
    does not come."""
