"""Records as earlier versions of kedge wrote them, read under today's names. Records never change, so this stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

ACTIONS = {"attention": "warn", "veto": "quarantine"}
STATES = {"gated": "rejected"}
SHARE = {"attention": "drifted_importance"}
BUNDLE = re.compile(r"[0-9a-f]{40}")
BREACH = re.compile(
    r"(?P<column>.*?): (?P<percent>[0-9.e+-]+) % (?P<rest>missing|of rows in categories|of rows outside)"
)
CAUSES = {"missing": "missing", "of rows in categories": "new categories", "of rows outside": "out of range"}


def upgrade(kind: str, key: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data of a record of this kind under the names of today; what is named so already stays as it is.

    Where they name no run or bundle, the key does.

    >>> upgrade("run-finished", "r", {"state": "gated"})
    {'run': 'r', 'state': 'rejected'}
    """
    change = _OF_KIND.get(kind)
    data = change(dict(data)) if change is not None else data
    return {**_said_by(kind, key), **data}


def _said_by(kind: str, key: str) -> dict[str, str]:
    if kind in ("run-started", "run-finished"):
        return {"run": key}
    bundle = BUNDLE.search(key) if kind in _OF_BUNDLE else None
    return {"bundle": bundle.group()} if bundle is not None else {}


def _check(data: dict[str, Any]) -> dict[str, Any]:
    data = _renamed(data, {"signs": "signals"})
    changed = {
        "action": _value(data.get("action"), ACTIONS),
        "champion": _renamed(data.get("champion"), {"reign": "tenure_id"}),
        "signals": _each(data.get("signals"), {"bad": "breached", "evidence": "evidence_id"}),
        "corrupt": [each for each in map(_breach, data.get("corrupt") or ()) if each is not None],
        "inputs": _drift(data.get("inputs")),
        "scores": _drift(data.get("scores")),
        "label_source": _renamed(data.get("label_source"), {"offending": "invalid"}),
    }
    return {name: changed.get(name, value) for name, value in data.items()}


def _breach(said: Any) -> Any:
    """A limit a window broke, of which earlier versions kept the sentence alone; None: it names none."""
    if not isinstance(said, str):
        return said
    seen = BREACH.match(said)
    if seen is None:
        return None
    return {
        "column": seen["column"],
        "cause": CAUSES[seen["rest"]],
        "share": float(seen["percent"]) / 100,
        "sentence": said,
    }


def _drift(drift: Any) -> Any:
    drift = _renamed(drift, SHARE)
    if not isinstance(drift, dict) or "detail" not in drift:
        return drift
    return {**drift, "detail": _renamed(drift["detail"], SHARE)}


def _evaluated(data: dict[str, Any]) -> dict[str, Any]:
    return {**_judged(data), "gates": [_judged(gate) for gate in data.get("gates") or ()]}


def _judged(data: dict[str, Any]) -> dict[str, Any]:
    """With the outcome that ``passed`` alone said before there were three."""
    return data if "outcome" in data else {**data, "outcome": "passed" if data.get("passed") else "rejected"}


def _release(data: dict[str, Any]) -> dict[str, Any]:
    return dict(_renamed(data, {"champion": "previous"}))


def _run_finished(data: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(value, STATES) if name == "state" else value for name, value in data.items()}


def _rolled_back(data: dict[str, Any]) -> dict[str, Any]:
    return _release(_renamed(data, {"untried": "not_started"}))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A mapping with these keys renamed, in their old places; anything else as it is."""
    if not isinstance(value, dict) or names.keys().isdisjoint(value):
        return value
    return {names.get(name, name): each for name, each in value.items()}


def _each(value: Any, names: Mapping[str, str]) -> Any:
    return {key: _renamed(each, names) for key, each in value.items()} if isinstance(value, dict) else value


def _value(value: Any, names: Mapping[str, str]) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


_OF_KIND: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "check": _check,
    "run-finished": _run_finished,
    "evaluated": _evaluated,
    "release-started": _release,
    "promoted": _release,
    "rolled-back": _rolled_back,
}
_OF_BUNDLE = frozenset({"evaluated", "registered", "approved", "release-started", "promoted", "rolled-back"})
