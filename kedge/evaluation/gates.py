"""What a challenger must prove: each gate one fact in one sentence, with its figure and its limits. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kedge.bundle import Agreement
from kedge.evaluation.compare import Paired, holm
from kedge.evaluation.decisions import Decisions
from kedge.fairness import Fair
from kedge.figures import in_words
from kedge.metrics import Difference, Figure
from kedge.policy import Gates, Metric
from kedge.records.kinds import Outcome

HARM_LEVEL = 0.15
"""One-sided level from which on harm to the decisions counts as shown. Wider than that of an improvement: to wait for a
better challenger costs a run, to serve a worse one costs every decision."""
PROVEN = 1.64
"""Standard errors of the rows on which exactly one decided wrongly that prove better decisions (5 %, one-sided)."""
OUT_OF_ORDER = 10
"""A class that is so many times rarer in one part of the table than in the other is told to the reader."""

SORTED = "is the table sorted by its outcome instead of by time"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows that share a value of a column."""

    feature: str
    value: str
    rows: int
    challenger_loss: float
    champion_loss: float | None
    p_value: float | None
    """Chance of such a rise of the loss beyond the margin, or a larger one, if there were none; None without a
    champion, and for fewer rows than a test can be made on."""

    @property
    def increase(self) -> float | None:
        """Share by which the challenger's loss is above the champion's; None without a champion."""
        if self.champion_loss is None:
            return None
        if self.champion_loss == 0:
            return 0.0 if self.challenger_loss == 0 else float("inf")
        return self.challenger_loss / self.champion_loss - 1


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows there are, and of which outcome."""

    judged: int
    unseen: int
    """Those of them that the champion was not trained on; only these are evidence."""
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of each class how many are judged, and how many lie before; empty for a regression."""
    earlier: int = 0
    """Rows before the judged ones; 0 where that is not known."""
    apart: bool = False
    """All judged outcomes lie above all earlier ones, or below them (regression)."""
    one_value: bool = False
    """All judged outcomes are one number, and the earlier ones are not (regression)."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """Challenger and champion on the same rows."""

    champion_loss: float
    difference: Paired
    within_margin: Paired
    """The same test with the champion's loss raised by the margin: shown where the challenger is lower than that."""
    decisions: Decisions | None
    """None for a regression."""


@dataclass(frozen=True, kw_only=True)
class MeasuredMetric:
    """A metric of the policy on the judged rows."""

    limits: Metric
    challenger: Figure
    champion: Figure | None
    difference: Difference | None
    """How much better the challenger is than the champion; None without one, and where either is not defined."""
    over_constant: Difference | None
    """How much better it is than the best constant guess; None where either is not defined."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on the judged rows. Losses are means."""

    rows: Rows
    challenger_loss: float
    constant_loss: float
    """Of the best constant guess for these very rows, which no model could know."""
    constant: Paired
    """Constant guess against challenger."""
    against: Against | None
    """None without a champion."""
    slices: Sequence[Slice] = ()
    metrics: Sequence[MeasuredMetric] = ()
    fairness: Sequence[Fair] = ()
    attempt: int = 1
    """How many challengers were tried since the alarm that asked for this one."""
    stale: bool = False
    """The champion's training rows are older than they may be."""
    prove_decisions: bool = False
    """A challenger of the same rise lowered the loss and not what wrong decisions cost: this one must lower that."""
    agreement: Agreement | None = None
    """Of the challenger's judged and served fit; None where one fit is both."""

    @property
    def primary(self) -> MeasuredMetric | None:
        """The metric that stands in the place of the loss."""
        return next((each for each in self.metrics if each.limits.primary), None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate."""

    name: str
    outcome: Outcome
    sentence: str
    rows_needed: int = 0
    """About so many more judged rows would make an inconclusive one conclusive."""

    @property
    def passed(self) -> bool:
        """Whether the challenger passed it."""
        return self.outcome == "passed"


def level_of_attempt(alpha: float, attempt: int) -> float:
    """Level of the k-th challenger under one alarm, so that all of them together share one error budget.

    alpha_k = 6 alpha / (pi² k²), which sums to alpha over all k: however often one tries, a challenger that is no
    better gets through with chance at most alpha.

    >>> round(level_of_attempt(0.05, 1), 4), round(sum(level_of_attempt(0.05, k) for k in range(1, 10_000)), 4)
    (0.0304, 0.05)
    """
    if attempt < 1:
        raise ValueError(f"attempt {attempt}: the first one is 1")
    return 6 * alpha / (math.pi * attempt) ** 2


def outcome(verdicts: Sequence[Verdict]) -> Outcome:
    """How an evaluation ended. Lack of evidence never condemns and never promotes: one inconclusive gate makes all so.

    >>> outcome([Verdict(name="loss", outcome="passed", sentence="")])
    'passed'
    """
    outcomes = {verdict.outcome for verdict in verdicts}
    return "inconclusive" if "inconclusive" in outcomes else "rejected" if "rejected" in outcomes else "passed"


def judge(gates: Gates, measured: Measured) -> list[Verdict]:
    """Hold what was measured against every gate of the policy. Thresholds are inclusive.

    Limits on one figure are one gate: a loss above two of them, or a difference that is neither large nor certain
    enough, would be the same bad news twice. Without a champion ``improvement`` is passed with that reason, and nothing
    is said of decisions and slices; the challenger must still be shown to beat the constant that knows nothing.
    """
    return [
        _rows(gates, measured.rows),
        *_outcomes(gates, measured.rows),
        *_agreement(measured.agreement),
        *_loss(gates, measured),
        *(verdict for each in measured.metrics for verdict in _limits(each)),
        *(_fair(gates, each) for each in measured.fairness),
        *_beside_champion(gates, measured, measured.against),
    ]


def _beside_champion(gates: Gates, measured: Measured, against: Against | None) -> list[Verdict]:
    if against is None:
        return [Verdict(name="improvement", outcome="passed", sentence="there is no champion yet to compare with")]
    return [
        _better(gates, measured, against),
        *_decisions(gates, against.decisions, measured.prove_decisions),
        _slices(gates, measured.slices),
    ]


def _better(gates: Gates, measured: Measured, against: Against) -> Verdict:
    if measured.primary is not None:
        return _primary(gates, measured, measured.primary)
    return (_no_worse if measured.stale else _improvement)(gates, measured, against)


def _verdict(name: str, passed: bool, sentence: str) -> Verdict:
    return Verdict(name=name, outcome="passed" if passed else "rejected", sentence=sentence)


def _rows(gates: Gates, rows: Rows) -> Verdict:
    missing = max(0, gates.min_rows - rows.unseen)
    what = "rows to judge on"
    if rows.unseen < rows.judged:
        what = f"of the {rows.judged:,} judged rows are newer than those the champion was trained on"
    more = f": {missing:,} more are needed" if missing else ""
    return Verdict(
        name="rows",
        outcome="inconclusive" if missing else "passed",
        sentence=f"{rows.unseen:,} {what}, must be at least {gates.min_rows:,}{more}",
        rows_needed=missing,
    )


def _outcomes(gates: Gates, rows: Rows) -> list[Verdict]:
    """Whether the judged rows have outcomes to judge by, and whether the table is in the order of time at all."""
    if rows.classes:
        return [_classes(gates, rows)]
    if not (rows.apart or rows.one_value):
        return []
    what = "lies beyond all earlier ones" if rows.apart else "is the same number, and those of earlier rows are not"
    sentence = f"every one of the {rows.judged:,} judged outcomes {what}: {SORTED}?"
    return [Verdict(name="outcomes", outcome="inconclusive", sentence=sentence)]


def _classes(gates: Gates, rows: Rows) -> Verdict:
    rarest = min(rows.classes, key=lambda name: rows.classes[name][0])
    count, earlier = rows.classes[rarest]
    rule = f"{count:,} of {rows.judged:,} judged rows are {rarest}"
    order = "".join(_out_of_order(gates, rows, name, *counts) for name, counts in rows.classes.items())
    if count >= gates.min_class_rows:
        return Verdict(name="outcomes", outcome="passed", sentence=f"{rule}{order}")
    needed, more = 0, ""
    if not order:
        share = (count + earlier) / (rows.judged + rows.earlier)
        needed = math.ceil((gates.min_class_rows - count) / share) if share else 0
        more = f": about {needed:,} more rows are needed" if needed else ""
    sentence = f"{rule}, must be at least {gates.min_class_rows:,} of each class{more}{order}"
    return Verdict(name="outcomes", outcome="inconclusive", sentence=sentence, rows_needed=needed)


def _out_of_order(gates: Gates, rows: Rows, name: str, judged: int, earlier: int) -> str:
    """Words about a class that one part of the table lacks, though the other holds many."""
    if not rows.earlier:
        return ""
    shares = judged / rows.judged, earlier / rows.earlier
    expected = shares[1] * rows.judged, shares[0] * rows.earlier
    for count, due in zip((judged, earlier), expected, strict=True):
        if due >= gates.min_class_rows and count * OUT_OF_ORDER <= due:
            return (
                f"; {shares[0]:.1%} of the judged rows are {name} and {shares[1]:.1%} of the {rows.earlier:,} rows "
                f"before: {SORTED}, or does one class become known later?"
            )
    return ""


def _agreement(agreement: Agreement | None) -> list[Verdict]:
    """Whether the figures, which are the judged fit's, say anything about the fit that will serve."""
    if agreement is None:
        return []
    return [
        _verdict(
            "agreement",
            agreement.difference <= agreement.bound,
            f"the fit that will serve scores {in_words(agreement.difference)} away from the judged one on average, "
            f"must be at most {in_words(agreement.bound)}",
        )
    ]


def _loss(gates: Gates, measured: Measured) -> list[Verdict]:
    """The loss against its limit and the best constant guess; with a primary metric, that against the guess."""
    primary = measured.primary
    if primary is None:
        return [_mean_loss(gates, measured)]
    verdicts = [_over_constant(gates, measured, primary)]
    if gates.max_loss is not None:
        loss = measured.challenger_loss
        sentence = f"loss {_figure(loss)}, must be at most {_figure(gates.max_loss)}"
        verdicts.append(_verdict("loss", loss <= gates.max_loss, sentence))
    return verdicts


def _over_constant(gates: Gates, measured: Measured, primary: MeasuredMetric) -> Verdict:
    level = level_of_attempt(gates.alpha, measured.attempt)
    name, over = primary.limits.label, primary.over_constant
    if over is None:
        return _verdict(
            "primary", primary.challenger.value is not None, f"{_told(primary.challenger)}, must be defined"
        )
    p_value, way = over.p_better(), "better than that of the best constant guess for these rows"
    sentence = f"{_told(primary.challenger)}, must be {way}"
    if measured.against is not None:
        return _verdict("primary", over.value > 0, sentence)
    return _verdict(
        "primary",
        p_value <= level,
        f"{sentence}, {_with_p(measured, level)} (block bootstrap of {name} p = {p_value:.3g})",
    )


def _primary(gates: Gates, measured: Measured, primary: MeasuredMetric) -> Verdict:
    """Whether the challenger is shown to be better by the primary metric; while the champion is stale, no worse."""
    level, name = level_of_attempt(gates.alpha, measured.attempt), primary.limits.label
    if primary.difference is None or primary.champion is None or primary.champion.value is None:
        return _verdict("improvement", False, f"{_told(primary.challenger)}; the champion's cannot be compared with it")
    margin = gates.margin * abs(primary.champion.value) if measured.stale else 0.0
    p_value = primary.difference.p_better(-margin)
    low, high = primary.difference.interval
    must = f"no worse by {_figure(margin)}, because the champion is stale," if measured.stale else "better"
    return _verdict(
        "improvement",
        p_value <= level,
        f"{_told(primary.challenger)}, {_signed(primary.difference.value)} better than the champion's (95 % interval "
        f"{_figure(low)} to {_figure(high)}), must be {must} {_with_p(measured, level)} (block bootstrap of {name} p = "
        f"{p_value:.3g})",
    )


def _limits(metric: MeasuredMetric) -> list[Verdict]:
    """A metric against the limits of the policy."""
    limits, seen = metric.limits, metric.challenger
    verdicts = []
    for bound, word in ((limits.min, "least"), (limits.max, "most")):
        if bound is not None:
            within = seen.value is not None and (seen.value >= bound if word == "least" else seen.value <= bound)
            verdicts.append(_verdict(limits.label, within, f"{_told(seen)}, must be at {word} {_figure(bound)}"))
    if limits.max_drop is not None and metric.champion is not None:
        verdicts.append(_drop(metric, limits.max_drop))
    return verdicts


def _drop(metric: MeasuredMetric, max_drop: float) -> Verdict:
    """Whether a metric is shown to be worse than the champion's by more than it may be."""
    seen, label = metric.challenger, metric.limits.label
    if metric.difference is None:
        undefined = f"{_told(seen)}; the champion's cannot be compared with it"
        return _verdict(label, seen.value is not None, undefined)
    worse = metric.difference.p_worse(-max_drop)
    shown = worse <= HARM_LEVEL
    sentence = (
        f"{_told(seen)}, {_signed(metric.difference.value)} better than the champion's; that it is worse by more than "
        f"{_figure(max_drop)} is {_shown(shown)} (block bootstrap p = {worse:.3g}; shown at {HARM_LEVEL:g} or less)"
    )
    return _verdict(label, not shown, sentence)


def _told(seen: Figure) -> str:
    if seen.value is None or seen.low is None or seen.high is None:
        return f"{seen.name} is not defined on these rows"
    return f"{seen.name} {_figure(seen.value)} (95 % interval {_figure(seen.low)} to {_figure(seen.high)})"


def _mean_loss(gates: Gates, measured: Measured) -> Verdict:
    limit, level = gates.max_loss, level_of_attempt(gates.alpha, measured.attempt)
    allowed = "" if limit is None else f"at most {_figure(limit)} and "
    sentence = (
        f"loss {_figure(measured.challenger_loss)}, must be {allowed}below {_figure(measured.constant_loss)}, that of "
        "the best constant guess for these rows"
    )
    if measured.against is not None:  # the champion is the harder test; here the constant must only not be better
        return _verdict(
            "loss",
            measured.challenger_loss < measured.constant_loss and (limit is None or measured.challenger_loss <= limit),
            sentence,
        )
    shown = measured.constant.p_value <= level
    return _verdict(
        "loss",
        shown and (limit is None or measured.challenger_loss <= limit),
        f"{sentence}, {_with_p(measured, level)} (paired test p = {measured.constant.p_value:.3g})",
    )


def _improvement(gates: Gates, measured: Measured, against: Against) -> Verdict:
    level = level_of_attempt(gates.alpha, measured.attempt)
    least = f"at least {_figure(gates.min_improvement)} lower" if gates.min_improvement else "lower"
    paired = against.difference
    return _verdict(
        "improvement",
        paired.p_value <= level and paired.improvement >= gates.min_improvement,
        f"{_difference(paired)}, paired test p = {paired.p_value:.3g}), must be {least} {_with_p(measured, level)}",
    )


def _no_worse(gates: Gates, measured: Measured, against: Against) -> Verdict:
    """Rejected only where enough rows say so: of too few not even an equal challenger could be shown to be no worse."""
    level = level_of_attempt(gates.alpha, measured.attempt)
    test = against.within_margin
    needed = test.rows_to_show(gates.margin * against.champion_loss, level) - test.rows
    undecided = level < test.p_value < 1 - level and 0 < needed < math.inf
    more = f": about {math.ceil(needed):,} more rows are needed to tell" if undecided else ""
    return Verdict(
        name="improvement",
        outcome="passed" if test.p_value <= level else "inconclusive" if undecided else "rejected",
        sentence=f"{_difference(against.difference)}), must be less than {gates.margin:.1%} higher, because the "
        f"champion is stale, {_with_p(measured, level)} (paired test p = {test.p_value:.3g}){more}",
        rows_needed=math.ceil(needed) if undecided else 0,
    )


def _difference(paired: Paired) -> str:
    way, low, high = "lower", paired.low, paired.high
    if paired.improvement < 0:
        way, low, high = "higher", -paired.high, -paired.low
    by = _figure(abs(paired.improvement))
    return f"loss {by} {way} than the champion's (95 % interval {_figure(low)} to {_figure(high)}"


def _with_p(measured: Measured, level: float) -> str:
    tried = f" in attempt {measured.attempt}" if measured.attempt > 1 else ""
    return f"with p at most {level:.3g}{tried}"


def _decisions(gates: Gates, decisions: Decisions | None, prove: bool) -> list[Verdict]:
    if decisions is None:
        return []
    return [_saving(decisions) if prove else _harm(gates, decisions)]


def _saving(decisions: Decisions) -> Verdict:
    return _verdict(
        "decisions",
        decisions.saves(PROVEN),
        f"the challenger alone is wrong on {decisions.only_challenger_wrong:,} rows, the champion alone on "
        f"{decisions.only_champion_wrong:,}, which saves {_figure(decisions.saved)}; after a promotion that "
        f"lowered the loss and not the costs, it must save at least {_figure(PROVEN * decisions.saved_error)}",
    )


def _harm(gates: Gates, decisions: Decisions) -> Verdict:
    harm = decisions.harm(HARM_LEVEL)
    return _verdict(
        "decisions",
        not harm,
        f"wrong decisions cost {_figure(decisions.challenger_cost)} a row, the champion's "
        f"{_figure(decisions.champion_cost)}; that they are more than {gates.max_cost_increase:.2%} dearer is "
        f"{_shown(harm)} (paired tests: of the costs p = {decisions.p_cost:.3g}, of the loss after calibrating "
        f"both p = {decisions.p_calibrated:.3g}; shown at {HARM_LEVEL:g} or less)",
    )


def _shown(shown: bool) -> str:
    return "shown" if shown else "not shown"


def _slices(gates: Gates, slices: Sequence[Slice]) -> Verdict:
    judged = [each for each in slices if each.rows >= gates.min_slice_rows]
    p_values = [each.p_value for each in judged if each.p_value is not None]
    if not p_values:
        none = f"no slice of at least {gates.min_slice_rows:,} rows to judge"
        return Verdict(name="slices", outcome="passed", sentence=none)
    p_value, worst = min(zip(holm(p_values), judged, strict=True), key=lambda pair: (pair[0], -(pair[1].increase or 0)))
    return _verdict(
        "slices",
        p_value > gates.alpha,
        f"worst slice {worst.feature} = {worst.value} ({worst.rows:,} rows): loss {worst.increase or 0.0:+.1%} against "
        f"the champion's; that it is more than {gates.max_slice_loss_increase:.1%} higher is "
        f"{_shown(p_value <= gates.alpha)} (paired test p = {p_value:.3g} by Holm over {len(judged):,}; shown at "
        f"{gates.alpha:g} or less)",
    )


def _fair(gates: Gates, fair: Fair) -> Verdict:
    """Rejected where the limit is shown to be broken; where it is broken and not shown, more rows must tell."""
    name, least = f"{fair.name} of {fair.column}", gates.fairness.min_rows
    outcome: Outcome = "passed" if fair.within else "rejected" if fair.shown else "inconclusive"
    sentence, needed = fair.sentence(gates), 0
    if fair.value is None:
        sizes = sorted((group.rows for group in fair.groups), reverse=True)
        share = sizes[1] / sum(sizes) if len(sizes) > 1 else 0
        needed = math.ceil(max(least - sizes[1], gates.min_class_rows) / share) if share else 0
    elif outcome == "inconclusive":
        sentence += ": more rows must tell"
        needed = sum(group.rows for group in fair.groups if group.rows >= least)
    return Verdict(name=name, outcome=outcome, sentence=sentence, rows_needed=needed)


def _figure(value: float) -> str:
    return in_words(value, 5)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{_figure(value)}"
