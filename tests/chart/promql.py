"""Which series and labels a PromQL expression asks for. Its grammar is promtool's to judge."""

from __future__ import annotations

import re
from collections import defaultdict

WORD = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NO_SERIES = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def asked(expression: str) -> dict[str, set[str]]:
    """Series by name, each with the labels its matchers name.

    >>> asked('sum by (a) (rate(x_total{b="c{d}"}[5m])) > on (a) y * 2')
    {'x_total': {'b'}, 'y': set()}
    """
    plain = GROUPING.sub(" ", re.sub(r"\[[^]]*\]", "", STRING.sub('""', expression)))
    found: dict[str, set[str]] = defaultdict(set)
    for match in re.finditer(rf"(?<![\w.:])({WORD})\s*(\{{[^}}]*\}}|\()?", _without_matchers(plain, found)):
        if match[1] not in NO_SERIES and match[2] != "(":
            found[match[1]] |= set()
    return dict(found)


def grouped(expression: str) -> set[str]:
    """Labels that aggregations and joins name."""
    lists = [match[2] for match in GROUPING.finditer(STRING.sub('""', expression))]
    return {name.strip() for each in lists for name in each.split(",") if name.strip()}


def _without_matchers(text: str, found: dict[str, set[str]]) -> str:
    """The text without ``name{...}``, whose labels are noted."""

    def note(match: re.Match[str]) -> str:
        found[match[1]] |= set(re.findall(rf"({WORD})\s*(?:=~|!~|!=|=)", match[2]))
        return " "

    return re.sub(rf"({WORD})\s*\{{([^}}]*)\}}", note, text)
