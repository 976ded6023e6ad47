import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kedge import policy as policies
from kedge.errors import PolicyError
from kedge.policy import Policy

SMALL: dict[str, Any] = {
    "model": {"name": "fraud", "target": "is_fraud", "features": {"amount": {"type": "number"}}},
    "data": {"source": {"format": "parquet", "location": "rows.parquet"}, "time_column": "at"},
}

TEXT = """\
model:
  name: fraud
  target: is_fraud
  features:
    amount: {type: number, min: 0}
    country:
      type: category
      values: [AT, BE]
data:
  source: {format: parquet, location: rows.parquet}
  time_column: at
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fraud.yaml").write_text(TEXT)
    return tmp_path / "fraud.yaml"


def refused(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PolicyError) as raised:
        policies.load(file)
    assert raised.value.exit_code == 2
    return str(raised.value).replace(str(file), "F")


def changed(path: str, value: Any) -> dict[str, Any]:
    """SMALL with one value put at a dotted path."""
    copy = json.loads(json.dumps(SMALL))
    node = copy
    *way, last = path.split(".")
    for part in way:
        node = node.setdefault(part, {})
    node[last] = value
    return copy


def fault(path: str, value: Any) -> str:
    with pytest.raises(PolicyError) as raised:
        policies.parse(changed(path, value))
    return str(raised.value)


def test_a_small_policy_is_enough_and_has_every_default(file: Path) -> None:
    policy = policies.load(file)
    assert policy.name == "fraud"
    assert list(policy.model.features) == ["amount", "country"]
    assert policy.model.threshold == 0.5
    assert policy.release.steps[-1].percent == 50
    assert policy.monitor.drift.alpha == 0.05
    assert policy.data.source.location == str(file.parent / "rows.parquet")


def test_a_location_is_seen_from_the_policys_folder_unless_it_is_elsewhere(file: Path) -> None:
    for location, expected in (("/data/rows.parquet", "/data/rows.parquet"), ("s3://bank/rows", "s3://bank/rows")):
        file.write_text(TEXT.replace("location: rows.parquet", f"location: {location}"))
        assert policies.load(file).data.source.location == expected
    file.write_text(
        TEXT.replace("{format: parquet, location: rows.parquet}", "{format: sql, location: BANK, query: SELECT 1}")
    )
    assert policies.load(file).data.source.location == "BANK"


def test_the_threshold_is_the_cost_ratio() -> None:
    policy = policies.parse(changed("model.costs", {"false_positive": 1, "false_negative": 4}))
    assert policy.model.threshold == pytest.approx(0.2)  # act from 1 / (1 + 4) on


def test_an_unknown_field_is_named_with_line_likely_spelling_and_those_allowed(file: Path) -> None:
    first, second = refused(file, TEXT.replace("target:", "targt:")).splitlines()
    assert first.startswith("F:3: model.targt: unknown field; did you mean 'target'? allowed here: name, task, target,")
    assert second == "F:1: model.target: missing, and it has no default"  # it follows from the first
    message = refused(file, TEXT.replace("min: 0", "minimum: 0"))
    assert message.startswith("F:5: model.features.amount.minimum: unknown field")
    assert "allowed here: type, min, max, values, nullable" in message


def test_all_faults_are_named_at_once(file: Path) -> None:
    message = refused(file, TEXT.replace("number", "numeric").replace("format: parquet", "format: excel"))
    assert message.splitlines() == [
        "F:5: model.features.amount.type: must be 'number', 'integer', 'boolean' or 'category', got 'numeric'",
        "F:10: data.source.format: must be 'parquet', 'csv', 'delta', 'sql' or 'log', got 'excel'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "name: fraud",
            "name: Fraud!",
            "F:1: model: name 'Fraud!' must be 1 to 40 lower-case letters, digits and dashes",
        ),
        ("target: is_fraud", "target: amount", "F:1: model: target 'amount' is also a feature"),
        (
            "target: is_fraud",
            "target: _score",
            "F:3: model.target: column '_score' must be letters, digits, _ and single spaces",
        ),
        (
            "type: number, min: 0}",
            "type: number, column: country}",
            "F:5: model.features.amount.column: column 'country' is also that of feature 'country': a column is one",
        ),
        (
            "target: is_fraud",
            "target: is_fraud\n  target_column: country",
            "F:1: model: target_column 'country' is also the column of feature 'country'",
        ),
        (
            "type: number, min: 0}",
            "type: number, column: at}",
            "F:11: data.time_column: 'at' is also a feature",
        ),
        ("type: number, min: 0}", "type: number, column: ''}", "F:5: model.features.amount.column: "),
        ("min: 0}", "min: 3, max: 1}", "F:5: model.features.amount: min 3 is above max 1"),
        ("min: 0}", "values: [a]}", "F:5: model.features.amount: values belong to category, not to number"),
        ("[AT, BE]", "[AT, AT]", "F:6: model.features.country: values must be at least one category, each once"),
        ("[AT, BE]", '[AT, ""]', "F:6: model.features.country: values: an empty text is a missing value"),
        ("[AT, BE]", "[AT, 7]", "F:8: model.features.country.values.1: must be a valid string, got 7"),
        ("time_column: at", "time_column: amount", "F:11: data.time_column: 'amount' is also a feature"),
        ("time_column: at", "time_column: at\n  id_column: amount", "F:12: data.id_column: 'amount' is also a feature"),
        ("time_column: at", "time_column: at\n  id_column: is_fraud", "F:12: data.id_column: 'is_fraud' is also the t"),
        ("    country:", "    _country:", "F:6: model.features._country: column '_country' must be letters, digits"),
        (
            "    country:",
            "    Land.Kunde:",
            "F:6: model.features.Land.Kunde: column 'Land.Kunde' must be letters, digits, _ and single spaces, must "
            "not start with _ (reserved for kedge's own columns) and have at most 128 characters",
        ),
        (
            "data:",
            "monitor:\n  min_rows: 20\n  schedule: 61 * * * *\ndata:",
            "F:11: monitor.schedule: minute 61 must be between 0 and 59, got '61 * * * *'",
        ),
        ("  time_column: at\n", "", "F:9: data: give either time_column or row_time"),
        ("min: 0}", "min: .nan}", "F:5: model.features.amount.min: must be a finite number, got nan"),
        ("min: 0}", "min: low}", "F:5: model.features.amount.min: must be a valid number"),
        (
            "{type: number, min: 0}",
            "number",
            "F:5: model.features.amount: must be a valid dictionary or instance of Feature",
        ),
    ],
)
def test_a_broken_rule_is_named_with_file_line_and_field(old: str, new: str, said: str, file: Path) -> None:
    assert old in TEXT
    message = refused(file, TEXT.replace(old, new))
    assert message.replace("F:1: policy", "F: policy").startswith(said), message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("data.max_bad_row_share", 1.5, "policy: data.max_bad_row_share: must be less than or equal to 1, got 1.5"),
        ("data.label_delay_seconds", -1, "data.label_delay_seconds: must be greater than or equal to 0, got -1"),
        ("labels.min_coverage", 1.5, "labels.min_coverage: must be less than or equal to 1, got 1.5"),
        (
            "labels.delay_seconds",
            1e12,
            "labels.delay_seconds: must be less than or equal to 10000000000, got 1000000000000.0",
        ),
        ("labels.delay_second", 5, "labels.delay_second: unknown field; did you mean 'delay_seconds'?"),
        (
            "labels",
            {"delay_seconds": 9, "complete_after_seconds": 3},
            "labels: complete_after_seconds 3 is below delay_seconds 9",
        ),
        ("labels", {"absent_means": "negative"}, "labels: absent_means: negative needs complete_after_seconds"),
        ("train.estimators", [], "train: estimators must be at least one, each once"),
        ("train.holdout_share", 0.9, "train.holdout_share: must be less than or equal to 0.5, got 0.9"),
        ("train.min_rows", 10, "train.min_rows: must be greater than or equal to 50, got 10"),
        ("train.xgboost.depth", 1.5, "train.xgboost.depth: must be a valid integer"),
        ("gates.alpha", 0, "gates.alpha: must be greater than 0, got 0"),
        ("release.steps", [], "release: steps must ascend in percent, at least one; got []"),
        ("release.steps", [{"percent": 50}, {"percent": 5}], "steps must ascend in percent, at least one; got [50, 5]"),
        ("release.steps", [{"percent": 0}], "release.steps.0.percent: must be greater than or equal to 1, got 0"),
        ("release.steps", [{"percnt": 5}], "release.steps.0.percnt: unknown field; did you mean 'percent'?"),
        ("release.approval", "ask", "release.approval: must be 'auto' or 'manual', got 'ask'"),
        ("model.slices", ["amount"], "slice 'amount' must be a category or boolean feature"),
        (
            "model.slices",
            ["branch"],
            "slice 'branch' must be a category or boolean feature, or one of data.extra_colum",
        ),
        ("data.extra_columns", ["_row"], "column '_row' must be letters, digits, _ and single spaces"),
        ("data.extra_columns", ["amount"], "data.extra_columns: 'amount' is also a feature"),
        ("data.extra_columns", ["is_fraud"], "data.extra_columns: 'is_fraud' is also the target"),
        ("data.extra_columns", ["at"], "data.extra_columns: 'at' is also data.time_column"),
        ("data.extra_columns", ["branch", "branch"], "data.extra_columns: 'branch' is given twice"),
        ("data", {"source": {"format": "log"}, "extra_columns": ["b"]}, "the prediction log holds features alone"),
        ("model.features", {}, "model.features: must have at least 1 item after validation, not 0, got {}"),
        ("model.features.x", {"type": "number", "privacy": "bucket"}, "buckets and `privacy: bucket` belong together"),
        (
            "model.features.x",
            {"type": "category", "min": 1},
            "min and max belong to number and integer, not to category",
        ),
        ("model.costs.false_positive", 0, "model.costs.false_positive: must be greater than 0, got 0"),
        ("data.source", {"format": "csv"}, "data.source: a csv source needs a location"),
        ("data.source", {"format": "sql", "location": "DB"}, "query and `format: sql` belong together"),
        (
            "data.source",
            {"format": "sql", "location": "postgresql://bob:hunter2@db/bank", "query": "SELECT 1"},
            "names the environment variable",
        ),
        ("data.source", {"format": "log"}, "the prediction log has its own times"),
        ("data.row_time", {"start": "2026-01-01", "step_seconds": 1}, "give either time_column or row_time"),
        ("data.id_column", "is_fraud", "data.id_column: 'is_fraud' is also the target"),
        ("monitor.min_rows", "many", "monitor.min_rows: must be a valid integer"),
        ("monitor.budgt", {}, "monitor.budgt: unknown field; did you mean 'budget'?"),
        ("monitor.schedule", "hourly", "must be the five fields of cron, such as"),
        ("monitor.schedule", "0 * * *", "must be the five fields of cron, such as"),
        ("data.labels", {"source": {"format": "log"}}, "labels cannot come from the prediction log"),
        ("version", 2, "version: must be 1, got 2"),
    ],
)
def test_each_limit_says_field_seen_and_allowed(path: str, value: Any, said: str) -> None:
    assert said in fault(path, value)


def test_a_long_value_is_shown_short() -> None:
    message = fault("data.max_bad_row_share", "x" * 5000)
    assert len(message) < 250


def test_what_is_no_policy_file_is_named(file: Path, tmp_path: Path) -> None:
    assert refused(file, "") == "F:1: empty; `kedge init TABLE` writes a first policy from a table"
    assert refused(file, "- a\n- b\n") == "F:1: a policy is a mapping of sections, got a list"
    assert refused(file, "just words") == "F:1: a policy is a mapping of sections, got text"
    assert refused(file, "store: {}\nmodels: []\n").startswith("F:2: models: these are values of kedge's chart")
    assert refused(file, "model:\n  name: [\n").startswith("F:3: not valid YAML: ")
    assert refused(file, "model:\n\tname: x\n").startswith("F:2: not valid YAML: ")
    assert refused(file, b"model:\n  name: caf\xe9\n") == "F:2: not UTF-8: byte 0xe9; save the file as UTF-8"
    assert refused(file, "# " + "x" * 1_000_000).startswith("F: 1,000,002 bytes; a policy has at most 1,000,000")
    assert refused(file, "a: \x00\n").startswith("F")
    with pytest.raises(PolicyError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        policies.load(tmp_path / "nowhere.yaml")
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        policies.load(tmp_path)


def test_a_field_given_twice_is_named_with_its_second_line(file: Path) -> None:
    text = TEXT.replace("  target: is_fraud\n", "  target: is_fraud\n  name: other\n")
    assert refused(file, text) == "F:4: 'name' is given twice in one mapping"


def test_yaml_that_makes_no_value_is_named(file: Path) -> None:
    assert refused(file, "model:\n  name: 2026-13-45\n") == (
        "F:2: not valid YAML: '2026-13-45' cannot be read (month must be in 1..12); in quotes it is text"
    )
    assert refused(file, "model:\n  [name]: x\n") == "F:2: a list or a mapping cannot be a field's name"


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "model: !!python/name:os.system x"])
def test_yaml_that_would_run_code_is_refused(text: str, file: Path) -> None:
    assert refused(file, text).endswith(": write the plain value; a policy has no tags")


def test_yaml_that_grows_or_nests_without_end_is_refused_at_once(file: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert refused(file, bomb) == "F:2: alias *a: write the value out; a policy has no aliases"
    assert refused(file, "a:\n  " + "[" * 900_000) == "F:2: nested deeper than 20 levels; no field of a policy is"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cluster.gpus", 1, "unknown field; allowed here: steps, node_selector, tolerations, secrets, volumes"),
        (
            "cluster.steps.trian",
            {},
            "must be 'ingest', 'validate', 'train', 'evaluate', 'register', 'deploy', 'rejected', 'notify' or 'score'",
        ),
        ("cluster.steps.train.memroy", "1Gi", "unknown field; did you mean 'memory'?"),
        ("cluster.steps.train.memory", "8", "must match pattern"),
        ("cluster.steps.train.memory", "0Gi", "must match pattern"),
        ("cluster.steps.train.cpu", 0, "must be greater than or equal to 0.01"),
        ("cluster.steps.train.max_seconds", 0, "must be greater than or equal to 1"),
        ("cluster.node_selector", {"spot": True}, "must be a valid string"),
        ("cluster.node_selector", {"a key": "x"}, "must match pattern"),
        ("cluster.tolerations", [{"key": "batch", "effect": "Never"}], "'NoSchedule', 'PreferNoSchedule' or"),
        ("cluster.secrets", [{"name": "Store", "keys": ["A"]}], "must match pattern"),
        ("cluster.secrets", [{"name": "store", "keys": []}], "must have at least 1 item"),
        ("cluster.secrets", [{"name": "store", "keys": ["A-B"]}], "must match pattern"),
        ("cluster.volumes", [{"claim": "rows", "path": "data"}], "must match pattern"),
    ],
)
def test_what_a_cluster_could_not_run_is_refused_before_it_gets_there(path: str, value: Any, message: str) -> None:
    assert message in fault(path, value)


def unordered(value: Any) -> Any:
    """What KFP's API server does to mappings: their keys come back sorted."""
    if isinstance(value, dict):
        return {key: unordered(value[key]) for key in sorted(value)}
    return [unordered(item) for item in value] if isinstance(value, list) else value


def floated(value: Any) -> Any:
    """What KFP's local runner does to nested integers."""
    if isinstance(value, dict):
        return {key: floated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [floated(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


NUMBERS = {"type": "number", "min": -3, "max": 10**6, "privacy": "bucket", "buckets": [0, 10, 100]}
RICH = {
    "version": 1,
    "model": {
        "name": "fraud",
        "target": "is_fraud",
        "positive_label": "yes",
        "features": {"z": NUMBERS, "a": {"type": "category", "values": ["AT", "BE"]}, "flag": {"type": "boolean"}},
        "slices": ["a"],
        "costs": {"false_negative": 5},
    },
    "data": {
        "source": {"format": "delta", "location": "s3://bank/rows"},
        "row_time": {"start": "1996-05-07T00:00:00+00:00", "step_seconds": 1800},
        "labels": {"source": {"format": "csv", "location": "labels.csv"}},
    },
    "labels": {"delay_seconds": 60, "complete_after_seconds": 3600, "absent_means": "negative"},
    "train": {"xgboost": {"trees": 50, "depth": 3}, "threads": 2, "seed": 7},
    "gates": {"min_rows": 100},
    "release": {"steps": [{"percent": 10, "min_requests": 5}, {"percent": 100}]},
    "monitor": {"triggers": {"new_labels": 500}, "budget": {"max_retrains": 3}},
}


def test_the_label_delay_is_read_where_it_stood_before() -> None:
    before, today = changed("data.label_delay_seconds", 3600), changed("labels.delay_seconds", 3600)
    assert policies.parse(before) == policies.parse(today)
    assert policies.parse(before).hash == policies.parse(today).hash
    assert policies.parse(changed("data.label_delay_seconds", 0)).labels.due_seconds is None  # its default said nothing
    assert Draft202012Validator(policies.schema()).is_valid(before)


def test_a_label_delay_under_both_names_is_refused() -> None:
    both = {**changed("data.label_delay_seconds", 3600), "labels": {"delay_seconds": 3600}}
    with pytest.raises(PolicyError, match=r"data\.label_delay_seconds: is the earlier name of labels\.delay_seconds"):
        policies.parse(both)


def test_rows_are_due_when_no_more_outcomes_come() -> None:
    assert policies.parse(SMALL).labels.due_seconds is None
    assert policies.parse(RICH).labels.due_seconds == 3600
    assert policies.parse(changed("labels.delay_seconds", 0)).labels.due_seconds == 0


def test_a_regression_has_no_negative_class_to_fill_in() -> None:
    value = changed("labels", {"complete_after_seconds": 1, "absent_means": "negative"})
    value["model"] = {**value["model"], "task": "regression"}
    with pytest.raises(PolicyError, match=r"labels\.absent_means: negative belongs to task binary, not to regression"):
        policies.parse(value)


@pytest.mark.parametrize("value", [SMALL, RICH])
def test_a_policy_survives_the_way_through_a_pipeline(value: dict[str, Any]) -> None:
    policy = policies.parse(value)
    carried = json.loads(json.dumps(policy.to_dict()))
    for way in (carried, floated(carried), unordered(carried)):
        back = policies.parse(way)
        assert back == policy
        assert back.hash == policy.hash
        assert list(back.model.features) == list(policy.model.features)


def test_an_integer_positive_label_survives_as_an_integer() -> None:
    for label in (0, 1, 7, True, False, "1", "yes"):
        policy = policies.parse(changed("model.positive_label", label))
        back = policies.parse(floated(json.loads(json.dumps(policy.to_dict()))))
        assert back.model.positive_label == label
        assert type(back.model.positive_label) is type(label)
        assert back.hash == policy.hash


BINARY = "target: is_fraud\n  positive_label: {positive}\n  negative_label: {negative}"


@pytest.mark.parametrize(
    ("positive", "negative", "said"),
    [
        ("fraud", "fraud", "'fraud' is also the positive_label: name the other class, or leave it out"),
        ("1", "true", "True is also the positive_label"),
        ("true", "1", "1 is also the positive_label"),
        ('"yes"', "no", "must be text, in quotes, because positive_label is 'yes', got False"),
        ("1", '"0"', "must be a number, true or false, without quotes, because positive_label is 1, got '0'"),
        ("true", "7", "must be true or false, because positive_label is True, got 7"),
        ("1", "0.5", "must be text, a whole number, true or false, got 0.5"),
        ("1", "[0]", "must be text, a whole number, true or false, got [0]"),
        ("1", "2026-01-01", "must be text, a whole number, true or false, got datetime.date(2026, 1, 1)"),
    ],
)
def test_a_negative_label_that_cannot_be_one_is_named_with_line_and_field(
    positive: str, negative: str, said: str, file: Path
) -> None:
    text = TEXT.replace("target: is_fraud", BINARY.format(positive=positive, negative=negative))
    message = refused(file, text)
    assert message.startswith(f"F:5: model.negative_label: {said}")
    assert len(message.splitlines()) == 1


def test_a_regression_has_no_negative_label(file: Path) -> None:
    text = TEXT.replace("target: is_fraud", "task: regression\n  target: is_fraud\n  negative_label: 0")
    assert refused(file, text) == ("F:5: model.negative_label: belongs to task binary, not to regression: leave it out")


def test_a_fault_of_the_positive_label_is_said_alone(file: Path) -> None:
    message = refused(file, TEXT.replace("target: is_fraud", BINARY.format(positive="[1]", negative="0")))
    assert "model.positive_label" in message
    assert "model.negative_label" not in message


def test_a_misspelt_positive_label_is_said_without_what_follows_from_it(file: Path) -> None:
    text = TEXT.replace("target: is_fraud", BINARY.format(positive='"yes"', negative='"no"'))
    message = refused(file, text.replace("positive_label", "positve_label"))
    assert message.startswith("F:4: model.positve_label: unknown field; did you mean 'positive_label'?")
    assert len(message.splitlines()) == 1
    message = refused(file, text.replace('"yes"', "1").replace("min: 0", "minimum: 0"))
    assert [line.split(":")[1] for line in message.splitlines()] == ["7", "5"]  # the unknown one first, then the other


@pytest.mark.parametrize(("positive", "negative"), [(1, 0), (True, False), (1, False), (0, 1), ("yes", "no"), (5, 7)])
def test_a_negative_label_survives_the_way_through_a_pipeline(positive: Any, negative: Any) -> None:
    value = changed("model.positive_label", positive)
    value["model"]["negative_label"] = negative
    policy = policies.parse(value)
    back = policies.parse(floated(json.loads(json.dumps(policy.to_dict()))))
    assert back == policy
    assert type(back.model.negative_label) is type(negative)
    assert back.hash == policy.hash != policies.parse(changed("model.positive_label", positive)).hash


def test_without_a_negative_label_a_policy_is_the_one_it_was() -> None:
    assert "negative_label" not in policies.parse(SMALL).to_dict()["model"]  # type: ignore[operator]
    assert policies.parse(changed("model.negative_label", None)).hash == policies.parse(SMALL).hash


def test_the_hash_changes_with_what_is_asked_and_with_nothing_else() -> None:
    policy = policies.parse(SMALL)
    assert policy.hash == policies.parse(changed("model.description", "")).hash
    assert policy.hash == policies.parse(changed("train.seed", 0)).hash
    assert policy.hash != policies.parse(changed("train.seed", 1)).hash
    assert len(policy.hash) == 64


def test_the_hash_is_the_same_however_the_names_of_a_mapping_are_ordered() -> None:
    """Helm sorts them, so a policy in a file and the same in its values differ in nothing else."""
    pair = {"b": {"type": "number", "min": 0}, "a": {"type": "integer"}}
    asked = policies.parse(changed("model.features", pair))
    turned = policies.parse(changed("model.features", dict(sorted(pair.items()))))
    assert list(asked.model.features) != list(turned.model.features)
    assert asked.hash == turned.hash
    exchanged = {"a": pair["b"], "b": pair["a"]}
    assert asked.hash != policies.parse(changed("model.features", exchanged)).hash


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([{"type": "number"}], "a list of features needs a `name` in each"),
        (["amount"], "a list of features needs a `name` in each"),
        ([{"name": "a", "type": "number"}] * 2, "a feature is given twice"),
        ([{"name": "a", "type": "number", "mim": 1}], "model.features.a.mim: unknown field; did you mean 'min'?"),
    ],
)
def test_a_broken_list_of_features_is_named(features: Any, said: str) -> None:
    assert said in fault("model.features", features)


def test_a_policy_does_not_change_after_parsing() -> None:
    policy = policies.parse(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        policy.model.name = "other"  # type: ignore[misc]


def test_the_schema_describes_every_field_and_accepts_what_parsing_accepts() -> None:
    schema = policies.schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for value in (SMALL, RICH):
        assert list(validator.iter_errors(value)) == []
    for path, wrong in (("model.nme", 1), ("release.approval", "ask"), ("gates.alpha", 2), ("version", 2)):
        assert list(validator.iter_errors(changed(path, wrong)))
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            named = schema["$defs"].get(field.get("$ref", "").rsplit("/", 1)[-1], {})
            assert field.get("description") or named.get("description"), f"{part['title']}.{name} is not described"


COLUMN_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
FEATURES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["number", "integer"]), "min": st.integers(-9, 0), "max": st.floats(0, 9)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("category"),
            "values": st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3, unique=True),
        }
    ),
    st.fixed_dictionaries({"type": st.just("boolean"), "nullable": st.booleans()}),
)


@settings(deadline=None)  # says nothing of time
@given(st.dictionaries(COLUMN_NAMES, FEATURES, min_size=1, max_size=5), st.integers(50, 10**6), st.floats(0, 1))
def test_any_policy_survives_the_way_through_a_pipeline(features: dict[str, Any], rows: int, share: float) -> None:
    value = changed("train.min_rows", rows)
    value["data"]["max_bad_row_share"] = share
    value["model"] |= {"features": features, "target": "target outcome"}
    value["data"]["time_column"] = "happened at"
    policy: Policy = policies.parse(value)
    assert policies.parse(floated(json.loads(json.dumps(policy.to_dict())))) == policy


def test_a_feature_may_have_the_name_of_a_column_that_is_another_ones(file: Path) -> None:
    """What counts in a table is its columns: `at` is a feature here, and the table's `at` its time."""
    text = TEXT.replace("amount: {type: number,", "at: {type: number, column: Umsatz.netto,")
    file.write_text(text)
    policy = policies.load(file)
    assert policy.model.columns == {"at": "Umsatz.netto", "country": "country", "is_fraud": "is_fraud"}
    assert policies.parse(policy.to_dict()).model == policy.model


@pytest.mark.parametrize(
    "value",
    ["2026-13-45", "0b_", "9" * 5000, "!!int x", "!!timestamp x", "!!python/object:os.system {}", "!own x", '"\\0"'],
)
def test_no_value_of_yaml_ends_in_a_traceback(value: str) -> None:
    with pytest.raises(PolicyError, match=r"^p.yaml:3: "):
        policies.read(f"model:\n  name: m\n  target: {value}\n", "p.yaml")


def test_an_unknown_field_is_named_without_making_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies.Policy, "model_json_schema", None)
    text = (
        "model: {features: {x: {typ: number}}}\nrelease: {steps: [{percnt: 5}]}\ncluster: {steps: {train: {cpus: 1}}}"
    )
    with pytest.raises(PolicyError) as raised:
        policies.read(text, "p.yaml")
    said = str(raised.value)
    assert "p.yaml:1: model.features.x.typ: unknown field; did you mean 'type'? allowed here: type, min, max" in said
    assert "p.yaml:2: release.steps.0.percnt: unknown field; did you mean 'percent'? allowed here: percent" in said
    assert "p.yaml:3: cluster.steps.train.cpus: unknown field; did you mean 'cpu'? allowed here: cpu, memory" in said


@pytest.mark.parametrize(
    ("form", "place"), [("parquet", "hdfs://lake/x"), ("csv", "https://lake/x.csv"), ("delta", "ftp://x")]
)
def test_an_address_that_no_reader_knows_is_refused_with_what_is_known(form: str, place: str) -> None:
    model = "model: {name: m, target: y, features: {x: {type: number}}}"
    text = f"{model}\ndata:\n  source: {{format: {form}, location: {place!r}}}\n  time_column: t\n"
    with pytest.raises(PolicyError) as raised:
        policies.read(text, "p.yaml")
    said = str(raised.value)
    assert said.startswith(f"p.yaml:3: data.source: location {place.partition(':')[0]}:// cannot be read as {form}: ")
    assert "s3://, gs://, az://, abfs://, abfss://" in said
    for known in ("s3://lake/x", "gs://lake/x", "abfss://lake@bank.dfs.core.windows.net/x", "az://lake/x"):
        assert policies.read(text.replace(place, known), "p.yaml").data.source.location == known


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        ({"since": "0001-01-01T00:00:00+14:00"}, "before the year 1"),
        ({"until": "2026-03-29T02:30:00"}, "say where its clock is"),
        ({"hours": [24, 0]}, "are none"),
    ],
)
def test_a_freeze_that_is_no_time_is_refused(freeze: dict[str, Any], words: str) -> None:
    fields = {"name": "m", "target": "y", "features": {"x": {"type": "number"}}}
    policy = {"model": fields, "data": {"source": {"format": "log"}}, "release": {"freeze": [freeze]}}
    with pytest.raises(PolicyError, match=f"release.freeze.0.*{words}"):
        policies.parse(policy)
