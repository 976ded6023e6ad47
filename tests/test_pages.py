from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kedge import pages
from kedge.report import page
from kedge.store import open_store

START = datetime(2026, 3, 2, tzinfo=UTC)
BUNDLE = "a" * 40


def test_the_index_lists_every_page_the_newest_first_and_folds_older_checks_by_month(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    checks = [f"check-{START + timedelta(days=day):%Y%m%dT000000Z}.html" for day in range(70)]
    others = [f"{kind}-{BUNDLE}.html" for kind in ("evaluate", "validate")] + [f"release-{BUNDLE}-1.html"]
    for name in [*checks, "mine.html"]:
        store.put(pages.key_of("m", name), b"")
    for name in others:
        pages.keep(store, "m", name, page("title"))
    listed = store.get("reports/m/index.html").decode()
    assert set(re.findall(r'href="([^"]+)"', listed)) == {*checks, *others}
    assert listed.index("2026-05-10 00:00") < listed.index("2026-04-30 00:00") < listed.index("2026-03-02 00:00")
    assert re.findall("<summary>(.*?)</summary>", listed) == ["2026-03: 20 more"]
    assert "aaaaaaaaaaaa, attempt 1" in listed


def test_a_page_leads_to_the_index_and_to_those_that_are_there(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    pages.keep(store, "m", f"evaluate-{BUNDLE}.html", page("one"))
    links = {"its evaluation": f"evaluate-{BUNDLE}.html", "gone": f"release-{BUNDLE}-1.html"}
    key = pages.keep(store, "m", "check-20260302T000000Z.html", page("two", "Text."), links)
    assert re.findall(r'<a href="([^"]+)">([^<]+)</a>', store.get(key).decode()) == [
        ("index.html", "all pages"),
        (f"evaluate-{BUNDLE}.html", "its evaluation"),
    ]
    assert 'href="check-20260302T000000Z.html"' in store.get("reports/m/index.html").decode()


def test_a_page_of_no_time_at_all_is_no_reason_to_fail(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put(pages.key_of("m", "check-20269999T999999Z.html"), b"")
    pages.keep(store, "m", f"evaluate-{BUNDLE}.html", page("title"))
    assert 'href="check-20269999T999999Z.html"' in store.get("reports/m/index.html").decode()
