"""Submit a run once, to KFP or to the local runner, and say how it ended. Records are the only state."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from kedge import clock, notify, owner, records, steps
from kedge.doctor import steps as pods
from kedge.doctor.api import Cluster
from kedge.doctor.steps import Trouble
from kedge.errors import RegistryError, RunError, StoreError, UsageError, UserError
from kedge.policy import Policy
from kedge.records import Approved, Data, Pipeline, Record, Registered, RunFinished, RunStarted, RunState
from kedge.records.state import MAX_ATTEMPTS
from kedge.registry import Registry
from kedge.rollout import progress
from kedge.settings import Settings
from kedge.store import Store, open_store
from kedge.store.identity import is_empty
from kedge.submission.compile import PIPELINES, SPECS
from kedge.submission.launch import require_packages, run_local

if TYPE_CHECKING:
    from kedge.submission.endpoint import Endpoint

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
POLL_SECONDS = 1.0
LOOK_SECONDS = 15.0
"""Least time between two looks at the pods of a run."""
SECRETS = "; the Secrets that cluster.secrets names beside the run hold other credentials than the store takes"
KUBEFLOW = "kubeflow"
"""Where the steps of a single-user installation run."""
LOCAL = {name: SPECS / f"{name}.yaml" for name in PIPELINES}
"""What the local runner runs."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended, read from the records."""

    run: str
    state: Literal["running"] | RunState
    """``rejected``: it did its work, and the challenger did not pass; ``inconclusive``: there are too few rows to judge
    it."""
    step: str | None = None
    """Where it ended, if not at the end."""
    reason: str | None = None
    """Why it failed, was rejected or not judged."""
    bundle: str | None = None
    version: str | None = None
    """In the registry."""
    address: str | None = None
    """Of its page in KFP's user interface, if this submission started it there or waited for it."""
    rows_needed: int = 0
    """About so many more held-out rows would make an inconclusive run conclusive; 0 where rows alone do not."""
    exit_code: int = 0
    """Of a failed run: 2 if the user can mend it, else 1."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def raise_if_failed(self) -> None:
        """Raise the failure of a run as the error it was.

        Raises:
            UserError: exit code 2.
            RunError: exit code 1.
        """
        if self.state == "failed":
            kind = UserError if self.exit_code == UserError.exit_code else RunError
            raise kind(f"run {self.run} failed{f' in step {self.step}' if self.step else ''}: {self.reason}")


def submit_retrain(
    settings: Settings,
    policy: Policy,
    *,
    reason: str,
    key: str,
    end: datetime | None = None,
    change_point: datetime | None = None,
    champion_until: datetime | None = None,
    commit: str = "",
    wait: bool = True,
    say: Say = lambda _: None,
) -> RunOutcome:
    """Run the retrain pipeline once for this key.

    A second submission with the key returns how the first one ended, or waits for it. What can be mended by trying
    again is tried again: a run whose process died, a step that was killed, a store or registry that was away.

    Args:
        settings: Addresses; with ``kfp_host`` the run goes there, else to the local runner.
        policy: The whole policy.
        reason: Why, for people.
        key: Idempotency key: letters, digits, ``. _ -``; ``:`` and ``+`` of a time are taken out.
        end: Point in time of the run; default now.
        change_point: Since when the relation is another one; default: not known.
        champion_until: Time of the newest row the champion was trained on; default: not known.
        commit: Of the team's repository, see :func:`kedge.submission.commit.policy_commit`.
        wait: False: return as soon as KFP has the run. The local runner always waits.
        say: Told a line a step.

    Raises:
        RunError: the run could not be submitted, or ended without a verdict.
        UsageError: the key is not a plain name.
        StoreError: the store is empty, though the model was registered from one.
    """
    refuse_emptied(settings, policy)
    name = run_name("retrain", policy.name, key)
    arguments = {
        "store": settings.store,
        "registry": settings.registry,
        "run": name,
        "end": (end or clock.now()).isoformat(),
        "change_point": change_point.isoformat() if change_point is not None else "",
        "champion_until": champion_until.isoformat() if champion_until is not None else "",
    }
    about = {"reason": reason, "decision_key": key, "commit": commit}
    return _Submission(settings, policy, "retrain", name, arguments, about, say).outcome(wait=wait)


def submit_release(
    settings: Settings,
    policy: Policy,
    bundle: str,
    *,
    reason: str = "registered",
    key: str | None = None,
    again: bool = False,
    wait: bool = True,
    say: Say = lambda _: None,
) -> RunOutcome:
    """Run the release pipeline once for this bundle (and key).

    Args:
        settings: Addresses; ``platform`` is where slots and route are declared.
        policy: The whole policy.
        bundle: The bundle's id.
        reason: Why, for people.
        key: To release the same bundle once more, after it was rolled back.
        again: Make one more attempt of a release that failed, however often it was tried.
        wait: As for :func:`submit_retrain`.
        say: Told a line a step.

    Raises:
        UsageError: the bundle is not registered, or the policy asks for an approval it does not have.
        RunError: the run could not be submitted, or ended without a verdict.
    """
    store = open_store(settings.store)
    refuse_unready(store, policy, bundle)
    name = run_name("release", policy.name, bundle[:12] if key is None else f"{bundle[:12]}-{key}")
    arguments = {
        "store": settings.store,
        "registry": settings.registry,
        "platform": settings.platform,
        "bundle": bundle,
        "run": name,
    }
    about = {"reason": reason, "bundle": bundle}
    return _Submission(settings, policy, "release", name, arguments, about, say, again=again).outcome(wait=wait)


def release_passed(
    settings: Settings, policy: Policy, trained: RunOutcome, *, wait: bool = True, say: Say = lambda _: None
) -> list[RunOutcome]:
    """Release what a retraining made if it passed, unless the policy asks for an approval first.

    Returns:
        The outcome of the retraining, and that of the release if there was one.
    """
    if trained.state != "succeeded" or trained.bundle is None:
        return [trained]
    if policy.release.approval == "manual" and not _has(open_store(settings.store), policy, Approved, trained.bundle):
        say(f"bundle {trained.bundle} waits for approval: kedge approve")
        return [trained]
    reason = f"passed its gates in {trained.run}"
    return [trained, submit_release(settings, policy, trained.bundle, reason=reason, wait=wait, say=say)]


def run_name(pipeline: str, model: str, key: str) -> str:
    """The name by which a run is known everywhere.

    >>> run_name("retrain", "fraud", "2026-03-02T00:00:00+00:00")
    'retrain-fraud-2026-03-02T000000-0000'
    """
    plain = key.replace(":", "").replace("+", "-")
    if not KEY.fullmatch(plain):
        raise UsageError(f"key {key!r} must be 1 to 80 letters, digits, dots, dashes or underscores")
    return f"{pipeline}-{model}-{plain}"


def refuse_emptied(settings: Settings, policy: Policy) -> None:
    """Refuse to begin a model anew in an empty store while the registry has bundles of it; StoreError says so."""
    store, registry = open_store(settings.store), Registry(settings.registry)
    if not is_empty(store) or not registry.exists:
        return
    with suppress(RegistryError):  # not every place that submits reaches it
        if registry.versions(policy.name):
            raise StoreError(
                f"store {store.url} is empty, and registry {settings.registry} has bundles of {policy.name}: the "
                "store's volume is not mounted or its address is wrong; if it was emptied on purpose, delete the model "
                "in MLflow too"
            )


def refuse_unready(store: Store, policy: Policy, bundle: str) -> None:
    """Refuse to release what was not registered, or not approved where the policy asks for it.

    Raises:
        UsageError: says what is missing.
    """
    if not _has(store, policy, Registered, bundle):
        raise UsageError(
            f"bundle {bundle} of {policy.name} is not registered; only a challenger that passed its gates is released"
        )
    if policy.release.approval == "manual" and not _has(store, policy, Approved, bundle):
        raise UsageError(f"bundle {bundle} of {policy.name} waits for approval: kedge approve")


def _has(store: Store, policy: Policy, kind: type[Data], bundle: str) -> bool:
    return records.find(store, policy.name, kind, bundle) is not None


@dataclass
class _Submission:
    """One run that is to happen once."""

    settings: Settings
    policy: Policy
    pipeline: Pipeline
    run: str
    arguments: dict[str, Any]
    """The pipeline's parameters but ``policy``."""
    about: Mapping[str, Any]
    say: Say
    again: bool = False
    """Try once more, however often it was tried."""
    address: str | None = None
    """Of the run's page, once it is known."""
    watched: str = ""
    """Where the release was that the last line told of."""
    looked: float = -math.inf
    """When the pods of the run were looked at last."""

    @property
    def model(self) -> str:
        return self.policy.name

    def outcome(self, *, wait: bool) -> RunOutcome:
        """Start the run unless it is under way or ended for good; then say how it ended."""
        if self.settings.kfp_host is None:
            require_packages(self.settings.registry)
        if self.policy.code is not None:
            self._keep_code()
        return replace(self._outcome(wait=wait), address=self.address)

    def _keep_code(self) -> None:
        from kedge.bundle import packages  # needs what a bundle does; most policies bring no code

        given = self.policy.code
        self.policy = packages.publish(open_store(self.settings.store), self.policy)
        if self.policy.code != given:
            self.say(f"code {given} is kept in the store as code: {self.policy.code}")

    def _outcome(self, *, wait: bool) -> RunOutcome:
        store = open_store(self.settings.store)
        while True:
            begun = steps.attempts(store, self.model, self.run)
            found = read_outcome(store, self.model, self.run, begun)
            finished = _finished(store, self.model, begun)
            if found is not None and _for_good(found, self.pipeline):
                return found
            if found is not None and found.state == "running" and not self._died(store, begun[-1]):
                if not wait:
                    return found
                self._watch(store)
                time.sleep(POLL_SECONDS)
            elif found is not None and found.state == "failed" and not self.again and _in_vain(finished):
                return replace(found, reason=f"{found.reason} (tried {len(finished)} times; another key tries anew)")
            elif self._announce(store, len(begun) + 1):
                self.again = False
                return self._start(store, len(begun) + 1, wait)

    def _watch(self, store: Store) -> None:
        """Tell how far a release on the cluster is; the local runner passes the step's own lines on."""
        if self.pipeline != "release" or self.settings.kfp_host is None:
            return
        seen = progress.read(store, self.model)
        if seen is None or seen.bundle != self.arguments["bundle"]:
            return
        place = f"{seen.state} {seen.percent} {seen.held} {seen.time:%H:%M}"
        if place != self.watched:
            self.watched = place
            self.say(progress.words(seen, clock.now()))

    def _announce(self, store: Store, attempt: int) -> bool:
        """Claim an attempt; False if another process was faster."""
        data = RunStarted(
            run=self.run,
            attempt=attempt,
            pipeline=self.pipeline,
            owner=owner.this_process(),
            kfp=self.settings.kfp_host,
            **self.about,
        )
        key = steps.attempt_key(self.run, attempt)
        return records.append(store, Record(model=self.model, key=key, time=clock.now(), data=data))

    def _start(self, store: Store, attempt: int, wait: bool) -> RunOutcome:
        try:
            if self.settings.kfp_host is None:
                arguments = {"policy": self.policy.to_dict(), **self.arguments}
                ended = run_local(LOCAL[self.pipeline], arguments, self.say)
                return self._ended(store, well=ended.well, last_step=ended.last_step, tail=ended.tail)
            name = steps.attempt_key(self.run, attempt)
            host = self.settings.kfp_host
            started = self._endpoint(host).start(self.pipeline, name, self.policy, self.arguments, cached=attempt == 1)
        except BaseException as exc:
            if isinstance(exc, Exception):
                self._failed(store, None, f"not submitted: {exc!s}", submitted=False)
            else:
                self._failed(store, None, "interrupted")  # whatever it was doing: it may have trained
            raise
        self.address = self._page(host, started)
        self.say(f"run {self.run}: started, {self.address}")
        return self._outcome(wait=wait)

    def _died(self, store: Store, begun: Record[RunStarted]) -> bool:
        """Whether an attempt without a finish can have none any more; if so, record that."""
        host = begun.data.kfp
        if host is not None:
            return self._died_on_kfp(store, begun, host)
        if not owner.gone(begun.data.owner):
            return False
        self._failed(store, None, "the process that ran it ended without a word")
        return True

    def _died_on_kfp(self, store: Store, begun: Record[RunStarted], host: str) -> bool:
        found = self._endpoint(host).find(begun.key)
        state = found.state
        if found.id is not None:
            self.address = self._page(host, found.id)
        if state == "missing" and owner.gone(begun.data.owner):
            self._failed(store, None, "its submitter ended before KFP had the run", submitted=False)
            return True
        if state in ("missing", "running"):
            return state == "running" and found.id is not None and self._stuck(store, host, found.id)
        run = found.id or ""
        words = self._pods(lambda cluster, space: pods.last_words(cluster, space, run)) if state == "failed" else None
        if words is None:
            self._ended(store, well=state == "succeeded", last_step=None, tail="")
        else:
            code = UserError.exit_code if steps.PERMANENT.search(words.reason) else 1
            self._failed(store, words.step, f"left no record; {words}{SECRETS if code != 1 else ''}", exit_code=code)
        return True

    def _stuck(self, store: Store, host: str, run: str) -> bool:
        """Whether a step waits for what waiting does not bring; if so, record that, and end the run."""
        if monotonic() < self.looked + LOOK_SECONDS:
            return False
        self.looked = monotonic()
        trouble = self._pods(lambda cluster, space: pods.stuck(cluster, space, run, clock.now()))
        if trouble is None:
            return False
        self._failed(store, trouble.step, f"cannot begin: {trouble}", exit_code=UserError.exit_code)
        with suppress(RunError):  # the record counts; a run that goes on waiting does no harm
            self._endpoint(host).terminate(run)
        return True

    def _pods(self, question: Callable[[Cluster, str], Trouble | None]) -> Trouble | None:
        """What the pods of a run show, where this process may see them; asked with their namespace."""
        from kedge.doctor.client import look

        account = self.settings.release_account or ""
        namespace = self.settings.kfp_namespace or account.rpartition("/")[0] or KUBEFLOW
        return look(lambda cluster: question(cluster, namespace), namespace)

    def _ended(self, store: Store, *, well: bool, last_step: str | None, tail: str) -> RunOutcome:
        """The outcome of an attempt that is over. One that left no verdict is a failure, however green its run is."""
        found = read_outcome(store, self.model, self.run, steps.attempts(store, self.model, self.run))
        if found is not None and found.state != "running":
            return found
        if well:
            reason = "every step that ran succeeded, but the run has no verdict: a branch was skipped"
        else:
            reason = "the step ended without a word; was it killed?" + (f" Its last lines:\n{tail}" if tail else "")
        self._failed(store, last_step, reason)
        found = read_outcome(store, self.model, self.run, steps.attempts(store, self.model, self.run))
        assert found is not None
        return found

    def _page(self, host: str, run_id: str) -> str:
        """The run's page in the user interface."""
        return f"{(self.settings.kfp_ui or host).rstrip('/')}/#/runs/details/{run_id}"

    def _endpoint(self, host: str) -> Endpoint:
        from kedge.submission.endpoint import Endpoint

        settings = self.settings
        return Endpoint(host, image=settings.image, namespace=settings.kfp_namespace, account=settings.release_account)

    def _failed(self, store: Store, last_step: str | None, reason: str, **more: Any) -> None:
        """Record a failure that the run itself could not, and tell those its last step would have told."""
        about: dict[str, Any] = {"step": last_step, "reason": reason, "exit_code": 1, **more}
        first = steps.finish(store, self.model, self.run, "failed", **about)
        if first and self.policy.notify.url_variable is not None:
            self.say(f"notify: {notify.send(self.policy, steps.finalize_run(store, self.model, self.run))}")


def look_after(settings: Settings, policy: Policy, *, say: Say = lambda _: None) -> None:
    """Record the end of runs on KFP that nobody waits for: those that ended without a verdict, or cannot begin.

    Raises:
        RunError: KFP does not answer.
        StoreError: the store does not.
    """
    store = open_store(settings.store)
    for run in records.read_state(store, policy.name).runs:
        begun = run.newest.started
        if begun is not None and run.newest.finished is None and begun.data.kfp is not None:
            about = _Submission(settings, policy, begun.data.pipeline, run.name, {}, {}, say)
            if about._died(store, begun):
                found = read_outcome(store, policy.name, run.name, steps.attempts(store, policy.name, run.name))
                say(f"run {run.name}: failed: {found.reason if found is not None else ''}")


def read_outcome(store: Store, model: str, run: str, begun: list[Record[RunStarted]]) -> RunOutcome | None:
    """How the last attempt of a run stands; None if there was none."""
    if not begun:
        return None
    finished = records.find(store, model, RunFinished, begun[-1].key)
    if finished is None:
        return RunOutcome(run=run, state="running")
    data = finished.data
    return RunOutcome(
        run=run,
        state=data.state,
        step=data.step,
        reason=data.reason,
        bundle=data.bundle,
        version=data.version,
        rows_needed=data.rows_needed,
        exit_code=(data.exit_code or 1) if data.state == "failed" else 0,
    )


def _finished(store: Store, model: str, begun: Sequence[Record[RunStarted]]) -> list[RunFinished]:
    """How the attempts of a run ended, as far as steps of them ran."""
    ended = records.find_each(store, model, RunFinished, [item.key for item in begun])
    return [item.data for item in ended if item.data.submitted]


def _in_vain(finished: Sequence[RunFinished]) -> bool:
    """Whether a run that failed is not tried again: three times is enough, and so is twice by the same fault."""
    failed = [(each.step, each.reason) for each in finished if each.state == "failed"]
    return len(failed) >= MAX_ATTEMPTS or (len(failed) > 1 and failed[-1] == failed[-2] and failed[-1][0] is not None)


def _for_good(found: RunOutcome, pipeline: Pipeline) -> bool:
    """Whether trying again would be no use: it did its work, or failed by a mistake only its user can mend.

    The same rows are as few as they were, but a release that saw too few requests may see more.
    """
    if found.state == "inconclusive":
        return pipeline == "retrain"
    return found.state in ("succeeded", "rejected") or (
        found.state == "failed" and found.exit_code == UserError.exit_code
    )
