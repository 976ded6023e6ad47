"""The InferenceService of a model and the ConfigMap that declares its slots and route, as plain dicts. Pure.

The declaration has an object of its own, because KServe copies every annotation of an InferenceService into the
revisions' template: a rollout's state written there would make a new revision at each of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from kedge.errors import ReleaseError
from kedge.rollout.kserve.address import Address
from kedge.rollout.kserve.api import MANAGER, Object
from kedge.rollout.kserve.pods import BUNDLE, bundle_of
from kedge.rollout.model import Route, Slot, decode_route, encode_route

SLOT = "kedge.dev/slot"
"""Label with the slot a revision belongs to."""
WRITTEN = "kedge.dev/written"
"""Annotation that differs between any two specs written. KServe copies it to the revisions: so the same bundle again is
a new revision, and a revision tells whether it was made from the spec as it stands."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What a slot is asked for."""

    bundle: str
    storage: str
    """Where KServe's storage initializer finds it."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What kedge wants of a model's InferenceService. ``route.revision`` counts the writes of the route."""

    slots: Mapping[Slot, Placed] = field(default_factory=dict)
    route: Route = field(default_factory=Route)


_SLOTS: TypeAdapter[dict[Slot, Placed]] = TypeAdapter(dict[Slot, Placed])


def map_name(model: str) -> str:
    """Name of the ConfigMap."""
    return f"{model}-release"


def predictor(model: str) -> str:
    """Name of the Knative service that KServe makes for the InferenceService of a model."""
    return f"{model}-predictor"


def config_map(model: str, declared: Declared) -> Object:
    """The declaration as an object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": map_name(model),
            "labels": {"app.kubernetes.io/part-of": "kedge", "kedge.dev/model": model},
        },
        "data": {
            "route": encode_route(declared.route).decode(),
            "slots": _SLOTS.dump_json(dict(declared.slots), indent=2).decode(),
        },
    }


def read_declared(model: str, body: Object) -> Declared:
    """The declaration from its object.

    Raises:
        ReleaseError: it is not one kedge wrote.
    """
    place, data = f"configmap {map_name(model)}", body.get("data") or {}
    try:
        slots = _SLOTS.validate_json(data.get("slots", ""))
    except ValidationError as exc:
        raise ReleaseError(f"{place}: slots: not what kedge wrote: {exc.errors()[0]['msg']}") from exc
    return Declared(slots=slots, route=decode_route(data.get("route", "").encode(), place))


def adopted(model: str, service: Object | None) -> Declared:
    """What an InferenceService without a declaration stands for: its slot has all traffic.

    Raises:
        ReleaseError: kedge did not deploy it.
    """
    if service is None:
        return Declared()
    slot, bundle = slot_of(service), bundle_of(service)
    if slot is None or bundle is None:
        raise ReleaseError(
            f"inferenceservice {model} has no label {SLOT} and annotation {BUNDLE}: kedge did not deploy it; "
            "give the model another name, or remove the service"
        )
    placed = Placed(bundle=bundle, storage=storage_of(service))
    return Declared(slots={slot: placed}, route=Route(weights={slot: 100}))


def slot_of(item: Object) -> Slot | None:
    """The slot an object is labelled with."""
    found = (item["metadata"].get("labels") or {}).get(SLOT)
    return found if found in ("blue", "green") else None


def written_of(item: Object) -> str | None:
    """Which writing of the spec an InferenceService stands for, or a revision was made from."""
    found: str | None = (item["metadata"].get("annotations") or {}).get(WRITTEN)
    return found


def written_at(service: Object) -> str:
    """When kedge last wrote an InferenceService, in RFC 3339."""
    meta = service["metadata"]
    ours = [str(each.get("time", "")) for each in meta.get("managedFields") or () if each.get("manager") == MANAGER]
    return max((*ours, str(meta["creationTimestamp"])))


def storage_of(service: Object) -> str:
    """Where an InferenceService's bundle lies."""
    return str((service["spec"]["predictor"].get("model") or {}).get("storageUri", ""))


def inference_service(
    address: Address,
    model: str,
    slot: Slot,
    placed: Placed,
    percent: int | None,
    like: Object | None,
    predictor: Object | None = None,
) -> Object:
    """The InferenceService of a model with the bundle of one slot as its latest revision.

    Args:
        address: Names the account of a first revision.
        model: The model's name.
        slot: Whose bundle it is.
        placed: The bundle.
        percent: Share of the latest revision; None: all, once it is ready.
        like: The service as it is.
        predictor: What its pods are (replicas, resources, account, runtime), as the installation says; None: as those
            of the service are.
    """
    spec: Object = dict(predictor or (like["spec"]["predictor"] if like else _first(address)))
    spec.pop("canaryTrafficPercent", None)
    # A slot is looked at before it has traffic, so it must not scale to zero then.
    spec["minReplicas"] = max(1, int(spec.get("minReplicas") or 0))
    spec["model"] = {**(spec.get("model") or {}), "modelFormat": {"name": "kedge"}, "storageUri": placed.storage}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": model,
            "labels": {"app.kubernetes.io/part-of": "kedge", "kedge.dev/model": model, SLOT: slot},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Knative",
                # Tags keep the pods of revisions without traffic: the candidate at 0 %, the champion at 1 %.
                "serving.kserve.io/enable-tag-routing": "true",
                BUNDLE: placed.bundle,
                **_written(slot, placed, like),
            },
        },
        "spec": {"predictor": spec if percent is None else {**spec, "canaryTrafficPercent": percent}},
    }


def _written(slot: Slot, placed: Placed, like: Object | None) -> dict[str, str]:
    if like is None:
        return {WRITTEN: "0"}
    if (slot_of(like), bundle_of(like)) != (slot, placed.bundle):
        return {WRITTEN: str(like["metadata"]["generation"])}
    kept = written_of(like)
    return {} if kept is None else {WRITTEN: kept}


def without(declared: Declared, slot: Slot) -> Declared:
    """The declaration with an empty slot."""
    return replace(declared, slots={name: placed for name, placed in declared.slots.items() if name != slot})


def _first(address: Address) -> Object:
    spec: Object = {"minReplicas": 1, "maxReplicas": 1, "automountServiceAccountToken": False}
    return {**spec, "serviceAccountName": address.account} if address.account else spec
