"""Guesses as a policy file, with the reason beside each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from kedge.scaffold.guess import LISTED_CATEGORIES, ROWS_A_CATEGORY, Guess, Guesses
from kedge.scaffold.look import Look

FEW_VALUES = 10
"""A target with no more different numbers may mean classes."""
ENOUGH_ROWS = 1000
"""With fewer rows than this the defaults of train.min_rows (500) and gates.min_rows (200) may not be met."""


LABELS = (
    "labels:",
    "  delay_seconds: null            # how long after the event its outcome is known: SAY IT, else checks estimate it",
    "  # complete_after_seconds: 2592000   # if some come later, such as charge-backs: none after 30 days",
    "  # absent_means: negative       # if only positives are ever told; no outcome by then is the negative class",
)
"""What a table does not tell: when the outcomes became known."""


def policy_text(name: str, look: Look, guesses: Guesses, location: str) -> str:
    """The policy file. ``location`` is the table's address as the file shall say it."""
    return "\n".join(
        [
            *_heading(look),
            "model:",
            f"  name: {_quoted(name)}",
            *_target(guesses),
            "  features:",
            *(line for found in guesses.features for line in _feature(found)),
            *_left_out(guesses),
            "data:",
            f"  source: {{format: {look.source.format}, location: {_quoted(location)}}}",
            *_data(guesses),
            *LABELS,
            *_sizes(look),
            *_watching(),
            "",
        ]
    )


def model_name(table: str) -> str:
    """A model's name from a table's address.

    >>> model_name("s3://bank/Direct Debits_2026.parquet")
    'direct-debits-2026'
    """
    stem = re.split(r"[/\\]", table.rstrip("/\\"))[-1].split(".", 1)[0]
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return slug if re.match(r"[a-z]", slug) else f"model-{slug}"[:40].strip("-")


def bound(value: float) -> float:
    """A round limit at least twice as far from zero as the value: 1, 2 or 5 times a power of ten.

    >>> bound(812.4), bound(-3), bound(0)
    (2000.0, -10.0, 0.0)
    """
    if value == 0 or not math.isfinite(value):
        return 0.0
    power = 10.0 ** math.floor(math.log10(2 * abs(value)))
    step = next(step for step in (1, 2, 5, 10) if step * power >= 2 * abs(value) * (1 - 1e-12))
    return math.copysign(step * power, value)


def limits(least: float, most: float) -> tuple[float | None, float | None]:
    """Smallest and largest value to allow, from those seen: wide, so that only a broken feed is outside.

    >>> limits(0.0, 1.0), limits(0.5, 812.4), limits(-3.0, 4.0)
    ((0.0, 1.0), (0.0, 2000.0), (-10.0, 10.0))
    """
    if not (math.isfinite(least) and math.isfinite(most)):
        return None, None
    if least >= 0 and most <= 1:
        return 0.0, 1.0
    return (0.0 if least >= 0 else bound(least)), (bound(most) if most > 0 else 0.0)


def _heading(look: Look) -> list[str]:
    rows = f"{look.rows:,} rows" if look.whole else f"{look.rows:,} of the rows"
    return [
        f"# A first policy, guessed from {rows}. Each guess has its reason beside it: look through them, then",
        "#   kedge policy check FILE              is it well formed?",
        "#   kedge submit --policy FILE --local   train, prove and register a first model on this machine",
        "# Every field and its default: docs/policy.md, or `kedge policy schema`.",
    ]


def _target(guesses: Guesses) -> list[str]:
    target = guesses.target
    column = target.column
    missing = f", {column.missing / column.rows:.2%} missing: see max_bad_row_share" if column.missing else ""
    lines = [f"  task: {guesses.task}", f"  target: {_quoted(target.name)}  # {_comment(target.why)}{missing}"]
    if target.name != column.name:
        lines.append(f"  target_column: {_quoted(column.name)}  # what the table calls it")
    if guesses.task == "binary":
        counts = ", ".join(f"{value} in {count:,} rows" for value, count in target.column.values.items())
        why = _comment(f"{guesses.positive_why}; {counts}")
        lines.append(f"  positive_label: {json.dumps(guesses.positive)}  # {why}")
        if guesses.negative is not None:
            said = "the only other one; a label that is neither is refused"
            lines.append(f"  negative_label: {json.dumps(guesses.negative)}  # {said}")
    else:
        classes = "; if these are classes, make a column that says one of them" if column.distinct <= FEW_VALUES else ""
        lines.append(f"  # a number with {column.distinct:,} different values: regression{classes}")
    return lines


def _feature(found: Guess) -> Iterator[str]:
    column = found.column
    fields = [f"type: {found.type}"]
    if found.name != column.name:
        fields.append(f"column: {_quoted(column.name)}")
    if found.type in ("number", "integer"):
        low, high = limits(column.least, column.most)
        fields += [f"{name}: {value:.15g}" for name, value in (("min", low), ("max", high)) if value is not None]
    if found.type == "category" and 1 < column.distinct <= min(LISTED_CATEGORIES, column.rows // ROWS_A_CATEGORY):
        fields.append(f"values: [{', '.join(_quoted(value) for value in sorted(column.values))}]")
    seen = f"seen {found.why}" if found.type in ("number", "integer") else found.why
    missing = f", {column.missing / column.rows:.2%} missing" if column.missing else ""
    yield f"    {_quoted(found.name)}: {{{', '.join(fields)}}}  # {_comment(seen)}{missing}"


def _left_out(guesses: Guesses) -> list[str]:
    return [f"    # left out: {_comment(found.column.name)}: {_comment(found.why)}" for found in guesses.left_out]


def _data(guesses: Guesses) -> list[str]:
    lines = []
    if guesses.time is not None:
        lines.append(f"  time_column: {_quoted(guesses.time.column.name)}  # {_comment(guesses.time.why)}")
    else:
        lines += [
            "  # No column holds times. Until one does, row k is taken to have happened at",
            "  # start + k * step_seconds, in the order of the file: CHANGE BOTH to what is true,",
            "  # because training and comparison go by time.",
            "  row_time: {start: 2000-01-01T00:00:00+00:00, step_seconds: 60}",
        ]
    if guesses.id is not None:
        lines.append(f"  id_column: {_quoted(guesses.id.column.name)}  # {_comment(guesses.id.why)}")
    else:
        lines.append("  # id_column: NAME            # none found: duplicates cannot be told")
    return [
        *lines,
        "  max_bad_row_share: 0.01        # invalid rows are left out up to this share; above it the run stops",
    ]


def _sizes(look: Look) -> list[str]:
    if not look.whole or look.rows >= ENOUGH_ROWS:
        return []
    return [
        f"train: {{min_rows: {max(50, look.rows // 2)}}}  # the table is small",
        f"gates: {{min_rows: {max(20, look.rows // 10)}}}",
    ]


def _watching() -> list[str]:
    return [
        "release:",
        "  approval: auto                 # manual: wait for `kedge approve` before any traffic moves",
        "  steps:                         # the candidate's share of the traffic, and what it must have seen at each",
        "    - {percent: 5, min_seconds: 300, min_requests: 100}",
        "    - {percent: 25, min_seconds: 300, min_requests: 100}",
        "    - {percent: 50, min_seconds: 300, min_requests: 100}",
        "monitor:",
        '  schedule: "0 * * * *"          # a check every hour (cron, UTC) ...',
        "  window_seconds: 86400          # ... of the last day",
    ]


def _quoted(text: str) -> str:
    """Plain where YAML surely reads the same text, else as JSON, which YAML reads too."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n", "none", "nan", "inf"}


def _comment(text: str) -> str:
    """One line that cannot leave its comment."""
    line = " ".join(re.sub(r"[^\x20-\x7e\u00a1-\uffff]", " ", text).split())
    return line if len(line) <= 150 else line[:147] + "..."
