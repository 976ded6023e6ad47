"""The ``kedge`` command: one file a command, with a function of its name; heavy imports stay inside it."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from kedge.cpus import PATIENT
from kedge.errors import KedgeError, UserError
from kedge.extras import needed_by
from kedge.image import VERSION
from kedge.renamed import refuse_earlier_names

WRONG_PLACE = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What the file system says to a mistyped path; a full disk, say, is no mistake of the user."""

MANY_OBJECTS = 50_000
"""Made before Python looks for garbage among them. What is imported is none; at the end Python looks through all of it
again, several times, a tenth of a check's time, unless it was told that it stays."""

RENAMED = {"compile": {"--out": "--output"}}
"""By command, the options that an earlier version called otherwise."""
COMMANDS = (
    "accept",
    "adopt",
    "approve",
    "compile",
    "demo",
    "doctor",
    "drift",
    "drill",
    "guard",
    "history",
    "init",
    "monitor",
    "plan",
    "policy",
    "profile",
    "prune",
    "release",
    "replay",
    "resume",
    "rollback",
    "score",
    "status",
    "submit",
    "suspend",
    "up",
)

STEP = (
    "adopt", "approve", "doctor", "drill", "guard", "monitor", "resume", "rollback", "score", "submit", "suspend",
)  # fmt: skip
LOCAL = ("demo", "up")
"""Commands by the extra that brings their packages; that of the others is ``data``, if they need one."""


def build(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands registered."""
    app = typer.Typer(
        name="kedge",
        help="Keep a tabular model on KServe good: notice drift, retrain, prove, release by canary, roll back.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)  # with it a single command stays a command with a name
    for name in names:
        module = import_module(f"kedge.cli.{name}")
        if hasattr(module, "register"):  # several commands under one name
            module.register(app)
        else:
            app.command(name)(getattr(module, name))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        commit = os.environ.get("KEDGE_COMMIT", "")  # set in the images
        typer.echo(f"kedge {VERSION}{f' ({commit})' if commit else ''}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print kedge's version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What may stand before a command."""


def _run() -> None:
    name = next((word for word in sys.argv[1:2] if word in COMMANDS), "")
    refuse_earlier_names(sys.argv[2:], RENAMED.get(name, {}))
    extra = "step" if name in STEP else "local" if name in LOCAL else "data"
    with needed_by(f"kedge {name}", extra):
        build([name] if name else COMMANDS)()  # all of them would cost an hourly check 40 ms


def main() -> None:
    """Run the command; an error becomes one message on standard error and its exit code."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(MANY_OBJECTS)
    atexit.register(gc.freeze)
    try:
        _run()
    except KedgeError as exc:
        sys.stderr.write(f"error: {exc}\n")
        if os.environ.get("KEDGE_DEBUG"):
            raise
        sys.exit(exc.exit_code)
    except OSError as exc:  # a file a command was to write: a full disk, no permission
        if exc.filename is None or os.environ.get("KEDGE_DEBUG"):
            raise
        sys.stderr.write(f"error: {exc.filename}: {exc.strerror}\n")
        sys.exit(UserError.exit_code if isinstance(exc, WRONG_PLACE) else KedgeError.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
