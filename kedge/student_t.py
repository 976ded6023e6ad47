"""Student's t. Importing it from scipy would take longer than a whole check."""

from __future__ import annotations

import functools
import math

SMALLEST = 1e-300
CLOSE = 1e-15
MAX_TERMS = 10_000


def upper_tail(t: float, degrees: float) -> float:
    """Chance that Student's t with so many degrees of freedom is above ``t``.

    Half of the regularised incomplete beta function I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + t²).

    >>> upper_tail(0.0, 5)
    0.5
    >>> round(upper_tail(2.015, 5), 4)
    0.05
    """
    if t < 0:
        return 1 - upper_tail(-t, degrees)
    square = t * t
    return 0.5 * _incomplete_beta(degrees / (degrees + square), square / (degrees + square), degrees / 2, 0.5)


@functools.cache  # a check asks for a few, many times
def quantile(chance: float, degrees: float) -> float:
    """The t above which lies 1 - ``chance``, for chances of 0.5 and more below 1; by bisection.

    >>> round(quantile(0.975, 10), 3)
    2.228
    """
    low, high = 0.0, 1.0
    while upper_tail(high, degrees) > 1 - chance:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if upper_tail(middle, degrees) > 1 - chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """I_x(a, b) with ``rest`` = 1 - x, by its continued fraction (NIST Digital Library of Mathematical Functions,
    8.17.22), which is quick where x < (a + 1) / (a + b + 2); elsewhere by I_x(a, b) = 1 - I_(1 - x)(b, a)."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(rest, x, b, a)
    front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) / a * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))); with 1 added, from the front (W. J. Lentz, Applied Optics 15, 1976)."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(MAX_TERMS):
        m = term // 2
        if term == 0:
            step = 1.0
        elif term % 2:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _apart(1 + step * d)
        c = _apart(1 + step / c)
        value *= c * d
        if abs(c * d - 1) < CLOSE:
            break
    return value - 1


def _apart(value: float) -> float:
    return value if abs(value) > SMALLEST else SMALLEST
