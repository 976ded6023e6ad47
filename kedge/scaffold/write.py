"""Guesses as a policy file, with the reason beside each."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator

from kedge.figures import in_words
from kedge.policy.gates import Gates
from kedge.policy.monitor import Monitor
from kedge.policy.release import Release
from kedge.policy.train import Train
from kedge.scaffold.guess import Guess, Guesses, plain_name
from kedge.scaffold.look import Column, Look
from kedge.scaffold.pace import pace

MAX_COUNTED = 20
"""Values of the target whose rows are counted in a comment."""
MAX_BAD_ROW_SHARE = 0.01
ENOUGH_ROWS = 1000
"""With fewer rows than this the defaults of train.min_rows (500) and gates.min_rows (200) may not be met."""


LABELS = (
    "labels:",
    "  delay_seconds: null            # how long after the event its outcome is known: SAY IT, else checks estimate it",
    "  # complete_after_seconds: 2592000   # if some come later, such as charge-backs: none after 30 days",
    "  # absent_means: negative       # if only positives are ever told; no outcome by then is the negative class",
)
"""What a table does not tell: when the outcomes became known."""


VALUES = (
    "store:",
    '  url: ""                # s3://, gs:// or abfss://; empty: a volume, which is enough for watching',
    '  secret: ""             # an existing Secret, which cluster.secrets of the policy names for the steps of runs',
    "registry:",
    '  uri: ""                # MLflow, such as http://mlflow.mlflow:5000',
    "serving:",
    "  enabled: false         # true where KServe is: models are released, not only watched",
    "route:",
    "  enabled: false         # true where a Gateway is; it needs serving.enabled",
    "  gateway: {namespace: gateway, name: kedge}",
    "  domain: example.com    # a model's host is <model>.<namespace>.<domain>",
    "images:                  # the digests that `make images` prints: no public registry has them",
    '  step: {repository: kedge/step, digest: ""}      # checks, training steps and releases',
    '  serve: {repository: kedge/serve, digest: ""}    # the model server',
    '  collect: {repository: kedge/collect, digest: ""}',
    "models:",
    "  - policy:",
)
"""Values of the chart before a model's policy: what no table tells, as the chart has it by default."""
CLUSTER = """\
# cluster:
#   secrets:                       # of the namespace in which runs are: what their steps read as variables
#     - {name: object-store, keys: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]}
"""
"""After it: what its steps need beside a store in object storage."""


def policy_text(name: str, look: Look, guesses: Guesses, location: str, loss: str = "squared") -> str:
    """The policy file. ``location`` is the table's address as the file shall say it."""
    return "\n".join(
        [
            *_heading(look),
            "model:",
            f"  name: {_quoted(name)}",
            *_target(guesses, loss),
            "  # min, max and values make a row outside them invalid: write what can never be, not what was seen.",
            "  features:",
            *(line for found in guesses.features for line in _feature(found)),
            *_left_out(guesses),
            "data:",
            f"  source: {{format: {look.source.format}, location: {_quoted(location)}}}",
            *_data(look, guesses),
            *LABELS,
            *_sizes(look, guesses),
            *_watching(guesses.rows_a_day),
            "",
        ]
    )


def values_text(policy: str, location: str, file: str) -> str:
    """Values of the chart for a policy file's text, with its comments; ``file`` is what they are called."""
    head = [
        "# Values of kedge's chart for one model. Fill in what is empty, then:",
        f"#   helm install kedge charts/kedge --namespace ml --values {file}",
    ]
    if "://" not in location:
        head.append(f"# The policy's table, {location}, is of this machine: put it where pods read it, such as s3://.")
    return "\n".join((*head, *VALUES, textwrap.indent(policy + CLUSTER, " " * 6)))


def model_name(table: str) -> str:
    """A model's name from a table's address.

    >>> model_name("s3://bank/Direct Debits_2026.parquet")
    'direct-debits-2026'
    """
    stem = re.split(r"[/\\]", table.rstrip("/\\"))[-1].split(".", 1)[0]
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return slug if re.match(r"[a-z]", slug) else f"model-{slug}"[:40].strip("-")


def _heading(look: Look) -> list[str]:
    rows = f"{look.rows:,} rows" if look.whole else f"{look.rows:,} of the rows"
    return [
        f"# A first policy, guessed from {rows}. Each guess has its reason beside it: look through them, then",
        "#   kedge policy check FILE              is it well formed?",
        "#   kedge submit --policy FILE --local   train, prove and register a first model on this machine",
        "# Every field and its default: docs/policy.md, or `kedge policy schema`.",
    ]


def _target(guesses: Guesses, loss: str) -> list[str]:
    target = guesses.target
    column = target.column
    unlabelled = column.missing - column.invalid
    missing = f", {unlabelled:,} without one yet: not labelled, left out" if unlabelled else ""
    lines = [f"  task: {guesses.task}", f"  target: {_quoted(target.name)}  # {_comment(target.why)}{missing}"]
    if target.name != column.name:
        lines.append(f"  target_column: {_quoted(column.name)}  # what the table calls it")
    if column.format:
        lines.append(f"  target_format: {_quoted(column.format)}  # numbers such as {_comment(column.example)}")
    if guesses.task == "binary":
        some = list(column.values.items())[:MAX_COUNTED]
        counts = ", ".join(f"{value} in {count:,} rows" for value, count in some)
        why = _comment(f"{guesses.positive_why}; {counts}")
        lines.append(f"  positive_label: {json.dumps(guesses.positive)}  # {why}")
        if guesses.negative is not None:
            said = "the only other one; a label that is neither is refused"
            lines.append(f"  negative_label: {json.dumps(guesses.negative)}  # {said}")
    elif guesses.task == "multiclass":
        some = list(column.values.items())[:MAX_COUNTED]
        counts = _comment(", ".join(f"{value} in {count:,} rows" for value, count in some))
        named = ", ".join(_quoted(each) if isinstance(each, str) else str(each) for each in guesses.classes)
        lines.append(f"  classes: [{named}]  # {counts}")
        lines.append(
            "  # a new class goes to the end. What mistakes cost, where not all the same: costs: {matrix: ...}"
        )
    else:
        lines.append(f"  # a number with {column.distinct:,} different values: regression")
        others = [each for each in ("squared", "absolute", "poisson (counts)", "quantile(0.9)") if each[:3] != loss[:3]]
        lines.append(f"  loss: {loss:<30} # what it minimises and is judged by; or {', '.join(others)}")
    return lines


def _feature(found: Guess) -> Iterator[str]:
    column = found.column
    fields = [f"type: {found.type}"]
    if found.name != column.name:
        fields.append(f"column: {_quoted(column.name)}")
    if column.format:
        fields.append(f"format: {_quoted(column.format)}")
    seen = found.why if column.format or found.type not in ("number", "integer") else f"seen {found.why}"
    absent = column.missing - column.invalid
    missing = f", {absent / column.rows:.2%} missing" if absent else ""
    leak = f"; SUSPECTED LEAK: {suspicion(found)}" if found.telling is not None else ""
    yield f"    {_quoted(found.name)}: {{{', '.join(fields)}}}  # {_comment(seen)}{missing}{leak}"


def suspicion(found: Guess) -> str:
    """Why a feature may hold what is known only after the outcome."""
    return f"it alone tells the outcome ({found.telling:.1%}); is it known when the prediction is asked for?"


def _left_out(guesses: Guesses) -> list[str]:
    lines = []
    for found in guesses.left_out:
        column = found.column
        lines.append(f"    # left out: {_comment(column.name)}: {_comment(found.why)}")
        if column.resembles and not _dates(column):
            name = plain_name(column.name)
            field = f", column: {_comment(_quoted(column.name))}" if name != column.name else ""
            lines += [
                f"    # {_quoted(name)}: {{type: number{field}, format: {json.dumps(each)}}}"
                for each in column.resembles
            ]
    return lines


def _dates(column: Column) -> bool:
    """Whether texts that several formats read look like dates."""
    return any("%" in each for each in column.resembles)


def _possible_times(guesses: Guesses) -> list[str]:
    """The lines that make a column of dates the time, once somebody knows which format it has."""
    lines = []
    for column in (found.column for found in guesses.left_out if _dates(found.column)):
        lines += ["  # Or, instead of row_time, with the one of these formats that is true:"]
        lines += [f"  # time_column: {_comment(_quoted(column.name))}"]
        lines += [f"  # time_format: {_quoted(each)}" for each in column.resembles]
    return lines


def _data(look: Look, guesses: Guesses) -> list[str]:
    lines = []
    drawn, grouped = "", []
    if guesses.grouped is not None:
        drawn = ", order: drawn"
        grouped = [f"  # The rows lie in groups of {_comment(_quoted(guesses.grouped))}, so their order is no time."]
    if guesses.time is not None:
        lines.append(f"  time_column: {_quoted(guesses.time.column.name)}  # {_comment(guesses.time.why)}")
        if guesses.time.column.format:
            lines.append(f"  time_format: {_quoted(guesses.time.column.format)}")
    else:
        lines += [
            "  # No column holds times. Until one does, row k is taken to have happened at",
            "  # start + k * step_seconds, in the order of the file: CHANGE BOTH to what is true,",
            "  # because training and comparison go by time.",
            *grouped,
            f"  row_time: {{start: 2000-01-01T00:00:00+00:00, step_seconds: 60{drawn}}}",
            *_possible_times(guesses),
        ]
    if guesses.id is not None:
        lines.append(f"  id_column: {_quoted(guesses.id.column.name)}  # {_comment(guesses.id.why)}")
    else:
        lines.append("  # id_column: NAME            # none found: duplicates cannot be told")
    share = f"{bad_row_share(look, guesses):g}"
    why = "invalid rows are left out up to this share; above it the run stops"
    return [*lines, f"  max_bad_row_share: {share:<11} # {why}"]


def bad_row_share(look: Look, guesses: Guesses) -> float:
    """A share of invalid rows that the table itself keeps: a hundredth, or twice what was seen, in whole hundredths."""
    invalid = sum(count for _, count in invalid_values(guesses))
    return max(MAX_BAD_ROW_SHARE, min(1.0, math.ceil(200 * invalid / look.rows) / 100))


def invalid_values(guesses: Guesses) -> list[tuple[Column, int]]:
    """Columns with values that are invalid to a run, and how many: of the time also those that are missing."""
    used = [found.column for found in (guesses.target, guesses.id, *guesses.features) if found is not None]
    counts = [(column, column.invalid) for column in used]
    if guesses.time is not None:
        counts.append((guesses.time.column, guesses.time.column.missing))
    return [(column, count) for column, count in counts if count]


def _sizes(look: Look, guesses: Guesses) -> list[str]:
    if not look.whole:
        return []
    small, usual = look.rows < ENOUGH_ROWS, Gates()
    gates = {"min_rows": max(2 * usual.min_class_rows, look.rows // 10)} if small else {}
    if guesses.task == "multiclass":
        held_out = Train().holdout_share * min(guesses.target.column.values.values())
        least = min(usual.min_class_rows, max(2, int(held_out / 2)))
        needed = len(guesses.classes) * least
        if small or least < usual.min_class_rows or needed > usual.min_rows:
            rows = max(20, look.rows // 10) if small else usual.min_rows
            gates = {"min_rows": max(rows, needed), "min_class_rows": least}
    return [
        *([f"train: {{min_rows: {max(50, look.rows // 2)}}}  # the table is small"] if small else []),
        *([f"gates: {{{', '.join(f'{name}: {value}' for name, value in gates.items())}}}"] if gates else []),
    ]


def _watching(rows_a_day: float | None) -> list[str]:
    fits = pace(rows_a_day)
    days = fits.window_seconds // 86_400
    steps, rows = fits.max_step_seconds // 86_400, ""
    if rows_a_day is not None:
        rows = f"  # about {in_words(rows_a_day)} rows a day"
    lines = [
        f"release:{rows}",
        "  approval: auto                 # manual: wait for `kedge approve` before any traffic moves",
    ]
    if fits.max_step_seconds > Release().max_step_seconds:
        lines.append(f"  max_step_seconds: {fits.max_step_seconds:<12} # {steps} days, to see enough requests")
    lines += [
        "  steps:                         # the candidate's share of the traffic, and what it must have seen at each",
        *(f"    - {{percent: {each}, min_seconds: 300, min_requests: {fits.min_requests}}}" for each in fits.percents),
        "monitor:",
        f'  schedule: "{fits.schedule}"          # a check every {"hour" if days == 1 else "day"} (cron, UTC) ...',
        f"  window_seconds: {fits.window_seconds:<14} # ... of the last {'day' if days == 1 else f'{days} days'}",
    ]
    if fits.min_rows < Monitor().min_rows:
        lines.append(f"  min_rows: {fits.min_rows:<20} # with fewer rows a check says nothing")
    if fits.min_labels < Monitor().performance.min_labels:
        lines.append(f"  performance: {{min_labels: {fits.min_labels}}}")
    return lines


def _quoted(text: str) -> str:
    """Plain where YAML surely reads the same text, else as JSON, which YAML reads too."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n", "none", "nan", "inf"}


def _comment(text: str) -> str:
    """One line that cannot leave its comment."""
    line = " ".join(re.sub(r"[^\x20-\x7e\u00a1-\uffff]", " ", text).split())
    return line if len(line) <= 150 else line[:147] + "..."
