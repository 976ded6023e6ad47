"""A replay as a page: who would have won, when, and why."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from markupsafe import Markup

from kedge.replay.replay import Replay
from kedge.replay.walk import Walk, best_first
from kedge.report import facts, line_chart, page, section, table

SMOOTHED = 5
"""Blocks that a point of the curves averages, at most: a quarter of all, so that a short replay has curves too."""
MAX_CURVES = 4


def html(replay: Replay) -> str:
    """The page, self-contained."""
    policy, costs, blocks = replay.blocks.policy, replay.costs, replay.blocks
    classes = bool(policy.model.class_names)
    ranked = best_first([replay.policy, *replay.rules], costs)
    shown = [replay.policy, *(walk for walk in ranked if walk.rule != "policy")][:MAX_CURVES]
    wrong = "wrong decisions" if classes else "loss over the constant's"
    smoothed = max(1, min(SMOOTHED, len(blocks) // 4))
    same = replay.same_as_before
    inertia = {} if same is None else {"'same label as before' is right in": f"{same:.1%}"}
    return page(
        f"Replay of {policy.name}",
        section(
            "What it would have won",
            replay.sentence,
            facts(
                {
                    "best schedule in hindsight": f"{replay.best_schedule.j(costs):,.0f}",
                    "the policy above it": f"{replay.regret(replay.policy):,.0f}",
                    f"the best rule, {replay.best_rule.rule}, above it": f"{replay.regret(replay.best_rule):,.0f}",
                    "first change noticed": _first_change(replay),
                }
                | inertia
            ),
        ),
        section(
            "The rules",
            table(
                ["rule", "cost", wrong, "right" if classes else "R²", "runs", "promotions", "above the best schedule"],
                [_row(replay, walk) for walk in [*ranked, replay.best_schedule]],
            ),
            f"Cost = {costs.error:g} × errors + {costs.run:g} × runs + {costs.release:g} × promotions. Simple rules "
            f"fit one model on the newest {blocks.start_rows:,} rows, the policy trains as its runs do; each knows "
            "only what was known by then.",
        ),
        section(
            "Cost of a row over time" + (f", mean of {smoothed} blocks" if smoothed > 1 else ""),
            line_chart(
                {walk.rule: _curve(replay, walk, smoothed) for walk in shown},
                events=_events(replay),
                y_label="wrong decisions a row" if classes else "loss over the constant's",
            ),
        ),
        section("What the policy decided", _decided(replay)),
        subtitle=f"{len(blocks):,} blocks, {blocks.edges[-1] - blocks.edges[0]:,} rows, "
        f"{blocks.time(blocks.edges[0]):%Y-%m-%d} to {blocks.end(len(blocks) - 1):%Y-%m-%d}",
    )  # fmt: skip


def _decided(replay: Replay) -> Markup | str:
    rows = [
        [each.block, replay.blocks.end(each.block), each.action, "yes" * each.promoted, "; ".join(each.reasons)]
        for each in replay.policy.decisions
        if each.action != "none"
    ]
    return table(["block", "time", "action", "promoted", "why"], rows) if rows else "No check asked for anything."


def lines(replay: Replay) -> list[str]:
    """The result for a terminal."""
    costs = replay.costs
    ranked = [*best_first([replay.policy, *replay.rules], costs), replay.best_schedule]
    wrong, right = ("errors", "right") if replay.blocks.policy.model.class_names else ("loss", "R²")
    head = f"{'rule':<14} {'cost':>10} {wrong:>10} {right:>7} {'runs':>5} {'promotions':>10}"
    body = [
        f"{walk.rule:<14} {walk.j(costs):>10,.0f} {walk.wrong:>10,.0f} {walk.accuracy:>7.1%} {walk.runs:>5} "
        f"{walk.promotions:>10}"
        for walk in ranked
    ]
    same = replay.same_as_before
    naive = [] if same is None else [f"the same label as before is right in {same:.1%}"]
    return [head, *body, *naive, replay.sentence]


def _row(replay: Replay, walk: Walk) -> list[object]:
    return [
        walk.rule,
        round(walk.j(replay.costs)),
        round(walk.wrong),
        f"{walk.accuracy:.1%}",
        walk.runs,
        walk.promotions,
        round(replay.regret(walk)),
    ]


def _curve(replay: Replay, walk: Walk, smoothed: int) -> list[tuple[datetime, float]]:
    costs, rows = np.array(walk.block_costs), np.array(walk.block_rows)
    points = []
    for block in range(smoothed - 1, len(costs)):
        part = slice(block - smoothed + 1, block + 1)
        points.append((replay.blocks.end(block), float(costs[part].sum() / rows[part].sum())))
    return points


def _events(replay: Replay) -> list[tuple[datetime, str]]:
    ends = replay.blocks.end
    return [
        (ends(each.block), "promoted" if each.promoted else "retrained")
        for each in replay.policy.decisions
        if each.action == "retrain"
    ]


def _first_change(replay: Replay) -> str:
    first = next((each for each in replay.policy.decisions if each.action in ("warn", "retrain")), None)
    return "none" if first is None else f"block {first.block}, {replay.blocks.end(first.block):%Y-%m-%d %H:%M}"
