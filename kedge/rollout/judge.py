"""The decision about a canary: pure, and valid however often it is asked.

Each test answers two questions with e-processes of :mod:`kedge.rollout.sequential`. *Is the candidate worse than
tolerated?* rolls back. *Can the harm to the whole service be ruled out that a larger share could do?* lets the share
rise. In between the share stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from kedge.policy import Policy
from kedge.policy.release import Analysis
from kedge.rollout import sequential, states, summary
from kedge.rollout.evidence import SPREADS, Differences, Evidence, Metrics, Observed, Outcomes, Paired
from kedge.rollout.limits import exceeded
from kedge.rollout.model import Traffic

Action = Literal["advance", "hold", "roll back", "give up"]
"""``give up``: nobody is condemned, nobody is promoted."""
Name = Literal["errors", "latency", "decisions", "loss", "primary", "scores"]
SHARES: dict[Name, float] = {"errors": 0.3, "latency": 0.1, "decisions": 0.4, "loss": 0.1, "scores": 0.1}
"""What each test may spend of alpha: most where evidence is dearest."""
BY_METRIC: dict[Name, float] = {"errors": 0.3, "latency": 0.1, "decisions": 0.1, "primary": 0.4, "scores": 0.1}
"""The same where the policy names a primary metric: as in the gates, it stands in the place of the loss."""
WORSE = (1.6, 2.5, 4.0, 8.0, 16.0, 40.0)
"""Ratios of the failure rates, in tolerated ones, that are alternatives to "no worse"."""
BETTER = (1.0, 0.4)
"""The same for "as bad as harm", in ratios that are not harm at all."""
FAILING = (3.0, 10.0, 30.0, 100.0, 300.0)
"""Rates, in tolerated ones, that are alternatives to "at most the tolerated rate"."""
SOUND = (0.8, 0.45, 0.15, 0.01)
"""Rates, in harmful ones, that are alternatives to "at least the harmful rate"."""
MAX_TIMES = 10.0
"""How much larger than the policy's the harm may get that a step rules out when it lasts long."""
BUSY = 500
"""Requests of both within ``expected_step_seconds`` from which ``alpha`` condemns a candidate."""
MAX_SCARCITY = 10.0
"""The chance to condemn a candidate that is no worse gets smaller by the square of this at most."""


@dataclass(frozen=True, kw_only=True)
class Test:
    """One way in which the candidate may be worse, over all spans so far."""

    name: Name
    log_e: float
    """Against "no worse than tolerated"."""
    limit: float
    """Worse is proven when ``log_e`` reaches it: log(1 / (the test's share of alpha)), and twice ``scarce`` beyond
    it."""
    words: Callable[[], str] = field(compare=False, repr=False)
    """The figures in words, which only a test that decides is asked for."""
    log_harmless: float | None = None
    """Against "as bad as harm at the next share"; None: harm need not be ruled out by this test."""
    harmless_limit: float = 0.0
    """Harm is ruled out when ``log_harmless`` reaches it: log(1 / miss)."""
    harm: str = ""
    """What must be ruled out, in words."""
    scarce: float = 0.0
    """Logarithm of the scarcity of requests."""

    @property
    def seen(self) -> str:
        """The figures, in words."""
        return f"{self.words()} (log e-value {self.log_e:.1f}, limit {self.limit:.1f})"

    @property
    def worse(self) -> bool:
        """Proven."""
        return self.log_e >= self.limit

    @property
    def doubtful(self) -> bool:
        """Whether the candidate looks worse, so that its share does not rise: by the evidence that proves it or, where
        few requests come, by less, see :func:`judge`."""
        return self.log_e >= self.limit - 3 * self.scarce

    @property
    def harmless(self) -> bool:
        """Harm is ruled out, or need not be."""
        return self.log_harmless is None or self.log_harmless >= self.harmless_limit


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now, and why in words."""

    action: Action
    reasons: tuple[str, ...]
    tests: tuple[Test, ...] = ()


def judge(evidence: Evidence, policy: Policy) -> Decision:
    """Decide about the current span: advance, hold or roll back.

    Roll back if the candidate is proven worse than tolerated in failed requests, latency, decisions, loss (or the
    policy's primary metric) or scores. A
    candidate that is not worse is rolled back in at most ``release.analysis.alpha`` of releases, over all tests, spans
    and looks together; only the same minutes, or the same rows, are compared. Advance if the harm is ruled out that the
    next share could do to the whole service, and the step's own needs are met; at most ``release.analysis.miss`` of
    candidates that harm so much get that far. Else hold: a lack of evidence condemns nobody and moves no traffic.

    Where few requests come (see :func:`scarcity`) a verdict takes more than ``alpha``, as waiting costs little: until
    then a candidate that looks worse, by less than ``alpha`` takes, gets no larger share, and does not stay in a
    bake.
    """
    scarce = math.log(scarcity(evidence, policy))
    tests = tuple(replace(test, limit=test.limit + 2 * scarce, scarce=scarce) for test in _tests(evidence, policy))
    shift = next((test for test in tests if test.name == "scores" and test.doubtful), None)
    on_shift = policy.release.analysis.on_score_shift
    against = [test for test in tests if test.doubtful and (test is not shift or on_shift == "roll back")]
    worse = (*(test.seen for test in against if test.worse), *_beyond_limits(evidence, policy))
    if worse:
        return Decision(action="roll back", reasons=worse, tests=tests)
    doubts = tuple(f"looks worse, on too few requests for a verdict: {test.seen}" for test in against)
    if doubts and evidence.current.span.state == "bake":
        return Decision(action="give up", reasons=doubts, tests=tests)
    lacking = (*doubts, *_lacking(evidence, policy))
    if evidence.current.span.state != "bake":
        lacking += tuple(f"not ruled out yet: {test.harm}" for test in tests if not test.harmless)
    if shift is not None and on_shift == "hold" and not _sound(evidence.paired, policy):
        lacking += (f"{shift.seen}; the policy holds here: `kedge rollback`, or outcomes that show no harm",)
    if lacking:
        return Decision(action="hold", reasons=lacking, tests=tests)
    return Decision(action="advance", reasons=("no worse than tolerated, harm ruled out",), tests=tests)


def _beyond_limits(evidence: Evidence, policy: Policy) -> tuple[str, ...]:
    """Of a candidate that has had all traffic since its release began, so that nothing can be compared."""
    span = evidence.current.span
    if span.percent < 100 or span.state == "shadow" or span.champion.requests:
        return ()
    return tuple(f"without a champion beside it: {each}" for each in exceeded(span.candidate, policy.release.guard))


def scarcity(evidence: Evidence, policy: Policy) -> float:
    """How many times fewer requests come within ``expected_step_seconds`` than :data:`BUSY`, from 1 to 10.

    In months a small service sees few rows, so that what is proven by few of them is more often chance than harm; and
    a worse candidate does little there while more come. So E must be the square of this times as large.
    """
    span = evidence.current.span
    if span.state == "batch":  # of tables
        return 1.0
    copied, alone = span.state == "shadow", span.percent == 100 and span.state != "shadow"
    requests = span.candidate.requests * (not copied) + span.champion.requests * (not alone)
    expected = requests * policy.release.expected_step_seconds / max(evidence.seconds, 1.0)
    return min(max(BUSY / max(expected, 1.0), 1.0), MAX_SCARCITY)


@dataclass(frozen=True, kw_only=True)
class Margin:
    """The harm that must be ruled out now: by how much worse the candidate may be, beyond what is tolerated."""

    times: float
    """In harms of the policy: 1 / the next share, more for a step that lasts."""

    def failure_ratio(self, analysis: Analysis) -> float:
        """Times the champion's rate."""
        return analysis.max_failure_ratio * (1 + (analysis.harm.failure_ratio - 1) * self.times)

    def failure_rate(self, analysis: Analysis) -> float:
        """The least rate that is harm; 1 and above: none is."""
        return analysis.min_failure_rate + analysis.harm.failure_rate * self.times

    def loss(self, analysis: Analysis) -> float:
        """Mean increase of a loss; 1 and above: none is."""
        return analysis.max_loss_increase + analysis.harm.loss * self.times


def margin(evidence: Evidence, policy: Policy) -> Margin:
    """What the next share asks for: at a share s the service as a whole suffers s of the candidate's harm.

    >>> Margin(times=4.0).failure_rate(Analysis())  # before a share of 25 %
    0.041
    """
    release = policy.release
    if evidence.current.span.state == "batch":  # the next share is all, and time alone shows nothing
        return Margin(times=1.0)
    shares = [step.percent for step in release.steps]
    if evidence.current.span.state != "shadow":
        shares = [percent for percent in shares if percent > evidence.current.span.percent]
    lasted = min(max(evidence.seconds / release.expected_step_seconds, 1.0), MAX_TIMES)
    return Margin(times=lasted * 100 / min(shares, default=100))


def _tests(evidence: Evidence, policy: Policy) -> Iterator[Test]:
    ask = margin(evidence, policy)
    if evidence.current.span.state != "batch":  # tables have no requests that fail or are slow
        yield _errors(evidence, policy, ask)
        yield _latency(evidence, policy)
    if evidence.paired is None:
        yield _loss(evidence, policy)
        return
    if policy.model.class_names:
        words = "cost of decisions on the same rows"
        yield _on_same_rows("decisions", evidence.paired.decisions, words, policy, ask)
    if policy.primary is None:
        yield _on_same_rows("loss", evidence.paired.losses, f"{_loss_name(policy)} on the same rows", policy, ask)
    else:
        yield _primary(policy.primary.label, evidence.paired.primary, policy, ask)
    yield _scores(evidence.paired, policy)


def _lacking(evidence: Evidence, policy: Policy) -> tuple[str, ...]:
    """What the current span still waits for."""
    span = evidence.current.span
    lacking = states.lacking(states.needs(policy.release, span.state, span.percent), evidence)
    return tuple(f"{each}{_unjudged(evidence)}" if "labelled" in each else each for each in lacking)


def _unjudged(evidence: Evidence) -> str:
    reason = evidence.current.not_judged
    return f" (none are judged: {reason})" if reason else ""


def _errors(evidence: Evidence, policy: Policy, ask: Margin) -> Test:
    """Failed requests: worse is a rate above the tolerated ratio *and* above the tolerated rate; no harm either a ratio
    or a rate below the harmful one."""
    analysis = policy.release.analysis
    spans = [_failures(seen) for seen in evidence.observed]
    ratio, floor = analysis.max_failure_ratio, analysis.min_failure_rate
    count, requests = sum(span.count for span in spans), sum(span.requests for span in spans)
    alternatives = [ratio * times for times in WORSE]
    log_e = sequential.rate_ratio(spans, ratio, alternatives)
    if floor > 0:
        log_e = min(log_e, sequential.rate(count, requests, floor, [floor * times for times in FAILING]))
    harm_ratio, harm_rate = ask.failure_ratio(analysis), ask.failure_rate(analysis)
    by_ratio = sequential.rate_ratio(spans, harm_ratio, [ratio * times for times in BETTER])
    if harm_rate < 1:
        by_rate = sequential.rate(count, requests, harm_rate, [harm_rate * times for times in SOUND])
        log_harmless = sequential.average([by_ratio, by_rate])
    else:
        log_harmless = math.inf

    def words() -> str:
        worst = max(evidence.observed, key=lambda seen: sequential.rate_ratio([_failures(seen)], ratio, alternatives))
        return (
            f"failed requests at {_place(worst)}: {_rate(worst.span.candidate)} against {_rate(worst.span.champion)} "
            f"of the champion; tolerated {ratio:g} times that, or {floor:.2%}"
        )

    harm = f"failed requests more than {harm_ratio:.3g} times the champion's and above {harm_rate:.2%}"
    return _test("errors", log_e, words, policy, log_harmless, harm)


def _failures(seen: Observed) -> sequential.Events:
    candidate, champion = seen.span.candidate, seen.span.champion
    return sequential.Events(
        count=candidate.errors,
        requests=candidate.requests,
        champion_count=champion.errors,
        champion_requests=champion.requests,
    )


def _latency(evidence: Evidence, policy: Policy) -> Test:
    ratio = policy.release.analysis.max_latency_ratio
    spans = [(seen.span.candidate.latency, seen.span.champion.latency) for seen in evidence.observed]

    def words() -> str:
        slowest = max(evidence.observed, key=lambda seen: summary.percentile(seen.span.candidate) or 0.0)
        return (
            f"latency at {_place(slowest)}: 95th percentile {_percentile(slowest.span.candidate)} against "
            f"{_percentile(slowest.span.champion)} of the champion; tolerated {ratio:g} times that"
        )

    return _test("latency", sequential.slower(spans, ratio), words, policy)


def _on_same_rows(name: Name, differences: Differences, what: str, policy: Policy, ask: Margin) -> Test:
    analysis = policy.release.analysis
    tolerated, harmful = analysis.max_loss_increase, ask.loss(analysis)
    log_harmless = None
    if differences.rows:
        log_harmless = sequential.mean_below(differences.counts, harmful) if harmful < 1 else math.inf

    def words() -> str:
        return (
            f"{what}: {differences.mean:+.4f} against the champion's over {differences.rows:,} rows with an outcome; "
            f"tolerated {tolerated:+.4g}"
        )

    log_e = sequential.mean_above(differences.counts, tolerated)
    return _test(name, log_e, words, policy, log_harmless, f"{what}: {harmful:+.3g} against the champion's")


def _primary(metric: str, seen: Metrics | None, policy: Policy, ask: Margin) -> Test:
    """Where the metric is not defined yet, decisions alone judge."""
    analysis = policy.release.analysis
    tolerated, harmful = analysis.max_loss_increase, ask.loss(analysis)
    if seen is None:
        return _test("primary", 0.0, lambda: f"{metric}: not defined on the outcomes so far", policy)
    log_harmless = sequential.above(harmful - seen.worse, seen.error) if harmful < 1 else math.inf

    def words() -> str:
        return (
            f"{metric} on the same rows: {seen.candidate:.4g} against {seen.champion:.4g} of the champion over "
            f"{seen.rows:,} rows with an outcome; tolerated {tolerated:.4g} worse"
        )

    log_e = sequential.above(seen.worse - tolerated, seen.error)
    harm = f"{metric} on the same rows: {harmful:.3g} worse than the champion's"
    return _test("primary", log_e, words, policy, log_harmless, harm)


def _scores(paired: Paired, policy: Policy) -> Test:
    """A shift either way, of several classes of the scores of any."""
    tolerated = policy.release.analysis.max_score_shift / SPREADS
    log_e = 0.0
    each = (paired.scores, *paired.other_scores)
    if tolerated < 1:
        up = [sequential.mean_above(differences.counts, tolerated) for differences in each]
        down = [sequential.mean_below(differences.counts, -tolerated) for differences in each]
        log_e = sequential.average([*up, *down])

    def words() -> str:
        place, differences = max(enumerate(each), key=lambda pair: abs(pair[1].mean))
        of = f" of {policy.model.class_names[place]}" if policy.model.classes else ""
        moved = f"{differences.mean * SPREADS:+.2f} standard deviations of the champion's on average"
        return (
            f"scores{of} on the same rows: {moved}, over {differences.rows:,} rows; "
            f"tolerated {tolerated * SPREADS:.2g} either way"
        )

    return _test("scores", log_e, words, policy)


def _sound(paired: Paired | None, policy: Policy) -> bool:
    """Whether outcomes rule out the policy's harm."""
    analysis = policy.release.analysis
    harmful = analysis.max_loss_increase + analysis.harm.loss
    if paired is None or harmful >= 1:
        return False
    judged = [paired.decisions] if policy.model.class_names else []
    judged += [paired.losses] if policy.primary is None else []
    logs = [sequential.mean_below(differences.counts, harmful) for differences in judged]
    if paired.primary is not None:
        logs.append(sequential.above(harmful - paired.primary.worse, paired.primary.error))
    return min(logs, default=-math.inf) >= -math.log(analysis.miss)


def _loss(evidence: Evidence, policy: Policy) -> Test:
    """Slot by slot, where both bundles could not be asked about the same rows."""
    tolerated = policy.release.analysis.max_loss_increase
    binary = bool(policy.model.class_names)
    spans = [_losses(seen, binary) for seen in evidence.observed]

    def words() -> str:
        alone = [sequential.two_means([span], tolerated) for span in spans]
        worst = evidence.observed[alone.index(max(alone))]
        return (
            f"mean {_loss_name(policy)} at {_place(worst)}: {_error(worst.candidate, binary)} against "
            f"{_error(worst.champion, binary)} of the champion; tolerated {tolerated:+.4g}"
        )

    share = SHARES["decisions"] + SHARES["loss"] + SHARES["scores"]
    return _test("loss", sequential.two_means(spans, tolerated), words, policy, share=share)


def _loss_name(policy: Policy) -> str:
    """What is compared, in words; see :func:`kedge.measure.bounded_losses`."""
    from kedge import measure  # numpy: only where there is something to judge

    objective = "squared" if policy.model.class_names else policy.model.objective
    return measure.unit(objective).removeprefix("mean ")


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


def _test(
    name: Name,
    log_e: float,
    words: Callable[[], str],
    policy: Policy,
    log_harmless: float | None = None,
    harm: str = "",
    share: float = 0.0,
) -> Test:
    analysis = policy.release.analysis
    shares = SHARES if policy.primary is None else BY_METRIC
    limit = -math.log((share or shares[name]) * analysis.alpha)
    return Test(
        name=name,
        log_e=log_e,
        limit=limit,
        words=words,
        log_harmless=log_harmless,
        harmless_limit=-math.log(analysis.miss),
        harm=harm,
    )


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
