"""Pipelines of the shape of ours that take a second, to see what becomes of their runs."""

from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.compiler import Compiler


def compiled(name: str, folder: Path) -> Path:
    """The file of a pipeline's spec, written into a folder that is there."""
    path = folder / f"{name}.yaml"
    Compiler().compile(globals()[name], str(path))
    return path


@dsl.component(base_image="python", install_kfp_package=False)
def verdict(policy: dict[str, Any], store: str, run: str, passed: bool) -> bool:
    from tests.submission import steps

    return steps.verdict(policy, store, run, passed)


@dsl.component(base_image="python", install_kfp_package=False)
def closing(policy: dict[str, Any], store: str, run: str) -> str:
    from tests.submission import steps

    return steps.closing(policy, store, run)


@dsl.component(base_image="python", install_kfp_package=False)
def broken(policy: dict[str, Any], store: str, run: str, how: str) -> bool:
    from tests.submission import steps

    return steps.broken(policy, store, run, how)


@dsl.component(base_image="python", install_kfp_package=False)
def slow(policy: dict[str, Any], store: str, run: str) -> str:
    from tests.submission import steps

    return steps.slow(policy, store, run)


@dsl.pipeline(name="passing")
def passing(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    gate = verdict(policy=policy, store=store, run=run, passed=True)
    with dsl.If(gate.outputs["Output"] == True):  # noqa: E712
        closing(policy=policy, store=store, run=run)


@dsl.pipeline(name="skipping")
def skipping(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    """A quote in the value that is compared: the local runner skips the branch and calls the run a success."""
    verdict(policy=policy, store=store, run=run, passed=True)
    with dsl.If(registry == "never'equal"):
        closing(policy=policy, store=store, run=run)


@dsl.pipeline(name="mistaken")
def mistaken(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    broken(policy=policy, store=store, run=run, how="user")


@dsl.pipeline(name="crashing")
def crashing(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    broken(policy=policy, store=store, run=run, how="crash")


@dsl.pipeline(name="dying")
def dying(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    broken(policy=policy, store=store, run=run, how="kill")


@dsl.pipeline(name="waiting")
def waiting(
    policy: dict[str, Any], store: str, registry: str, run: str, end: str, change_point: str, champion_until: str
) -> None:
    slow(policy=policy, store=store, run=run)


@dsl.pipeline(name="releasing")
def releasing(policy: dict[str, Any], store: str, registry: str, platform: str, bundle: str, run: str) -> None:
    closing(policy=policy, store=store, run=run)
