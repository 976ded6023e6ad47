"""Policies gone wrong at random, as people, editors and templates break them."""

from __future__ import annotations

import json
import random
import re

import yaml

VALID = """\
version: 1
model:
  name: fraud
  description: Card payments
  task: binary
  target: is_fraud
  target_column: "Betrug (ja/nein)"
  positive_label: 1
  negative_label: 0
  features:
    amount: {type: number, min: 0, max: 50000, nullable: false, privacy: bucket, buckets: [0, 10, 100]}
    country:
      type: category
      values: [AT, BE, DE]
    retries: {type: integer, min: 0}
    fee: {type: number, format: "1,234.5"}
    recurring: {type: boolean, column: "wiederkehrend (j/n)"}
  slices: [country, recurring, branch]
  costs: {false_positive: 1, false_negative: 20}
data:
  source: {format: parquet, location: warehouse/payments}
  time_column: paid_at
  time_format: "%d.%m.%Y %H:%M"
  id_column: payment_id
  extra_columns: [branch]
  history_seconds: 31536000
  max_bad_row_share: 0.01
  labels:
    source: {format: sql, location: LABELS_DB, query: "SELECT id, label, observed_at FROM chargebacks"}
    id_column: id
    label_column: label
    observed_column: observed_at
labels:
  delay_seconds: 259200
  complete_after_seconds: 2592000
  absent_means: negative
  min_coverage: 0.5
train:
  estimators: [xgboost, linear]
  xgboost: {trees: 200, depth: 6, learning_rate: 0.1, early_stopping_rounds: 20}
  holdout_share: 0.25
  half_life_seconds: 2592000
  min_rows: 500
gates:
  alpha: 0.05
  max_loss: 0.6
  min_rows: 200
release:
  approval: manual
  steps:
    - {percent: 5, min_seconds: 300, min_requests: 100, min_labels: 0}
    - {percent: 50, min_seconds: 300, min_requests: 100, min_labels: 0}
  max_step_seconds: 86400
  analysis: {alpha: 0.01, max_latency_ratio: 2}
monitor:
  schedule: "0 * * * *"
  window_seconds: 86400
  drift: {alpha: 0.05, seasonal_weeks: 1}
  quarantine: {ask_after_checks: 3}
  triggers: {labelled_error: true, growth: 8, max_age_seconds: 604800}
  budget: {cooldown_seconds: 3600, max_retrains: 30, period_seconds: 2592000, approval: auto}
costs: {error: 1, run: 20, release: 10, horizon_rows: 2000}
cluster:
  steps:
    train: {cpu: 4, memory: 8Gi, max_seconds: 7200, node_selector: {pool: large}}
  tolerations:
    - {key: batch, value: "true", effect: NoSchedule}
  secrets:
    - {name: object-store, keys: [AWS_ACCESS_KEY_ID]}
  volumes:
    - {claim: warehouse, path: /data}
notify:
  url_variable: CHAT_URL
  states: [failed, rejected]
"""
# fmt: off
VALUES = (
    "0", "-1", "1", "2", "0.5", "-0.0", "1e400", "-1e400", "1e308", "1e-320", ".nan", ".inf", "-.inf", "0x1F", "0o17",
    "017", "1_000", "9" * 400, "-" + "9" * 400, "1e", "12:30:45", "190:20:30.15", "yes", "no", "on", "null", "~",
    '""', "''", '" "', '"\\0"', '"\\ud800"', '"\\x07"', "=", "<<", "a: b", "- a", "[]", "{}", "[[]]", "[{}]",
    "{a: {b: [c]}}", "[1, a, null]", "2026-01-01", "2026-13-45", "0001-01-01", "9999-12-31T23:59:59-23:00",
    "2026-01-01T25:00:00Z", "2026-01-01 00:00:00 +99:99", "!!binary '=='", "!!binary aGk=", "!!set {a, b}",
    "!!omap [a: 1]", "!!pairs [a: 1]", "!!int x", "!!float x", "!!int 0b", "!!bool maybe", "!!timestamp x",
    "!!python/object/apply:os.system [x]", "!own x", "!!str 5", "!!null x", "!!seq x", "!!map x", "&a x", "*a", "@a",
    "`a", "%a", "|", ">", "|2", "? a", "? [a]", "\t1", "#", "é", "\u2028", "\U0001f600", "x" * 5000, "'", '"', "{",
    "[", "]", "}", ",", "!!int '1:99'", "!!int ''", "!!float ''", "!!int '-'", "!!int '+'", "!!int '_'", "!!float '_'",
    "number", "integer", "boolean", "category", "keep", "hash", "bucket", "drop", "mask", "csv", "delta", "log", "sql",
    "s3://b/k", "gs://b/k", "ftp://b/k", "file:///x", "auto", "manual", "amount", "is_fraud", "_id", "regression",
    "* * * * *", "61 * * * *", "0 0 31 2 *", "1Gi", "1e3Gi", "-1Gi",
)
KEYS = (
    "1", "null", "true", "[a]", "{a: b}", "? x", '""', "'a b'", "<<", "=", "2026-01-01", "!!binary aGk=", "é", "mdoel",
    "name", "type", "min", "steps", "x" * 300, "_x", "features", "!own k", "1.5", ".nan",
)
# fmt: on


def mutant(seed: int) -> str:
    """A policy's text with one to three faults, or none that matters."""
    draw = random.Random(seed)
    text = VALID
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        text = draw.choice((_value, _value, _value, _key, _drop, _twice, _indent, _characters, _cut))(text, draw)
    return text


def twin(seed: int) -> str:
    """The policy without a fault, written otherwise."""
    draw = random.Random(seed)
    plain = yaml.safe_load(VALID)
    for section in ("release", "monitor", "data", "train"):
        plain[section] = dict(draw.sample(list(plain[section].items()), len(plain[section])))
    text = yaml.safe_dump(
        plain,
        sort_keys=False,
        default_flow_style=draw.choice((None, True, False)),
        width=draw.choice((20, 80, 1000)),
        indent=draw.choice((2, 4, 7)),
        allow_unicode=draw.random() < 0.5,
        explicit_start=draw.random() < 0.3,
        line_break=draw.choice(("\n", "\r\n")),
    )
    if draw.random() < 0.3:
        text = json.dumps(plain, indent=draw.choice((None, 1)))
    text = text.replace(": 500,", ": 500.0,").replace(" 86400\n", " 86_400\n")
    return draw.choice(("", "\ufeff", "# a comment\n", "\n\n")) + text + draw.choice(("", "\n", "\n# the end"))


def _value(text: str, draw: random.Random) -> str:
    """Another value for one of the fields, inside a mapping on one line as well."""
    places = list(re.finditer(r"(?<=[:,\[]) (?=\S)|(?<=\[)(?=\S)", text))
    if not places:
        return text
    place = draw.choice(places).end()
    end = re.compile(r"[,}\]]|\n|$").search(text, place)
    assert end is not None
    return text[:place] + draw.choice(VALUES) + text[end.start() :]


def _key(text: str, draw: random.Random) -> str:
    names = list(re.finditer(r"[A-Za-z_]+(?=: |:\n)", text))
    if not names:
        return text
    name = draw.choice(names)
    swapped = draw.choice((draw.choice(KEYS), draw.choice(names)[0], name[0][:-1], name[0] + "s"))
    return text[: name.start()] + swapped + text[name.end() :]


def _drop(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines) or 1)
    return "".join(lines[:at] + lines[at + draw.choice((1, 1, 3)) :])


def _twice(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    return "".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])


def _indent(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    lines[at] = draw.choice((" ", "  ", "\t", "- ")) + lines[at] if draw.random() < 0.6 else lines[at].lstrip()
    return "".join(lines)


def _characters(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(list(" \t\n:-#'\"{}[],&*!|>%@`?\\\0\x07\x85\u2028\ufeffx0.~=<")) + text[at + 1 :]


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text))]
