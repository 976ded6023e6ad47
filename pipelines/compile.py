"""Compile the pipelines: to the specs that KFP runs, and to objects that kubectl applies."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from kedge.image import STEP_IMAGE
from kedge.policy import Policy
from kedge.policy.model import Cluster
from kedge.store import write_file

PIPELINES = ("retrain", "release")
ADDRESSES = ("store", "registry", "platform")
"""Parameters that are the same in every run of an installation: a compiled pipeline may hold them as defaults."""

Documents = list[dict[str, Any]]
Addresses = Mapping[str, str]


def compile_all(
    folder: Path, policy: Policy | None = None, *, image: str | None = None, addresses: Addresses | None = None
) -> list[Path]:
    """Write ``retrain.yaml`` and ``release.yaml`` into a folder and return their paths.

    Args:
        folder: Made if it is not there; files of these names are replaced, each whole or not at all.
        policy: Becomes the default of the parameter ``policy``, so that a form is filled in; its section ``cluster``
            says what the steps use.
        image: The step image, at best by digest; default the name in ``kedge.image``.
        addresses: Become the defaults of the parameters of these names, see ``ADDRESSES``.
    """
    return [
        write(folder / f"{name}.yaml", compiled(name, policy, image=image, addresses=addresses)) for name in PIPELINES
    ]


def compile_objects(
    folder: Path,
    policy: Policy | None = None,
    *,
    image: str | None = None,
    namespace: str | None = None,
    addresses: Addresses | None = None,
) -> list[Path]:
    """Write each pipeline as the objects ``Pipeline`` and ``PipelineVersion`` and return the paths.

    For a KFP that keeps its pipelines in Kubernetes. A version cannot change, so its name ends with a hash over all it
    holds: the same pipeline applied again is the same version, any change is one more. With a policy, the pipeline is
    named after its model too. Display names equal object names, because KFP finds a pipeline by either.
    """
    return [_write_objects(name, folder, policy, image, namespace, addresses) for name in PIPELINES]


def names(name: str, policy: Policy | None, documents: Documents) -> tuple[str, str]:
    """The names under which a compiled pipeline and its version are kept: the latter ends with a hash over all it is.

    >>> names("retrain", None, [])
    ('retrain', 'retrain-4f53cda18c2b')
    """
    pipeline = name if policy is None else f"{name}-{policy.name}"
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()
    return pipeline, f"{pipeline}-{digest[:12]}"


def _write_objects(
    name: str,
    folder: Path,
    policy: Policy | None,
    image: str | None,
    namespace: str | None,
    addresses: Addresses | None,
) -> Path:
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    pipeline, version = names(name, policy, compiled(name, policy, image=image, addresses=addresses))
    options = KubernetesManifestOptions(
        pipeline_name=pipeline,
        pipeline_display_name=pipeline,
        pipeline_version_name=version,
        pipeline_version_display_name=version,
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    asked = {"kubernetes_manifest_options": options, "kubernetes_manifest_format": True}
    return write(folder / f"{pipeline}.yaml", compiled(name, policy, image=image, addresses=addresses, options=asked))


def compiled(
    name: str,
    policy: Policy | None = None,
    *,
    image: str | None = None,
    addresses: Addresses | None = None,
    cached: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Documents:
    """What the KFP compiler makes of a pipeline: its spec, and with it what its steps use on a cluster.

    Args:
        name: Of the pipeline.
        policy: As for :func:`compile_all`, as are ``image`` and ``addresses``.
        image: The step image.
        addresses: Defaults of parameters; those the pipeline does not have are left out.
        cached: False: KFP's cache answers for no step. Its client's own switch reaches only the outermost steps.
        options: More for the compiler.
    """
    from kfp.compiler import Compiler

    from pipelines.kubernetes import on_cluster

    image = image or STEP_IMAGE
    cluster = policy.cluster if policy else Cluster()
    pipeline = on_cluster(
        getattr(import_module(f"pipelines.{name}"), name), cluster, cached=cached and "@sha256:" in image
    )
    known = {key: value for key, value in (addresses or {}).items() if key in (pipeline.component_spec.inputs or {})}
    parameters = known | ({"policy": policy.to_dict()} if policy is not None else {})
    with tempfile.TemporaryDirectory(prefix="kedge-compile-") as beside:
        made = Path(beside) / f"{name}.yaml"
        Compiler().compile(pipeline, str(made), pipeline_parameters=parameters or None, **(options or {}))
        documents = list(yaml.load_all(made.read_bytes(), Loader=yaml.CSafeLoader))
    for document in documents:
        spec = document.get("spec", {}).get("pipelineSpec", document)
        for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
            executor["container"]["image"] = image
    return documents


class _Quoted(yaml.CSafeDumper):
    """Quotes all text: unquoted, ``y`` or ``1e3`` in a policy is a truth value or a number to KFP and kubectl, whose
    parser does not agree with this one on what is plain text."""


_Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def write(path: Path, documents: Documents) -> Path:
    """Write a compiled pipeline, whole or not at all, and return the path."""
    text = yaml.dump_all(documents, Dumper=_Quoted, sort_keys=True, allow_unicode=True, width=120)
    write_file(path, text.encode())
    return path
