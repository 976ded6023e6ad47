from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.validate.component import validate as component
from kedge import policy as policies
from kedge import steps
from kedge.data import checks, ingest, step, validate
from kedge.errors import DataError
from kedge.policy import Policy
from kedge.store import Store
from kedge.tables import snapshot

END = datetime(2026, 3, 3, tzinfo=UTC)
Change = Callable[[list[dict[str, Any]]], object]


def asked(folder: Path, **data: Any) -> Policy:
    features = {
        "size": {"type": "number", "min": 0, "max": 100, "nullable": False},
        "items": {"type": "integer"},
        "gift": {"type": "boolean"},
        "shop": {"type": "category", "values": ["A", "B"]},
    }
    source = {"format": "csv", "location": str(folder / "rows.csv")}
    return policies.parse(
        {
            "model": {"name": "shop", "target": "sold", "features": features},
            "data": {"source": source, "time_column": "at", "id_column": "id", **data},
        }
    )


def hundred() -> list[dict[str, Any]]:
    """A hundred good rows a minute apart."""
    return [
        {
            "id": f"r{k:02}",
            "at": f"2026-03-02T0{k // 60}:{k % 60:02}:00Z",
            "size": 1 + k / 10,
            "items": k,
            "gift": "true" if k % 3 else "false",
            "shop": "AB"[k % 2],
            "sold": int(k % 4 == 0),
        }
        for k in range(100)
    ]


def lay(folder: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    (folder / "rows.csv").write_text("\n".join([",".join(rows[0]), *lines]) + "\n")


def outcome(folder: Path, store: Store, change: Change, **data: Any) -> str:
    rows = hundred()
    change(rows)
    lay(folder, rows)
    policy = asked(folder, **data)
    return validate.run(policy, store, ingest.run(policy, store, END), folder / "page.html")


def put(**values: Any) -> Change:
    """Row 7 of the file (the seventh after the header) gets these values."""
    return lambda rows: rows[6].update(values)


def test_good_rows_are_their_own_cleaned_snapshot(tmp_path: Path, store: Store) -> None:
    lay(tmp_path, hundred())
    policy = asked(tmp_path)
    name = ingest.run(policy, store, END)
    assert validate.run(policy, store, name) == name
    page = store.get(f"reports/shop/validate-{name}.html").decode()
    assert "Good: every row is what the policy says." in page
    assert len(snapshot.all_of(store, "shop")) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": -1}, "column 'size' must be at least 0, saw -1.0"),
        ({"size": 100.5}, "column 'size' must be at most 100, saw 100.5"),
        ({"size": "inf"}, "column 'size' must be finite, saw inf"),
        ({"size": None}, "column 'size' must be present, saw missing"),
        ({"size": "big"}, "a value cannot be read, saw column 'size': 'big' is not a number"),
        (
            {"size": "1e39"},
            "a value cannot be read, saw column 'size': '1e39' is beyond ±3.4e+38, the range of a model",
        ),
        ({"items": "-1.797e308"}, "a value cannot be read, saw column 'items': '-1.797e308' is beyond ±3.4e+38"),
        (
            {"at": "0001-01-01T00:00:00+14:00"},
            "a value cannot be read, saw column 'at': '0001-01-01T00:00:00+14:00' is",
        ),
        ({"items": 1.5}, "a value cannot be read, saw column 'items': '1.5' is not a whole number"),
        ({"gift": "maybe"}, "a value cannot be read, saw column 'gift': 'maybe' is not true or false"),
        ({"shop": "C"}, "column 'shop' must be one of A, B, saw C"),
        ({"id": "r00"}, "column 'id' must be unique, saw r00"),
        ({"id": None}, "column 'id' must be present, saw missing"),
        ({"at": "soon"}, "a value cannot be read, saw column 'at': 'soon' is not a time such as"),
        ({"at": None}, "a value cannot be read, saw column 'at': the time is missing"),
    ],
)
def test_an_invalid_row_is_left_out_up_to_the_share_and_an_error_above_it(
    values: dict[str, Any], said: str, tmp_path: Path, store: Store
) -> None:
    name = outcome(tmp_path, store, put(**values), max_bad_row_share=0.01)
    kept = snapshot.load(store, "shop", name)
    assert (kept.rows, kept.faults) == (99, 0)
    assert 6.0 not in snapshot.read(store, kept, ["items"])["items"].to_pylist()
    assert "Good, less 1 invalid row left out." in (tmp_path / "page.html").read_text()
    with pytest.raises(DataError) as raised:
        outcome(tmp_path, store, put(**values), max_bad_row_share=0.005)
    message = str(raised.value)
    assert "1 of 100 rows (1.00%) are invalid; data.max_bad_row_share allows 0.50%" in message
    assert said in message
    assert f"first in {tmp_path}/rows.csv, row 7" in message
    assert raised.value.exit_code == 2


def test_a_value_that_could_not_be_read_is_not_called_missing_too(tmp_path: Path, store: Store) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[6]["size"] = "big"
        rows[8]["size"] = None
        rows[9].update(size=None, items="many")

    with pytest.raises(DataError) as raised:
        outcome(tmp_path, store, change, max_bad_row_share=0)
    lines = str(raised.value).splitlines()
    assert lines[1].startswith("  3 of 100 rows (3.00%) are invalid")
    present = [line for line in lines if "must be present" in line]
    assert len(present) == 1
    assert present[0].startswith("  2 rows: column 'size' must be present, saw missing; first in")
    assert ", row 9, " in present[0]


def test_values_that_are_missing_where_they_may_be_are_fine(tmp_path: Path, store: Store) -> None:
    name = outcome(tmp_path, store, put(items=None, gift=None, shop=None), max_bad_row_share=0)
    assert snapshot.load(store, "shop", name).rows == 100


def test_of_duplicate_ids_the_first_in_time_stays(tmp_path: Path, store: Store) -> None:
    name = outcome(tmp_path, store, lambda rows: rows[50].update(id="r10"), max_bad_row_share=0.01)
    items = snapshot.read(store, snapshot.load(store, "shop", name), ["items"])["items"].to_pylist()
    assert 10.0 in items
    assert 50.0 not in items


def test_all_failures_are_named_at_once_and_a_row_counts_once(tmp_path: Path, store: Store) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[3].update(size=-1, shop="C")
        rows[4].update(size=-2)
        rows[5].update(gift="maybe")

    with pytest.raises(DataError) as raised:
        outcome(tmp_path, store, change, max_bad_row_share=0.02)
    lines = str(raised.value).splitlines()
    assert lines[1] == "  3 of 100 rows (3.00%) are invalid; data.max_bad_row_share allows 2.00%"
    assert lines[2].startswith("  2 rows: column 'size' must be at least 0, saw -1.0, -2.0; first in")
    assert len([line for line in lines if line.startswith("  1 row: ")]) == 2
    assert lines[-1].startswith(f"  all of it: {store.url}/reports/shop/validate-")


@pytest.mark.parametrize("column", ["items", "shop", "gift"])
def test_a_column_without_any_value_is_an_error_although_it_may_be_missing(
    column: str, tmp_path: Path, store: Store
) -> None:
    with pytest.raises(DataError, match=f"column '{column}': not one of 100 rows has a value"):
        outcome(tmp_path, store, lambda rows: [row.update({column: None}) for row in rows], max_bad_row_share=1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, r"all 100 good rows are negative; model\.positive_label is 1, the source holds '0' \(100\)"),
        (1, r"all 100 good rows are positive; model\.positive_label is 1, the source holds '1' \(100\)"),
        ("yes", r"all 100 good rows are negative; model\.positive_label is 1, the source holds 'yes' \(100\)"),
    ],
)
def test_one_class_only_is_an_error_that_says_what_was_seen(
    value: Any, said: str, tmp_path: Path, store: Store
) -> None:
    with pytest.raises(DataError, match=f"column 'sold': one class only: {said}"):
        outcome(tmp_path, store, lambda rows: [row.update(sold=value) for row in rows])


def worded(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["sold"] = "yes" if row["sold"] else "no"
    rows[6]["sold"] = "maybe"


def labelled(folder: Path, **labels: str) -> Policy:
    value = asked(folder, max_bad_row_share=0.01).to_dict()
    value["model"] |= labels  # type: ignore[operator]
    return policies.parse(value)


def test_a_label_that_is_neither_is_an_invalid_row(tmp_path: Path, store: Store, capsys) -> None:
    rows = hundred()
    worded(rows)
    lay(tmp_path, rows)
    policy = labelled(tmp_path, positive_label="yes", negative_label="no")
    name = validate.run(policy, store, ingest.run(policy, store, END), tmp_path / "page.html")
    kept = snapshot.read(store, snapshot.load(store, "shop", name), ["sold"])["sold"].to_pylist()
    assert (len(kept), sum(kept)) == (99, 25)
    assert "row 7" in (tmp_path / "page.html").read_text()
    said = capsys.readouterr().out
    assert "count as negative" not in said
    assert "kedge: validate: 1 of 100 rows (1.00%) are invalid: left out" in said
    rows[8]["sold"] = "perhaps"
    lay(tmp_path, rows)
    with pytest.raises(DataError) as raised:
        validate.run(policy, store, ingest.run(policy, store, END))
    message = str(raised.value)
    assert "column 'sold': 'maybe' is neither model.positive_label 'yes' nor model.negative_label 'no'" in message
    assert f"first in {tmp_path}/rows.csv, row 7" in message


def test_without_a_negative_label_more_than_two_labels_are_said_and_trained_on(
    tmp_path: Path, store: Store, capsys
) -> None:
    rows = hundred()
    worded(rows)
    lay(tmp_path, rows)
    policy = labelled(tmp_path, positive_label="yes")
    name = ingest.run(policy, store, END)
    assert validate.run(policy, store, name, tmp_path / "page.html") == name
    note = "column 'sold': 2 different labels count as negative: 'no' (74), 'maybe' (1); model.positive_label is 'yes'"
    assert f"kedge: validate: {note}" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "Is this meant?" in page
    assert "model.negative_label" in page


def test_two_labels_are_nothing_to_ask_about(tmp_path: Path, store: Store, capsys) -> None:
    outcome(tmp_path, store, lambda rows: None)
    assert "count as negative" not in capsys.readouterr().out
    assert "Is this meant?" not in (tmp_path / "page.html").read_text()


def test_one_class_left_after_cleaning_is_an_error(tmp_path: Path, store: Store) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["size"] = -1 if row["sold"] else 1

    with pytest.raises(DataError, match="one class only: all 75 good rows are negative"):
        outcome(tmp_path, store, change, max_bad_row_share=0.5)


@pytest.mark.parametrize("outcome", ["inf", "many", "1e39"])
def test_an_outcome_of_a_regression_that_is_no_finite_number_is_invalid_and_not_unlabelled(
    outcome: str, tmp_path: Path, store: Store
) -> None:
    rows = hundred()
    rows[6]["sold"], rows[7]["sold"] = outcome, None
    lay(tmp_path, rows)
    for share, refused in ((0.02, False), (0, True)):
        value = asked(tmp_path, max_bad_row_share=share).to_dict()
        value["model"]["task"] = "regression"  # type: ignore[index]
        policy = policies.parse(value)
        taken = ingest.run(policy, store, END)
        if refused:
            with pytest.raises(DataError, match=r"1 of 99 rows \(1.01%\) are invalid"):
                validate.run(policy, store, taken)
        else:
            assert snapshot.load(store, "shop", validate.run(policy, store, taken)).rows == 98


def test_the_page_is_written_also_when_the_rows_are_refused_and_escapes_what_it_shows(
    tmp_path: Path, store: Store
) -> None:
    with pytest.raises(DataError):
        outcome(tmp_path, store, put(shop="<script>alert(1)</script>"), max_bad_row_share=0)
    page = (tmp_path / "page.html").read_text()
    assert "Refused: nothing is trained on these rows." in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "row 7" in page


def test_the_page_shows_some_invalid_rows_and_counts_the_rest(tmp_path: Path, store: Store) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows += [row | {"id": f"x{k}", "size": -1} for k in range(250) for row in [rows[k % 100]]]

    with pytest.raises(DataError):
        outcome(tmp_path, store, change)
    assert "and 50 more" in (tmp_path / "page.html").read_text()


def test_checking_is_pure_and_says_which_rows(tmp_path: Path, store: Store) -> None:
    rows = hundred()
    rows[2]["size"], rows[8]["size"], rows[8]["shop"] = -1, 200, "Z"
    lay(tmp_path, rows)
    policy = asked(tmp_path)
    taken = snapshot.load(store, "shop", ingest.run(policy, store, END))
    findings = checks.check(snapshot.read(store, taken, provenance=True), policy.model)
    assert findings.invalid.tolist() == [2, 8]
    assert findings.share == 0.02
    assert {(failure.column, failure.rule): failure.rows.tolist() for failure in findings.failures} == {
        ("size", "at least 0"): [2],
        ("size", "at most 100"): [8],
        ("shop", "one of A, B"): [8],
    }
    assert validate.refusal(findings, policy) == [
        "2 of 100 rows (2.00%) are invalid; data.max_bad_row_share allows 1.00%"
    ]


def test_the_step_hands_on_the_cleaned_fingerprint_and_its_page(tmp_path: Path, store: Store) -> None:
    rows = hundred()
    rows[6]["size"] = -1
    lay(tmp_path, rows)
    policy = asked(tmp_path)
    taken = ingest.run(policy, store, END)
    kept, page = (SimpleNamespace(path=str(tmp_path / "out" / name), metadata={}) for name in ("rows", "page"))
    name = component.python_func(policy.to_dict(), store.url, taken, kept, page)
    assert name != taken
    assert snapshot.load(store, "shop", name).parent == taken
    assert kept.metadata == {"fingerprint": name, "rows": 99}
    assert Path(page.path).read_text().startswith("<!doctype html>")


def test_a_step_that_refuses_leaves_its_reason_and_no_cleaned_snapshot(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDGE_PIPELINE_RUN", "7c1e")
    rows = hundred()
    for row in rows[:10]:
        row["size"] = -1
    lay(tmp_path, rows)
    policy = asked(tmp_path)
    taken = ingest.run(policy, store, END)
    kept, page = (SimpleNamespace(path=str(tmp_path / "out" / name), metadata={}) for name in ("rows", "page"))
    with pytest.raises(DataError):
        step.validate(policy.to_dict(), store.url, taken, kept, page)
    left = steps.finalize_run(store, "shop", "run-1")  # as the last task of the run does
    assert (left.data.step, left.data.state, left.data.exit_code) == ("validate", "failed", 2)
    assert "10 of 100 rows (10.00%) are invalid" in left.data.reason
    assert len(snapshot.all_of(store, "shop")) == 1
    assert not Path(kept.path).exists()


def test_rows_without_an_outcome_are_not_labelled_yet_and_never_invalid(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for k in (3, 50, 97):
            rows[k]["sold"] = None
        rows[50]["size"] = "big"  # nothing is asked of a row that nothing is learned from

    name = outcome(tmp_path, store, change, max_bad_row_share=0)
    kept = snapshot.load(store, "shop", name)
    assert (kept.rows, kept.faults) == (97, 0)
    assert "3 of 100 rows (3.00%) have no outcome yet: not labelled, left out" in capsys.readouterr().out
    assert "Good, less 3 not labelled yet left out." in (tmp_path / "page.html").read_text()


def test_a_few_of_many_allowed_categories_are_named(tmp_path: Path, store: Store) -> None:
    rows = hundred()
    lay(tmp_path, rows)
    policy = asked(tmp_path, max_bad_row_share=0)
    shop = policy.model.features["shop"].model_copy(update={"values": tuple(f"S{k}" for k in range(300))})
    model = policy.model.model_copy(update={"features": policy.model.features | {"shop": shop}})
    many = policy.model_copy(update={"model": model})
    with pytest.raises(DataError, match=r"must be one of S0, S1, .*S19 and 280 more, saw A, B"):
        validate.run(many, store, ingest.run(many, store, END))


def test_a_private_value_is_on_no_page_and_in_no_error(tmp_path: Path, store: Store) -> None:
    rows = hundred()
    rows[6]["size"] = "4242424242"
    rows[7]["size"] = "secret-17"
    rows[8]["shop"] = "Hidden"
    lay(tmp_path, rows)
    policy = asked(tmp_path, max_bad_row_share=0)
    private = {
        name: each.model_copy(update={"privacy": "hash"}) if name in ("size", "shop") else each
        for name, each in policy.model.features.items()
    }
    policy = policy.model_copy(update={"model": policy.model.model_copy(update={"features": private})})
    with pytest.raises(DataError) as raised:
        validate.run(policy, store, ingest.run(policy, store, END), tmp_path / "page.html")
    for text in (str(raised.value), (tmp_path / "page.html").read_text()):
        assert not [word for word in ("4242424242", "secret-17", "Hidden") if word in text]
    assert "column 'size' must be at most 100, saw a value (privacy: hash)" in str(raised.value)
    assert "column 'size': a private value is not a number" in str(raised.value)


def test_rows_are_checked_alike_however_many_are_looked_at_a_time(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = hundred()
    for index in (40, 70, 71):
        rows[index]["id"] = rows[3]["id"]
    rows[50]["size"], rows[90]["size"], rows[95]["shop"] = -1, 200, "Z"
    lay(tmp_path, rows)
    policy = asked(tmp_path)
    taken = snapshot.load(store, "shop", ingest.run(policy, store, END))
    whole = checks.check(snapshot.read(store, taken, provenance=True), policy.model)
    assert whole.invalid.tolist() == [40, 50, 70, 71, 90, 95]
    monkeypatch.setattr(snapshot, "SLICE_ROWS", 7)
    repeats = checks.repeated_ids(lambda: snapshot.blocks(store, taken), policy.model)
    assert repeats.tolist() == [40, 70, 71]
    checker = checks.Checker(policy.model, repeats)
    for block in snapshot.blocks(store, taken, provenance=True):
        assert block.num_rows <= 7
        checker.add(block)
    parts = checker.findings({})
    for one, other in zip(whole.failures, parts.failures, strict=True):
        assert (one.column, one.rule, one.rows.tolist(), one.seen) == (
            other.column,
            other.rule,
            other.rows.tolist(),
            other.seen,
        )
    assert (whole.shown, whole.missing, whole.faults) == (parts.shown, parts.missing, parts.faults)
