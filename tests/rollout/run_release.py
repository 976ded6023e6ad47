"""Releases a bundle over a running platform, to be killed: run_release.py ROOT BUNDLE. Prints how it ended."""

import sys
from pathlib import Path

import pyarrow as pa

from kedge import policy as policies
from kedge.rollout.evidence import Observed
from kedge.rollout.local.driver import LocalDriver
from kedge.rollout.release import Release
from kedge.rollout.rollout import run
from kedge.store import open_store

root, bundle = Path(sys.argv[1]), sys.argv[2]


class Golden:
    """As much of a bundle as a release reads."""

    id = bundle
    golden = pa.table({"x": [1.0], "_score": [0.5]})
    size = 2_000_000

    def golden_rows(self):
        return [{"x": 1.0}]


release = Release(
    driver=LocalDriver(root / "platform", "fraud"),
    policy=policies.load(root / "fraud.yaml"),
    store=open_store(root / "store"),
    publish=lambda state: None,
    observe=lambda rollout, spans: [Observed(span=span) for span in spans],
    bundle=Golden(),
)
release.uri = lambda name: str(root / name)
print(run(release).result)
