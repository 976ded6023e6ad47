"""The pages of a model in the store: what they are called, how they lead to each other, and the index of them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import PurePosixPath

from markupsafe import Markup

from kedge.report import page, section, table
from kedge.store import Store

INDEX = "index.html"
NAME = re.compile(r"(check|evaluate|release|validate)-(?:([0-9a-f]{40})(-[^.]+)?|(\d{8}T\d{6}Z))\.html")
TITLES = {
    "release": "Releases",
    "evaluate": "Evaluations",
    "check": "Checks",
    "validate": "Rows that were trained on",
}
"""By the first word of a page's name, in the order of the index."""
OPEN = 50
"""The newest checks are shown; those before are folded by the month."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page, as its name tells it."""

    name: str
    kind: str
    of: str
    """The bundle or snapshot that it describes; empty: it is a check's."""
    title: str
    modified: datetime

    @property
    def order(self) -> tuple[str, str]:
        """Checks by their time, others by when they were written."""
        return (self.title if self.kind == "check" else f"{self.modified:%Y-%m-%d %H:%M:%S}", self.name)


def key_of(model: str, name: str) -> str:
    """A page's key in the store."""
    return f"reports/{model}/{name}"


def named(name: str, modified: datetime) -> Page | None:
    """The page of this file name; None: it is none of kedge's."""
    found = NAME.fullmatch(name)
    if found is None or (found[1] == "check") != bool(found[4]):
        return None
    if at := found[4]:
        title = f"{at[:4]}-{at[4:6]}-{at[6:8]} {at[9:11]}:{at[11:13]} UTC"
    else:
        title = f"{found[2][:12]}{(found[3] or '').replace('-', ', attempt ')}"
    return Page(name=name, kind=found[1], of=found[2] or "", title=title, modified=modified)


def keep(store: Store, model: str, name: str, html: str, links: Mapping[str, str] | None = None) -> str:
    """Write a page with its links, and the index anew; its key.

    Args:
        name: Of the file.
        html: Made by :func:`kedge.report.page`.
        links: Words -> file name of another page of the model, those that are not there are left out; or the key of a
            file elsewhere in the store.
    """
    there, key = {page.name: page for page in pages_of(store, model)}, key_of(model, name)
    leads = {"all pages": INDEX} | {words: to for words, to in (links or {}).items() if to in there}
    leads |= {words: f"../../{to}" for words, to in (links or {}).items() if "/" in to}
    anchors = Markup(" · ").join(Markup('<a href="{}">{}</a>').format(to, words) for words, to in leads.items())
    navigation = Markup('<nav class="subtitle">{}</nav></header>').format(anchors)
    store.put(key, html.replace("</header>", navigation, 1).encode())
    this = named(name, datetime.now(UTC))
    if this is not None:
        there[name] = this
    store.put(key_of(model, INDEX), index(model, there.values()).encode())
    return key


def pages_of(store: Store, model: str) -> list[Page]:
    """The pages that there are."""
    items = store.items(f"reports/{model}")
    found = (named(PurePosixPath(item.key).name, item.modified) for item in items)
    return [page for page in found if page is not None]


def write_index(store: Store, model: str) -> None:
    """List the pages that there are."""
    store.put(key_of(model, INDEX), index(model, pages_of(store, model)).encode())


def index(model: str, pages: Iterable[Page]) -> str:
    """A page that leads to all others, the newest first."""
    by_kind = {kind: [each for each in pages if each.kind == kind] for kind in TITLES}
    sections = []
    for kind, each in by_kind.items():
        newest = sorted(each, key=lambda page: page.order, reverse=True)
        parts = [_listed(newest[:OPEN])] if newest else ["None yet."]
        for month, older in groupby(newest[OPEN:], lambda page: page.order[0][:7]):
            parts.append(_folded(month, list(older)))
        sections.append(section(TITLES[kind], *parts))
    return page(f"{model}: all pages", *sections)


def _listed(pages: Iterable[Page]) -> Markup:
    link = Markup('<a href="{}">{}</a>')
    return table(("page", "written"), [(link.format(each.name, each.title), each.modified) for each in pages])


def _folded(month: str, pages: Sequence[Page]) -> Markup:
    """The links alone, as each check writes all of them anew."""
    links = "".join(f'<li><a href="{each.name}">{each.title}</a></li>' for each in pages)
    return Markup(f"<details><summary>{month}: {len(pages):,} more</summary><ul>{links}</ul></details>")  # noqa: S704 - of ``NAME``
