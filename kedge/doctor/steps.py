"""Why a step of a run on Kubeflow Pipelines does not begin, or what its pod said last: Kubeflow's API keeps neither."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from kedge.doctor.api import Cluster
from kedge.policy.cluster import StepName

RUN = "pipeline/runid"
"""Label of the pods of a run, with its id."""
PLACE = "workflows.argoproj.io/node-name"
"""Annotation with the way to a pod's step: ``retrain-x.root.exit-handler-1.train.executor``."""
STEPS = frozenset(get_args(StepName))
STUCK = frozenset({
    "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff",
    "InvalidImageName",
})  # fmt: skip
"""What a container waits with that waiting does not mend."""
PATIENCE = timedelta(minutes=2)
"""How long a pod may wait so: a Secret may be made a moment after the run that reads it."""
SECRET = re.compile(r"secret \"?(?P<name>[a-z0-9.-]+)\"? not found", re.IGNORECASE)
KEY = re.compile(r"couldn't find key (?P<key>\S+) in Secret (?P<name>\S+)")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A pod of a run that cannot begin, or ended badly."""

    step: str | None
    pod: str
    """As NAMESPACE/NAME."""
    reason: str
    """Of the pod, in Kubernetes' or its own words, and what to do."""

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.reason}"


def stuck(cluster: Cluster, namespace: str, run: str, now: datetime) -> Trouble | None:
    """The first pod of a run that has waited in vain for its container to begin; None: none has.

    Raises:
        DeniedError: the pods there may not be listed.
    """
    for pod in _pods(cluster, namespace, run):
        since = (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp")
        if since is None or now - _time(since) < PATIENCE:
            continue
        for each in _containers(pod):
            waits = (each.get("state") or {}).get("waiting") or {}
            if waits.get("reason") in STUCK:
                said = f"{waits['reason']}: {str(waits.get('message', ''))[:500]}".rstrip(": ")
                return _trouble(pod, namespace, f"{said}; {_remedy(said, namespace)}")
    return None


def last_words(cluster: Cluster, namespace: str, run: str) -> Trouble | None:
    """What the pod of a run that ended badly said last; None: no pod is left, or none says anything.

    Arguments and errors as for :func:`stuck`.
    """
    for pod in _pods(cluster, namespace, run):
        for each in _containers(pod):
            ended = (each.get("state") or {}).get("terminated") or {}
            if not ended.get("exitCode"):
                continue
            words = str(ended.get("message") or "").strip()
            if words or ended.get("reason") == "OOMKilled":
                killed = "killed for its memory; give the step more under cluster.steps in the policy"
                return _trouble(pod, namespace, words or killed)
    return None


def _pods(cluster: Cluster, namespace: str, run: str) -> list[Mapping[str, Any]]:
    return cluster.within(namespace, "", "v1", "pods", labels=f"{RUN}={run}")


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from (pod.get("status") or {}).get(kind) or ()


def _trouble(pod: Mapping[str, Any], namespace: str, reason: str) -> Trouble:
    place = (pod["metadata"].get("annotations") or {}).get(PLACE, "")
    return Trouble(step=_step(place.split(".")), pod=f"{namespace}/{pod['metadata']['name']}", reason=reason)


def _step(way: Iterable[str]) -> str | None:
    """The step at the end of the way.

    >>> _step(["retrain-x", "root", "exit-handler-1", "train", "executor"]), _step(["x", "root", "notify-driver"])
    ('train', 'notify')
    """
    named = [part.removesuffix("-driver") for part in way]
    return next((part for part in reversed(named) if part in STEPS), None)


def _remedy(said: str, namespace: str) -> str:
    """What to type, with the name and the namespace that it takes."""
    lacks = KEY.search(said)
    if lacks is not None:
        name = lacks["name"].rpartition("/")[2]
        return f"the policy's cluster.secrets and the Secret disagree: kubectl -n {namespace} describe secret {name}"
    lacks = SECRET.search(said)
    if lacks is not None:
        return (
            f"the policy's cluster.secrets names it, and it must stand beside the run: kubectl -n {namespace} create "
            f"secret generic {lacks['name']} --from-literal=KEY=VALUE; then submit again"
        )
    return f"kubectl -n {namespace} get events; then submit again"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
