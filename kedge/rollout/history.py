"""What the records say about earlier releases of a model. Pure: records in, answers out."""

from __future__ import annotations

from collections.abc import Sequence

from kedge.records import Record


def lineage(records: Sequence[Record]) -> list[str]:
    """Bundles that served all traffic and were not rolled back, oldest first; the last one is the champion."""
    bundles: list[str] = []
    for item in records:
        bundle = item.data.get("bundle")
        if item.kind == "promoted" and (not bundles or bundles[-1] != bundle):
            bundles.append(str(bundle))
        elif item.kind == "rolled-back" and len(bundles) > 1 and bundles[-1] == bundle:
            bundles.pop()
    return bundles


def previous(records: Sequence[Record], bundle: str) -> str | None:
    """The bundle that served before this one; None if there was none."""
    champions = lineage(records)
    return champions[champions.index(bundle) - 1] if bundle in champions[1:] else None


def attempts(records: Sequence[Record], bundle: str) -> int:
    """How often a release of the bundle was begun."""
    return sum(item.kind == "release-started" and item.data.get("bundle") == bundle for item in records)


def refusal(records: Sequence[Record], bundle: str) -> str | None:
    """Why the bundle must not be released again: it was tried and rolled back, and nobody approved it since."""
    last = _last([item for item in records if not item.data.get("not_started")], "rolled-back", bundle)
    approved = _last(records, "approved", bundle)
    if last is None or (approved is not None and _order(approved) > _order(last)):
        return None
    return (
        f"bundle {bundle[:12]} was rolled back at {last.time:%Y-%m-%d %H:%M} UTC: {last.data.get('reason')}; "
        "`kedge approve` releases it all the same"
    )


def approved(records: Sequence[Record], bundle: str) -> bool:
    """Whether a person approved the bundle."""
    return _last(records, "approved", bundle) is not None


def _last(records: Sequence[Record], kind: str, bundle: str) -> Record | None:
    found = [item for item in records if item.kind == kind and item.data.get("bundle") == bundle]
    return max(found, key=_order, default=None)


def _order(item: Record) -> tuple[object, object]:
    return item.time, item.written or item.time
