"""The values table of the chart's README, from values.yaml: the comment above a value, its name, its default."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

LINE = re.compile(r"^( *)([a-zA-Z]+):(.*)$")


def rows(values: Path) -> list[tuple[str, str, str]]:
    """Name, default and meaning of every value that has a comment, in the file's order."""
    tree = yaml.safe_load(values.read_text())
    found: list[tuple[str, str, str]] = []
    place: list[tuple[int, str]] = []
    said = ""
    for line in values.read_text().splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            said = text[5:]
        elif text.startswith("# ") and said:
            said += f" {text[2:]}"
        elif match := LINE.match(line):
            place = [each for each in place if each[0] < len(match[1])] + [(len(match[1]), match[2])]
            if said:
                names = [name for _, name in place]
                found.append((".".join(names), _default(tree, names), said))
            said = ""
    return found


def _default(tree: object, names: list[str]) -> str:
    for name in names:
        assert isinstance(tree, dict)
        tree = tree[name]
    return yaml.safe_dump(tree, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def table(values: Path) -> str:
    """Markdown."""
    lines = ["| value | default | what for |", "|---|---|---|"]
    for name, default, said in rows(values):
        lines.append(f"| `{name}` | `{default}` | {said.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"
