"""The demo's clock waits for a release's looks, however busy the machine is."""

from datetime import timedelta
from pathlib import Path

from kedge.demo.loop import Loop
from kedge.demo.payments import START
from kedge.demo.processes import Addresses
from kedge.policy import load
from kedge.rollout import progress
from kedge.rollout.local.folder import Folder
from kedge.rollout.model import Rollout, Route


class SlowRelease:
    """A release under way that looks at its evidence once in so many polls."""

    def __init__(self, loop, rollout, polls):
        self.looks, self._loop, self._rollout, self._polls, self._asked = 0, loop, rollout, polls, 0

    @property
    def running(self):
        self._asked += 1
        if self._asked % self._polls == 0:
            self.looks += 1
            seen = progress.of(self._loop.policy, self._rollout, self._loop._now)
            progress.write(self._loop.store, self._loop.policy.name, seen)
        return True


def test_a_slice_of_traffic_goes_on_after_a_look_at_the_one_before(tmp_path):
    policy = load(Path("kedge/demo/payments.yaml"))
    loop = Loop(
        policy=policy,
        policy_file=Path("kedge/demo/payments.yaml"),
        folder=tmp_path,
        addresses=Addresses(gateway="http://127.0.0.1:1", collector="http://127.0.0.1:1"),
        variables={},
        frozen=lambda rows: [0.5] * rows.num_rows,
        say=lambda line: None,
    )
    about = {"bundle": "b", "uri": "u", "slot": "green", "champion": "a", "attempt": 1, "run": "r"}
    rollout = Rollout(**about, started=START, since=START, state="canary")
    Folder(tmp_path / "store" / "platform").swap_route(policy.name, Route(weights={"blue": 80}, rollout=rollout))
    loop._task = release = SlowRelease(loop, rollout, polls=3)
    for number in range(1, 4):
        loop._set_clock(START + timedelta(hours=number))
        loop._let_it_train()
        assert release.looks == number
