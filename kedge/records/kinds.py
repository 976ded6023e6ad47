"""The data of each kind of record: what happened, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from kedge.records.checked import Breach, Checked, Figure, Window

Kind = Literal[
    "check",
    "run-started",
    "run-finished",
    "evaluated",
    "registered",
    "approved",
    "accepted",
    "release-started",
    "adopted",
    "scored",
    "promoted",
    "rolled-back",
    "quarantined",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
Pipeline = Literal["retrain", "release"]
RunState = Literal["succeeded", "rejected", "inconclusive", "failed"]
"""``rejected``: the run did its work, and its candidate did not pass; ``inconclusive``: the evidence was too little for
either verdict."""


Outcome = Literal["passed", "rejected", "inconclusive"]
"""Of a gate, and of all of them."""


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A pipeline run was submitted. Key: the run's name, from its second attempt on ``<run>.<attempt>``."""

    run: str
    attempt: int = 1
    pipeline: Pipeline = "retrain"
    reason: str = ""
    decision_key: str = ""
    """Of a retraining: the decision it carries out, or the key a person gave it."""
    bundle: str = ""
    """Of a release: what is released."""
    owner: Mapping[str, Any] = field(default_factory=dict)
    """The process that submitted it."""
    kfp: str | None = None
    """Address of the Kubeflow Pipelines it went to; None: the local runner."""
    commit: str = ""
    """Of the repository that the policy's file is in; empty: not known."""


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """An attempt of a run ended. Key: as of its start."""

    run: str
    state: RunState
    step: str | None = None
    """Where it ended, if not at the end."""
    reason: str | None = None
    bundle: str | None = None
    version: str | None = None
    """In the registry."""
    outcome: str | None = None
    """Of a release."""
    rows_needed: int = 0
    """About so many more held-out rows would make an inconclusive run conclusive."""
    exit_code: int | None = None
    """Of a failed one; 2: the user's mistake, so that the same run would fail again."""
    submitted: bool = True
    """False: the attempt was refused, so that nothing ran."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate's verdict on a challenger."""

    name: str
    outcome: Outcome
    passed: bool
    sentence: str
    rows_needed: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A challenger was held against the champion. Key: bundle and run, see :func:`evaluation_key`."""

    bundle: str
    champion: str | None = None
    run: str = ""
    outcome: Outcome
    passed: bool
    reasons: tuple[str, ...] = ()
    rows_needed: int = 0
    """About so many more judged rows would make an inconclusive one conclusive."""
    gates: tuple[Gate, ...] = ()
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    report: str = ""
    """The page's key in the store."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A challenger that passed its gates has a version. Key: the bundle."""

    bundle: str
    version: str = ""
    run: str = ""
    registry: str = ""


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A person approved the release of a bundle, a step of it, or a retraining. Key: what was approved, numbered if
    done again."""

    bundle: str = ""
    step: str = ""
    """Of the release of the bundle; empty: the release itself."""
    decision_key: str = ""
    reason: str = ""
    after_attempt: int | None = None
    """Number of the release whose rollback it answers; 0: of none. None: an earlier version's, whose time says it."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A person says that a feed changed for good. Key: that of the newest check then."""

    reason: str
    breaches: tuple[Breach, ...]
    """What no longer quarantines, up to these shares of the rows."""
    windows: tuple[Window, ...]
    """Quarantined windows whose rows count again."""


@dataclass(frozen=True, kw_only=True)
class _Release:
    bundle: str
    attempt: int = 1
    run: str = ""
    slot: str = ""
    previous: str | None = None
    """The bundle that served before."""


@dataclass(frozen=True, kw_only=True)
class _DecidedRelease(_Release):
    reason: str = ""
    evidence: tuple[Mapping[str, Any], ...] = ()
    """What was counted, span by span."""


@dataclass(frozen=True, kw_only=True)
class ReleaseStarted(_Release):
    """A release of a bundle was begun. Key: bundle and attempt."""


@dataclass(frozen=True, kw_only=True)
class Promoted(_DecidedRelease):
    """The bundle has all traffic. Key: as of the release's start."""


@dataclass(frozen=True, kw_only=True)
class RolledBack(_DecidedRelease):
    """The bundle has no traffic any more. Key: as of the release's start."""

    not_started: bool = False
    """No process was ever begun with the bundle: the platform was at fault, nothing was judged."""
    not_judged: bool = False
    """The evidence was too little for a verdict: the bundle is not condemned."""

    @property
    def condemned(self) -> bool:
        """Whether the bundle was found bad, by a test or by a person: released again only if somebody approves it."""
        return not (self.not_started or self.not_judged)


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A model that kedge did not train is watched from then on. Key: ``1``."""

    service: str = ""
    serves: str = ""
    model: str = ""
    rows: int = 0
    """So many of its first requests are the reference; 0: a table is."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A table was scored and its predictions are in the log, at the record's time. Key: the hash of its ids, in their
    order."""

    bundle: str
    """Whose answers count."""
    candidate: str = ""
    """The bundle that scored the same rows beside it; empty: none."""
    rows: int = 0
    digest: str = ""
    """Hash of ids and features."""
    data: str = ""
    """Where the table lies."""
    output: str = ""
    """Where the predictions went."""


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A window whose feed was found corrupt. An empty object whose name says it all, so that none need be read."""

    window: Window


Data: TypeAlias = (
    Checked
    | RunStarted
    | RunFinished
    | Evaluated
    | Registered
    | Approved
    | Accepted
    | ReleaseStarted
    | Adopted
    | Scored
    | Promoted
    | RolledBack
    | Quarantined
)
TYPES: Mapping[Kind, type[Data]] = {
    "check": Checked,
    "run-started": RunStarted,
    "run-finished": RunFinished,
    "evaluated": Evaluated,
    "registered": Registered,
    "approved": Approved,
    "accepted": Accepted,
    "release-started": ReleaseStarted,
    "adopted": Adopted,
    "scored": Scored,
    "promoted": Promoted,
    "rolled-back": RolledBack,
    "quarantined": Quarantined,
}
