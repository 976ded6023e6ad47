"""A pipeline as it runs on a cluster: what each step uses, on which nodes, never as root, and what KFP may cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_context import Pipeline

from kedge.policy.model import Cluster, StepUse, Toleration
from kedge.steps import PIPELINE_RUN

CACHED = ("validate", "train")
"""Steps that make the same of the same policy, rows and code, and leave nothing but what they made, under its hash.
``ingest`` is none: it reads a table whose rows no parameter holds, and says which they are."""
RUN_LABEL = "metadata.labels['pipeline/runid']"


def on_cluster(pipeline: GraphComponent, cluster: Cluster, *, cached: bool) -> GraphComponent:
    """The same pipeline, whose every step uses what the policy's section ``cluster`` says.

    A policy is a value of the run, and what a pod uses must be known before: it is set when a pipeline is compiled.
    KFP's cache takes a step for the same by its image's name and its parameters, so it may be asked (``cached``) only
    where the name is a digest, and is, only for steps whose parameters are all they depend on.
    """
    sentence = pipeline.pipeline_func

    @functools.wraps(sentence)
    def with_settings(*parameters: Any) -> None:
        sentence(*parameters)
        for task in Pipeline.get_default_pipeline().tasks.values():
            _settle(task, cluster)
            task.set_caching_options(cached and task.name in CACHED)

    return dsl.pipeline(with_settings, name=pipeline.name, description=pipeline.description)


def _settle(task: dsl.PipelineTask, cluster: Cluster) -> None:
    use = cluster.steps.get(task.name, StepUse())
    kubernetes.use_field_path_as_env(task, PIPELINE_RUN, RUN_LABEL)
    kubernetes.set_security_context(task, run_as_non_root=True)  # KFP drops capabilities, but would run as root
    _limit(task, use)
    _place(
        task,
        cluster.node_selector if use.node_selector is None else use.node_selector,
        cluster.tolerations if use.tolerations is None else use.tolerations,
    )
    for secret in cluster.secrets:
        kubernetes.use_secret_as_env(task, secret.name, {key: key for key in secret.keys})
    for volume in cluster.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)


def _limit(task: dsl.PipelineTask, use: StepUse) -> None:
    if use.cpu is not None:
        task.set_cpu_request(f"{use.cpu:g}").set_cpu_limit(f"{use.cpu:g}")
    if use.memory is not None:
        task.set_memory_request(use.memory).set_memory_limit(use.memory)
    if use.max_seconds is not None:
        kubernetes.set_timeout(task, use.max_seconds)


def _place(task: dsl.PipelineTask, labels: Mapping[str, str], tolerations: Sequence[Toleration]) -> None:
    for label, value in labels.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in tolerations:
        kubernetes.add_toleration(
            task,
            key=taint.key,
            operator="Exists" if taint.value is None else "Equal",
            value=taint.value,
            effect=taint.effect,
        )
