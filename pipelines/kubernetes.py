"""A pipeline as it runs on a cluster: what each step uses, on which nodes, and never as root."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_context import Pipeline

from components.policy.model import Cluster, StepUse, Toleration


def on_cluster(pipeline: GraphComponent, cluster: Cluster) -> GraphComponent:
    """The same pipeline, whose every step uses what the policy's section ``cluster`` says.

    A policy is a value of the run, and what a pod uses must be known before: it is set when a pipeline is compiled.
    """
    sentence = pipeline.pipeline_func

    @functools.wraps(sentence)
    def with_settings(*parameters: Any) -> None:
        sentence(*parameters)
        for task in Pipeline.get_default_pipeline().tasks.values():
            _settle(task, cluster)

    return dsl.pipeline(with_settings, name=pipeline.name, description=pipeline.description)


def _settle(task: dsl.PipelineTask, cluster: Cluster) -> None:
    use = cluster.steps.get(task.name, StepUse())
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
