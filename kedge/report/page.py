"""The page and its plain parts: sections, tables, facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from kedge.report.style import STYLESHEET

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Even if something escaped the escaping, the browser runs no script and loads nothing."""
DOCUMENT = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<meta http-equiv="Content-Security-Policy" content="{}">\n<title>{}</title>\n<style>{}</style>\n</head>\n'
    '<body class="kedge">\n<header><h1>{}</h1>{}</header>\n<main>\n{}\n</main>\n</body>\n</html>\n'
)


def page(title: str, *sections: Markup | str, subtitle: str = "") -> str:
    """A whole HTML document.

    Args:
        title: Shown as heading and window title.
        sections: Made by the functions of this room; plain text becomes an escaped paragraph.
        subtitle: One line below the heading.

    >>> page("Check", "All <quiet>.").count("&lt;quiet&gt;")
    1
    """
    below = Markup('<p class="subtitle">{}</p>').format(subtitle) if subtitle else Markup("")
    return str(DOCUMENT.format(POLICY, title, STYLESHEET, title, below, _joined(sections)))


def fragment(*sections: Markup | str) -> str:
    """A piece of a page for a notebook, with its style.

    >>> fragment("All <quiet>.").endswith('<div class="kedge"><p>All &lt;quiet&gt;.</p></div>')
    True
    """
    return str(Markup('<style>{}</style>\n<div class="kedge">{}</div>').format(STYLESHEET, _joined(sections)))


def section(heading: str, *parts: Markup | str) -> Markup:
    """A heading and what stands below it; plain text becomes an escaped paragraph.

    >>> section("Rows", "None.")
    Markup('<section><h2>Rows</h2>\\n<p>None.</p></section>')
    """
    return Markup("<section><h2>{}</h2>\n{}</section>").format(heading, _joined(parts))


def small_multiples(parts: Iterable[Markup]) -> Markup:
    """Many small figures in a grid that fits the window."""
    return Markup('<div class="small">{}</div>').format(_joined(parts))


def _refuse_ragged(columns: Sequence[str], body: Sequence[Sequence[object]]) -> None:
    for row in body:
        if len(row) != len(columns):
            raise ValueError(f"row {row!r} has {len(row)} cells, the table {len(columns)} columns")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; numbers stand right, ``None`` is a dash, times are UTC.

    Raises:
        ValueError: a row is not as long as ``columns``.
    """
    body = [list(row) for row in rows]
    _refuse_ragged(columns, body)
    numeric = [bool(body) and all(_is_number(row[k]) or row[k] is None for row in body) for k in range(len(columns))]
    head = Markup("").join(
        _cell("th", name, "number" if number else "") for name, number in zip(columns, numeric, strict=True)
    )
    lines = Markup("\n").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _cell("td", shown(value), _kind(value, number)) for value, number in zip(row, numeric, strict=True)
            )
        )
        for row in body
    )
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table></div>').format(
        head, lines
    )


def facts(mapping: Mapping[str, object]) -> Markup:
    """A few named values, each on its own tile."""
    tiles = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, shown(value)) for name, value in mapping.items())
    return Markup("<dl>{}</dl>").format(Markup("").join(tiles))


def shown(value: object) -> Markup:
    """A value as people read it, escaped: four significant digits, thousands apart, times in UTC.

    >>> shown(1234567), shown(0.01234), shown(None), shown(True)
    (Markup('1,234,567'), Markup('0.01234'), Markup('–'), Markup('yes'))
    """
    match value:
        case None:
            return escape("–")
        case bool():
            return escape("yes" if value else "no")
        case int():
            return escape(f"{value:,}")
        case float():
            return escape(f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}")
        case datetime():
            return escape(_time(value))
        case _:
            return escape(value)


def _time(value: datetime) -> str:
    if value.tzinfo is None:
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: object, number: bool) -> str:
    return "time" if isinstance(value, datetime) else "number" if number else ""


def _cell(tag: str, content: Markup | str, kind: str) -> Markup:
    named = Markup(' class="{}"').format(kind) if kind else Markup("")
    return Markup("<{tag}{named}>{content}</{tag}>").format(tag=tag, named=named, content=content)


def _joined(parts: Iterable[Markup | str]) -> Markup:
    return Markup("\n").join(part if isinstance(part, Markup) else Markup("<p>{}</p>").format(part) for part in parts)
