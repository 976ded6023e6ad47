"""Records as earlier versions of kedge wrote them, read under today's names. Records never change, so this stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ACTIONS = {"attention": "warn", "veto": "quarantine"}
STATES = {"gated": "rejected"}
SHARE = {"attention": "drifted_importance"}


def upgrade(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data of a record of this kind under the names of today; what is named so already stays as it is.

    >>> upgrade("run-finished", {"run": "r", "state": "gated"})
    {'run': 'r', 'state': 'rejected'}
    """
    change = _OF_KIND.get(kind)
    return change(data) if change is not None else data


def _check(data: dict[str, Any]) -> dict[str, Any]:
    data = _renamed(data, {"signs": "signals"})
    changed = {
        "action": _value(data.get("action"), ACTIONS),
        "champion": _renamed(data.get("champion"), {"reign": "tenure_id"}),
        "signals": _each(data.get("signals"), {"bad": "breached", "evidence": "evidence_id"}),
        "inputs": _drift(data.get("inputs")),
        "scores": _drift(data.get("scores")),
        "label_source": _renamed(data.get("label_source"), {"offending": "invalid"}),
    }
    return {name: changed.get(name, value) for name, value in data.items()}


def _drift(drift: Any) -> Any:
    drift = _renamed(drift, SHARE)
    if not isinstance(drift, dict) or "detail" not in drift:
        return drift
    return {**drift, "detail": _renamed(drift["detail"], SHARE)}


def _run_finished(data: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(value, STATES) if name == "state" else value for name, value in data.items()}


def _rolled_back(data: dict[str, Any]) -> dict[str, Any]:
    return dict(_renamed(data, {"untried": "not_started"}))


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
    "rolled-back": _rolled_back,
}
