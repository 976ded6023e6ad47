"""The registry's aliases beside the records: kedge writes them and asks none, so one moved by hand only misleads."""

from __future__ import annotations

from collections.abc import Iterator

from kedge.doctor import places
from kedge.doctor.finding import Finding, good, skipped, warning
from kedge.errors import RegistryError
from kedge.records import ModelState, read_state
from kedge.registry import Registry, aliases
from kedge.store import open_store

WHAT = "registry's aliases"


def compared(store: str, uri: str) -> list[Finding]:
    """Whether the aliases of each model with a registered bundle name what its records say."""
    if places.registry(uri)[0].state == "bad":
        return []  # that is a finding already
    opened = open_store(store)
    states = {model: read_state(opened, model) for model in opened.folders("records")}
    registered = {model: state for model, state in states.items() if state.registered}
    if not registered:
        return []
    registry = Registry(uri)
    if not registry.exists:
        seen = f"{uri}: no such file, though bundles of {', '.join(registered)} were registered"
        return [warning(WHAT, seen, "name the registry they are in: export MLFLOW_TRACKING_URI=...")]
    try:
        return [finding for model, state in registered.items() for finding in _of(registry, model, state)]
    except RegistryError as exc:
        return [skipped(WHAT, f"not compared with the records: {exc}")]


def _of(registry: Registry, model: str, state: ModelState) -> Iterator[Finding]:
    versions = registry.versions(model)
    named = {alias: version.bundle for version in versions for alias in version.aliases}
    known = {version.bundle: version.version for version in versions}
    client = f'MlflowClient("{registry.uri}", "{registry.uri}")'  # the second, whatever the environment names
    before = f"python -c 'from mlflow import MlflowClient; {client}"
    differing = {alias: bundle for alias, bundle in aliases(state).items() if named.get(alias) != bundle}
    for alias, bundle in differing.items():
        seen = f"@{alias} of {model} names {_short(named.get(alias))}, the records say {_short(bundle)}"
        if bundle is not None and bundle not in known:
            yield warning(WHAT, f"{seen}, which has no version there", "is this the registry it was registered in?")
            continue
        call = f'delete_registered_model_alias("{model}", "{alias}")'
        if bundle is not None:
            call = f'set_registered_model_alias("{model}", "{alias}", "{known[bundle]}")'
        yield warning(WHAT, f"{seen}; kedge goes by the records", f"{before}.{call}'")
    if not differing:
        yield good(WHAT, f"{model}: as the records say")


def _short(bundle: str | None) -> str:
    return "nothing" if not bundle else f"bundle {bundle[:12]}"
