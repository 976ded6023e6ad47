"""Pages lead where they say, and say at their top for whom they are and what they answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.runnable import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)|src=\"(?!https?:)([^\"]+)\"")
DOCS = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]


def named(page):
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them: lower case, blanks as dashes, no other marks."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading(page):
    lost = []
    for found in LINK.finditer(page.read_text()):
        path, anchor = found[1] or found[3] or "", found[2]
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(found[0])
    assert lost == []


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_a_page_says_at_its_top_whom_it_answers_what(page):
    title, blank, first = page.read_text().split("\n", 2)
    said = first.partition("*\n")[0]
    assert title.startswith("# ")
    assert blank == ""
    assert re.match(r"\*(For |Which page)", said)
    assert said.endswith("?")


def test_every_page_can_be_found_from_the_index():
    found, waiting = set(), [ROOT / "docs" / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found or page not in DOCS:
            continue
        found.add(page)
        waiting += [(page.parent / link[1]).resolve() for link in LINK.finditer(page.read_text()) if link[1]]
    assert set(DOCS) - found == set()


def test_every_picture_is_shown():
    shown = {
        (page.parent / (link[1] or link[3])).resolve()
        for page in PAGES
        for link in LINK.finditer(page.read_text())
        if link[1] or link[3]
    }
    assert set((ROOT / "docs" / "images").iterdir()) - shown == set()
