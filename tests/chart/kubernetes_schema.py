"""The part of the chart's schema that is Kubernetes' own: what a value may be that goes into an object as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

POD = {
    "Affinity", "Toleration", "TopologySpreadConstraint", "PodDNSConfig", "HostAlias", "PodSecurityContext",
    "SecurityContext", "Volume", "VolumeMount",
}  # fmt: skip
NETWORK = {"NetworkPolicyIngressRule", "NetworkPolicyEgressRule"}
NARROWER: dict[tuple[str, str], list[str]] = {
    ("Toleration", "effect"): ["NoSchedule", "PreferNoSchedule", "NoExecute"],
    ("Toleration", "operator"): ["Equal", "Exists"],
    ("NodeSelectorRequirement", "operator"): ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
    ("LabelSelectorRequirement", "operator"): ["In", "NotIn", "Exists", "DoesNotExist"],
    ("TopologySpreadConstraint", "whenUnsatisfiable"): ["DoNotSchedule", "ScheduleAnyway"],
    ("NetworkPolicyPort", "protocol"): ["TCP", "UDP", "SCTP"],
    ("SeccompProfile", "type"): ["RuntimeDefault", "Localhost", "Unconfined"],
    ("PodSecurityContext", "fsGroupChangePolicy"): ["OnRootMismatch", "Always"],
}
"""What the API server says of a text besides its type: otherwise a typo is found in the cluster, not at install."""
VOLUMES = ("name", "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi", "downwardAPI")
"""Sources of a volume that Pod Security "restricted" lets in; nothing of the node."""
LEFT_TO_THE_PLATFORM = ("runAsUser", "runAsGroup", "fsGroup", "seccompProfile", "runAsNonRoot", "fsGroupChangePolicy")
"""What a value of null takes away."""


def definitions(schemas: Path) -> dict[str, Schema]:
    """Kubernetes' definitions that values use, by ``k8s.NAME``, as ``make tools`` keeps them for kubeconform."""
    known: dict[str, Schema] = {}
    for file in ("pod-v1.json", "networkpolicy-networking-v1.json"):
        known |= json.loads((schemas / file).read_text())["definitions"]
    by_name = {_short(name): schema for name, schema in known.items()}
    volume = by_name["Volume"]
    by_name["Volume"] = {**volume, "properties": {name: volume["properties"][name] for name in VOLUMES}}
    by_name["Quantity"] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}  # KServe's runtimes take no fraction
    wanted, found = sorted(POD | NETWORK), {}
    while wanted:
        name = wanted.pop()
        if f"k8s.{name}" not in found:
            found[f"k8s.{name}"] = _renamed(by_name[name], name)
            wanted += [_short(each) for each in _referred(by_name[name])]
    return dict(sorted(found.items()))


def _renamed(schema: Any, name: str) -> Any:
    if isinstance(schema, list):
        return [_renamed(each, name) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if "$ref" in kept:
        return {"$ref": f"#/$defs/k8s.{_short(kept['$ref'])}"}
    renamed = {key: _renamed(value, name) for key, value in kept.items()}
    for (kind, field), allowed in NARROWER.items():
        if kind == name and isinstance(renamed.get("properties"), dict):
            renamed["properties"][field] = {"enum": allowed}
    if name.endswith("SecurityContext") and isinstance(renamed.get("properties"), dict):
        for field in LEFT_TO_THE_PLATFORM:
            if field in renamed["properties"]:
                renamed["properties"][field] = {"anyOf": [renamed["properties"][field], {"type": "null"}]}
    if renamed.get("type") == "integer":
        renamed |= {"minimum": -(2**31), "maximum": 2**31 - 1}
    return renamed


def _referred(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"]
        for value in schema.values():
            yield from _referred(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _referred(value)


def _short(name: str) -> str:
    return name.rsplit(".", 1)[1]
