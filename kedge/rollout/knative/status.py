"""What runs in a slot, from KServe's names of revisions, the revisions themselves and their pods. Pure.

The InferenceService's own conditions are not asked: Ready turns False for seconds when two controllers write at once,
for good when a candidate crashes although the champion serves, and stays Unknown without a word while an image cannot
be pulled. Its observedGeneration is the Knative service's and drifts from its generation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kedge.rollout.knative.objects import Placed, slot_of, written_of
from kedge.rollout.knative.traffic import Revision, Seen
from kedge.rollout.kserve import pods as words
from kedge.rollout.kserve.api import Object
from kedge.rollout.kserve.pods import bundle_of
from kedge.rollout.model import Slot, SlotStatus


def seen(service: Object, revision: Callable[[str], Object | None]) -> Seen:
    """An InferenceService as it stands; ``revision`` gets the Knative revision of a name."""
    said = ((service.get("status") or {}).get("components") or {}).get("predictor") or {}
    names = [said.get(f"latest{which}Revision") for which in ("Created", "Ready", "Rolledout")]
    found = {name: _revision(name, revision(name)) for name in set(filter(None, names))}
    created, ready, rolledout = (found.get(name) for name in names)
    traffic: dict[str, int] = {}
    for each in said.get("traffic") or ():
        name = str(each.get("revisionName", ""))
        traffic[name] = traffic.get(name, 0) + int(each.get("percent") or 0)
    return Seen(service=service, created=created, ready=ready, rolledout=rolledout, traffic=traffic)


def slot_status(
    slot: Slot, placed: Placed, current: Seen, pods: Sequence[Object], events: Sequence[Object] = ()
) -> SlotStatus:
    """The status of a slot that holds a bundle: ``pods`` of its revision, ``events`` that tell why there is none."""
    revision = current.revision(slot, placed)
    ours = words.running(pods, placed.bundle)
    ends = sum(words.ends(pod) for pod in ours)
    if revision is not None and revision.ready == "True" and revision in (current.rolledout, _latest(current)):
        up = next((pod for pod in ours if words.ready(pod)), None)
        if up is None:
            reason = words.first((*map(words.trouble, ours), f"no pod of revision {revision.name} takes requests"))
            begun = any(map(words.begun, ours))
            return SlotStatus(bundle=placed.bundle, ends=ends, not_started=not begun, reason=reason)
        return SlotStatus(bundle=placed.bundle, ready=True, ends=ends, address=words.address(up))
    refused = "" if revision is not None else words.refused(current.service)
    failed = bool(refused) or any(words.hopeless(pod) for pod in ours)
    reason = words.first((refused, *map(words.trouble, ours), *words.warnings(events), _progress(revision, current)))
    not_started = revision is None  # of a revision that failed Knative takes the pods away, so they would not tell
    partly = revision is not None and any(words.ready(pod) for pod in ours)
    return SlotStatus(
        bundle=placed.bundle, partly=partly, ends=ends, failed=failed, not_started=not_started, reason=reason
    )


def _latest(current: Seen) -> Revision | None:
    """The revision that gets the percentage, if it is that of the latest spec."""
    return current.created if current.created == current.ready else None


def _progress(revision: Revision | None, current: Seen) -> str:
    if revision is None and current.rolledout is not None and current.created == current.rolledout:
        return f"KServe has made no revision of it yet; {current.rolledout.name} has the traffic"
    if revision is None:
        return "KServe has made no revision of it yet"
    return revision.reason or f"revision {revision.name} is coming up"


def _revision(name: str, found: Object | None) -> Revision:
    if found is None:
        return Revision(name=name, reason=f"revision {name} is not there")
    conditions = (found.get("status") or {}).get("conditions") or ()
    ready = next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "Unknown")
    slot, bundle, reason = slot_of(found), bundle_of(found), _why(name, conditions)
    return Revision(name=name, slot=slot, bundle=bundle, written=written_of(found), ready=ready, reason=reason)


def _why(name: str, conditions: Sequence[Object]) -> str:
    """What a revision says against itself: what failed before what is only unknown, what has words before what has not.

    ``Active`` is left out: it tells whether pods are wanted, not whether they could serve.
    """
    against = [each for each in conditions if each["status"] != "True" and each["type"] != "Active"]
    against.sort(key=lambda each: (not each.get("message"), each["status"] != "False", each["type"] == "Ready"))
    if not against or not (against[0].get("reason") or against[0].get("message")):
        return ""
    worst = against[0]
    return f"revision {name}: {worst.get('reason', worst['type'])}: {worst.get('message', '')[:500]}".rstrip(": ")
