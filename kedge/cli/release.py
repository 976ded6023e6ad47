"""``kedge release``: what the policy's release finds, on simulated traffic."""

from __future__ import annotations

from typing import Annotated

import typer

from kedge.cli.options import ModelName, PolicyFile, StoreRoot, chosen_policy, json_text

Rate = Annotated[float, typer.Option(min=1e-6, max=1e5, help="Requests a second, of both bundles together.")]

FEW = 100
"""Releases below which a second process would cost more than it saves."""


def register(app: typer.Typer) -> None:
    """Add ``kedge release simulate``."""
    commands = typer.Typer(help="Simulate releases under a policy.", no_args_is_help=True)
    commands.command("simulate")(simulate)
    app.add_typer(commands, name="release")


def simulate(
    rps: Rate,
    policy: PolicyFile = None,
    model: ModelName = None,
    base_error: Annotated[float, typer.Option(min=0, max=1, help="Share of the champion's requests that fail.")] = 0.01,
    candidate_error: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the candidate's. Default: the champion's.")
    ] = None,
    latency_ratio: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Candidate's latency over the champion's.")
    ] = 1.0,
    accuracy_loss: Annotated[
        float, typer.Option(min=-1, max=1, help="By how much more of its decisions the candidate is wrong.")
    ] = 0.0,
    score_shift: Annotated[
        float, typer.Option(min=-10, max=10, help="Shift of the candidate's scores, in standard deviations.")
    ] = 0.0,
    bake_outage: Annotated[
        float, typer.Option(min=0, help="Seconds of the bake in which half of both's requests fail.")
    ] = 0.0,
    wander: Annotated[
        float, typer.Option(min=0, max=3, help="Standard deviation of the logarithm of both's rate of failures.")
    ] = 0.0,
    label_delay: Annotated[
        float | None, typer.Option(min=0, help="Seconds until an outcome is known. Default: the policy's.")
    ] = None,
    rollouts: Annotated[int, typer.Option(min=1, max=1_000_000, help="Releases to simulate.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers: the same one, the same releases.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: StoreRoot = None,
) -> None:
    """Simulate releases, judged by the rollout's own judge.

    How many are rolled back, promoted or held, and what those rolled back had cost by then (medians).

    Example: kedge release simulate --policy fraud.yaml --rps 10 --base-error 0.01 --candidate-error 0.05
    """
    from kedge.cpus import usable_cpus
    from kedge.progress import bar
    from kedge.rollout import simulate as simulation
    from kedge.settings import Settings

    rules = chosen_policy(policy, model, Settings.of(store))
    scenario = simulation.Scenario(
        rps=rps,
        base_error=base_error,
        candidate_error=base_error if candidate_error is None else candidate_error,
        latency_ratio=latency_ratio,
        accuracy_loss=accuracy_loss,
        score_shift=score_shift,
        bake_outage=bake_outage,
        wander=wander,
        label_delay=(rules.labels.due_seconds or 0.0) if label_delay is None else label_delay,
    )
    ended = []
    with bar("releases", rollouts, lambda line: typer.echo(line, err=True)) as (advance, _):
        processes = usable_cpus() if rollouts >= FEW else 1
        for one in simulation.simulate(rules, scenario, rollouts=rollouts, seed=seed, processes=processes):
            ended.append(one)
            advance()
    figures = simulation.summary(ended)
    if as_json:
        typer.echo(json_text(figures))
        return
    shares = ", ".join(f"{name.replace('_', ' ')} {figures[name]:.1%}" for name in ("rolled_back", "promoted", "held"))
    typer.echo(f"{rollouts:,} releases at {rps:g} requests a second: {shares}")
    if figures["median_seconds"] is not None:
        typer.echo(
            f"rolled back after {figures['median_candidate_requests']:,.0f} requests of the candidate, "
            f"{figures['median_bad_answers']:,.0f} of them failed, {figures['median_seconds']:,.0f} s (medians)"
        )
