"""Pods of a slot: which are its own, whether they take requests, and why not. Pure: objects in, words out."""

from __future__ import annotations

from collections.abc import Iterable

from kedge.rollout.kserve.api import Object

BUNDLE = "kedge.dev/bundle"
"""Annotation with a bundle's id. KServe copies it to the pods, where it says what really runs."""
MAX_STARTS = 3
"""Ends of a server before it was ready after which waiting is over."""
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
SERVER = "kserve-container"
SERVER_PORT = 8080


def bundle_of(item: Object) -> str | None:
    """The bundle an object is marked with."""
    found: str | None = (item["metadata"].get("annotations") or {}).get(BUNDLE)
    return found


def running(pods: Iterable[Object], bundle: str) -> list[Object]:
    """The pods of a bundle that are not ending."""
    return [pod for pod in pods if bundle_of(pod) == bundle and not pod["metadata"].get("deletionTimestamp")]


def ready(pod: Object) -> bool:
    """Whether a pod is an endpoint of its Service."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def hopeless(pod: Object) -> bool:
    """Whether waiting does not help: its server ended again and again, or its image cannot exist."""
    return any(
        each.get("restartCount", 0) >= MAX_STARTS
        or ((each.get("state") or {}).get("waiting") or {}).get("reason") in HOPELESS
        for each in _containers(pod)
    )


def begun(pod: Object) -> bool:
    """Whether the model server of a pod ever ran: before, it lacks a node, an image, a volume or access to the store,
    and its bundle no merit."""
    return any(
        bool({"running", "terminated"} & {*(each.get("state") or {}), *(each.get("lastState") or {})})
        or each.get("restartCount", 0) > 0
        for each in (pod.get("status") or {}).get("containerStatuses") or ()
    )


def ends(pod: Object) -> int:
    """How often the model server of a pod ended by itself, as by a fault of its own or for want of memory."""
    return sum(
        int(each.get("restartCount", 0)) + ("terminated" in (each.get("state") or {}))
        for each in (pod.get("status") or {}).get("containerStatuses") or ()
        if each["name"] == SERVER
    )


def trouble(pod: Object) -> str:
    """What keeps a pod from serving, in the words of its containers and conditions; empty: nothing."""
    name = pod["metadata"]["name"]
    for each in _containers(pod):
        ended = (each.get("state") or {}).get("terminated") or (each.get("lastState") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            times = each.get("restartCount", 0) + ("terminated" in (each.get("state") or {}))
            what = f"{each['name']} ended {times} times, exit code {ended['exitCode']}"
            return f"pod {name}: {what}: {_last_words(ended)}"
        waits = (each.get("state") or {}).get("waiting") or {}
        if waits.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"pod {name}: {each['name']}: {waits['reason']}: {waits.get('message', '')[:500]}".rstrip(": ")
    for each in (pod.get("status") or {}).get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"pod {name}: {each.get('reason', 'Unschedulable')}: {each.get('message', '')[:500]}"
    return ""


def seen_at(event: Object) -> str:
    """When an event happened last, in RFC 3339."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def warnings(events: Iterable[Object]) -> list[str]:
    """Warnings, latest first."""
    found = [each for each in events if each.get("type") == "Warning"]
    found.sort(key=seen_at, reverse=True)
    return [
        f"{each['involvedObject'].get('name')}: {each.get('reason')}: {each.get('message', '')[:500]}" for each in found
    ]


def refused(service: Object) -> str:
    """Why KServe makes nothing of an InferenceService: an unknown format or runtime; empty: it does."""
    said = (service.get("status") or {}).get("modelStatus") or {}
    if said.get("transitionStatus") != "InvalidSpec":
        return ""
    info = said.get("lastFailureInfo") or {}
    return f"KServe refuses it: {info.get('reason', 'InvalidSpec')}: {info.get('message', '')}".rstrip(": ")


def first(texts: Iterable[str]) -> str:
    """The first that says anything."""
    return next((text for text in texts if text), "")


def address(pod: Object) -> str:
    """Where the pod's model server answers, or the only server it has."""
    containers = sorted(pod["spec"]["containers"], key=lambda each: str(each["name"]) != SERVER)
    ports = containers[0].get("ports") or [{"containerPort": SERVER_PORT}]
    return f"http://{pod['status'].get('podIP', 'no-address-yet')}:{ports[0]['containerPort']}"


def process(pod: Object) -> str:
    """Identity of a server's counters: one that is started anew counts from zero, a sidecar beside it changes none."""
    statuses = pod["status"].get("containerStatuses") or ()
    server = [each for each in statuses if each["name"] == SERVER] or statuses
    starts = sum(each.get("restartCount", 0) for each in server)
    return f"{pod['metadata']['uid']}/{starts}"


def _last_words(ended: Object) -> str:
    """What a container said last: where it writes no message, Kubernetes keeps the end of its log, many lines."""
    words = str(ended.get("message") or ended.get("reason") or "").strip()
    return words.splitlines()[-1].strip()[-500:] if words else ""


def _containers(pod: Object) -> list[Object]:
    said = pod.get("status") or {}
    return [*(said.get("initContainerStatuses") or ()), *(said.get("containerStatuses") or ())]
