from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from kedge import policy as policies
from kedge import records
from kedge.api import history
from kedge.errors import StoreError
from kedge.policy import Policy
from kedge.retention.prune import carry_out, plan
from kedge.store import Store, open_store
from kedge.tables import snapshot
from kedge.tables.snapshot import Part, Snapshot
from tests.records.made import record

NOW = datetime(2027, 3, 2, tzinfo=UTC)
OLD = NOW - timedelta(days=300)
CHAMPION, BEFORE, REJECTED, NEWEST = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
ROWS = {bundle: str(place) * 40 for place, bundle in enumerate((CHAMPION, BEFORE, REJECTED, NEWEST), 1)}
TODAY = "runs/fraud/today.json"
RULES = {
    "model": {"name": "fraud", "target": "fraud", "features": {"amount": {"type": "number"}}},
    "data": {"source": {"format": "parquet", "location": "x.parquet"}, "time_column": "at"},
    "retention": {"keep_days": 30, "keep_bundles": 1, "keep_pages": 1},
}


class Killed(BaseException):
    """The process ends."""


@pytest.fixture
def policy() -> Policy:
    return policies.parse(RULES)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A champion, the one before, one that was rejected and the newest, all old, each with rows and page."""
    store = open_store(tmp_path / "store")
    for number, (bundle, rows) in enumerate(ROWS.items()):
        part = Part(name=f"part-00000-{number}.parquet", rows=1, sha256="0")
        taken = Snapshot(
            model="fraud", fingerprint=rows, rows=1, columns={}, oldest=OLD, newest=OLD, parts=[part],
            source=f"{number}.parquet", version=None, time="column at", end=OLD, taken=OLD, parent="e" * 40,
        )  # fmt: skip
        store.put(f"snapshots/fraud/{rows}/{part.name}", b"rows")
        store.put(f"snapshots/fraud/{rows}/snapshot.json", snapshot.manifest(taken))
        store.put(f"bundles/fraud/{bundle}/model.ubj", b"model")
        store.put(f"bundles/fraud/{bundle}/code/team.py", b"")
        store.put(f"bundles/fraud/{bundle}/bundle.json", orjson.dumps({"snapshot": rows, "commit": "f" * 40}))
        store.put(f"reports/fraud/evaluate-{bundle}.html", b"page")
    for hour in range(3):
        store.put(f"reports/fraud/check-20260302T0{hour}0000Z.html", b"page")
    for key in ("reports/fraud/mine.html", "runs/fraud/1.json", "searches/fraud/2.journal"):
        store.put(key, b"")
    for kind, bundle, days in (("promoted", BEFORE, 0), ("promoted", CHAMPION, 1), ("evaluated", REJECTED, 2)):
        when = OLD + timedelta(days=days)
        records.append(store, record(kind, f"{bundle}-1", when, bundle=bundle, written=when, **_of(kind)))
    for number, item in enumerate(store.items("")):
        age(store, item.key, OLD + timedelta(seconds=number))
    age(store, f"bundles/fraud/{NEWEST}/bundle.json", OLD + timedelta(days=3))
    store.put(TODAY, b"")
    age(store, TODAY, NOW - timedelta(hours=2))
    return store


def _of(kind: str) -> dict[str, object]:
    return {"passed": False, "outcome": "rejected"} if kind == "evaluated" else {}


def age(store: Store, key: str, time: datetime) -> None:
    os.utime(Path(store.url, key), (time.timestamp(), time.timestamp()))


def present(store: Store, folder: str) -> set[str]:
    return {key.split("/")[2] for key in store.keys(f"{folder}/fraud")}


def test_what_is_old_and_not_needed_goes_and_the_rest_stays(policy: Policy, store: Store) -> None:
    made = plan(policy, store, now=NOW)
    assert [removal.thing for removal in made.removals] == [*["page"] * 3, "bundle", "snapshot", *["scrap"] * 2]
    assert carry_out(made, store) == sum(removal.size for removal in made.removals) > 0
    assert present(store, "bundles") == {CHAMPION, BEFORE, NEWEST}
    assert present(store, "snapshots") == {ROWS[CHAMPION], ROWS[BEFORE], ROWS[NEWEST]}
    pages = {f"evaluate-{bundle}.html" for bundle in (CHAMPION, BEFORE, NEWEST)}
    assert present(store, "reports") == {*pages, "check-20260302T020000Z.html", "mine.html", "index.html"}
    assert not Path(store.url, "bundles/fraud", REJECTED).exists()
    assert plan(policy, store, now=NOW).removals == ()


def test_a_clock_that_is_ahead_deletes_nothing(policy: Policy, store: Store) -> None:
    for item in store.items(""):
        age(store, item.key, NOW - timedelta(days=20))
    ahead = NOW + timedelta(days=400)
    store.put("reports/fraud/check-20280406T000000Z.html", b"page")
    age(store, "reports/fraud/check-20280406T000000Z.html", ahead)
    assert plan(policy, store, now=ahead).removals == ()


def test_history_still_says_on_what_a_deleted_bundle_was_made(policy: Policy, store: Store) -> None:
    lines = history.read_history(store.url, "fraud").lines()
    carry_out(plan(policy, store, now=NOW), store)
    assert history.read_history(store.url, "fraud").lines() == lines
    assert lines[-1][4:6] == (ROWS[REJECTED][:12], "f" * 12)


def test_whatever_moment_a_kill_comes_what_is_there_is_whole_and_the_next_time_ends_it(
    policy: Policy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, left = type(store).delete, [0]

    def dying(self: Store, key: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        delete(self, key)

    monkeypatch.setattr(type(store), "delete", dying)
    kills = 0
    while plan(policy, store, now=NOW).removals:
        left[0] = 1
        with suppress(Killed):
            carry_out(plan(policy, store, now=NOW), store)
        kills += 1
        for bundle in present(store, "bundles"):
            keys = set(store.keys(f"bundles/fraud/{bundle}"))
            if f"bundles/fraud/{bundle}/bundle.json" in keys:
                assert len(keys) == 3
                assert f"snapshots/fraud/{ROWS[bundle]}/snapshot.json" in set(store.keys("snapshots/fraud"))
            else:
                assert f"reports/fraud/evaluate-{bundle}.html" not in set(store.keys("reports/fraud"))
        for rows in snapshot.all_of(store, "fraud"):
            assert len(list(store.keys(f"snapshots/fraud/{rows.fingerprint}"))) == 2
    assert kills == 10
    assert present(store, "bundles") == {CHAMPION, BEFORE, NEWEST}


def test_what_a_run_uses_between_plan_and_deletion_stays(policy: Policy, store: Store) -> None:
    made = plan(policy, store, now=NOW)
    for key in (f"snapshots/fraud/{ROWS[REJECTED]}/snapshot.json", f"bundles/fraud/{REJECTED}/bundle.json"):
        age(store, key, NOW)
    carry_out(made, store)
    assert REJECTED in present(store, "bundles")
    assert ROWS[REJECTED] in present(store, "snapshots")


def test_a_damaged_manifest_ends_no_clean_up(policy: Policy, store: Store) -> None:
    key = f"bundles/fraud/{REJECTED}/bundle.json"
    store.put(key, b'{"snapshot": "3')
    age(store, key, OLD)
    carry_out(plan(policy, store, now=NOW), store)
    assert present(store, "bundles") == {CHAMPION, BEFORE, NEWEST}


def test_a_bundle_whose_release_runs_stays(policy: Policy, store: Store) -> None:
    begun = {"run": "release-fraud-c", "pipeline": "release", "bundle": REJECTED, "written": OLD}
    records.append(store, record("run-started", "release-fraud-c", OLD, **begun))
    assert "bundle" not in {removal.thing for removal in plan(policy, store, now=NOW).removals}
    records.append(store, record("run-started", "release-fraud-c.2", NOW, **{**begun, "written": NOW, "attempt": 2}))
    made = plan(policy, store, now=NOW)
    assert made.waits_for == "release-fraud-c"
    assert {removal.thing for removal in made.removals} == {"page", "scrap"}


def test_a_store_that_may_not_be_deleted_from_says_so(
    policy: Policy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, key: str) -> None:
        raise StoreError(f"cannot delete {key}: AccessDenied")

    monkeypatch.setattr(type(store), "delete", refuse)
    with pytest.raises(StoreError, match=r"cannot delete reports/.*AccessDenied"):
        carry_out(plan(policy, store, now=NOW), store)


def test_everything_stays_where_the_policy_says_so(store: Store) -> None:
    kept = policies.parse({**RULES, "retention": {"keep_days": None}})
    assert plan(kept, store, now=NOW).removals == ()
