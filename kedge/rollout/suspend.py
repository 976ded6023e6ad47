"""A running release is suspended or resumed by a person: it stays at its share, and is still rolled back if worse."""

from __future__ import annotations

from dataclasses import replace

from kedge.errors import Conflict, UsageError
from kedge.rollout.driver import Driver
from kedge.rollout.model import Rollout


def suspend(driver: Driver, *, actor: str, reason: str) -> Rollout:
    """Let no share of the release that runs rise until it is resumed. May be repeated.

    Raises:
        UsageError: no release runs.
    """
    words = f"by {actor}" + (f": {reason}" if reason else "")
    return replace(_set(driver, words), suspended=words)


def resume(driver: Driver) -> Rollout:
    """Let the release that runs go on by its evidence; as it was until then. May be repeated.

    Raises:
        UsageError: no release runs.
    """
    return _set(driver, "")


def _set(driver: Driver, suspended: str) -> Rollout:
    """The rollout as it was."""
    while True:
        route = driver.route()
        if route.rollout is None or route.rollout.ended:
            raise UsageError(
                f"{driver.model}: no release runs; `release.suspend: true` in the policy holds those to come"
            )
        try:
            driver.set_route(replace(route, rollout=replace(route.rollout, suspended=suspended)))
        except Conflict:
            continue  # the release moved on meanwhile
        return route.rollout
