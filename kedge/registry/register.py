"""From a challenger that passed its gates to a version in the registry."""

from __future__ import annotations

import json

from kedge import bundle, clock, records, steps
from kedge.errors import RunError
from kedge.policy import Policy
from kedge.records import Evaluated, Record, Registered, RunFinished
from kedge.registry.registry import Registry
from kedge.registry.trainings import training
from kedge.store import Store

FIGURES = ("wrong", "roc_area", "rmse", "mae", "r_squared")
"""Beside the loss, what a person asks of a classifier and of a regression; of the evaluation, on the rows judged."""


def run(policy: Policy, store: Store, registry: Registry, run_name: str, bundle_id: str) -> str:
    """Register a bundle as the challenger, record it, and record that the run succeeded. Again is harmless.

    Returns:
        The version's number.

    Raises:
        RunError: the bundle did not pass its gates.
        RegistryError: the registry cannot be reached or refuses.
    """
    verdict = _verdict(store, policy.name, bundle_id, run_name)
    manifest = bundle.manifest.parse(store.get(f"{bundle.address(policy.name, bundle_id)}/bundle.json"), bundle_id)
    begun = steps.attempts(store, policy.name, run_name)
    ended = RunFinished(run=run_name, state="succeeded", bundle=bundle_id)
    key = steps.attempt_key(run_name, max(1, len(begun)))
    passed = Record(model=policy.name, key=key, time=clock.now(), data=ended)
    run_id = registry.log(policy.name, training(policy, store, begun[-1] if begun else None, passed))
    tags = lineage(manifest, policy, run_name, verdict)
    if begun and begun[-1].data.commit:
        tags["kedge.policy_commit"] = begun[-1].data.commit
    source = store.uri(bundle.address(policy.name, bundle_id))
    version = registry.register(policy.name, bundle_id, source, tags, run_id=run_id)
    data = Registered(bundle=bundle_id, version=version, run=run_name, registry=registry.uri)
    records.append(store, Record(model=policy.name, key=bundle_id, time=clock.now(), data=data))
    registry.publish(policy.name, records.read_state(store, policy.name))
    steps.finish(store, policy.name, run_name, "succeeded", bundle=bundle_id, version=version)
    return version


def lineage(manifest: bundle.Manifest, policy: Policy, run_name: str, verdict: Evaluated) -> dict[str, str]:
    """Tags that lead from a version back to code, data, question and judgement."""
    metrics = verdict.metrics
    return {
        "kedge.run": run_name,
        "kedge.commit": manifest.commit,
        "kedge.snapshot": manifest.snapshot,
        "kedge.policy": policy.hash,
        "kedge.estimator": manifest.estimator,
        "kedge.loss": f"{manifest.metrics.get('loss', float('nan')):.6g}",
        **{f"kedge.{name}": f"{metrics[name]:.6g}" for name in FIGURES if name in metrics},
        "kedge.champion": verdict.champion or "",
        "kedge.gates": json.dumps({gate.name: gate.passed for gate in verdict.gates}),
    }


def _verdict(store: Store, model: str, bundle_id: str, run_name: str) -> Evaluated:
    found = records.find(store, model, Evaluated, records.evaluation_key(bundle_id, run_name))
    if found is None:
        raise RunError(
            f"bundle {bundle_id} of {model} was not evaluated in run {run_name}; "
            "only what passed its gates is registered"
        )
    if not found.data.passed:
        raise RunError(f"bundle {bundle_id} of {model} did not pass its gates: {'; '.join(found.data.reasons)}")
    return found.data
