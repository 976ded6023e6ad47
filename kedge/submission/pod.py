"""What the pods of every step are in this installation, beside what a policy says of its own.

Named as in a pod of Kubernetes, as far as a compiled pipeline of Kubeflow Pipelines 2.17 can say it. There is no field
for a priority class, for topology, host aliases or volumes that are no claims.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kedge.errors import UsageError

VARIABLE = "KEDGE_STEP_POD"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
Texts = dict[str, str]
Spec = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecurityContext(_Part):
    """Whom a step runs as; null: whom the image names, or the platform."""

    runAsUser: int | None = None  # noqa: N815
    runAsGroup: int | None = None  # noqa: N815
    runAsNonRoot: bool = True  # noqa: N815


class Amounts(_Part):
    """Processors and memory, as Kubernetes writes them."""

    cpu: str | int | float | None = None
    memory: str | int | None = None


class Resources(_Part):
    """Requests and limits of a step whose policy names none."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()


class StepPod(_Part):
    """The pods of every step."""

    labels: Texts = Field({})
    annotations: Texts = Field({})
    imagePullSecrets: tuple[str, ...] = ()  # noqa: N815
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None  # noqa: N815
    nodeSelector: Texts = Field({})  # noqa: N815
    tolerations: tuple[Spec, ...] = ()
    affinity: Spec = Field({})
    securityContext: SecurityContext = SecurityContext()  # noqa: N815
    env: Texts = Field({})
    resources: Resources = Resources()


def step_pod(environment: Mapping[str, str] = os.environ) -> StepPod:
    """What ``$KEDGE_STEP_POD`` says; the chart sets it for the checks, which submit runs.

    >>> step_pod({"KEDGE_STEP_POD": '{"imagePullSecrets": ["registry"]}'}).imagePullSecrets
    ('registry',)

    Raises:
        UsageError: it is no JSON, or names what a step's pod cannot have.
    """
    text = environment.get(VARIABLE) or "{}"
    try:
        return StepPod.model_validate(json.loads(text))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        names = ", ".join(StepPod.model_fields)
        raise UsageError(f"${VARIABLE}: {place}: {first['msg']}; a step's pod has {names}") from exc
    except ValueError as exc:
        raise UsageError(f"${VARIABLE}: not JSON: {exc}; write a JSON object such as {{}}") from exc


def kubernetes_executor(pod: StepPod) -> Spec:
    """The same in the words of Kubeflow Pipelines' platform spec, empty parts left in."""
    return {
        "podMetadata": {"labels": pod.labels, "annotations": pod.annotations} if pod.labels or pod.annotations else {},
        "imagePullSecret": [
            {"secretName": name, "secretNameParameter": constant(name)} for name in pod.imagePullSecrets
        ],
        "imagePullPolicy": pod.imagePullPolicy,
        "nodeSelector": {"labels": pod.nodeSelector} if pod.nodeSelector else {},
        "tolerations": [_whole(taint, "tolerationSeconds") for taint in pod.tolerations],
        "nodeAffinity": list(_nodes(pod.affinity.get("nodeAffinity") or {})),
        "podAffinity": [
            *_neighbours(pod.affinity.get("podAffinity") or {}, anti=False),
            *_neighbours(pod.affinity.get("podAntiAffinity") or {}, anti=True),
        ],
        "securityContext": {
            name: value if name == "runAsNonRoot" else str(value)
            for name, value in pod.securityContext.model_dump(exclude_none=True).items()
        },
    }


def constant(text: str) -> Spec:
    """A parameter that is known when the pipeline is compiled."""
    return {"runtimeValue": {"constant": text}}


def _nodes(affinity: Spec) -> Iterator[Spec]:
    for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ():
        yield dict(term)
    for each in affinity.get(PREFERRED) or ():
        yield {**each["preference"], "weight": each["weight"]}


def _neighbours(affinity: Spec, *, anti: bool) -> Iterator[Spec]:
    for term in affinity.get(REQUIRED) or ():
        yield _neighbour(term, anti)
    for each in affinity.get(PREFERRED) or ():
        yield {**_neighbour(each["podAffinityTerm"], anti), "weight": each["weight"]}


def _neighbour(term: Spec, anti: bool) -> Spec:
    pods, spaces = term.get("labelSelector") or {}, term.get("namespaceSelector") or {}
    said = {
        "matchPodExpressions": pods.get("matchExpressions"),
        "matchPodLabels": pods.get("matchLabels"),
        "topologyKey": term.get("topologyKey"),
        "namespaces": term.get("namespaces"),
        "matchNamespaceExpressions": spaces.get("matchExpressions"),
        "matchNamespaceLabels": spaces.get("matchLabels"),
        "anti": anti,
    }
    return {name: value for name, value in said.items() if value}


def _whole(part: Spec, *numbers: str) -> Spec:
    """Numbers of 64 bits are texts in the JSON of a compiled pipeline."""
    return {name: str(int(value)) if name in numbers else value for name, value in part.items()}
