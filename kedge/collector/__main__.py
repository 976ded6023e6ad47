"""``python -m kedge.collector``: start the collector."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from kedge import allocation, mounted_secrets
from kedge import policy as policies
from kedge.collector.settings import Settings
from kedge.errors import KedgeError, UsageError
from kedge.extras import needed_by
from kedge.house import allow_files
from kedge.listener import bound
from kedge.renamed import refuse_earlier_names

SMALLEST_KEY = 16
RENAMED = {f"--most-{name}": f"--max-{name}" for name in ("spool-mb", "body-kb", "bulk-mb", "connections")}
"""Options that an earlier version called otherwise."""
DELTA_LAKE_MEMORY = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0"
"""For its own allocator, jemalloc: with an arena for each thread, 2,000 appends keep 128 MB that nobody uses."""
MALLOC = {
    allocation.ARENA_MAX: 1,
    allocation.TRIM_THRESHOLD: 32 << 20,  # less, and clearing pages again takes a fifth of the time
    allocation.MMAP_THRESHOLD: 8 << 20,
}
"""Segments come and go by the megabyte in several threads; without this each heap keeps the most it had."""


def main(
    store: Annotated[str, typer.Option(help="Root of the store: a folder, or s3://, gs:// or abfss://...")],
    policy: Annotated[list[Path], typer.Option(help="A policy file; give one for each model.")],
    spool: Annotated[Path, typer.Option(help="Folder for what is not in the store yet; this collector's own.")],
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    interval_seconds: Annotated[float, typer.Option(min=0.1, help="How often the log is appended to.")] = 10,
    max_spool_mb: Annotated[int, typer.Option(min=1, help="Backlog above which senders are told to wait.")] = 8192,
    reserve_mb: Annotated[int, typer.Option(min=0, help="Free disk kept for senders that cannot repeat.")] = 256,
    max_body_kb: Annotated[int, typer.Option(min=1, help="Largest event body.")] = 4096,
    max_bulk_mb: Annotated[int, typer.Option(min=1, help="Largest file of labels.")] = 256,
    max_connections: Annotated[int, typer.Option(min=1, help="Connections served at once.")] = 1000,
    max_ahead_seconds: Annotated[float, typer.Option(min=0, help="Refuse events dated further ahead; 0: any.")] = 3600,
    max_age_seconds: Annotated[float, typer.Option(min=0, help="Refuse events older than this; 0: any.")] = 0,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Share of ids kept.")] = 1,
    retention_days: Annotated[int, typer.Option(min=0, help="Days kept in the log; 0: all.")] = 0,
    max_drop_days: Annotated[int, typer.Option(min=0, help="Days dropped at once at most; 0: any number.")] = 7,
    token_file: Annotated[Path | None, typer.Option(help="Bearer token senders show; or $KEDGE_COLLECT_TOKEN.")] = None,
    sender: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE/NAME=WORK,...",
            help="A service account that may send events, labels, checks or flush, by its pods' tokens (in a cluster).",
        ),
    ] = None,
    audience: Annotated[str, typer.Option(help="What those tokens are made out to.")] = Settings.audience,
    untokened_logger: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Take events of KServe's logger, which shows no token, about this model."),
    ] = None,
    hash_key_file: Annotated[Path | None, typer.Option(help="Key of `privacy: hash`; or $KEDGE_HASH_KEY.")] = None,
    version_annotation: Annotated[str, typer.Option(help="It names the model version.")] = Settings.version_annotation,
) -> None:
    """Collect predictions, labels and checks of the models whose policies are given.

    Example: python -m kedge.collector --store .kedge --policy payments.yaml --spool .kedge/spool
    """
    from kedge.collector.admission import senders_of

    settings = Settings(
        spool=spool.expanduser().absolute(),
        interval_seconds=interval_seconds,
        max_spool_bytes=max_spool_mb << 20,
        reserve_bytes=reserve_mb << 20,
        max_body_bytes=max_body_kb << 10,
        max_bulk_bytes=max_bulk_mb << 20,
        max_ahead_seconds=max_ahead_seconds,
        max_age_seconds=max_age_seconds,
        sample=sample,
        retention_days=retention_days,
        max_drop_days=max_drop_days,
        token=_secret(token_file, "KEDGE_COLLECT_TOKEN"),
        senders=senders_of(sender or []),
        audience=audience,
        untokened_logger=frozenset(untokened_logger or ()),
        hash_key=_key(_secret(hash_key_file, "KEDGE_HASH_KEY")),
        version_annotation=version_annotation,
    )
    _serve(store, policy, settings, host, port, max_connections)


def _serve(store: str, files: list[Path], settings: Settings, host: str, port: int, max_connections: int) -> None:
    import uvicorn

    from kedge.collector.app import App
    from kedge.collector.collector import Collector
    from kedge.collector.connection import protocol
    from kedge.store import open_store

    listener = bound(host, port)
    collector = Collector(open_store(store), [policies.load(file) for file in files], settings)
    app = App(collector, settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol(app, max_connections),
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    allow_files(max_connections)
    allocation.tune(MALLOC)
    sys.setswitchinterval(0.001)  # a request waits so long for the thread that appends
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # events are no cycles; looking for some costs a tenth of the time
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn raises it again at its end, which is exit 0: ended as asked
    mounted_secrets.watch(mounted_secrets.end)
    try:
        server.run(sockets=[listener])
    finally:
        if app.fault is not None:
            raise app.fault from None  # in the place of uvicorn's exit
    if not server.started or server.lifespan.should_exit:
        raise SystemExit(1)


def _secret(file: Path | None, variable: str) -> str | None:
    if file is None:
        return os.environ.get(variable) or None
    try:
        return file.read_text().strip() or None
    except OSError as exc:
        raise UsageError(f"{file}: cannot be read: {exc.strerror}") from exc


def _key(secret: str | None) -> bytes | None:
    if secret is None:
        return None
    if len(secret) < SMALLEST_KEY:
        raise UsageError(f"the key of `privacy: hash` has {len(secret)} characters; give at least {SMALLEST_KEY}")
    return secret.encode()


if __name__ == "__main__":
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # one append at a time: more threads only wake each other
    os.environ.setdefault("_RJEM_MALLOC_CONF", DELTA_LAKE_MEMORY)  # read when Delta Lake is loaded
    try:
        refuse_earlier_names(sys.argv[1:], RENAMED)
        with needed_by("the collector", "collect"):
            typer.run(main)
    except KedgeError as fault:
        sys.stderr.write(f"error: {fault}\n")
        sys.exit(fault.exit_code)
