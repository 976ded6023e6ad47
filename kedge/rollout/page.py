"""A release's own page: the candidate's share and the evidence against it over time, and what each span counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kedge import report
from kedge.clock import span
from kedge.policy import Policy
from kedge.records import Promoted, Record, ReleaseStarted, RolledBack
from kedge.rollout.progress import Look, Progress

COUNTED = ("failed", "p95, ms")
COLUMNS = ("state", "share, %", "began, UTC", "ended", "requests", *COUNTED, "champion's", *COUNTED)


def name_of(key: str) -> str:
    """The page's file name; ``key`` as the release's records have it."""
    return f"release-{key}.html"


def page(
    policy: Policy,
    ended: Record[Promoted] | Record[RolledBack],
    started: Record[ReleaseStarted] | None,
    progress: Progress | None,
) -> str:
    """HTML for people.

    Args:
        policy: Of the model.
        ended: How the release ended, with what was counted.
        started: When it began.
        progress: Its looks; None: nobody kept any.
    """
    data, outcome = ended.data, word(ended)
    looks = progress.looks if progress is not None else ()
    began = started.time if started is not None else None
    took = span(ended.time - began) if began is not None else None
    parts = [
        report.section(
            outcome.capitalize(),
            f"{data.reason}.",
            report.facts(
                {
                    "bundle": data.bundle[:12],
                    "champion": (data.previous or "none")[:12],
                    "slot": data.slot,
                    "began": began,
                    "took": took,
                    "decided by": ended.actor,
                }
            ),
        )
    ]
    if looks:
        final = 100.0 if ended.kind == "promoted" else 0.0
        shares = _stairs([*((look.time, float(look.percent)) for look in looks), (ended.time, final)])
        drawn = report.line_chart(
            {"candidate": shares}, events=[(ended.time, outcome)], y_label="share of the traffic, %"
        )
        parts.append(report.section("The candidate's share", drawn))
        parts.append(report.section("Evidence that it is worse", *_evidence(looks)))
    parts.append(
        report.section("What was counted", report.table(COLUMNS, [_row(each) for each in data.evidence]))
        if data.evidence
        else report.section("What was counted", "Nothing: the candidate had no traffic.")
    )
    return report.page(f"{policy.name}: release of {data.bundle[:12]}", *parts, subtitle=policy.model.description)


def word(ended: Record[Promoted] | Record[RolledBack]) -> str:
    """How a release ended, in a word or two."""
    if isinstance(ended.data, RolledBack) and not ended.data.condemned:
        return "not judged"
    return ended.kind.replace("-", " ")


def _stairs(shares: Sequence[tuple[datetime, float]]) -> list[tuple[datetime, float]]:
    """A share stays until the next look changes it; before the first it is 0."""
    before = [0.0, *(share for _, share in shares)]
    return [each for (time, share), held in zip(shares, before, strict=False) for each in ((time, held), (time, share))]


def _evidence(looks: tuple[Look, ...]) -> Iterator[Any]:
    names = dict.fromkeys(name for look in looks for name in look.evidence)
    series = {name: [(look.time, look.evidence.get(name)) for look in looks] for name in names}
    if not series:
        yield "No look compared anything."
        return
    limit = [(look.time, 1.0) for look in (looks[0], looks[-1])]
    yield "Each test's evidence as a share of its limit: at 1 the candidate is proven worse, and rolled back."
    yield report.line_chart({**series, "proven worse": limit}, y_label="share of the limit")


def _row(figures: Mapping[str, Any]) -> tuple[object, ...]:
    sides = (figures.get(side) or {} for side in ("candidate", "champion"))
    counted = (each.get(name) for each in sides for name in ("requests", "errors", "p95_ms"))
    times = (_time(figures[name]) if figures.get(name) else None for name in ("began", "ended"))
    state = f"{figures['state']} (cut short: {figures['cut']})" if figures.get("cut") else figures["state"]
    return (state, figures["percent"], *times, *counted)


def _time(value: object) -> str:
    """Of a record's text, in few letters.

    >>> _time("2026-11-30T21:20:07+00:00")
    '30 Nov 21:20'
    """
    return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%d %b %H:%M}"
