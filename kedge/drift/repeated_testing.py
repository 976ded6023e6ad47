"""Checks that repeat: a budget of false alarms a month, not a day.

A check an hour at level 0.05 raises 36 false alarms in a quiet month. Three ways to hold a budget over all of them; all
are pure functions of the p-values so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def spread_level(budget: float, checks: int) -> float:
    """Level of each check so that ``checks`` of them raise any false alarm with probability at most ``budget``.

    Bonferroni: budget / checks. Valid however the checks depend on each other, also for sliding windows that share rows
    and for a shared reference; a lasting drift is still found, as its p-value falls with every row.

    >>> spread_level(0.05, 720) < 7e-5
    True
    """
    _check(budget)
    if checks < 1:
        raise ValueError(f"{checks} checks: at least one is needed")
    return budget / checks


def lord_levels(p_values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Levels of a stream of checks that hold the share of false alarms among all alarms (online false discovery rate).

    LORD++: level t spends from a wealth that each alarm refills,
    a_t = g_t w + (alpha - w) g_(t - s_1) + alpha * sum over later alarms j of g_(t - s_j), with w = alpha / 2,
    g_t ~ log(max(t, 2)) / (t exp(sqrt(log t))) summing to 1. In a quiet stream the chance of any alarm ever is at most
    about w. For independent checks: tumbling windows and a reference much larger than they are.

    Args:
        p_values: In the order of the checks.
        alpha: Online false discovery rate.

    Returns:
        The level of each check and, last, of the next one; check t alarms if its p-value is at most its level.

    References:
        A. Javanmard, A. Montanari (2018), Ann. Stat. 46, 526-554; A. Ramdas et al. (2017), NeurIPS 30 (LORD++).
    """
    _check(alpha)
    weights = _lord_weights(len(p_values) + 1)
    wealth = alpha / 2
    alarms: list[int] = []
    levels = []
    for t in range(len(p_values) + 1):
        level = weights[t] * wealth
        for k, alarm in enumerate(alarms):
            level += (alpha - wealth if k == 0 else alpha) * weights[t - alarm - 1]
        levels.append(level)
        if t < len(p_values) and p_values[t] <= level:
            alarms.append(t)
    return levels


def e_process(p_values: Sequence[float]) -> list[float]:
    """Evidence against "no drift in any check so far", check by check; alarm when it reaches 1 / budget.

    The product over checks of the mixture over k of k p^(k - 1), which is (1 - p + p ln p) / (p ln^2 p): each factor
    has mean 1 when p is uniform, so the product is a martingale that ever reaches 1 / budget with probability at most
    budget (Ville). Small drifts add up over checks. For independent checks, like :func:`lord_levels`; restart it when a
    month, or the champion, begins.

    Args:
        p_values: In the order of the checks; each valid given the ones before.

    References:
        V. Vovk, R. Wang (2021), Ann. Stat. 49, 1736-1754; J. Ville (1939), Étude critique de la notion de collectif.

    >>> [round(e, 2) for e in e_process([0.5, 1.0])]
    [0.64, 0.32]
    """
    evidence, log = [], 0.0
    for p in p_values:
        log += math.log(_calibrated(p))
        evidence.append(math.exp(min(log, 700.0)))
    return evidence


def _calibrated(p: float) -> float:
    """Integral over k from 0 to 1 of k p^(k - 1)."""
    if not 0 <= p <= 1:
        raise ValueError(f"p-value {p} must be between 0 and 1")
    p = max(p, 1e-300)
    if p > 0.999:
        return 0.5 + (1 - p) / 6  # the formula's limit, where it loses all digits
    log = math.log(p)
    return (1 - p + p * log) / (p * log * log)


def _lord_weights(count: int) -> list[float]:
    raw = [math.log(max(t, 2)) / (t * math.exp(math.sqrt(math.log(t)))) for t in range(1, count + 1)]
    return [value / LORD_TOTAL for value in raw]


LORD_TOTAL = 12.7
"""No less than the sum of the weights over all t: 7.48 up to 10^7, and beyond, as an integral, 5.17."""


def _check(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"{share} must be between 0 and 1")
