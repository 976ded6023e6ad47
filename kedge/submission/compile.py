"""Complete the compiled pipelines for a policy: to the specs that KFP runs, and to objects that kubectl applies.

``specs/`` holds what KFP's compiler made of ``pipelines/`` in the repository (``make specs``). Here they are plain
data, so that nobody who submits a run needs KFP's SDK.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kedge.image import STEP_IMAGE
from kedge.policy import Policy
from kedge.policy.cluster import Cluster
from kedge.store import write_file
from kedge.submission.cluster import containers, limit_caching, limit_resources, platform_spec
from kedge.submission.pod import step_pod

SPECS = Path(__file__).with_name("specs")
PIPELINES = ("retrain", "release", "score")
ADDRESSES = ("store", "registry", "platform")
"""Parameters that are the same in every run of an installation: a compiled pipeline may hold them as defaults."""

Documents = list[dict[str, Any]]
Addresses = Mapping[str, str]


def compile_all(
    folder: Path, policy: Policy | None = None, *, image: str | None = None, addresses: Addresses | None = None
) -> list[Path]:
    """Write ``retrain.yaml``, ``release.yaml`` and ``score.yaml`` into a folder and return their paths.

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
    paths = []
    for name in PIPELINES:
        documents = compiled(name, policy, image=image, addresses=addresses)
        pipeline, version = names(name, policy, documents)
        paths.append(write(folder / f"{pipeline}.yaml", _objects(pipeline, version, documents, namespace)))
    return paths


def names(name: str, policy: Policy | None, documents: Documents) -> tuple[str, str]:
    """The names under which a compiled pipeline and its version are kept: the latter ends with a hash over all it is.

    >>> names("retrain", None, [])
    ('retrain', 'retrain-4f53cda18c2b')
    """
    pipeline = name if policy is None else f"{name}-{policy.name}"
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()
    return pipeline, f"{pipeline}-{digest[:12]}"


def _objects(pipeline: str, version: str, documents: Documents, namespace: str | None) -> Documents:
    spec, platform = documents
    about = {"description": spec["pipelineInfo"]["description"]}
    body = {"pipelineName": pipeline, "pipelineSpec": spec, "platformSpec": platform}
    return [
        _object("Pipeline", pipeline, namespace, about),
        _object("PipelineVersion", version, namespace, about | body),
    ]


def _object(kind: str, name: str, namespace: str | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "pipelines.kubeflow.org/v2beta1",
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
        "spec": {"displayName": name, **spec},
    }


def compiled(
    name: str,
    policy: Policy | None = None,
    *,
    image: str | None = None,
    addresses: Addresses | None = None,
    cached: bool = True,
) -> Documents:
    """A pipeline as KFP runs it: its spec, and with it what its steps use on a cluster, by the policy and by
    ``$KEDGE_STEP_POD``.

    Args:
        name: Of the pipeline.
        policy: As for :func:`compile_all`, as are ``image`` and ``addresses``.
        image: The step image.
        addresses: Defaults of parameters; those the pipeline does not have are left out.
        cached: False: KFP's cache answers for no step.
    """
    image = image or STEP_IMAGE
    cluster = policy.cluster if policy else Cluster()
    spec = yaml.load((SPECS / f"{name}.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    defaults = {**(addresses or {}), **({"policy": policy.to_dict()} if policy else {})}
    for parameter, definition in spec["root"]["inputDefinitions"]["parameters"].items():
        if parameter in defaults:
            definition["defaultValue"] = defaults[parameter]
    for _, container in containers(spec):
        container["image"] = image
    limit_caching(spec, cached=cached and "@sha256:" in image)
    pod = step_pod()
    limit_resources(spec, cluster, pod)
    return [spec, platform_spec(spec, cluster, pod)]


class _Quoted(yaml.CSafeDumper):
    """Quotes all text: unquoted, ``y`` or ``1e3`` in a policy is a truth value or a number to KFP and kubectl, whose
    parser does not agree with this one on what is plain text."""


_Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def write(path: Path, documents: Documents) -> Path:
    """Write a compiled pipeline, whole or not at all, and return the path."""
    text = yaml.dump_all(documents, Dumper=_Quoted, sort_keys=True, allow_unicode=True, width=120)
    write_file(path, text.encode())
    return path
