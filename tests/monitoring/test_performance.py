import numpy as np
import pytest
from scipy import stats

from kedge.monitoring.performance import LARGEST, Mean, Reference, block_mean, chance_of_rise, judge
from kedge.policy import Model
from kedge.policy.monitor import Performance as Limits

MODEL = Model.model_validate({"name": "m", "target": "y", "features": {"x": {"type": "number"}}})
REGRESSION = MODEL.model_copy(update={"task": "regression"})
LIMITS = Limits(alpha=0.01, min_labels=100, min_increase=0.1)


def test_block_mean_of_equal_blocks_is_the_t_interval_of_the_block_means():
    values = np.random.default_rng(1).normal(5, 2, 400)
    means = values.reshape(20, 20).mean(axis=1)
    low, high = stats.t.interval(0.95, 19, loc=means.mean(), scale=stats.sem(means))
    found = block_mean(values)
    assert found.blocks == 20
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(stats.sem(means))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_blocks_of_unequal_size_weigh_by_their_rows():
    # 7 values, 2 blocks of 3 and 4: means 2 and 6, overall 30/7; sum n_b (m_b - m)^2 = 192/7; divided by 7 * 1
    found = block_mean(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0]))
    assert found.value == pytest.approx(30 / 7)
    assert found.error**2 == pytest.approx(192 / 7 / 7)


def test_standard_error_of_dependent_rows_is_larger_than_that_of_shuffled_ones():
    random = np.random.default_rng(2)
    noise = random.normal(size=2000)
    walk = np.zeros(2000)
    for k in range(1, 2000):
        walk[k] = 0.9 * walk[k - 1] + noise[k]
    assert block_mean(walk).error > 2.5 * block_mean(random.permutation(walk)).error  # in theory sqrt(19) = 4.4


def test_false_alarms_on_dependent_rows_stay_near_the_level():
    random = np.random.default_rng(3)
    alarms = plain = 0
    for _ in range(400):
        loss = np.zeros(900)
        noise = random.normal(size=900)
        for k in range(1, 900):
            loss[k] = 0.7 * loss[k - 1] + noise[k]
        loss += 10
        alarms += chance_of_rise(block_mean(loss), 900, Reference(loss=10, rows=10**9)) <= 0.05
        plain += stats.ttest_1samp(loss, 10, alternative="greater").pvalue <= 0.05
    assert alarms / 400 < 0.10
    assert plain / 400 > 0.15  # what a t-test that takes rows as independent does


def test_chance_of_rise_is_students_t_with_the_references_own_error():
    mean = Mean(value=0.6, low=0, high=1, error=0.05, blocks=10)
    expected = stats.t.sf((0.6 - 0.5) / (0.05 * np.sqrt(1 + 100 / 400)), 9)
    assert chance_of_rise(mean, 100, Reference(loss=0.5, rows=400)) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "expected"), [(0.6, 0.0), (0.5, 1.0), (0.4, 1.0)])
def test_rows_without_any_scatter_are_judged_by_their_mean_alone(value, expected):
    mean = Mean(value=value, low=value, high=value, error=0.0, blocks=10)
    assert chance_of_rise(mean, 100, Reference(loss=0.5, rows=400)) == expected


def _served(rows: int, chance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.random.default_rng(seed).random(rows) < chance).astype(float)
    return np.full(rows, 0.3), labels


def test_a_loss_as_when_trained_is_not_worse_and_twice_the_wrong_rows_is():
    reference = Reference(loss=-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)), rows=5000)
    calm = judge(MODEL, *_served(900, 0.3), reference, LIMITS)
    bad = judge(MODEL, *_served(900, 0.6), reference, LIMITS)
    assert (calm.verdict, calm.worse) == ("measured", False)
    assert bad.worse is True
    assert bad.increase == pytest.approx(bad.loss.value / reference.loss - 1)
    assert bad.wrong.value == pytest.approx(0.6, abs=0.05)  # 0.3 is below the threshold: positives are wrong
    assert bad.wrong.low < bad.wrong.value < bad.wrong.high


def test_a_significant_rise_below_the_floor_is_not_worse():
    reference = Reference(loss=-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)), rows=10**6)
    scores, labels = _served(100_000, 0.34)
    found = judge(MODEL, scores, labels, reference, LIMITS)
    assert found.p_value < 1e-6
    assert 0 < found.increase < 0.1
    assert found.worse is False


def test_a_large_rise_that_may_be_chance_is_not_worse():
    random = np.random.default_rng(5)
    labels, scores = np.zeros(100), np.where(random.random(100) < 0.02, 0.99, 0.01)
    scores[50] = 0.99
    found = judge(MODEL, scores, labels, Reference(loss=0.05, rows=1000), LIMITS)
    assert found.increase > 0.1
    assert found.worse is False


def test_too_few_labels_give_no_verdict():
    found = judge(MODEL, *_served(99, 0.9), Reference(loss=0.1, rows=1000), LIMITS)
    assert (found.verdict, found.rows, found.worse, found.loss) == ("too few labels", 99, None, None)


def test_without_a_reference_the_loss_is_measured_and_not_judged():
    found = judge(MODEL, *_served(200, 0.3), None, LIMITS)
    assert found.verdict == "no reference"
    assert found.worse is None
    assert found.loss.value > 0


def test_rows_that_are_not_finite_do_not_count():
    scores, labels = _served(120, 0.3)
    scores[:30] = np.nan
    assert judge(MODEL, scores, labels, Reference(loss=0.5, rows=100), LIMITS).rows == 90


def test_the_same_label_as_before_is_told_beside_the_model():
    labels = np.repeat([0.0, 1.0, 0.0, 1.0], 50)  # changes three times in 199
    found = judge(MODEL, np.full(200, 0.5), labels, Reference(loss=0.7, rows=100), LIMITS)
    assert found.naive_wrong == pytest.approx(3 / 199)


def test_a_regression_is_judged_by_squared_error_and_has_no_wrong_rows():
    labels = np.random.default_rng(6).normal(0, 1, 400)
    found = judge(REGRESSION, np.zeros(400), labels, Reference(loss=0.5, rows=4000), LIMITS)
    assert found.loss.value == pytest.approx(np.mean(labels**2))
    assert found.worse is True
    assert found.wrong is None


def test_any_loss_over_a_reference_of_zero_is_a_rise_that_json_can_hold():
    found = judge(REGRESSION, np.zeros(100), np.ones(100), Reference(loss=0.0, rows=100), LIMITS)
    assert (found.increase, found.worse) == (LARGEST, True)
