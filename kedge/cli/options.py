"""What several commands take and print: the same names, the same words, the same answer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.errors import UsageError

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.settings import Settings
    from kedge.store import Store

PolicyFile = Annotated[Path | None, typer.Option("--policy", help="The policy file; or give --model.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="The model's name; its policy is then that in $KEDGE_POLICIES, else in the store."),
]
StoreRoot = Annotated[
    str | None,
    typer.Option("--store", help="Folder, or s3://, gs:// or abfss://...; default $KEDGE_STORE, then .kedge."),
]


def chosen_policy(policy: Path | None, model: str | None, settings: Settings) -> Policy:
    """The policy that a command is given, as a file or by its model's name.

    Raises:
        UsageError: neither or both are given, or the store holds no policy of the model.
        PolicyError: the file cannot be read.
    """
    from kedge import policy as policies

    refuse_both(policy, model)
    return policies.load(policy) if policy is not None else stored_policy(str(model), settings)


def optional_policy(policy: Path | None, model: str | None, settings: Settings) -> Policy | None:
    """The same for a command that can do without one."""
    return chosen_policy(policy, model, settings) if policy is not None or model is not None else None


def chosen_name(policy: Path | None, model: str | None) -> str:
    """The name of the model that a command is given.

    Raises:
        UsageError: neither or both are given.
        PolicyError: the file cannot be read.
    """
    refuse_both(policy, model)
    if policy is None:
        return str(model)
    from kedge import policy as policies

    return policies.load(policy).name


def refuse_both(policy: Path | None, model: str | None) -> None:
    """Refuse a model that is given twice, or not at all."""
    if (policy is None) == (model is None):
        raise UsageError("give either --policy FILE or --model NAME")


def stored_policy(model: str, settings: Settings) -> Policy:
    """The policy in ``$KEDGE_POLICIES``, else that of the champion's bundle, else that of the bundle registered last.

    Raises:
        UsageError: the store holds no bundle of the model.
    """
    from kedge import policy as policies
    from kedge.store import open_store

    file = Path(settings.policies, f"{model}.yaml") if settings.policies else None
    if file is not None and file.is_file():
        return policies.load(file)
    return _bundled_policy(open_store(settings.store), model)


def _bundled_policy(store: Store, model: str) -> Policy:
    from kedge import policy as policies
    from kedge import records
    from kedge.api.history import unknown_model
    from kedge.bundle import address, manifest

    events = records.read_events(store, model)
    if not events:
        raise unknown_model(store, model)
    state = records.ModelState.of(events)
    registered = [item.data.bundle for item in state.registered]
    for bundle in filter(None, (state.champion_bundle, *reversed(registered))):
        key = f"{address(model, bundle)}/{manifest.NAME}"
        with suppress(KeyError):  # an old one may have been deleted
            return policies.parse(manifest.parse(store.get(key), store.uri(key)).policy, place=store.uri(key))
    raise UsageError(f"{model}: no bundle in the store says its policy; give --policy FILE")


def json_text(value: object) -> str:
    """A result as every command prints it with --json."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
