"""Plain values in, plain values out: what the pipeline and the commands hand the release."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kedge import bundle as bundles
from kedge import clock, pages, records, report, steps
from kedge import policy as policies
from kedge.errors import SlotNotReady, StoreError, UsageError
from kedge.policy import Policy
from kedge.records import RunState
from kedge.registry import Registry
from kedge.rollout import batch, page, progress, rollout
from kedge.rollout import drill as drills
from kedge.rollout import guard as guards
from kedge.rollout import release as releases
from kedge.rollout import rollback as rollbacks
from kedge.rollout.drivers import open_driver
from kedge.rollout.evidence import Observed
from kedge.rollout.model import Rollout, Span
from kedge.settings import Settings
from kedge.store import Store, open_store, write_file

STATES: Mapping[str, RunState] = {
    "promoted": "succeeded",
    "rolled-back": "rejected",
    "refused": "rejected",
    "not-judged": "inconclusive",
    "begun": "succeeded",
}
"""How the record of a run calls the ends of a release."""


def deploy(policy: dict[str, Any], store: str, registry: str, platform: str, bundle: str, run: str, report: Any) -> str:
    """Release a bundle or go on with its release: ``promoted``, ``rolled-back``, ``not-judged`` or ``refused``; by
    batches ``begun``, as :func:`kedge.scoring.step.score` goes on with it.

    ``report`` is a KFP artefact, HTML: the release's page, which the store keeps too.
    A candidate that is rolled back or refused is a release that ended as it should: the run's record says ``rejected``.
    One that was not judged says ``inconclusive``, and may be released again; where the platform could not even start
    it, the run failed, and raises SlotNotReady.
    Raises what :func:`rollout.run` raises, BundleError and PolicyError, after a record of it.
    """
    parsed, opened, run = policies.parse(policy), open_store(store), steps.run_name(run)

    def release() -> releases.Outcome:
        with TemporaryDirectory() as cache:
            candidate = bundles.fetch(opened, parsed.name, bundle, Path(cache))
            if parsed.release.mode == "batch":
                return batch.begin(ledger(parsed, opened, registry), candidate, run)
            asked = _release(parsed, opened, registry, platform)
            asked.bundle, asked.run, asked.say = candidate, run, steps.say
            ended = rollout.run(asked)
            if ended.not_started:
                raise SlotNotReady(f"{ended.reason}; the bundle was not tried, and may be released again")
            return ended

    outcome = steps.run_step(opened, parsed.name, "deploy", release, run=run)
    state = STATES[outcome.result]
    steps.finish(
        opened, parsed.name, run, state, step="deploy", bundle=bundle, outcome=outcome.result, reason=outcome.reason
    )
    write_file(Path(report.path), _page(parsed, opened, bundle, outcome).encode())
    steps.say(f"{outcome.result}: {outcome.reason}")
    return outcome.result


def _page(policy: Policy, store: Store, bundle: str, outcome: releases.Outcome) -> str:
    """The page of the bundle's newest release, kept in the store; of one that did not begin, why."""
    ends = [
        (each.started, ended)
        for each in records.read_state(store, policy.name).releases
        if each.bundle == bundle and (ended := each.promoted or each.rolled_back) is not None
    ]
    if outcome.result == "refused" or not ends:
        return report.page(f"{policy.name}: release of {bundle[:12]}", f"{outcome.result}: {outcome.reason}")
    started, ended = max(ends, key=lambda each: each[1].order)
    seen = progress.read(store, policy.name)
    seen = seen if seen is not None and seen.key == ended.key else None
    html = page.page(policy, ended, started, seen)
    with suppress(StoreError):  # the release is over, whatever becomes of its picture
        links = {"the bundle's evaluation": f"evaluate-{bundle}.html"}
        pages.keep(store, policy.name, page.name_of(ended.key), html, links)
    return html


def rollback(policy: Policy, settings: Settings, *, reason: str, actor: str = "", to: str = "") -> releases.Outcome:
    """The operator's rollback; see :func:`kedge.rollout.rollback.rollback` and :func:`kedge.rollout.batch.rollback`."""
    if policy.release.mode == "batch":
        asked = ledger(policy, open_store(settings.store), settings.registry)
        return batch.rollback(asked, reason=reason, actor=actor, to=to)
    return rollbacks.rollback(_of(policy, settings), reason=reason, actor=actor, to=to)


def guard(
    policy: Policy, settings: Settings, *, seconds: float, sleep: Callable[[float], object] = time.sleep
) -> guards.Guarded:
    """One look of the circuit breaker; see :func:`kedge.rollout.guard.look`."""
    release = _of(policy, settings)
    release.sleep = sleep
    return guards.look(release, seconds)


def drill(
    policy: Policy, settings: Settings, *, max_seconds: float, replace_kept: bool, say: Callable[[str], None]
) -> drills.Drilled:
    """A rollback, tried; see :func:`kedge.rollout.drill.drill`."""
    release = _of(policy, settings)
    release.say = say
    with TemporaryDirectory() as folder:
        return drills.drill(release, Path(folder), max_seconds=max_seconds, replace_kept=replace_kept)


def served(model: str, platform: str) -> str:
    """Who gets the model's traffic, in words."""
    return rollbacks.served(open_driver(platform, model).route())


def policy_served(model: str, settings: Settings) -> Policy:
    """The policy in the bundle that is being released or has all traffic.

    Raises:
        UsageError: the model is not served here.
    """
    driver, opened = open_driver(settings.platform, model), open_store(settings.store)
    route = driver.route()
    serving = driver.slot(route.champion).bundle if route.champion else None
    bundle = route.rollout.bundle if route.rollout is not None else serving
    if bundle is None:
        raise UsageError(f"{model}: not served by the platform {settings.platform}")
    key = f"{bundles.address(model, bundle)}/bundle.json"
    return policies.parse(bundles.manifest.parse(opened.get(key), opened.uri(key)).policy)


def ledger(policy: Policy, store: Store, registry: str, *, now: datetime | None = None) -> batch.Ledger:
    """What a release by batches works with; ``now`` is its clock, if given."""
    publish = partial(Registry(registry).publish, policy.name)
    return batch.Ledger(policy=policy, store=store, publish=publish, clock=clock.now if now is None else lambda: now)


def _of(policy: Policy, settings: Settings) -> releases.Release:
    return _release(policy, open_store(settings.store), settings.registry, settings.platform)


def _release(policy: Policy, store: Store, registry: str, platform: str) -> releases.Release:
    return releases.Release(
        driver=open_driver(platform, policy.name),
        policy=policy,
        store=store,
        publish=partial(Registry(registry).publish, policy.name),
        observe=partial(_observe, store, policy),
        monotonic=None if clock.driven() else time.monotonic,
    )


def _observe(store: Store, policy: Policy, rollout: Rollout, spans: Sequence[Span]) -> Sequence[Observed]:
    from kedge.rollout.outcomes import observe

    return observe(store, policy, rollout, spans)
