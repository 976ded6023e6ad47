"""What happened when, as lines for the terminal and as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from kedge import report
from kedge.demo.loop import Tally, told
from kedge.demo.story import Expectation
from kedge.policy import Policy
from kedge.records import Checked, Data, Promoted, Record, RolledBack
from kedge.store import write_file


def write(
    path: Path,
    policy: Policy,
    tallies: Sequence[Tally],
    records: Sequence[Record[Data]],
    expected: Sequence[Expectation],
) -> Path:
    """Write the page: accuracy of the kept model against the frozen first one, each event marked."""
    chart = report.line_chart(
        {
            "kept by kedge": [(x.end, x.accuracy(x.kept_wrong)) for x in tallies],
            "frozen first model": [(x.end, x.accuracy(x.frozen_wrong)) for x in tallies],
            "same label as before": [(x.end, x.accuracy(x.repeated_wrong)) for x in tallies],
        },
        events=[(x.time, _mark(x)) for x in records if _mark(x)],
        y_label="share of rows decided rightly",
    )
    sections = [report.section("Accuracy over time", chart)]
    if expected:
        rows = [("yes" if x.came_true else "NO", x.claim, x.seen) for x in expected]
        sections.append(report.section("What was promised", report.table(("came true", "claim", "seen"), rows)))
    sections.append(report.section("What happened when", report.table(("time", "what", "why"), _happened(records))))
    sections.append(report.section("In total", report.facts(totals(tallies))))
    write_file(path, report.page(f"{policy.name}: a model kept good", *sections).encode())
    return path


def summary(tallies: Sequence[Tally], records: Sequence[Record[Data]], expected: Sequence[Expectation]) -> str:
    """The end of the demo on the terminal."""
    lines = ["", "What happened when"]
    lines += [f"  {time:%Y-%m-%d %H:%M}  {what:<12} {why}" for time, what, why in _happened(records)]
    lines += ["", "In total", *(f"  {name:<44}{value}" for name, value in totals(tallies).items())]
    if expected:
        lines += ["", "What was promised"]
        lines += [f"  {'yes' if x.came_true else 'NO ':<4} {x.claim}: {x.seen}" for x in expected]
    return "\n".join(lines)


def totals(tallies: Sequence[Tally]) -> dict[str, str]:
    """Rows, failures and accuracies over all blocks."""
    rows = sum(x.rows for x in tallies)
    if not rows:
        return {"rows": "0"}

    def right(wrong: int) -> str:
        return f"{100 * (1 - wrong / rows):.1f} %"

    return {
        "rows asked for": f"{rows:,}",
        "requests that failed": f"{sum(x.failed for x in tallies):,}",
        "right, model kept by kedge": right(sum(x.kept_wrong for x in tallies)),
        "right, frozen first model": right(sum(x.frozen_wrong for x in tallies)),
        "right, the same label as before": right(sum(x.repeated_wrong for x in tallies)),
    }


def _happened(records: Sequence[Record[Data]]) -> list[tuple[datetime, str, str]]:
    return [(event.time, *words) for event in records if (words := told(event))]


def _mark(event: Record[Data]) -> str:
    match event.data:
        case Checked(action="quarantine" | "retrain" | "warn" as action):
            return action
        case Promoted() | RolledBack():
            return event.kind
        case _:
            return ""
