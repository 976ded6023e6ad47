"""The InferenceService of a slot and the HTTPRoute of a model, as plain dicts. Pure: no API is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from kedge.errors import ReleaseError, UsageError
from kedge.rollout import smoke
from kedge.rollout.kserve.address import Address, storage
from kedge.rollout.kserve.api import Object
from kedge.rollout.kserve.counters import REQUEST_SECONDS
from kedge.rollout.kserve.pods import BUNDLE
from kedge.rollout.model import Mirror, Rollout, Route, Slot

NAMES: tuple[Slot, ...] = get_args(Slot)
ROLLOUT = "kedge.dev/rollout"
"""Annotation of a route with the rollout that stands on it, as JSON; ``null``: none."""
PIN = "x-kedge-slot"
"""Request header that names the slot to ask, whatever the weights are, as long as it has weight or mirror."""
PORT = 80
"""Of the Service that KServe makes for a slot."""

_ROLLOUT: TypeAdapter[Rollout | None] = TypeAdapter(Rollout | None)


def slot_name(model: str, slot: Slot) -> str:
    """Name of a slot's InferenceService."""
    return f"{model}-{slot}"


def predictor(name: str) -> str:
    """Name of the Deployment and the Service that KServe makes for an InferenceService.

    >>> predictor("fraud-blue")
    'fraud-blue-predictor'
    """
    return f"{name}-predictor"


def inference_service(
    address: Address, model: str, slot: Slot, bundle: str, uri: str, predictor: Object | None
) -> Object:
    """The InferenceService of a slot.

    Args:
        address: Names the account of a first slot.
        model: The model's name.
        slot: Its slot.
        bundle: The bundle's id.
        uri: Where the bundle lies in the store.
        predictor: What its pods are (replicas, resources, account, runtime, placement): as the installation says, else
            as the champion's. None: one replica, the runtime KServe selects for the format.
    """
    spec: Object = dict(predictor) if predictor else _first(address)
    spec["model"] = {
        **(spec.get("model") or {}),
        "modelFormat": {"name": "kedge"},
        "storageUri": storage(address, model, bundle, uri),
    }
    scales = int(spec.get("maxReplicas") or 0) > int(spec.get("minReplicas") or 1)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": slot_name(model, slot),
            "labels": {"app.kubernetes.io/part-of": "kedge", "kedge.dev/model": model, "kedge.dev/slot": slot},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "hpa" if scales else "none",
                BUNDLE: bundle,
            },
        },
        "spec": {"predictor": spec},
    }


def http_route(model: str, route: Route) -> Object:
    """The parts of a model's HTTPRoute that belong to releases: its rules and what stands on it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": model,
            "labels": {"app.kubernetes.io/part-of": "kedge", "kedge.dev/model": model},
            "annotations": {ROLLOUT: _ROLLOUT.dump_json(route.rollout).decode()},
        },
        "spec": {"rules": _rules(model, route)},
    }


def attached(body: Object, address: Address, model: str) -> Object:
    """A first HTTPRoute with the Gateway and the host it needs; later ones keep theirs.

    The host is the model's own: on the host of an InferenceService KServe's own route would win.

    Raises:
        UsageError: the address does not name them.
    """
    host = address.host_of(model)
    if not address.gateway or not host:
        raise UsageError(
            f"{model} has no HTTPRoute in {address.namespace} yet: add gateway=NAMESPACE/NAME&domain=DOMAIN to the "
            "platform, or have the chart make it (route.enabled)"
        )
    namespace, name = address.gateway.split("/")
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, "name": name}
    if address.section:
        parent["sectionName"] = address.section
    return {**body, "spec": {"parentRefs": [parent], "hostnames": [host], **body["spec"]}}


def read_route(model: str, body: Object) -> Route:
    """The route an HTTPRoute declares: weights and mirror from its rules, the rollout from its annotation.

    Raises:
        ReleaseError: it leads elsewhere than to the model's slots, or its annotation is not kedge's.
    """
    place = f"httproute {model}"
    rules = [rule for rule in body["spec"].get("rules") or () if not _pinned(rule)]
    if len(rules) > 1:
        raise ReleaseError(f"{place}: {len(rules)} rules without the header {PIN}; kedge writes one: remove the others")
    rule: Object = rules[0] if rules else {}
    weights = {_slot(model, ref): int(ref.get("weight", 1)) for ref in rule.get("backendRefs") or ()}
    return Route(
        weights={slot: weight for slot, weight in weights.items() if weight > 0},
        mirror=_mirror(model, rule),
        rollout=_rollout(body["metadata"].get("annotations") or {}, place),
        revision=int(body["metadata"]["resourceVersion"]),
    )


def backends(route: Route) -> set[Slot]:
    """The slots a route leads to."""
    weighted = {slot for slot, weight in route.weights.items() if weight > 0}
    return weighted | ({route.mirror.slot} if _mirrors(route) and route.mirror else set())


def _first(address: Address) -> Object:
    """Users and groups are the images' own, or the platform's, as on OpenShift."""
    spec: Object = {
        "minReplicas": 1,
        "maxReplicas": 1,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {**spec, "serviceAccountName": address.account} if address.account else spec


def _rules(model: str, route: Route) -> list[Object]:
    """The weights first, then the pins, which win by their header wherever they stand.

    Gateways name what they make of a rule by its place. Were the pins first, their coming and going would give the
    weights another place, and requests in between would go to the slot that had it before, or nowhere. A filter is
    never on a backend, where it would make the split random.
    """
    everywhere = {"path": {"type": "PathPrefix", "value": "/"}}
    clean = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [smoke.HEADER]}}
    timeouts = {"request": f"{REQUEST_SECONDS}s"}
    pins = [
        {
            "matches": [{**everywhere, "headers": [{"type": "Exact", "name": PIN, "value": slot}]}],
            "filters": [clean],
            "backendRefs": [{**_backend(model, slot), "weight": 1}],
            "timeouts": timeouts,
        }
        for slot in NAMES
        if slot in backends(route)
    ]
    served = [{**_backend(model, slot), "weight": route.weights[slot]} for slot in NAMES if route.weights.get(slot)]
    mirrored: list[Object] = []
    if route.mirror is not None and _mirrors(route):
        target = {"backendRef": _backend(model, route.mirror.slot), "percent": route.mirror.percent}
        mirrored = [{"type": "RequestMirror", "requestMirror": target}]
    rest = {"matches": [everywhere], "filters": [clean, *mirrored], "backendRefs": served, "timeouts": timeouts}
    return [rest, *pins]


def _mirrors(route: Route) -> bool:
    return route.mirror is not None and route.mirror.percent > 0


def _backend(model: str, slot: Slot) -> Object:
    return {"group": "", "kind": "Service", "name": predictor(slot_name(model, slot)), "port": PORT}


def _pinned(rule: Mapping[str, Any]) -> bool:
    matches = rule.get("matches") or ()
    return bool(matches) and all(
        any(header["name"].lower() == PIN for header in match.get("headers") or ()) for match in matches
    )


def _mirror(model: str, rule: Mapping[str, Any]) -> Mirror | None:
    for item in rule.get("filters") or ():
        if item["type"] == "RequestMirror":
            asked = item["requestMirror"]
            return Mirror(slot=_slot(model, asked["backendRef"]), percent=int(asked.get("percent", 100)))
    return None


def _slot(model: str, backend: Mapping[str, Any]) -> Slot:
    for slot in NAMES:
        if backend["name"] == predictor(slot_name(model, slot)):
            return slot
    raise ReleaseError(
        f"httproute {model}: leads to Service {backend['name']!r}, which is no slot of the model "
        f"({', '.join(predictor(slot_name(model, slot)) for slot in NAMES)}); give kedge a route of its own"
    )


def _rollout(annotations: Mapping[str, str], place: str) -> Rollout | None:
    text = annotations.get(ROLLOUT)
    if text is None:
        return None
    try:
        return _ROLLOUT.validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the value"
        raise ReleaseError(f"{place}: annotation {ROLLOUT} is not kedge's: {where}: {first['msg']}") from exc
