from __future__ import annotations

import json
import shlex
from pathlib import Path

from kedge import policy as policies
from kedge.rollout.local import example
from kedge.serving import v1
from kedge.store import open_store
from tests.rollout.published import published

RULES = {
    "model": {"name": "fraud", "target": "y", "positive_label": "it's", "features": {"x": {"type": "number"}}},
    "data": {"source": {"format": "log"}},
}


def test_the_printed_commands_ask_for_a_golden_row_and_label_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    bundle = published(store, policies.parse(RULES), tmp_path)
    folder = Path(store.uri(f"bundles/fraud/{bundle}"))
    predict, label = (
        shlex.split(line) for line in example.commands(folder, "http://127.0.0.1:1", "http://127.0.0.1:2")
    )
    assert predict[2] == "http://127.0.0.1:1/v1/models/fraud:predict"
    assert v1.read(predict[-1].encode(), ["x"])
    assert f"ce-id: {example.ID}" in predict
    body = json.loads(label[-1])
    assert (body["model"], body["labels"][0]["id"], body["labels"][0]["label"]) == ("fraud", example.ID, "it's")
    (folder / "input_example.json").unlink()
    assert example.commands(folder, "", "") == []
