"""What the records of a model say together: who serves, what was tried and brought, what waits. Records are the only
state; this is the only fold of them, and it is pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from kedge.policy import Budget
from kedge.records.checked import ADOPTED, Breach, Champion, Checked, Window
from kedge.records.kinds import (
    Accepted,
    Adopted,
    Approved,
    Data,
    Evaluated,
    Pipeline,
    Promoted,
    Quarantined,
    Registered,
    ReleaseStarted,
    RolledBack,
    RunFinished,
    RunStarted,
)
from kedge.records.quarantined import joined
from kedge.records.record import Record, in_order, of_kind

End: TypeAlias = Record[Promoted] | Record[RolledBack]
"""How a release ended."""
Brought = Literal["promoted", "rejected", "rolled back", "failed", "inconclusive"]

DECIDED = re.compile(r"(\d{8})t(\d{6})-[0-9a-f]{8}")
"""Key of a decision that a check made: the end of its window, and a hash."""
MAX_ATTEMPTS = 3
"""How often a run that failed is submitted for one decision; then the next decision must come. A release is tried on
after that, more rarely: see :meth:`Stalled.next_try`."""
BEFORE_TRAINING = ("ingest", "validate")
"""Steps of a retraining that come before ``train``: a run that failed in one of them trained nothing."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a run."""

    started: Record[RunStarted] | None
    """None: nobody announced it, as a run from the form of Kubeflow Pipelines."""
    finished: Record[RunFinished] | None
    """None: it is under way, or died and left no word."""

    @property
    def failed(self) -> bool:
        """Whether it ended without a verdict on anything."""
        return self.finished is not None and self.finished.data.state == "failed"

    @property
    def refused(self) -> bool:
        """Whether nothing of it ran, as with a Kubeflow that is away."""
        return self.finished is not None and not self.finished.data.submitted

    @property
    def trained_nothing(self) -> bool:
        """Whether what is known of its end shows that its training never began; in doubt it did."""
        step = self.finished.data.step if self.finished is not None else None
        return self.failed and (self.refused or step in BEFORE_TRAINING)

    @property
    def fixable(self) -> bool:
        """Whether it failed by something other than a mistake of its user's."""
        return self.failed and self.finished is not None and self.finished.data.exit_code != 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pipeline run, by its name."""

    name: str
    attempts: tuple[Attempt, ...]
    """In order, at least one."""

    @property
    def newest(self) -> Attempt:
        """Its last attempt."""
        return self.attempts[-1]

    @property
    def pipeline(self) -> Pipeline:
        """What it runs; of one that nobody announced, by its name."""
        started = self.newest.started
        if started is not None:
            return started.data.pipeline
        return "release" if self.name.startswith("release-") else "retrain"

    @property
    def decision_key(self) -> str:
        """Of a retraining: the decision it carries out, or its own name."""
        started = self.newest.started
        return (started.data.decision_key if started is not None else "") or self.name

    @property
    def bundle(self) -> str | None:
        """Of a release: what it releases; of a retraining: what it made."""
        started, finished = self.newest.started, self.newest.finished
        return (started.data.bundle if started else "") or (finished.data.bundle if finished else None)

    @property
    def running(self) -> bool:
        """Whether its newest attempt began and has not said that it ended."""
        return self.newest.started is not None and self.newest.finished is None


@dataclass(frozen=True, kw_only=True)
class Release:
    """One attempt at a release of a bundle; one that was promoted may be rolled back later."""

    key: str
    bundle: str
    started: Record[ReleaseStarted] | None
    promoted: Record[Promoted] | None
    rolled_back: Record[RolledBack] | None

    @property
    def judged(self) -> End | None:
        """What was decided on it last; None: nothing, or it ended without a verdict on the bundle."""
        if self.rolled_back is not None and self.rolled_back.data.condemned:
            return self.rolled_back
        return self.promoted


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A retraining that was decided on by a check, or started by hand."""

    key: str
    time: datetime
    refused: bool = False
    """Decided on by a check, and never submitted: each try was refused, as by a Kubeflow that is away."""
    bundle: str | None = None
    """What it made."""
    brought: Brought | None = None
    """How it ended; None: it has not yet."""
    ended: datetime | None = None
    """When that was known."""


@dataclass(frozen=True, kw_only=True)
class Stalled:
    """A release that failed by something that trying again may mend, such as a cluster without KServe, or one that saw
    too few requests."""

    bundle: str
    run: str
    tries: tuple[datetime, ...]
    """When each began."""
    reason: str
    """Why the last one failed."""
    ended: datetime
    """When the last one ended."""
    not_judged: bool = False
    """It went its way and saw too little for a verdict."""

    def next_try(self, budget: Budget) -> datetime:
        """From when on a check tries it again.

        At once up to ``MAX_ATTEMPTS`` tries, as a fault often passes; then, and where evidence lacked, a cooldown after
        the last one, and never more of them within the budget's period than it allows retrainings. Each costs a run,
        and tells people.
        """
        soonest = self.ended if self.not_judged else self.tries[-1]
        if len(self.tries) >= MAX_ATTEMPTS or self.not_judged:
            soonest += timedelta(seconds=budget.cooldown_seconds)
        if len(self.tries) < budget.max_retrains:
            return soonest
        return max(soonest, self.tries[-budget.max_retrains] + timedelta(seconds=budget.period_seconds))


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """The state of one model, as its records tell it.

    Of the checks it knows those that were handed to it, which need not be all: see ``monitoring.history``.
    """

    champion: Champion | None
    """Who serves; None before the first promotion."""
    lineage: tuple[str, ...]
    """Bundles that served all traffic and were not rolled back, oldest first."""
    checks: tuple[Record[Checked], ...]
    runs: tuple[Run, ...]
    """By their first attempt."""
    releases: tuple[Release, ...]
    """By their first record."""
    retrainings: tuple[Retraining, ...]
    """In time order; a decision and the run it started are one.

    A run by hand that was never submitted, or failed before its step ``train``, is none: it trained nothing, and a
    person says when it is tried again. What a check decided on is one whatever became of it, because a check decides
    anew as soon as nothing holds it back: without a cooldown after it, every check would try what fails every time.
    """
    stalled: Stalled | None
    """The release that was begun last, by a check or by hand, if it failed or ended without a verdict on its bundle.

    Not one whose bundle was rolled back after it was tried, by a test or by a person; nor one that a newer challenger
    has overtaken.
    """
    registered: tuple[Record[Registered], ...]
    evaluations: tuple[Record[Evaluated], ...]
    approvals: tuple[Record[Approved], ...]
    accepted: tuple[Record[Accepted], ...]
    adopted: Record[Adopted] | None
    quarantined: tuple[Window, ...]
    """Times whose rows were found corrupt and not accepted since: joined where they touch, in time order."""

    @classmethod
    def of(cls, records: Iterable[Record[Data]], *, until: datetime | None = None) -> ModelState:
        """Fold the records of one model, in whatever order they come; each counts once.

        Args:
            until: Later records are left out.
        """
        unique = {(item.kind, item.key): item for item in records if until is None or item.time <= until}
        known = in_order(unique.values())
        checks, registered = tuple(of_kind(known, Checked)), tuple(_registered(known))
        champion, lineage = _champion(known)
        runs, releases = tuple(_runs(known)), tuple(_releases(known))
        accepted = tuple(of_kind(known, Accepted))
        return cls(
            champion=champion,
            lineage=lineage,
            checks=checks,
            runs=runs,
            releases=releases,
            retrainings=_retrainings(checks, runs, releases),
            stalled=_stalled(runs, releases, registered),
            registered=registered,
            evaluations=tuple(of_kind(known, Evaluated)),
            approvals=tuple(of_kind(known, Approved)),
            accepted=accepted,
            adopted=next(iter(of_kind(known, Adopted)), None),
            quarantined=_quarantined(known, accepted),
        )

    @property
    def check(self) -> Record[Checked] | None:
        """The newest check."""
        return self.checks[-1] if self.checks else None

    @property
    def champion_bundle(self) -> str | None:
        """The bundle that serves; None: nothing does, or a model that kedge did not train."""
        return self.lineage[-1] if self.lineage else None

    @property
    def previous(self) -> str | None:
        """The bundle that served before the champion, and would again after a rollback."""
        return self.lineage[-2] if len(self.lineage) > 1 else None

    @property
    def challenger(self) -> str | None:
        """The bundle registered last, until it is promoted or rolled back; a later approval makes it one again."""
        bundle = self.registered[-1].data.bundle if self.registered else None
        if bundle is None or bundle in self.lineage or self.rolled_back(bundle) is not None:
            return None
        return bundle

    @property
    def open_release(self) -> Record[ReleaseStarted] | None:
        """The release against who serves that has not ended: the last begun, where one was given up without a word."""
        going = (each.started for each in self.releases if each.promoted is None and each.rolled_back is None)
        against = (item for item in going if item is not None and item.data.previous == self.champion_bundle)
        return max(against, key=lambda item: item.order, default=None)

    @property
    def accepted_breaches(self) -> tuple[Breach, ...]:
        """What a person said changed for good: it quarantines no more."""
        return tuple(breach for item in self.accepted for breach in item.data.breaches)

    @property
    def last_breaches(self) -> tuple[Breach, ...]:
        """Why the newest check that could compare its inputs found the feed corrupt; empty: it did not."""
        compared = (check.data for check in reversed(self.checks) if check.data.inputs.verdict == "compared")
        return next((data.corrupt for data in compared), ())

    @property
    def newest_run(self) -> Attempt | None:
        """The run that was started last."""
        attempts = [attempt for run in self.runs for attempt in run.attempts]
        announced = [attempt for attempt in attempts if attempt.started is not None]
        return max(announced or attempts, key=_order, default=None)

    @property
    def release_to_approve(self) -> str | None:
        """The bundle registered last, unless it was approved, or its release began."""
        bundle = self.registered[-1].data.bundle if self.registered else None
        begun = any(release.bundle == bundle for release in self.releases)
        return None if bundle is None or begun or self.approved(bundle) else bundle

    @property
    def retraining_to_approve(self) -> Record[Checked] | None:
        """The check whose retraining begins when a person approves it, unless a later check no longer asks for it."""
        decided = self._decided
        return decided if decided is not None and self._waits(decided) else None

    def evaluation(self, bundle: str) -> Record[Evaluated] | None:
        """How a bundle was judged last."""
        return next((item for item in reversed(self.evaluations) if item.data.bundle == bundle), None)

    def version(self, bundle: str) -> str | None:
        """A bundle's version in the registry."""
        return next((item.data.version for item in self.registered if item.data.bundle == bundle), None)

    def before(self, bundle: str) -> str | None:
        """The bundle that served before this one; None if there was none."""
        places = [place for place, each in enumerate(self.lineage) if each == bundle and place]
        return self.lineage[places[-1] - 1] if places else None

    def release_attempts(self, bundle: str) -> int:
        """How often a release of the bundle was begun."""
        return sum(release.bundle == bundle and release.started is not None for release in self.releases)

    def last_attempt(self, bundle: str) -> int:
        """Number of the bundle's newest release: the first where the record of its beginning is lost."""
        return max(1, self.release_attempts(bundle))

    def approved(self, key: str) -> bool:
        """Whether a person approved the release of this bundle, or the retraining of this decision."""
        return self.approval(key) is not None

    def approval(self, key: str) -> Record[Approved] | None:
        """The newest approval of a bundle or a decision."""
        whole = (item for item in self.approvals if not item.data.step)
        given = [item for item in whole if key in (item.data.bundle, item.data.decision_key)]
        return given[-1] if given else None

    def step_approved(self, bundle: str, step: str, since: datetime) -> bool:
        """Whether a person approved this step of the bundle's release since it began."""
        given = (item for item in self.approvals if (item.data.bundle, item.data.step) == (bundle, step))
        return any(item.time >= since for item in given)

    def rolled_back(self, bundle: str) -> Record[RolledBack] | None:
        """The bundle's last rollback, if it was found bad then and nobody approved it since."""
        back = [each.rolled_back for each in self.releases if each.bundle == bundle and each.rolled_back is not None]
        given = [item for item in self.approvals if item.data.bundle == bundle and not item.data.step]
        left = (item for item in back if item.data.condemned and not any(_answers(each, item) for each in given))
        return max(left, key=lambda item: item.order, default=None)

    @property
    def budgeted(self) -> tuple[Retraining, ...]:
        """The retrainings that count: not those by hand before any model served, which retrain nothing."""
        promoted = [each.promoted.time for each in self.releases if each.promoted is not None]
        first = min([*promoted, *(each.time for each in self.checks)], default=None)
        return tuple(
            each
            for each in self.retrainings
            if DECIDED.fullmatch(each.key) or (first is not None and each.time >= first)
        )

    def spent(self, budget: Budget, now: datetime) -> int:
        """How many retrainings count towards the budget's period that ends now: those that could begin."""
        since = now - timedelta(seconds=budget.period_seconds)
        return sum(each.time > since and not each.refused for each in self.budgeted)

    def unfinished(self, *, by_hand: bool = False) -> Record[Checked] | None:
        """The newest check that decided to retrain, if what it asked for is not done: to be submitted (again) as it is.

        Not submitted yet, because the process died or nobody answered, unless a later check saw nothing bad, a corrupt
        feed or another champion; under way, perhaps with nobody left to drive it; failed by something that trying again
        may mend, up to ``MAX_ATTEMPTS`` times; passed its gates, and no release was begun, which ``by_hand`` begins
        with an approval. Not one that a person has yet to approve, nor one whose release failed: see ``stalled``.
        """
        decided = self._decided
        if decided is None or self._waits(decided):
            return None
        run = self._run_of(decided)
        if run is None:
            return None if self._overtaken(decided) else decided
        if not _succeeded(run):
            return decided if _again(run) else None
        return decided if self._release_is_due(run.bundle, by_hand) else None

    def awaits_release(self, *, by_hand: bool = False) -> str | None:
        """The bundle of the newest retraining, if it passed its gates and its release is to be begun, or is under way.

        Arguments as for :meth:`unfinished`.
        """
        decided = self._decided
        run = self._run_of(decided) if decided is not None else None
        if run is None or not _succeeded(run) or not self._release_is_due(run.bundle, by_hand):
            return None
        return run.bundle

    @property
    def _decided(self) -> Record[Checked] | None:
        """The newest check that decided to retrain."""
        return next((check for check in reversed(self.checks) if check.data.action == "retrain"), None)

    def _run_of(self, decided: Record[Checked]) -> Run | None:
        of_decision = [run for run in self.runs if run.newest.started and run.decision_key == decided.data.decision_key]
        return of_decision[-1] if of_decision else None

    def _waits(self, decided: Record[Checked]) -> bool:
        """Whether a person has yet to approve what a check decided, and it still asks for it."""
        data = decided.data
        begun = self._run_of(decided) is not None
        return data.approval_wanted and not (begun or self.approved(data.decision_key) or self._overtaken(decided))

    def _overtaken(self, decided: Record[Checked]) -> bool:
        """Whether a later check says something else than that it would retrain, too."""
        later = self.checks[self.checks.index(decided) + 1 :]
        tenure_id = decided.data.champion.tenure_id
        return any(item.data.action != "warn" or item.data.champion.tenure_id != tenure_id for item in later)

    def _release_is_due(self, bundle: str | None, by_hand: bool) -> bool:
        releases = (run for run in self.runs if run.pipeline == "release" and run.bundle == bundle)
        newest = max((run.newest for run in releases if run.newest.started), key=_order, default=None)
        return newest.finished is None if newest is not None else not by_hand


def _answers(approval: Record[Approved], back: Record[RolledBack]) -> bool:
    """Whether an approval was given after a rollback, whatever the clocks of who wrote them said."""
    if approval.data.after_attempt is None:
        return approval.order > back.order
    return approval.data.after_attempt >= max(1, back.data.attempt)


def _champion(known: Sequence[Record[Data]]) -> tuple[Champion | None, tuple[str, ...]]:
    """Who serves, and the bundles that led to it.

    A promotion makes its bundle the champion. Rolling back the champion brings the one before it back; rolling back a
    candidate that never was champion changes nothing. A model that was adopted is the champion until a promotion.
    """
    lineage: list[str] = []
    champion: Champion | None = None
    for adopted in of_kind(known, Adopted):
        champion = Champion(bundle=ADOPTED, since=adopted.time, tenure_id=f"adopted/{adopted.key}")
    turns = _turns(known)
    while turns:
        item = _next_end(turns, lineage)
        match item.data:
            case Promoted(bundle=bundle) if not lineage or lineage[-1] != bundle:
                lineage.append(bundle)
            case RolledBack(bundle=bundle) if len(lineage) > 1 and lineage[-1] == bundle:
                lineage.pop()
            case _:
                continue
        champion = Champion(bundle=lineage[-1], since=item.time, tenure_id=f"{item.kind}/{item.key}")
    return champion, tuple(lineage)


def _turns(known: Sequence[Record[Data]]) -> dict[str, list[End]]:
    """The ends of each bundle's releases, newest first: by attempt, and rolled back after it was promoted."""
    promoted = {item.key: item.order for item in of_kind(known, Promoted)}
    ends: list[End] = [*of_kind(known, Promoted), *of_kind(known, RolledBack)]
    ends.sort(key=lambda item: (item.data.attempt or 1, max(item.order, promoted.get(item.key, item.order)), item.kind))
    turns: dict[str, list[End]] = {}
    for item in reversed(ends):
        turns.setdefault(item.data.bundle, []).append(item)
    return turns


def _next_end(turns: dict[str, list[End]], lineage: Sequence[str]) -> End:
    """Take the end that came next: the first by time of those that can have, for a clock may have been wrong.

    A promotion names the bundle that served before, and only who serves is rolled back from. Where nothing fits, as
    where a record was lost, time alone says it.
    """

    def rank(item: End) -> tuple[bool, tuple[datetime, datetime, int, str]]:
        if isinstance(item.data, Promoted):
            fits = item.data.previous is None or lineage[-1:] == [item.data.previous]
        else:
            fits = item.data.bundle in lineage[-1:] or item.data.bundle not in lineage
        return not fits, item.order

    item = min((ends[-1] for ends in turns.values()), key=rank)
    turns[item.data.bundle].pop()
    if not turns[item.data.bundle]:
        del turns[item.data.bundle]
    return item


def _registered(known: Sequence[Record[Data]]) -> list[Record[Registered]]:
    """By when they were registered: before anything was released of them, whatever a clock said."""
    first: dict[str, Record[Data]] = {}
    for item in known:
        if isinstance(item.data, (Registered, ReleaseStarted, Promoted, RolledBack)):
            first.setdefault(item.data.bundle, item)
    return sorted(of_kind(known, Registered), key=lambda item: first[item.data.bundle].order)


def _runs(known: Sequence[Record[Data]]) -> Iterator[Run]:
    started = {item.key: item for item in of_kind(known, RunStarted)}
    finished = {item.key: item for item in of_kind(known, RunFinished)}
    attempts: dict[str, list[Attempt]] = {}
    for key in dict.fromkeys(item.key for item in known if isinstance(item.data, (RunStarted, RunFinished))):
        begun, ended = started.get(key), finished.get(key)
        name = begun.data.run if begun is not None else ended.data.run if ended is not None else key
        attempts.setdefault(name, []).append(Attempt(started=begun, finished=ended))
    for name, tried in attempts.items():
        yield Run(name=name, attempts=tuple(tried))


def _releases(known: Sequence[Record[Data]]) -> Iterator[Release]:
    started = {item.key: item for item in of_kind(known, ReleaseStarted)}
    promoted = {item.key: item for item in of_kind(known, Promoted)}
    rolled_back = {item.key: item for item in of_kind(known, RolledBack)}
    bundles = {
        item.key: item.data.bundle for item in known if isinstance(item.data, (ReleaseStarted, Promoted, RolledBack))
    }
    for key, bundle in bundles.items():
        yield Release(
            key=key,
            bundle=bundle,
            started=started.get(key),
            promoted=promoted.get(key),
            rolled_back=rolled_back.get(key),
        )


def _retrainings(
    checks: Iterable[Record[Checked]], runs: Iterable[Run], releases: Sequence[Release]
) -> tuple[Retraining, ...]:
    begun = {check.data.decision_key: check.time for check in checks if check.data.action == "retrain"}
    tries: dict[str, list[Attempt]] = {}
    for run in runs:
        if run.pipeline == "retrain" and run.newest.started is not None:
            key = run.decision_key
            counted = [each for each in run.attempts if DECIDED.fullmatch(key) or not each.trained_nothing]
            tries.setdefault(key, []).extend(each for each in counted if each.started is not None)
    for key, attempts in tries.items():
        times = [each.started.time for each in attempts if each.started is not None]
        if times:
            begun[key] = min([*times, *([begun[key]] if key in begun else [])])
    made = [_retraining(key, time, tries.get(key, ()), releases) for key, time in begun.items()]
    return tuple(sorted(made, key=lambda each: (each.time, each.key)))


def _retraining(key: str, time: datetime, attempts: Sequence[Attempt], releases: Iterable[Release]) -> Retraining:
    refused = bool(attempts) and all(each.refused for each in attempts)
    finished = max(attempts, key=_order).finished if attempts else None
    if finished is None:
        return Retraining(key=key, time=time, refused=refused)
    state, bundle = finished.data.state, finished.data.bundle
    if state != "succeeded":
        return Retraining(key=key, time=time, refused=refused, bundle=bundle, brought=state, ended=finished.time)
    judged = [each.judged for each in releases if each.bundle == bundle and each.judged is not None]
    began = min(item.order for each in attempts for item in (each.started, each.finished) if item is not None)
    last = max((item for item in judged if item.order > began), key=lambda item: item.order, default=None)
    if last is None:
        return Retraining(key=key, time=time, bundle=bundle)
    brought: Brought = "promoted" if isinstance(last.data, Promoted) else "rolled back"
    return Retraining(key=key, time=time, bundle=bundle, brought=brought, ended=last.time)


def _stalled(
    runs: Iterable[Run], releases: Iterable[Release], registered: Sequence[Record[Registered]]
) -> Stalled | None:
    begun = [run for run in runs if run.pipeline == "release" and run.newest.started is not None]
    run = max(begun, key=lambda run: _order(run.newest), default=None)
    if run is None or run.bundle is None or not (run.newest.fixable or _unjudged(run.newest)):
        return None
    tries = tuple(each.started.time for each in run.attempts if each.started is not None)
    back = (each.rolled_back for each in releases if each.bundle == run.bundle)
    judged = any(item is not None and item.time >= tries[0] and item.data.condemned for item in back)
    place = next((place for place, item in enumerate(registered) if item.data.bundle == run.bundle), -1)
    if judged or any(item.time >= tries[0] for item in registered[place + 1 :]):
        return None
    finished = run.newest.finished
    reason = (finished.data.reason if finished is not None else None) or "it gave no reason"
    return Stalled(
        bundle=run.bundle, run=run.name, tries=tries, reason=reason, ended=finished.time if finished else tries[-1],
        not_judged=_unjudged(run.newest),
    )  # fmt: skip


def _unjudged(attempt: Attempt) -> bool:
    """Whether a release ended for want of evidence."""
    return attempt.finished is not None and attempt.finished.data.state == "inconclusive"


def _quarantined(known: Sequence[Record[Data]], accepted: Iterable[Record[Accepted]]) -> tuple[Window, ...]:
    marked = {item.data.window for item in of_kind(known, Quarantined)}
    checks = of_kind(known, Checked)
    marked |= {check.data.window for check in checks if check.data.action == "quarantine"}
    return joined(marked - {window for item in accepted for window in item.data.windows})


def _succeeded(run: Run) -> bool:
    return run.newest.finished is not None and run.newest.finished.data.state == "succeeded"


def _again(run: Run) -> bool:
    """Whether to submit a run again: if it lives, that waits for it or does nothing."""
    return run.newest.finished is None or (run.newest.fixable and len(run.attempts) < MAX_ATTEMPTS)


def _order(attempt: Attempt) -> tuple[datetime, datetime, int, str]:
    """Of an attempt by its start, where it was announced."""
    first = attempt.started or attempt.finished
    assert first is not None
    return first.order
