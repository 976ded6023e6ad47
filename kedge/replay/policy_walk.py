"""What the policy itself would have done: the real check, decision, training and gates, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kedge import training
from kedge.drift import Profile
from kedge.errors import DataError
from kedge.evaluation.evaluate import attempt_of, is_stale
from kedge.evaluation.evaluation import Evaluation, measure, metrics
from kedge.measure import Floats
from kedge.monitoring import probing
from kedge.monitoring import run as monitoring
from kedge.monitoring.check import ChampionReference, Rows, observe
from kedge.monitoring.cohort import costs
from kedge.monitoring.decide import Decision, decide
from kedge.monitoring.estimate import recorded
from kedge.monitoring.outcomes import Outcomes, Span
from kedge.monitoring.regret import Regret
from kedge.monitoring.window import comparable, summarized
from kedge.policy import Policy
from kedge.records import (
    Champion,
    Data,
    Evaluated,
    ModelState,
    Promoted,
    Record,
    Reference,
    Registered,
    ReleaseStarted,
    RunFinished,
    RunStarted,
    Window,
)
from kedge.replay.blocks import Blocks
from kedge.replay.fits import constant_loss, wrong_decisions
from kedge.replay.walk import BlockDecision, Walk
from kedge.training import Challenger, train
from kedge.training.challenger import Cache
from kedge.training.probe import probe

Places = NDArray[np.int64]
"""Numbers of rows of the history, ascending."""
MOMENT = timedelta(microseconds=1)


@dataclass
class _Served:
    """The champion, and what it is held against."""

    bundle: str
    challenger: Challenger
    reference: ChampionReference
    first: int
    """Row from which on it serves."""
    trained: int
    """Row after the newest that it has read."""
    scores: Floats
    """Of the rows from ``first`` on."""
    judged: int
    """Rows judged so far: those before this one."""

    def of_rows(self, rows: slice) -> Floats:
        return self.scores[rows.start - self.first : rows.stop - self.first]

    def of_places(self, places: Places) -> Floats:
        return np.asarray(self.scores[places - self.first])


class PolicyWalk:
    """Walks the policy over blocks; ``records`` are those that the running parts would have written."""

    def __init__(self, blocks: Blocks, cache: Cache | None = None) -> None:
        self._blocks, self._policy = blocks, blocks.policy
        self._cache: Cache = {} if cache is None else cache
        self._whole = np.ones(len(blocks.label), dtype=np.bool_)
        """Which rows no check found corrupt: the others are neither judged nor learned from."""
        self.records: list[Record[Data]] = []
        self._champion = self._first()

    def walk(self, advance: Callable[[], None] = lambda: None) -> Walk:
        """From the first block to the last."""
        blocks = self._blocks
        spent, wrong, runs, promotions = [], 0.0, 0, 0
        decisions = []
        for block in range(len(blocks)):
            rows = blocks.rows(block)
            scores, label = self._champion.of_rows(rows), blocks.label[rows]
            spent.append(float(costs(self._policy.model, scores, label, constant_loss(blocks)).sum()))
            wrong += wrong_decisions(self._policy, blocks, scores, block)
            decision = self._check(block)
            if decision.action == "quarantine":
                self._whole[rows] = False
                self._cache = {}  # fits are kept by their rows' places, and these are others now
            promoted = False
            if decision.action == "retrain" and block + 1 < len(blocks):
                runs += 1
                promoted = self._retrain(block, decision)
                promotions += promoted
            decisions.append(
                BlockDecision(block=block, action=decision.action, reasons=decision.reasons, promoted=promoted)
            )
            advance()
        return Walk(
            rule="policy",
            block_costs=tuple(spent),
            block_rows=tuple(np.diff(blocks.edges).tolist()),
            wrong=wrong,
            runs=runs,
            promotions=promotions,
            decisions=tuple(decisions),
        )

    def _first(self) -> _Served:
        blocks = self._blocks
        challenger = self._fit(self._kept(0, blocks.known[0]), None, None)
        since = blocks.time(blocks.edges[0] - 1) + MOMENT
        self.records.append(self._record("0", since, Promoted(bundle=_id(0))))
        return self._serve(_id(0), challenger, blocks.edges[0], self._kept(0, blocks.known[0]))

    def _kept(self, first: int, end: int) -> Places:
        """Places of the rows from ``first`` to ``end`` that are whole."""
        return np.flatnonzero(self._whole[first:end]) + first

    def _table(self, places: Places) -> pa.Table:
        if len(places) and len(places) == places[-1] + 1 - places[0]:
            return self._blocks.table.slice(int(places[0]), len(places))
        return self._blocks.table.take(pa.array(places))

    def _fit(self, places: Places, change_point: datetime | None, champion_until: datetime | None) -> Challenger:
        return training.fit_challenger(
            self._policy,
            self._table(places),
            change_point=change_point,
            champion_until=champion_until,
            cache=self._cache,
            source=f"the first {len(places):,} rows",
        )

    def _serve(self, bundle: str, challenger: Challenger, first: int, trained: Places) -> _Served:
        blocks, table = self._blocks, self._table(trained)
        holdout = table.slice(challenger.holdout_start)
        figures = train.measured(challenger, table)
        label = blocks.label[trained[challenger.holdout_start :]]
        judged = challenger.score(challenger.judged, holdout)
        reference = ChampionReference(
            profile=Profile.from_json(train.reference(challenger, table)),
            loss=Reference(loss=figures["loss"], rows=len(label)),
            cost=float(costs(self._policy.model, judged, label, constant_loss(blocks)).mean()),
            importance=challenger.importance,
            calibration=recorded(figures),
            constant_loss=figures["constant_loss"],
            trained_until=blocks.time(int(trained[-1])),
            trained_rows=len(trained),
        )
        scores = challenger.score(challenger.final, blocks.table.slice(first))
        return _Served(bundle, challenger, reference, first, int(trained[-1]) + 1, scores, judged=first)

    def _check(self, block: int) -> Decision:
        blocks, served, policy = self._blocks, self._champion, self._policy
        end = blocks.end(block)
        state = ModelState.of(self.records)
        champion = state.champion
        assert champion is not None
        check = observe(policy, served.reference, self._rows(block, champion, end, probing.before(state)))
        if check.cohort.verdict == "judged":
            served.judged = max(served.judged, blocks.known[block + 1])
        decision = decide(policy, state, check, end)
        self.records.append(monitoring.to_record(policy, check, decision))
        return decision

    def _rows(self, block: int, champion: Champion, end: datetime, before: Regret | None) -> Rows:
        blocks, served, policy = self._blocks, self._champion, self._policy
        window = blocks.rows(block)
        start = blocks.time(window.start)
        table = blocks.table.slice(window.start, window.stop - window.start)
        shown = table.select(["_time", *comparable(policy)])
        shown = shown.append_column("_version", pa.array([served.bundle] * table.num_rows))
        shown = shown.append_column("_score", pa.array(served.of_rows(window).tolist(), _score_type(policy)))
        due = slice(served.judged, max(served.judged, blocks.known[block + 1]))
        places = self._kept(due.start, due.stop)
        times = blocks.microseconds[places].astype("datetime64[us]")
        outcomes = Outcomes(
            scores=served.of_places(places),
            labels=blocks.label[places],
            times=times,
            late=np.zeros(len(times), dtype=np.bool_),
            probe=self._probed(places, before) if before is not None and probing.due(policy, before) else None,
            span=self._span(due, end),
            newest=end,
        )
        new_labels = blocks.known[block + 1] - served.trained
        return Rows(
            champion=champion,
            window=Window(start=start, end=end),
            served=summarized(policy, served.reference.profile, [shown], served.bundle),
            outcomes=outcomes,
            new_labels=new_labels if policy.monitor.triggers.new_labels is not None else None,
        )

    def _probed(self, due: Places, before: Regret) -> Floats | None:
        if not len(due):
            return None
        earlier = self._kept(0, int(due[0]))
        first = max(0, len(earlier) - probing.MAX_ROWS)
        return probe(
            self._policy,
            self._table(earlier[first:]),
            [self._table(due)],
            before.change_point,
            cache=self._cache,
            first_row=first,
        )

    def _span(self, due: slice, end: datetime) -> Span:
        blocks = self._blocks
        first = blocks.time(due.start) if due.start < len(blocks.label) else end
        last = blocks.time(due.stop - 1) + MOMENT if due.stop > due.start else first
        return Span(start=first, end=last, judged=first, late_from=first, late_since=None, last=None)

    def _retrain(self, block: int, decision: Decision) -> bool:
        """Train and judge a challenger on what is known now; serve it from the next block on if it passes."""
        blocks, served = self._blocks, self._champion
        known, end, number = self._kept(0, blocks.known[block + 1]), blocks.end(block), block + 1
        run, bundle = f"run-{number}", _id(number)
        self.records.append(self._record(run, end, RunStarted(run=run, decision_key=decision.key)))
        try:
            challenger = self._fit(known, decision.change_point, served.reference.trained_until)
        except DataError as exc:
            self.records.append(self._record(run, end, RunFinished(run=run, state="failed", reason=str(exc))))
            return False
        judged = self._judge(challenger, known, decision)
        figures = metrics(self._policy, judged)
        self.records.append(
            self._record(
                f"{bundle}-{run}",
                end,
                Evaluated(
                    bundle=bundle,
                    run=run,
                    outcome=judged.outcome,
                    passed=judged.passed,
                    metrics=figures,
                    reasons=tuple(judged.reasons),
                ),
            )
        )
        outcome = judged.outcome
        if outcome != "passed":
            self.records.append(self._record(run, end, RunFinished(run=run, state=outcome, bundle=bundle)))
            return False
        self.records.append(self._record(run, end, RunFinished(run=run, state="succeeded", bundle=bundle)))
        self.records.append(self._record(bundle, end, Registered(bundle=bundle, run=run)))
        self._release(bundle, end)
        self._champion = self._serve(bundle, challenger, blocks.edges[block + 1], known)
        return True

    def _release(self, bundle: str, end: datetime) -> None:
        """What a canary leaves that finds nothing: with the old rows alone nothing can be said of it."""
        run, key = f"release-{bundle[-12:]}", f"{bundle}-1"
        self.records.append(self._record(run, end, RunStarted(run=run, pipeline="release", bundle=bundle)))
        self.records.append(self._record(key, end, ReleaseStarted(bundle=bundle, run=run)))
        self.records.append(self._record(key, end + MOMENT, Promoted(bundle=bundle, run=run)))
        self.records.append(
            self._record(run, end + MOMENT, RunFinished(run=run, state="succeeded", bundle=bundle, outcome="promoted"))
        )

    def _judge(self, challenger: Challenger, known: Places, decision: Decision) -> Evaluation:
        """The gates, on held-out rows that neither model has read."""
        blocks, served = self._blocks, self._champion
        start = max(challenger.holdout_start, int(np.searchsorted(known, served.trained)))
        unseen = len(known) - start
        if unseen < self._policy.gates.min_rows:  # inconclusive, whatever they say
            start = challenger.holdout_start
        judged_on, table = known[start:], self._table(known[start:])
        attempt, prove = attempt_of(decision.regret.to_dict() if decision.regret else {})
        judge = partial(
            measure,
            self._policy,
            blocks.label[judged_on],
            challenger.score(challenger.judged, table),
            self._champion_scores(judged_on, table),
            table=table,
            earlier_label=blocks.label[known[:start]],
            unseen=unseen,
            attempt=attempt,
            stale=is_stale(self._policy, blocks.time(served.trained - 1), blocks.time(int(known[-1]))),
            prove_decisions=prove,
        )
        judged = judge()
        return judge(agreement=challenger.agreement) if judged.passed else judged  # the second fit is made only then

    def _champion_scores(self, places: Places, table: pa.Table) -> Floats:
        served = self._champion
        if places[0] >= served.first:
            return served.of_places(places)
        return served.challenger.score(served.challenger.final, table)

    def _record(self, key: str, time: datetime, data: Data) -> Record[Data]:
        return Record(model=self._policy.name, key=key, time=time, data=data, written=time)


def _score_type(policy: Policy) -> pa.DataType:
    return pa.list_(pa.float64()) if policy.model.classes else pa.float64()


def _id(number: int) -> str:
    return f"{number:040x}"
