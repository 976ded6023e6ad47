"""``kedge up``: the local platform, in the foreground."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kedge.cli.options import StoreRoot, stored_policy

if TYPE_CHECKING:
    from kedge.policy import Policy
    from kedge.settings import Settings

PLATFORM = ("httpx", "envoy", "kserve", "xgboost", "starlette", "deltalake")
"""What the processes of the platform import."""


GUARD_SECONDS = 30.0
"""How long one look of the circuit breaker counts."""
GUARD_PAUSE_SECONDS = 5.0


def up(
    policy: Annotated[list[Path] | None, typer.Option(help="A policy file; once for each model to serve.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model's name, once for each; its policy is then the one in the store.")
    ] = None,
    store: StoreRoot = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0: any free one.")] = 0,
    collector_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the collector, which takes labels; 0: any free one.")
    ] = 0,
    trust_event_time: Annotated[
        bool, typer.Option("--trust-event-time", help="Take a request's ce-time as its event time: for replays.")
    ] = False,
) -> None:
    """Serve models on this machine until Ctrl-C.

    Envoy, two slots a model, the collector. Everything listens on 127.0.0.1. What is released to which slot, with
    which weights, is declared by `kedge submit`, `kedge rollback` and the release pipeline; nothing is served before
    the first release. Ends all it started.

    Example: kedge up --policy payments.yaml --port 8080 --collector-port 8081
    """
    import signal

    from kedge import policy as policies
    from kedge.errors import UsageError
    from kedge.extras import require

    require("kedge up", "local", PLATFORM)
    from kedge.rollout.local.supervisor import Settings as PlatformSettings
    from kedge.rollout.local.supervisor import Supervisor
    from kedge.settings import Settings
    from kedge.store import write_file

    settings = Settings.of(store)
    files = [path.absolute() for path in policy or ()]
    for name in model or ():
        files.append(Path(settings.platform) / "policies" / f"{name}.json")
        write_file(files[-1], stored_policy(name, settings).model_dump_json().encode())
    if not files:
        raise UsageError("give --policy FILE or --model NAME, once for each model to serve")
    supervisor = Supervisor(
        PlatformSettings(
            folder=Path(settings.platform),
            store=settings.store,
            policies=files,
            models=distinct([policies.load(path).name for path in files]),
            port=port,
            collector_port=collector_port,
            trust_event_time=trust_event_time,
        )
    )
    stop, signals = threading.Event(), list[int]()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.append(number))
    for path in files:
        guarded = policies.load(path)
        threading.Thread(target=guard, args=(guarded, settings, stop, typer.echo), daemon=True).start()

    def ended() -> bool:
        if signals:
            stop.set()  # before the platform goes down: the guard has nothing to say of that
        return bool(signals)

    try:
        supervisor.run(ended, typer.echo)
    finally:
        stop.set()


def guard(policy: Policy, settings: Settings, stop: threading.Event, say: Callable[[str], None]) -> None:
    """The circuit breaker of one model, a look after another until ``stop`` is set."""
    from kedge.cli.guard import tell
    from kedge.errors import KedgeError
    from kedge.rollout import step
    from kedge.store import open_store

    told, store = "", open_store(settings.store)
    while not stop.wait(GUARD_PAUSE_SECONDS):
        try:
            seen = step.guard(policy, settings, seconds=GUARD_SECONDS, sleep=stop.wait)
            text = str(seen) if seen.reasons or seen.removed else ""
            tell(policy, store, seen, scheduled=False)
        except (KedgeError, OSError) as exc:  # the platform comes up or goes down, a full disk: the next look sees
            text = f"the guard cannot look: {exc}"
        if text and text != told and not stop.is_set():
            say(f"{policy.name}: {text}")
        told = text


def distinct(models: list[str]) -> list[str]:
    """The names, each of which may appear once.

    Raises:
        UsageError: two policies are of one model.
    """
    from kedge.errors import UsageError

    twice = sorted({name for name in models if models.count(name) > 1})
    if twice:
        raise UsageError(f"the model {twice[0]!r} is given twice; give each once")
    return models
