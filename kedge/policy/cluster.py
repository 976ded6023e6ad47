"""Section `cluster`: what a run's steps use on Kubernetes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kedge.policy.section import VARIABLE, Section

OBJECT = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
LABEL = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
StepName = Literal["ingest", "validate", "train", "evaluate", "register", "deploy", "rejected", "notify", "score"]
NodeLabels = dict[Annotated[str, Field(pattern=LABEL)], Annotated[str, Field(pattern=LABEL_VALUE)]]


class Toleration(Section):
    """A taint of nodes that a step may run on all the same."""

    key: Annotated[str, Field(pattern=LABEL)]
    """Key of the taint."""
    value: str | None = None
    """Its value; null: any."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Its effect; null: all."""


class Secret(Section):
    """A Secret beside the run, by its name: what it holds is in no policy, no pipeline and no run."""

    name: Annotated[str, Field(pattern=OBJECT)]
    """Name of the Secret."""
    keys: tuple[Annotated[str, Field(pattern=VARIABLE)], ...] = Field(min_length=1)
    """Its keys that become environment variables of the same names."""


class Volume(Section):
    """A PersistentVolumeClaim beside the run, by its name."""

    claim: Annotated[str, Field(pattern=OBJECT)]
    """Name of the claim."""
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]
    """Where its files are seen."""


class StepUse(Section):
    """What one step uses on a cluster; null: what the cluster gives by itself."""

    cpu: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    """Processor cores, asked for and at most."""
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(Mi|Gi|Ti|M|G|T)$")] | None = None
    """Memory such as 4Gi, asked for and at most: above it the step is killed."""
    max_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """A pod of this step still running after this time is ended; the step has failed."""
    node_selector: NodeLabels | None = None
    """Nodes for this step, instead of those for all."""
    tolerations: tuple[Toleration, ...] | None = None
    """Taints this step tolerates, instead of those for all."""


class Cluster(Section):
    """What the steps of a run use on a cluster. Nothing in here changes what is trained."""

    steps: dict[StepName, StepUse] = Field({})
    """Step by step; `deploy` is the one step of a release and lasts as long as it; `rejected` fails a run whose
    candidate did not pass; `notify` is the last of both; `score` scores a table."""
    node_selector: NodeLabels = Field({})
    """Labels that nodes of every step have, such as those of a node pool."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that every step tolerates."""
    secrets: tuple[Secret, ...] = ()
    """Secrets that every step reads as environment variables: credentials of the store and of the data."""
    volumes: tuple[Volume, ...] = ()
    """Claims that every step mounts."""
