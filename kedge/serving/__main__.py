"""``python -m kedge.serving --bundle FOLDER --slot blue --port N``: serve one bundle until SIGTERM."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kedge import mounted_secrets
from kedge.cpus import usable_cpus
from kedge.errors import KedgeError, UsageError
from kedge.extras import needed_by
from kedge.listener import bound


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify, load, warm up, serve; the exit code."""
    options = _parsed(arguments)
    try:
        with needed_by("the model server", "serve"):
            serve(options)
    except KedgeError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code
    return 0


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal; nothing listens before the model has predicted its golden rows.

    Raises:
        BundleError: the bundle is not whole, or made by other libraries.
        UsageError: an option, or an address in use.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", options.slot):
        raise UsageError(f"--slot {options.slot!r}: must be lower-case letters, digits and dashes, such as blue")
    if options.collector is not None and not re.match(r"https?://[^/]", options.collector):
        raise UsageError(f"--collector {options.collector!r}: must be an address such as http://collector:8090")
    cpus = usable_cpus()
    os.environ.setdefault("OMP_NUM_THREADS", str(cpus))  # read once, when numerical libraries are loaded
    from kedge.bundle import open_bundle, trees
    from kedge.serving.model import ServedModel

    bundle = open_bundle(options.bundle, expect=options.bundle_id or None)
    listener = bound(options.host, options.port)
    sys.argv = sys.argv[:1]  # KServe reads the command line at import and would take our options for its own
    from kedge.serving.server import Server

    mounted_secrets.watch(mounted_secrets.renew)
    model = ServedModel(bundle, bundle.load_model(threads=cpus), options.slot)
    model.warm_up()
    if bundle.manifest.format == "xgboost" and (fault := trees.fault()):
        sys.stderr.write(
            f"note: single rows go to XGBoost's library, forty times slower than the compiled trees: {fault}\n"
        )
    Server(
        model,
        listener,
        collector=options.collector,
        grpc=(options.host, options.grpc_port) if options.grpc_port else None,
        cpus=cpus,
        trust_event_time=options.trust_event_time,
        drain_seconds=options.drain_seconds,
    ).run()


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kedge.serving", description="Serve one kedge bundle.")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle's folder, such as /mnt/models")
    parser.add_argument("--bundle-id", help="refuse to serve any other bundle than this one; empty: any")
    parser.add_argument("--slot", default="blue", help="which place of a release this is (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="HTTP port (default %(default)s; 0: any free one)")
    parser.add_argument("--grpc-port", type=int, help="gRPC port (default: no gRPC)")
    parser.add_argument("--collector", metavar="URL", help="where prediction events go (default: nowhere)")
    parser.add_argument("--trust-event-time", action="store_true", help="a prediction's time is its ce-time: replays")
    parser.add_argument(
        "--drain-seconds", type=float, default=0, help="go on answering so long after SIGTERM (default %(default)s)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
