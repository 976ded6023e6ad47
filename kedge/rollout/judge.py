"""The decision about a canary: pure, and valid however often it is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kedge.policy import Policy
from kedge.rollout import sequential, states, summary
from kedge.rollout.evidence import Evidence, Observed, Outcomes
from kedge.rollout.model import Traffic

Action = Literal["advance", "hold", "roll back"]
TESTS = 3
"""Failed requests, latency, loss: each may spend a third of alpha."""


@dataclass(frozen=True, kw_only=True)
class Test:
    """One way in which the candidate may be worse, over all spans so far."""

    name: str
    log_e: float
    limit: float
    """Worse is proven when ``log_e`` reaches it: log(tests / alpha)."""
    seen: str
    """The figures, in words."""

    @property
    def worse(self) -> bool:
        """Proven at the policy's alpha."""
        return self.log_e >= self.limit


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now, and why in words."""

    action: Action
    reasons: tuple[str, ...]
    tests: tuple[Test, ...] = ()


def judge(evidence: Evidence, policy: Policy) -> Decision:
    """Decide about the current span: advance, hold or roll back.

    Roll back if the candidate is proven worse than tolerated in failed requests, latency or loss; hold while the span
    lacks evidence that it needs. A candidate that is not worse is rolled back in at most ``release.analysis.alpha`` of
    releases, over all tests, spans and looks together: each test gets a third of alpha, and within a test only the same
    minutes are compared: the spans' e-values are averaged over the planned number of spans, the spans' mean losses
    weighted by their precision.
    """
    tests = tuple(test(evidence, policy) for test in (_errors, _latency, _loss))
    worse = tuple(test.seen for test in tests if test.worse)
    if worse:
        return Decision(action="roll back", reasons=worse, tests=tests)
    lacking = _lacking(evidence, policy)
    if not lacking:
        return Decision(action="advance", reasons=("no worse than tolerated, evidence complete",), tests=tests)
    return Decision(action="hold", reasons=lacking, tests=tests)


def planned_spans(policy: Policy) -> int:
    """Spans a release has in which the candidate is tested: the shadow, the steps, the bake."""
    return len(policy.release.steps) + 1 + (policy.release.shadow_percent > 0)


def _lacking(evidence: Evidence, policy: Policy) -> tuple[str, ...]:
    """What the current span still waits for."""
    span = evidence.current.span
    lacking = states.lacking(states.needs(policy.release, span.state, span.percent), evidence)
    return tuple(f"{each}{_unjudged(evidence)}" if "labelled" in each else each for each in lacking)


def _unjudged(evidence: Evidence) -> str:
    reason = evidence.current.not_judged
    return f" (none are judged: {reason})" if reason else ""


def _errors(evidence: Evidence, policy: Policy) -> Test:
    margin = policy.release.analysis.max_error_rate_increase

    def log_e(seen: Observed) -> float:
        candidate, champion = seen.span.candidate, seen.span.champion
        return sequential.two_rates(candidate.errors, candidate.requests, champion.errors, champion.requests, margin)

    worst = max(evidence.observed, key=log_e)
    words = (
        f"failed requests at {_place(worst)}: {_rate(worst.span.candidate)} against {_rate(worst.span.champion)} "
        f"of the champion; tolerated {margin:+.1%}"
    )
    return _test("errors", _averaged([log_e(seen) for seen in evidence.observed], policy), words, policy)


def _latency(evidence: Evidence, policy: Policy) -> Test:
    ratio = policy.release.analysis.max_latency_ratio

    def log_e(seen: Observed) -> float:
        return sequential.two_quantiles(seen.span.candidate.latency, seen.span.champion.latency, ratio)

    worst = max(evidence.observed, key=log_e)
    words = (
        f"latency at {_place(worst)}: 95th percentile {_percentile(worst.span.candidate)} against "
        f"{_percentile(worst.span.champion)} of the champion; tolerated {ratio:g} times that"
    )
    return _test("latency", _averaged([log_e(seen) for seen in evidence.observed], policy), words, policy)


def _loss(evidence: Evidence, policy: Policy) -> Test:
    margin = policy.release.analysis.max_loss_increase
    binary = policy.model.task == "binary"
    spans = [_losses(seen, binary) for seen in evidence.observed]
    alone = [sequential.two_means([span], margin) for span in spans]
    worst = evidence.observed[alone.index(max(alone))]
    words = (
        f"mean squared error at {_place(worst)}: {_error(worst.candidate, binary)} against "
        f"{_error(worst.champion, binary)} of the champion; tolerated {margin:+.4g}"
    )
    return _test("loss", sequential.two_means(spans, margin), words, policy)


def _losses(seen: Observed, binary: bool) -> sequential.Losses:
    candidate, champion = seen.candidate, seen.champion
    return sequential.Losses(
        rows=candidate.rows,
        mean=candidate.mean,
        variance=_bounded_variance(candidate) if binary else candidate.variance,
        champion_rows=champion.rows,
        champion_mean=champion.mean,
        champion_variance=_bounded_variance(champion) if binary else champion.variance,
    )


def _bounded_variance(outcomes: Outcomes) -> float:
    """Variance of a loss between 0 and 1, with half a row of each added: rows that agree so far prove no certainty."""
    rows, mean = outcomes.rows + 1, (outcomes.loss + 0.5) / (outcomes.rows + 1)
    return (outcomes.squares + 0.5) / rows - mean * mean


def _averaged(logs: list[float], policy: Policy) -> float:
    """Average over the planned spans; those to come count as E = 1 today, which their martingales may begin with."""
    return sequential.average(logs + [0.0] * max(0, planned_spans(policy) - len(logs)))


def _test(name: str, log_e: float, seen: str, policy: Policy) -> Test:
    limit = math.log(TESTS / policy.release.analysis.alpha)
    return Test(name=name, log_e=log_e, limit=limit, seen=f"{seen} (log e-value {log_e:.1f}, limit {limit:.1f})")


def _place(seen: Observed) -> str:
    span = seen.span
    if span.state == "bake":
        return "the bake"
    return f"{span.percent} %" + (" mirrored" if span.state == "shadow" else "")


def _rate(traffic: Traffic) -> str:
    share = traffic.errors / traffic.requests if traffic.requests else 0.0
    return f"{traffic.errors:,} of {traffic.requests:,} ({share:.1%})"


def _error(outcomes: Outcomes, binary: bool) -> str:
    share = f", {outcomes.wrong / outcomes.rows:.1%} decided wrongly" if binary and outcomes.rows else ""
    return f"{outcomes.mean:.4g} over {outcomes.rows:,} labelled rows{share}"


def _percentile(traffic: Traffic) -> str:
    edge = summary.percentile(traffic)
    return "unknown" if edge is None else f"{edge:g} ms"
