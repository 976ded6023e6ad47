"""``words.py``: refuse names that no reader knows, and document lines over 100 columns; part of ``make lint``.

The words on the left stay words in sentences. As names of code, files, options and metrics the field has others.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FIELD = {
    "reign": "tenure", "reigns": "lineage", "throne": "champion", "crown": "set_champion", "attention": "warn",
    "veto": "quarantine", "vetoed": "quarantined", "vetoes": "quarantine", "gated": "rejected",
    "untried": "not_started", "recall": "load_history", "student": "student_t", "seam": "step", "seams": "steps",
    "chapter": "generation", "chapters": "generations", "halves": "unmatched", "stands": "state",
    "standing": "model_state", "purposes": "drift_types", "first_policy": "scaffold",
}  # fmt: skip
LIMITS = {"most": "max", "longest": "max", "fewest": "min", "least": "min"}
PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
METRIC = re.compile(r"\bkedge_[a-z_]+")
TEXTS = (".py", ".md", ".yaml", ".json", ".tpl", ".txt", ".sh")
OLD = ("tests/fixtures/", "tests/test_before_renames.py", "kedge/collector/__main__.py", "tools/words.py")
"""Where names of before are spelt out, to be read or to be answered."""
METRICS = ("kedge/metrics.py", "tests/test_metrics_by_name.py")
"""Where recall is what the field says it is."""
COLUMNS = 100


def fault(name: str) -> str | None:
    """The field's word for a name that is refused; None: it may stay.

    >>> fault("MOST_ROWS"), fault("attention_share"), fault("student_t"), fault("almost_all")
    ('max', 'warn', None, None)
    """
    words = [word.lower() for word in PARTS.findall(name)]
    if len(words) > 1 and words[0] in LIMITS:
        return LIMITS[words[0]]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in FIELD and f"{word}_{following}" != FIELD[word]:
            return FIELD[word]
        if f"{word}_{following}" in FIELD:
            return FIELD[f"{word}_{following}"]
    return None


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of whatever a module names; a test's own name is a sentence."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if not name.startswith("test_"):
                    yield node.lineno, name
            case ast.alias(name=name, asname=asname):
                yield from ((node.lineno, part) for part in (*name.split("."), asname or ""))


def of_text(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of options and metrics."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in (*OPTION.findall(line), *METRIC.findall(line)):
            yield number, found.replace("-", "_")


def long_lines(text: str) -> Iterator[int]:
    """Numbers of a document's lines that are too long, but for tables, code and what cannot be broken."""
    code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and len(line) > COLUMNS and not line.lstrip().startswith(("|", "![")):
            yield number


def faults(path: Path) -> Iterator[str]:
    """What is wrong with a file, each with its line."""
    for part in () if str(path).startswith(OLD) else path.parts:
        if not part.startswith("test_") and (better := fault(part.partition(".")[0])):
            yield f"{path}: a file called {part}; the field says {better}"
    if path.suffix not in TEXTS or str(path).startswith(OLD):
        return
    text = path.read_text()
    found = set(of_text(text))
    if path.suffix == ".py":
        found |= set(names(ast.parse(text)))
    for number, name in sorted(found):
        better = fault(name)
        if better and not (better == FIELD["recall"] and str(path) in METRICS):
            yield f"{path}:{number}: {name}; the field says {better}"
    if path.suffix == ".md":
        for number in long_lines(text):
            yield f"{path}:{number}: longer than {COLUMNS} columns"


def main() -> int:
    """Look at every file that git knows."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    found = [said for name in listed.splitlines() if Path(name).is_file() for said in faults(Path(name))]
    sys.stdout.write("".join(f"{said}\n" for said in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
