"""Compile the pipelines: to the specs that KFP runs, and to objects that kubectl applies."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from components.image import STEP_IMAGE
from components.policy import Policy
from components.policy.model import Cluster
from components.store import write_file

PIPELINES = ("retrain", "release")


def compile_all(folder: Path, policy: Policy | None = None, *, image: str | None = None) -> list[Path]:
    """Write ``retrain.yaml`` and ``release.yaml`` into a folder and return their paths.

    Args:
        folder: Made if it is not there; files of these names are replaced, each whole or not at all.
        policy: Becomes the default of the parameter ``policy``, so that a form is filled in; its section ``cluster``
            says what the steps use.
        image: The step image, at best by digest; default the name in ``components.image``.
    """
    return [compile_one(name, folder / f"{name}.yaml", policy, image=image) for name in PIPELINES]


def compile_one(
    name: str, path: Path, policy: Policy | None = None, *, image: str | None = None, cached: bool = True
) -> Path:
    """Write the spec of one pipeline, and with it what its steps use on a cluster, and return its path.

    ``cached`` False: KFP's cache answers for no step. Its client's own switch reaches only the outermost steps.
    """
    _write(path, _compiled(name, policy, image, cached=cached))
    return path


def compile_objects(
    folder: Path, policy: Policy | None = None, *, image: str | None = None, namespace: str | None = None
) -> list[Path]:
    """Write each pipeline as the objects ``Pipeline`` and ``PipelineVersion`` and return the paths.

    For a KFP that keeps its pipelines in Kubernetes. A version cannot change, so its name ends with a hash over all it
    holds: the same pipeline applied again is the same version, any change is one more. With a policy, the pipeline is
    named after its model too. Display names equal object names, because KFP finds a pipeline by either.
    """
    return [_write_objects(name, folder, policy, image, namespace) for name in PIPELINES]


def _write_objects(name: str, folder: Path, policy: Policy | None, image: str | None, namespace: str | None) -> Path:
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    pipeline = name if policy is None else f"{name}-{policy.name}"
    version = f"{pipeline}-{_hash(_compiled(name, policy, image))}"
    options = KubernetesManifestOptions(
        pipeline_name=pipeline,
        pipeline_display_name=pipeline,
        pipeline_version_name=version,
        pipeline_version_display_name=version,
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    path = folder / f"{pipeline}.yaml"
    _write(path, _compiled(name, policy, image, kubernetes_manifest_options=options, kubernetes_manifest_format=True))
    return path


def _compiled(
    name: str, policy: Policy | None, image: str | None, *, cached: bool = True, **options: Any
) -> list[dict[str, Any]]:
    """The documents the KFP compiler writes for a pipeline, with the image asked for."""
    from kfp.compiler import Compiler

    from pipelines.kubernetes import on_cluster

    image = image or STEP_IMAGE
    cluster = policy.cluster if policy else Cluster()
    pipeline = on_cluster(
        getattr(import_module(f"pipelines.{name}"), name), cluster, cached=cached and "@sha256:" in image
    )
    parameters = {"policy": policy.to_dict()} if policy is not None else None
    with tempfile.TemporaryDirectory(prefix="kedge-compile-") as beside:
        made = Path(beside) / f"{name}.yaml"
        Compiler().compile(pipeline, str(made), pipeline_parameters=parameters, **options)
        documents = list(yaml.load_all(made.read_bytes(), Loader=yaml.CSafeLoader))
    for document in documents:
        spec = document.get("spec", {}).get("pipelineSpec", document)
        for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
            executor["container"]["image"] = image
    return documents


def _hash(documents: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()[:12]


class _Quoted(yaml.CSafeDumper):
    """Quotes all text: unquoted, ``y`` or ``1e3`` in a policy is a truth value or a number to KFP and kubectl, whose
    parser does not agree with this one on what is plain text."""


_Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def _write(path: Path, documents: list[dict[str, Any]]) -> None:
    text = yaml.dump_all(documents, Dumper=_Quoted, sort_keys=True, allow_unicode=True, width=120)
    write_file(path, text.encode())
