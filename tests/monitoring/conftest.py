import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge import policy
from kedge.store import open_store
from kedge.tables import snapshot
from kedge.tables.sources import open_source
from tests.monitoring.world import DAY, RULES, START, World, rows


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A store with one bundle in it, trained on the week before ``START``."""
    from kedge.training import train

    folder = tmp_path_factory.mktemp("trained")
    pq.write_table(
        pa.concat_tables([rows(400, START - n * DAY, 100 + n) for n in range(7, 0, -1)]), folder / "x.parquet"
    )
    asked = policy.parse(
        {**RULES, "data": {**RULES["data"], "source": {"format": "parquet", "location": str(folder / "x.parquet")}}}
    )
    store = open_store(folder / "store")
    table = open_source(asked.data.source, asked.data, store=store, model=asked.model)
    taken = snapshot.take(table, asked, store, end=START)
    return folder / "store", train.run(asked, store, taken.fingerprint).id


@pytest.fixture
def world(tmp_path, trained) -> World:
    shutil.copytree(trained[0], tmp_path / "store")
    made = World(tmp_path, policy.parse(RULES), open_store(tmp_path / "store"), trained[1])
    made.promote(trained[1], START)
    return made
