"""Plain values in, plain values out: what the pipeline and the commands hand the release."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components import bundle as bundles
from components import policy as policies
from components import step
from components.deploy import rollback as way_back
from components.deploy import rollout
from components.deploy.drivers import open_driver
from components.deploy.evidence import Observed
from components.deploy.model import Rollout, Span
from components.errors import SlotNotReady, UsageError
from components.policy import Policy
from components.register import Registry
from components.store import Store, open_store


def deploy(policy: dict[str, Any], store: str, registry: str, platform: str, bundle: str, run: str) -> str:
    """Release a bundle or go on with its release: ``promoted``, ``rolled-back`` or ``refused``.

    A candidate that is taken back or refused is a release that ended as it should: the run's record says ``gated``. One
    that the platform could not even start is a run that failed, and may be tried again: it raises SlotNotReady. Raises
    what :func:`rollout.run` raises, BundleError and PolicyError, after a record of it.
    """
    parsed, opened, run = policies.parse(policy), open_store(store), step.run_name(run)

    def release() -> rollout.Outcome:
        with TemporaryDirectory() as cache:
            candidate = bundles.fetch(opened, parsed.name, bundle, Path(cache))
            asked = _release(parsed, opened, registry, platform)
            asked.bundle, asked.run, asked.say = candidate, run, step.say
            ended = rollout.run(asked)
            if ended.untried:
                raise SlotNotReady(f"{ended.reason}; the bundle was not tried, and may be released again")
            return ended

    outcome = step.perform(opened, parsed.name, "deploy", release, run=run)
    state: step.State = "succeeded" if outcome.result == "promoted" else "gated"
    step.finish(
        opened, parsed.name, run, state, step="deploy", bundle=bundle, outcome=outcome.result, reason=outcome.reason
    )
    step.say(f"{outcome.result}: {outcome.reason}")
    return outcome.result


def rollback(
    policy: Policy, store: str, registry: str, platform: str, *, reason: str, actor: str = ""
) -> rollout.Outcome:
    """The operator's rollback; see :func:`components.deploy.rollback.rollback`."""
    return way_back.rollback(_release(policy, open_store(store), registry, platform), reason=reason, actor=actor)


def served(model: str, platform: str) -> str:
    """Who gets the model's traffic, in words."""
    return way_back.served(open_driver(platform, model).route())


def policy_served(model: str, store: str, platform: str) -> Policy:
    """The policy in the bundle that is being released or has all traffic.

    Raises:
        UsageError: the model is not served here.
    """
    driver, opened = open_driver(platform, model), open_store(store)
    route = driver.route()
    serving = driver.slot(route.champion).bundle if route.champion else None
    bundle = route.rollout.bundle if route.rollout is not None else serving
    if bundle is None:
        raise UsageError(f"{model}: not served by the platform {platform}")
    key = f"{bundles.address(model, bundle)}/bundle.json"
    return policies.parse(bundles.manifest.parse(opened.get(key), opened.uri(key)).policy)


def _release(policy: Policy, store: Store, registry: str, platform: str) -> rollout.Release:
    return rollout.Release(
        driver=open_driver(platform, policy.name),
        policy=policy,
        store=store,
        crown=partial(_crown, Registry(registry), policy.name),
        observe=partial(_observe, store, policy),
    )


def _crown(registry: Registry, model: str, champion: str, previous: str | None) -> None:
    registry.set_alias(model, "champion", champion)
    if previous is not None:
        registry.set_alias(model, "previous", previous)


def _observe(store: Store, policy: Policy, stands: Rollout, spans: Sequence[Span]) -> Sequence[Observed]:
    from components.deploy.outcomes import observe

    return observe(store, policy, stands, spans)
