"""A team's own feature code: the same in training, evaluation and slot, proven row by row, refused where it is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from kedge import bundle, code
from kedge import policy as policies
from kedge.bundle import packages
from kedge.cli import policy as commands
from kedge.drift import Profile
from kedge.errors import BundleError, CodeNotAllowed, DataError, PolicyError, TransformError, UsageError
from kedge.evaluation import evaluate
from kedge.serving.model import ServedModel
from kedge.serving.rejection import RequestRejected
from kedge.training import train
from tests.training import rows

RATIO = """
from churn.rates import RATES
from .rates import RATES as SAME

def build(frame):
    assert RATES is SAME
    return frame.assign(
        squared=frame.x1 ** 2,
        rate=frame.country.map(RATES),
        home=(frame.country + "/x").fillna("none"),
    ).drop(columns=["x1", "country"])
"""
RATES = 'RATES = {"AT": 0.5, "BE": 1.5}\n'
NUMPY = "import numpy as np\n"


@pytest.fixture(autouse=True)
def _allowed(monkeypatch):
    monkeypatch.setenv("KEDGE_ALLOW_CODE", "1")


def written(folder, features=RATIO, **others):
    """The package ``churn`` in a folder."""
    place = folder / "churn"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__": "", "features": features, "rates": RATES, **others}.items():
        (place / f"{name}.py").write_text(textwrap.dedent(text))
    return place


def asked(folder, path="churn.features:build", estimators=("lightgbm",), **train):
    values = rows.policy(train={"estimators": list(estimators)}).to_dict()
    values["train"] |= train
    return policies.parse({**values, "code": str(folder), "features": {"transform": path}})


def trained(store, folder, policy, table=None):
    snapshot = rows.taken(store, folder, rows.table() if table is None else table, policy)
    made = train.run(packages.publish(store, policy), store, snapshot)
    return bundle.fetch(store, policy.name, made.id, folder / "cache"), snapshot


@pytest.fixture
def usual(tmp_path, store):
    return trained(store, tmp_path, asked(written(tmp_path)))


def learned(folder, features, **table):
    policy = asked(written(folder, features))
    made = rows.table(**table)
    return bundle.transform.learn(policy, made, packages.of(policy), 1000)


def test_the_code_that_trained_is_in_the_bundle_and_serves(usual) -> None:
    made, _ = usual
    files = {name for name in made.manifest.files if name.startswith("code/")}
    assert files == {"code/churn/__init__.py", "code/churn/features.py", "code/churn/rates.py"}
    assert made.manifest.code == made.package.digest
    assert made.signature.model.names == ("x0", "x2", "x3", "recurring", "squared", "rate", "home")
    served = ServedModel(made, made.load_model(), "blue")
    served.warm_up()
    asked_rows = made.golden_rows()
    assert served.score(asked_rows).scores == made.golden.column("_score").to_pylist()
    assert [served.score([row]).scores[0] for row in asked_rows] == made.golden.column("_score").to_pylist()
    assert bundle.golden_difference(made, lambda each: served.score(each).scores) == 0
    assert not served.quick


def test_requests_log_and_profile_know_the_raw_columns_and_derived_ones_are_named_so(usual) -> None:
    made, _ = usual
    raw = {"x0", "x1", "x2", "x3", "country", "recurring"}
    assert set(made.signature.names) == set(made.manifest.importance) == raw
    assert set(Profile.from_json(made.profile()).columns) == {*raw, "_label", "_score"}
    assert made.manifest.importance["x1"] > 0.05  # only through its square
    assert set(made.manifest.transform.importance) == set(made.signature.model.names)
    derived = Profile.from_json((made.folder / "derived.json").read_bytes())
    assert set(derived.columns) == set(made.signature.model.names)
    page = (made.folder / "report.html").read_text()
    assert "<td>squared</td><td>derived</td>" in page
    assert list(made.manifest.permutation.features) == list(made.signature.names)
    served = ServedModel(made, made.load_model(), "blue")
    assert served.derived == ["squared", "rate", "home"]


def test_no_profile_of_derived_columns_where_a_feature_is_private(tmp_path, store) -> None:
    policy = asked(written(tmp_path))
    values = policy.to_dict()
    next(each for each in values["model"]["features"] if each["name"] == "x0")["privacy"] = "drop"
    values["model"]["slices"] = []
    made, _ = trained(store, tmp_path, policies.parse(values))
    assert "derived.json" not in made.manifest.files
    assert made.load_model().score(made.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


def test_evaluation_judges_champion_and_challenger_each_with_its_own_code(tmp_path, store, usual) -> None:
    champion, _ = usual
    other = written(tmp_path / "other", RATIO.replace("** 2", "** 3").replace("squared", "cubed"))
    challenger, _ = trained(store, tmp_path, asked(other))
    assert challenger.id != champion.id
    table = rows.table().append_column("_time", rows.table()["at"])
    newest, label = table.slice(len(table) - evaluate.held_out(challenger)), table["y"].to_numpy().astype(float)
    found = evaluate.judge(asked(other), challenger, champion, newest, label)
    assert found.champion.score.tolist() != found.challenger.score.tolist()


def test_bundles_packages_never_meet_in_a_process(tmp_path) -> None:
    first = code.read(str(written(tmp_path / "one", "VALUE = 1\n")))
    second = code.read(str(written(tmp_path / "two", "VALUE = 2\n")))
    assert [each.attribute("churn.features:VALUE", "test") for each in (first, second, first)] == [1, 2, 1]
    assert "churn" not in sys.modules


@pytest.mark.parametrize(
    "imports", ["import churn.rates as r", "import churn.rates; r = churn.rates", "from churn import rates as r"]
)
def test_absolute_imports_of_the_package_lead_to_itself(tmp_path, imports) -> None:
    package = code.read(str(written(tmp_path, f"def late():\n    {imports}\n    return r.RATES\n")))
    assert package.attribute("churn.features:late", "test")() == {"AT": 0.5, "BE": 1.5}


def test_files_beside_the_code_are_found_by_it(tmp_path) -> None:
    place = written(tmp_path, "from pathlib import Path\nTEXT = (Path(__file__).parent / 'rates.csv').read_text()\n")
    (place / "rates.csv").write_text("AT,0.5")
    assert code.read(str(place)).attribute("churn.features:TEXT", "test") == "AT,0.5"


def test_other_code_under_the_same_policy_is_another_bundle(tmp_path, store, usual) -> None:
    made, snapshot = usual
    policy = asked(written(tmp_path, RATIO + "\n# as before\n"))
    again = train.run(packages.publish(store, policy), store, snapshot)
    assert again.id != made.id
    assert again.manifest.code != made.manifest.code


def test_a_wheel_is_the_same_package(tmp_path, store) -> None:
    folder = written(tmp_path)
    wheel = tmp_path / "churn-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.rglob("*.py"):
            archive.write(path, f"churn/{path.name}")
        archive.writestr("churn-1.0.dist-info/METADATA", "Name: churn")
    assert code.read(str(wheel)).digest == code.read(str(folder)).digest


def test_a_slot_never_runs_code_that_is_not_the_manifests(tmp_path, usual) -> None:
    made, _ = usual
    place = made.folder / "code" / "churn" / "rates.py"
    place.write_text(RATES.replace("0.5", "0.6"))
    with pytest.raises(BundleError, match=r"rates\.py: SHA-256 is .* altered"):
        bundle.open_bundle(made.folder)
    with pytest.raises(BundleError, match="code in it has digest"):  # changed between opening and loading
        made.__class__(made.folder, made.manifest, made.id).signature  # noqa: B018


def test_a_file_that_the_manifest_does_not_list_is_not_run(usual) -> None:
    made, _ = usual
    (made.folder / "code" / "churn" / "rates").mkdir()
    (made.folder / "code" / "churn" / "rates" / "__init__.py").write_text("RATES = {}")
    opened = bundle.open_bundle(made.folder)
    assert opened.load_model().score(opened.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


def test_code_is_refused_where_it_is_not_allowed(tmp_path, store, usual, monkeypatch) -> None:
    made, snapshot = usual
    monkeypatch.delenv("KEDGE_ALLOW_CODE")
    with pytest.raises(CodeNotAllowed, match=r"features\.transform: churn\.features:build: is code .*allowCode"):
        bundle.open_bundle(made.folder).signature  # noqa: B018
    with pytest.raises(CodeNotAllowed, match="churn"):
        train.run(packages.publish(store, asked(written(tmp_path))), store, snapshot)


NOT_ROWWISE = "it looks at other rows; compute it from the row itself"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("frame.assign(x0=frame.x0 - frame.x0.mean())", f"column 'x0' of row 0 .*{NOT_ROWWISE}"),
        ("frame.assign(before=frame.x0.shift())", f"column 'before' of row \\d+ .*{NOT_ROWWISE}"),
        ("frame.assign(seen=frame.groupby('country').x0.transform('count'))", f"column 'seen' .*{NOT_ROWWISE}"),
        ("frame.assign(place=range(len(frame)))", f"column 'place' .*{NOT_ROWWISE}"),
        ("frame.sort_values('x0')", f"column 'x0' .*{NOT_ROWWISE}"),
        ("frame.assign(luck=np.random.rand(len(frame)))", r"column 'luck' of row \d+ is another value each time"),
        ("frame.dropna()", r"gives [\d,]+ rows for 1,500; it must give one for each"),
        ("frame.iloc[:, :0]", "gives no columns"),
        ("frame.to_numpy()", "gives a ndarray; it must give a pandas frame"),
        ("frame.assign(day=np.datetime64('2026-01-01'))", r"column 'day' is of type datetime64\[s\]; give numbers"),
        ("frame.assign(pair=[(1, 2)] * len(frame))", "column 'pair' holds tuple, as in row 0; give numbers or texts"),
        ("frame.assign(mix=[1 if a > 0 else 'no' for a in frame.x0])", "column 'mix' holds int, str"),
        (
            "frame.join(__import__('pandas').get_dummies(frame.country))",
            r"(gives no|also gives) column '(AT|BE|DE)' for row 0; names and",
        ),
        ("frame.assign(ratio=frame.x0 / (frame.recurring - 1))", "column 'ratio' of row .* is infinite; give NaN"),
        ("frame.rename(columns={'x0': '_x'})", "column 0 is called '_x'; a name is text"),
        ("frame.drop(columns=['x9'])", r"raises KeyError \(churn/features\.py, line 3\).*; the frame has .*x0, x1"),
        ("frame.assign(x=[1 / 0 if n == 17 else n for n in range(len(frame))])", r"raises ZeroDivisionError \(churn"),
    ],
)
def test_code_that_hangs_on_more_than_the_row_is_refused_with_row_and_column(tmp_path, body, said) -> None:
    with pytest.raises((TransformError, DataError), match=rf"features\.transform churn\.features:build: {said}"):
        learned(tmp_path, f"{NUMPY}def build(frame):\n    return {body}\n")


@pytest.mark.parametrize("filled", ["fillna(frame.x0.mean())", "ffill()", "clip(upper=frame.x0.nlargest(2).min())"])
def test_code_that_changes_a_few_rows_by_others_is_refused_however_few_they_are(tmp_path, filled) -> None:
    table = rows.table(8000)
    values = table["x0"].to_numpy().copy()
    values[[3001, 5003]] = np.nan, 99.0
    table = table.set_column(table.schema.get_field_index("x0"), "x0", pa.array(values, from_pandas=True))
    policy = asked(written(tmp_path, f"def build(frame):\n    return frame.assign(x0=frame.x0.{filled})\n"))
    with pytest.raises(TransformError, match=rf"column 'x0' of row (3001|5003) .*{NOT_ROWWISE}"):
        bundle.transform.learn(policy, table, packages.of(policy), 1000)


def test_code_that_keeps_something_between_calls_is_refused_by_the_next_process(tmp_path, store, monkeypatch) -> None:
    body = """
        SEEN = {}
        def build(frame):
            return frame.assign(country=[SEEN.setdefault(text, len(SEEN)) for text in frame.country])
        """
    policy = asked(written(tmp_path, body))
    made, snapshot = trained(store, tmp_path, policy)
    for name in [each for each in sys.modules if each.startswith(code.ROOT)]:
        monkeypatch.delitem(sys.modules, name)  # as in the process of the next step
    with pytest.raises(TransformError, match=r"scored otherwise than at training, .* keeps between calls"):
        evaluate.run(policy, store, "r", snapshot, made.id)


def test_the_row_that_the_code_does_not_take_is_named_and_no_value_of_it(tmp_path) -> None:
    table = rows.table()
    place = table.schema.get_field_index("x0")
    values = table["x0"].to_numpy().copy()
    values[1234] = 4711.25
    table = table.set_column(place, "x0", pa.array(values))
    body = """
    def build(frame):
        if (frame.x0 > 4000).any():
            raise ValueError(frame.x0.max())
        return frame
    """
    policy = asked(written(tmp_path, body))
    with pytest.raises(TransformError, match=r"raises ValueError \(churn/features\.py, line 4\) on row 1234") as raised:
        bundle.transform.learn(policy, table, packages.of(policy), 1000)
    assert "4711" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("import holidays_of_mars\n", "needs 'holidays_of_mars', which is not there; build it into the images"),
        ("def build(frame):\n    import holidays_of_mars\n", "needs 'holidays_of_mars', which is not there"),
        ("import churn.gone\n", r"needs 'churn\.gone', which is not there"),
        ("from churn.rates import GONE\n", "cannot be imported: cannot import name 'GONE'"),
        ("def other(frame): return frame\n", r"module 'churn\.features' has no 'build'"),
        ("def build(frame:\n", "cannot be imported: .*never closed"),
        ("raise RuntimeError('secret')\n", r"cannot be imported: RuntimeError \(churn/features\.py, line 1\)"),
        ("import sys\nsys.exit('secret')\n", r"cannot be imported: SystemExit \(churn/features\.py, line 2\)"),
        ("import ctypes\nctypes.CDLL('libmars.so.1')\n", r"needs the library libmars\.so\.1, which is not there"),
        ("def build(frame):\n    raise SystemExit\n", r"raises SystemExit \(churn/features\.py, line 2\) on row 0"),
        ("build = 3\n", "is a int; it must be a function of a pandas frame"),
    ],
)
def test_code_that_cannot_be_imported_is_said(tmp_path, features, said) -> None:
    with pytest.raises((UsageError, TransformError), match=said):
        learned(tmp_path, features)


def test_a_request_on_which_the_code_raises_is_said_without_its_values(tmp_path, store) -> None:
    body = "def build(frame):\n    if (frame.x0 > 900).any():\n        raise ValueError(frame.x0)\n    return frame\n"
    made, _ = trained(store, tmp_path, asked(written(tmp_path, body)))
    served = ServedModel(made, made.load_model(), "blue")
    row = made.golden_rows()[0]
    with pytest.raises(RequestRejected, match=r"raises ValueError \(churn/features\.py, line 3\) on row 1") as raised:
        served.score([row, {**row, "x0": 981.0}])
    assert raised.value.status == 500
    assert "981" not in raised.value.message
    with pytest.raises(RequestRejected, match="feature 'x0': missing") as raised:
        served.score([{name: value for name, value in row.items() if name != "x0"}])
    assert raised.value.status == 400


def test_texts_that_training_never_saw_and_missing_ones_reach_the_code(tmp_path) -> None:
    body = "def build(frame):\n    return frame.assign(length=frame.country.str.len()).drop(columns='country')\n"
    signature, _ = learned(tmp_path, body)
    given = [{**dict.fromkeys(signature.names), "country": text} for text in ("LONGER", None, "")]
    assert signature.encode_rows(given)[:, -1].tolist() == pytest.approx([6, np.nan, np.nan], nan_ok=True)
    assert signature.encode_row(given[0]) == signature.encode_rows(given)[:1].tobytes()


def test_large_numbers_reach_the_code_with_all_their_digits(tmp_path) -> None:
    body = "def build(frame):\n    return frame.assign(x0=frame.x0 % 10)\n"
    signature, _ = learned(tmp_path, body)
    row = {**dict.fromkeys(signature.names), "x0": 1_700_000_007}
    assert np.frombuffer(signature.encode_row(row), np.float32)[0] == 7


def test_a_transformer_learns_before_the_rows_that_judge_and_is_kept(tmp_path, store) -> None:
    features = """
        from sklearn.compose import make_column_transformer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        build = make_column_transformer(
            (StandardScaler(), ["x0", "x1"]),
            (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["country"]),
        )
        """
    made, _ = trained(store, tmp_path, asked(written(tmp_path, features), estimators=["linear"]))
    opened = bundle.open_bundle(made.folder)
    assert "transform.skops" in made.manifest.files
    assert made.manifest.types == ()
    assert opened.signature.transform.fitted.named_transformers_["standardscaler"].n_samples_seen_ == 1200
    assert opened.load_model().score(opened.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


def test_a_transformer_of_the_teams_own_type_is_kept_with_it(tmp_path, store) -> None:
    features = """
        from sklearn.base import BaseEstimator, TransformerMixin

        class Centred(TransformerMixin, BaseEstimator):
            def fit(self, frame, label=None):
                self.mean_ = float(frame.x0.mean())
                return self

            def transform(self, frame):
                return frame.assign(x0=frame.x0 - self.mean_)
        """
    made, _ = trained(store, tmp_path, asked(written(tmp_path, features), "churn.features:Centred"))
    assert len(made.manifest.types) == 1
    assert made.manifest.types[0].endswith(".churn.features.Centred")
    opened = bundle.open_bundle(made.folder)
    assert opened.load_model().score(opened.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


def test_scikit_learns_own_transformer_needs_no_code(tmp_path, store, monkeypatch) -> None:
    monkeypatch.delenv("KEDGE_ALLOW_CODE")
    values = rows.policy(train={"estimators": ["lightgbm"]}).to_dict()
    values["model"]["features"] = [each for each in values["model"]["features"] if each["name"] != "country"]
    values["model"]["slices"] = []
    policy = policies.parse({**values, "features": {"transform": "sklearn.preprocessing:StandardScaler"}})
    made, _ = trained(store, tmp_path, policy)
    assert made.manifest.code is None
    assert made.load_model().score(made.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


def test_an_estimator_of_the_package_travels_with_it(tmp_path, store) -> None:
    model = """
        from sklearn.base import BaseEstimator, ClassifierMixin
        import numpy as np

        class Square(ClassifierMixin, BaseEstimator):
            def fit(self, frame, label):
                self.classes_ = np.array([0, 1])
                return self

            def predict_proba(self, frame):
                chance = 1 / (1 + np.exp(frame["squared"].to_numpy()))
                return np.stack([1 - chance, chance], axis=1)
        """
    made, _ = trained(store, tmp_path, asked(written(tmp_path, model=model), estimators=["churn.model:Square"]))
    opened = bundle.open_bundle(made.folder)
    assert opened.load_model().score(opened.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: (place / "fast.so").write_bytes(b""), r"churn/fast\.so is compiled; install its package"),
        (lambda place: (place / "all.py").symlink_to("/etc/hosts"), r"churn/all\.py is a link"),
        (lambda place: (place / "rows.csv").write_bytes(bytes(20_000_001)), "a bundle carries code, not data"),
        (lambda place: [path.unlink() for path in place.glob("*.py")], "holds no Python file"),
        (lambda place: place.rename(place.with_name("my-churn")), "no such folder or wheel here"),
        (lambda place: (place / "a b.py").write_text(""), "must be plain"),
    ],
)
def test_a_folder_that_is_no_package_is_said(tmp_path, make, said) -> None:
    place = written(tmp_path)
    make(place)
    with pytest.raises(UsageError, match=said):
        code.read(str(place))


def test_hidden_files_and_bytecode_stay_at_home(tmp_path) -> None:
    place = written(tmp_path)
    before = code.read(str(place)).digest
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "features.cpython-311.pyc").write_bytes(b"x")
    (place / ".env").write_text("SECRET=1")
    assert code.read(str(place)).digest == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"features": {"transform": "churn.features"}}, "is no import path such as"),
        ({"features": {"transform": "churn.features:build"}}, "needs `code`: the folder or the wheel"),
        ({"features": {"transfrom": "a:b"}}, "did you mean 'transform'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_policy(more, said) -> None:
    with pytest.raises(PolicyError, match=said):
        policies.parse({**rows.policy().to_dict(), **more})


def test_the_folder_is_seen_from_the_policys_file(tmp_path) -> None:
    values = {**rows.policy().to_dict(), "code": "./churn", "features": {"transform": "churn.features:build"}}
    (tmp_path / "policy.yaml").write_text(json.dumps(values))
    assert policies.load(tmp_path / "policy.yaml").code == str(tmp_path / "churn")


def test_a_run_takes_the_package_from_the_store_by_its_digest(tmp_path, store) -> None:
    policy = packages.publish(store, asked(written(tmp_path)))
    assert policy.code == f"sha256:{code.read(str(tmp_path / 'churn')).digest}"
    assert packages.publish(store, policy) == policy
    gone = policy.model_copy(update={"code": f"sha256:{'0' * 64}"})
    with pytest.raises(UsageError, match="has no such package of fraud; `kedge submit` with the policy"):
        packages.fetch(store, gone)
    other = code.read(str(written(tmp_path / "other", "build = 1\n")))
    store.put(f"code/fraud/{'0' * 64}.zip", other.to_zip())
    with pytest.raises(UsageError, match="altered; put it there anew"):
        packages.fetch(store, gone)


def test_a_monotone_constraint_may_name_a_derived_column(tmp_path) -> None:
    policy = asked(written(tmp_path), monotone={"squared": "decreasing"})
    signature, _ = bundle.transform.learn(policy, rows.table(), packages.of(policy), 1000)
    assert "squared" in signature.model.names
    policy = asked(written(tmp_path), monotone={"sqared": "decreasing"})
    with pytest.raises(TransformError, match=r"gives no column 'sqared', which train\.monotone names"):
        bundle.transform.learn(policy, rows.table(), packages.of(policy), 1000)


def test_a_slot_that_may_not_run_the_code_says_so_and_ends(usual, monkeypatch) -> None:
    made, _ = usual
    monkeypatch.delenv("KEDGE_ALLOW_CODE")
    words = [sys.executable, "-m", "kedge.serving", "--bundle", str(made.folder), "--port", "0"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "error: features.transform: churn.features:build: is code that this installation does not" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_search_tries_the_packages_own_estimators_on_the_derived_columns(tmp_path, store) -> None:
    model = """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.impute import SimpleImputer
        from sklearn.compose import make_column_transformer

        def build():
            return make_pipeline(make_column_transformer((SimpleImputer(), ["squared", "x0"])), LogisticRegression())
        """
    names = ["churn.model:build", "lightgbm"]
    policy = asked(written(tmp_path, model=model), estimators=names, search={"trials": 3, "folds": 2})
    made, _ = trained(store, tmp_path, policy)
    assert made.manifest.estimator in names
    assert made.load_model().score(made.signature.encode(made.golden)).tolist() == made.golden["_score"].to_pylist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"code": "./chrun"}, r"policy\.yaml:1: code: .*chrun: no such folder or wheel here; `kedge submit`"),
        (
            {"features": {"transform": "churn.feature:build"}},
            r"features\.transform: code has no module 'churn\.feature'; it has churn, churn\.features, churn\.rates",
        ),
        ({}, None),
    ],
)
def test_a_check_of_the_policy_looks_for_the_module_and_runs_nothing(tmp_path, monkeypatch, change, said) -> None:
    monkeypatch.delenv("KEDGE_ALLOW_CODE")
    written(tmp_path, "raise SystemExit('was run')\n")
    values = {**rows.policy().to_dict(), "code": "./churn", "features": {"transform": "churn.features:build"}}
    (tmp_path / "policy.yaml").write_text(json.dumps({**values, **change}))
    faults = commands.code_faults(tmp_path / "policy.yaml", policies.load(tmp_path / "policy.yaml"))
    assert len(faults) == (said is not None)
    if said is not None:
        assert re.search(said, faults[0])
