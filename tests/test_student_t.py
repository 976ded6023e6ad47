import pytest
from scipy import stats

from kedge.student_t import quantile, upper_tail


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 19, 99, 999, 10_000])
@pytest.mark.parametrize("t", [0.0, 1e-4, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0, 100.0, -1e-3, -2.5, -40.0])
def test_upper_tail_is_scipys_far_into_the_tail(t, degrees):
    assert upper_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9, abs=1e-250)


@pytest.mark.parametrize("degrees", [1, 3, 9, 50, 999])
@pytest.mark.parametrize("chance", [0.5001, 0.9, 0.975, 0.9999])
def test_quantile_is_scipys(chance, degrees):
    assert quantile(chance, degrees) == pytest.approx(stats.t.ppf(chance, degrees), rel=1e-8)
