"""What each step of a pipeline uses on a cluster, on which nodes, never as root, and what KFP may cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kedge.policy.cluster import Cluster, Secret, StepUse, Toleration
from kedge.steps import PIPELINE_RUN
from kedge.submission.pod import StepPod, constant, kubernetes_executor

CACHED = ("validate", "train")
"""Steps that make the same of the same policy, rows and code, and leave nothing but what they made, under its hash.
``ingest`` is none: it reads a table whose rows no parameter holds, and says which they are."""
RUN_LABEL = "metadata.labels['pipeline/runid']"

Spec = dict[str, Any]


def containers(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Each step of a compiled pipeline with its container."""
    for label, executor in spec["deploymentSpec"]["executors"].items():
        yield label.removeprefix("exec-"), executor["container"]


def limit_caching(spec: Spec, *, cached: bool) -> None:
    """Say for each step whether KFP's cache may answer for it.

    The cache takes a step for the same by its image's name and its parameters, so it may be asked (``cached``) only
    where the name is a digest, and is, only for steps whose parameters are all they depend on.
    """
    steps = {name for name, _ in containers(spec)}
    for dag in (each["dag"] for each in (spec["root"], *spec["components"].values()) if "dag" in each):
        for name in steps & dag["tasks"].keys():
            dag["tasks"][name]["cachingOptions"] = {"enableCache": True} if cached and name in CACHED else {}


def limit_resources(spec: Spec, cluster: Cluster, pod: StepPod) -> None:
    """Give each step the processors and the memory that the policy names for it, else what the installation does."""
    for name, container in containers(spec):
        use = _use(name, cluster)
        cpu = None if use.cpu is None else f"{use.cpu:g}"
        amounts = {
            f"resource{what}{kind}": own or given
            for kind, others in (("Request", pod.resources.requests), ("Limit", pod.resources.limits))
            for what, own, given in (("Cpu", cpu, others.cpu), ("Memory", use.memory, others.memory))
        }
        resources = {name: str(amount) for name, amount in amounts.items() if amount}
        if resources:
            container["resources"] = resources
        if pod.env:
            container["env"] = [{"name": variable, "value": value} for variable, value in pod.env.items()]


def platform_spec(spec: Spec, cluster: Cluster, pod: StepPod) -> Spec:
    """What the pods of a pipeline's steps use, as the spec of the platform Kubernetes.

    A policy is a value of the run, and what a pod uses must be known before: it is set when a pipeline is compiled.
    """
    executors = {f"exec-{name}": _pod(_use(name, cluster), cluster, pod) for name, _ in containers(spec)}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _use(step: str, cluster: Cluster) -> StepUse:
    return next((use for name, use in cluster.steps.items() if name == step), StepUse())


def _pod(use: StepUse, cluster: Cluster, pod: StepPod) -> Spec:
    """One step's pod: a policy's own words before the installation's. Names stand twice, as KFP 2.17 writes them: for
    drivers that read only the older field. KFP drops capabilities, but would run as root."""
    parts = kubernetes_executor(pod)
    labels = cluster.node_selector or None if use.node_selector is None else use.node_selector
    taints = cluster.tolerations or None if use.tolerations is None else use.tolerations
    if labels is not None:
        parts["nodeSelector"] = {"labels": dict(labels)} if labels else {}
    if taints is not None:
        parts["tolerations"] = [_toleration(taint) for taint in taints]
    parts |= {
        "fieldPathAsEnv": [{"name": PIPELINE_RUN, "fieldPath": RUN_LABEL}],
        "activeDeadlineSeconds": None if use.max_seconds is None else str(use.max_seconds),
        "secretAsEnv": [_environment(secret) for secret in cluster.secrets],
        "pvcMount": [
            {"constant": volume.claim, "pvcNameParameter": constant(volume.claim), "mountPath": volume.path}
            for volume in cluster.volumes
        ],
    }
    return {name: value for name, value in parts.items() if value}


def _environment(secret: Secret) -> Spec:
    """A secret's keys as variables of the same names."""
    return {
        "secretName": secret.name,
        "secretNameParameter": constant(secret.name),
        "keyToEnv": [{"secretKey": key, "envVar": key} for key in secret.keys],
        "optional": False,
    }


def _toleration(taint: Toleration) -> Spec:
    operator = "Exists" if taint.value is None else "Equal"
    toleration = {"key": taint.key, "operator": operator, "value": taint.value, "effect": taint.effect}
    return {name: text for name, text in toleration.items() if text is not None}
