"""Trainings as runs of MLflow: one experiment a model, one run a training, whatever became of it.

Everything here is made of the records and bundles in the store. What MLflow did not take, because it was away, the next
training brings after: nothing of a training is kept in MLflow alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kedge import bundle, records, steps
from kedge.bundle import Manifest, mlmodel
from kedge.errors import KedgeError
from kedge.policy import Policy
from kedge.records import Evaluated, Record, RunFinished, RunStarted
from kedge.registry.registry import RUN, Registry, Training
from kedge.store import Store
from kedge.tables import snapshot

MAX_BROUGHT = 20
"""Earlier trainings that one call brings after."""
MAX_VALUE = 500
"""Characters of a parameter."""


def training(
    policy: Policy, store: Store, started: Record[RunStarted] | None, finished: Record[RunFinished]
) -> Training:
    """What MLflow is told of a training.

    Args:
        policy: Of today; a training that made a bundle is described by its own.
        started: None: nobody announced it.
        finished: How it ended.
    """
    data = finished.data
    manifest = _manifest(store, finished.model, data.bundle)
    verdict = _verdict(store, finished)
    asked = policy.to_dict() if manifest is None else manifest.policy
    commit = started.data.commit if started is not None else ""
    pages = {"evaluation.html": verdict.report} if verdict is not None and verdict.report else {}
    if manifest is not None:
        pages["training.html"] = f"{bundle.address(finished.model, str(data.bundle))}/{bundle.folder.REPORT}"
    return Training(
        run=finished.key,
        started=(started or finished).time,
        ended=finished.time,
        failed=data.state == "failed",
        tags={
            RUN: finished.key,
            "kedge.outcome": data.state,
            "kedge.reason": data.reason or "",
            "kedge.why": started.data.reason if started is not None else "",
            "kedge.bundle": data.bundle or "",
            "kedge.policy_commit": commit,
            "mlflow.source.name": "kedge",
            "mlflow.source.git.commit": commit.removesuffix("-dirty"),
            **({} if manifest is None else _of_manifest(manifest)),
        },
        params=dict(_flat(_described(asked, manifest))),
        metrics={
            **{f"holdout/{name}": value for name, value in (manifest.metrics if manifest else {}).items()},
            **{name: value for name, value in (verdict.metrics if verdict else {}).items() if value is not None},
        },
        dataset=None if manifest is None else _dataset(store, manifest),
        pages=dict(_pages(store, pages)),
    )


def bring_after(policy: Policy, store: Store, registry: Registry) -> int:
    """Tell MLflow of the newest trainings that it does not know; how many there were.

    Raises:
        RegistryError: it cannot be reached or refuses; the next call begins with the same ones.
        StoreError: the store was away.
    """
    begun = {each.key: each for each in records.read(store, policy.name, RunStarted)}
    ended = [each for each in records.read(store, policy.name, RunFinished) if _is_training(begun.get(each.key), each)]
    if not ended:
        return 0
    known = registry.runs(policy.name)
    missing = [each for each in records.in_order(ended) if each.key not in known][-MAX_BROUGHT:]
    for each in missing:
        registry.log(policy.name, training(policy, store, begun.get(each.key), each))
    return len(missing)


def tell(policy: Policy, store: Store, uri: str) -> None:
    """The same as the last word of a run, which it must not fail: a line says what came of it."""
    try:
        logged = bring_after(policy, store, Registry(uri))
    except Exception as exc:  # noqa: BLE001
        steps.say(f"mlflow: this training is not logged yet, the next one logs it too: {exc}")
    else:
        if logged:
            steps.say(f"mlflow: {logged} training{'' if logged == 1 else 's'} logged")


def _is_training(started: Record[RunStarted] | None, finished: Record[RunFinished]) -> bool:
    """Whether it ran, and was no release; those say how traffic went."""
    if started is not None:
        return started.data.pipeline == "retrain" and finished.data.submitted
    return finished.data.outcome is None and finished.data.submitted


def _manifest(store: Store, model: str, bundle_id: str | None) -> Manifest | None:
    """None: the training made no bundle, or it was deleted."""
    if not bundle_id:
        return None
    key = f"{bundle.address(model, bundle_id)}/{bundle.manifest.NAME}"
    try:
        return bundle.manifest.parse(store.get(key), key)
    except KeyError:
        return None


def _verdict(store: Store, finished: Record[RunFinished]) -> Evaluated | None:
    data = finished.data
    if not data.bundle:
        return None
    found = records.find(store, finished.model, Evaluated, records.evaluation_key(data.bundle, data.run))
    return None if found is None else found.data


def _of_manifest(manifest: Manifest) -> dict[str, str]:
    return {
        "kedge.commit": manifest.commit,
        "kedge.snapshot": manifest.snapshot,
        "kedge.estimator": manifest.estimator,
        "kedge.code": manifest.code or "",
    }


def _described(policy: Mapping[str, Any], manifest: Manifest | None) -> dict[str, Any]:
    """What was asked for, with its defaults, and what was chosen."""
    from kedge import policy as policies

    parsed = policies.parse(policy)
    asked: dict[str, Any] = {
        "train": {**parsed.train.model_dump(mode="json"), "parameters": dict(parsed.train.parameters)},
        "features": len(parsed.model.features),
        "transform": parsed.features.transform,
        "threshold": parsed.model.threshold,
        "task": parsed.model.task,
    }
    if manifest is not None:
        windows = {window.name: round(window.weight, 3) for window in manifest.windows}
        asked |= {"estimator": manifest.estimator, "windows": windows, "change_point": manifest.change_point}
    return asked


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested values by dotted names; what is not set is left out."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{before}{name}.")
        elif each is not None:
            text = ", ".join(map(str, each)) if isinstance(each, (list, tuple)) else str(each)
            yield f"{before}{name}", text[:MAX_VALUE]


def _dataset(store: Store, manifest: Manifest) -> dict[str, str]:
    """The rows, as MLflow lists inputs; their number is not there where the snapshot was deleted."""
    source = store.uri(f"snapshots/{manifest.name}/{manifest.snapshot}")
    described = {
        "name": f"{manifest.name} snapshot",
        "digest": manifest.snapshot[:36],
        "source_type": source.partition("://")[0] if "://" in source else "local",
        "source": json.dumps({"uri": source, "fingerprint": manifest.snapshot}),
        "schema": json.dumps({"mlflow_colspec": mlmodel.columns(manifest.signature)}),
    }
    try:
        rows = snapshot.load(store, manifest.name, manifest.snapshot).rows
    except KedgeError:
        return described
    return {**described, "profile": json.dumps({"num_rows": rows})}


def _pages(store: Store, keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, key in keys.items():
        try:
            yield name, store.get(key).decode()
        except KeyError:
            continue
