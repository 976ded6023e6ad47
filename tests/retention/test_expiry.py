"""Nothing that is needed is deleted, whatever happened and in whatever order it was written down."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.policy import Retention
from kedge.records import ModelState, Record
from kedge.retention.expiry import Held, Inventory, Uses, expired
from tests.records.made import record
from tests.records.test_fold import BUNDLES, histories

NOW = datetime(2027, 3, 2, tzinfo=UTC)
RULES = Retention(keep_days=30, keep_bundles=1, keep_pages=1)
OLD = NOW - timedelta(days=300)
A, B, C = BUNDLES
ROWS = {bundle: f"{place}" * 40 for place, bundle in enumerate(BUNDLES, 1)}
CLEANED = "9" * 40


def held(used: datetime = OLD) -> Inventory:
    """Three bundles, each with a snapshot and a page; the first one's rows were cleaned from others."""
    return Inventory(
        bundles=tuple(Held(name=name, used=used, needs=frozenset({ROWS[name]})) for name in BUNDLES),
        snapshots=(
            Held(name=ROWS[A], used=used, needs=frozenset({CLEANED})),
            *(Held(name=name, used=used) for name in (ROWS[B], ROWS[C], CLEANED)),
        ),
        pages=tuple(Held(name=f"reports/fraud/evaluate-{name}.html", used=used, of=name) for name in BUNDLES),
    )


def gone(history: list[Record], **world: Inventory) -> dict[str, set[str]]:
    found = expired(RULES, Uses.of(history), world.get("held", held()), NOW)
    return {each: {item.name for item in getattr(found, each)} for each in ("bundles", "snapshots", "pages")}


@settings(deadline=None, max_examples=200)
@given(histories, st.randoms(use_true_random=False))
def test_nothing_needed_goes_whatever_the_order_of_records(history: list[Record], order: random.Random) -> None:
    state, found = ModelState.of(history), gone(history)
    waits = {release.bundle for release in state.releases if release.promoted is None and release.rolled_back is None}
    waits |= {run.bundle for run in state.runs if run.running and run.bundle}
    needed = {state.champion_bundle, *state.lineage[-2:], state.release_to_approve, *waits}
    needed |= {state.stalled.bundle} if state.stalled is not None else set()
    needed |= {state.awaits_release(), state.challenger}
    assert not needed & found["bundles"]
    for bundle in set(BUNDLES) - found["bundles"]:
        assert ROWS[bundle] not in found["snapshots"]
        assert not any(bundle in page for page in found["pages"])
    assert A in found["bundles"] or CLEANED not in found["snapshots"]
    shuffled = order.sample(history, len(history))
    assert gone(shuffled) == found


def test_what_nothing_needs_goes_with_its_rows_and_its_page() -> None:
    found = gone([])
    assert found["bundles"] == {A, B}  # the newest one stays
    assert found["snapshots"] == {ROWS[A], ROWS[B], CLEANED}
    assert {page[-45:-5] for page in found["pages"]} == {A, B}


@pytest.mark.parametrize(
    "use",
    [
        record("promoted", f"{A}-1", OLD),
        record("registered", A, OLD),
        record("release-started", f"{A}-1", OLD),
        record("run-started", "release-fraud-a", OLD, run="release-fraud-a", pipeline="release", bundle=A),
        record("approved", A, NOW - timedelta(days=2)),
        record(
            "evaluated", f"{B}-run", NOW - timedelta(days=2), bundle=B, champion=A, passed=False, outcome="rejected"
        ),
    ],
    ids=lambda item: item.kind,
)
def test_a_use_keeps_a_bundle(use: Record) -> None:
    used = held()
    named = {each.name: Uses.of([use]).named.get(each.name, each.used) for each in used.bundles}
    bundles = tuple(Held(name=each.name, used=named[each.name], needs=each.needs) for each in used.bundles)
    world = Inventory(bundles=bundles, snapshots=used.snapshots, pages=used.pages)
    found = gone([use], held=world)
    assert A not in found["bundles"]
    assert not {ROWS[A], CLEANED} & found["snapshots"]


def test_bundles_wait_for_an_open_run_and_not_for_one_that_died() -> None:
    def begun(days: int) -> list[Record]:
        return [record("run-started", "retrain-fraud-x", NOW - timedelta(days=days), run="retrain-fraud-x")]

    assert gone(begun(1)) == {"bundles": set(), "snapshots": set(), "pages": set()}
    assert gone(begun(8))["bundles"] == {A, B}


def test_of_the_pages_of_checks_the_newest_stay() -> None:
    pages = tuple(Held(name=f"check-{hour}", used=OLD + timedelta(hours=hour)) for hour in range(3))
    young = Held(name="check-young", used=NOW)
    assert gone([], held=Inventory(pages=pages))["pages"] == {"check-0", "check-1"}
    assert gone([], held=Inventory(pages=(*pages, young)))["pages"] == {"check-0", "check-1", "check-2"}


def test_the_newest_row_ever_taken_from_a_table_stays_known() -> None:
    world = Inventory(snapshots=held().snapshots, newest_of_source=frozenset({ROWS[B]}))
    assert gone([], held=world)["snapshots"] == {ROWS[A], ROWS[C], CLEANED}
