"""Whether a window's rows come from a broken feed: nothing may be learned from them, and nothing is concluded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from kedge import policy as policies
from kedge.drift import Feature
from kedge.policy import Policy
from kedge.records import Breach
from kedge.records.checked import Cause


def breaches(policy: Policy, outside: Mapping[str, float], compared: Mapping[str, Feature]) -> tuple[Breach, ...]:
    """Each limit of ``monitor.quarantine`` that the window breaks; empty: the feed is whole.

    Args:
        policy: Limits, and the range of each feature.
        outside: For each feature the share of the window's rows outside its limits. They are at least
            ``monitor.min_rows``: of a handful, chance alone would break the limits.
        compared: For each feature its comparison with the reference (``Comparison.features``).
    """
    limits = policy.monitor.quarantine
    broken: list[Breach] = []

    def add(column: str, cause: Cause, seen: float, sentence: str) -> None:
        broken.append(Breach(column=column, cause=cause, share=seen, sentence=f"{column}: {share(seen)} {sentence}"))

    for name, seen in compared.items():
        missing, before = seen.null_rate or 0.0, seen.reference_null_rate or 0.0
        if missing - before > limits.max_null_increase:
            allowed = share(limits.max_null_increase)
            add(name, "missing", missing, f"missing, {share(before)} when trained (at most {allowed} more allowed)")
        unknown = seen.new_category_share or 0.0
        if unknown > limits.max_new_category_share:
            allowed = share(limits.max_new_category_share)
            sentence = f"of rows in categories the reference did not know (at most {allowed} allowed)"
            add(name, "new categories", unknown, sentence)
    for name, feature in policy.model.features.items():
        beyond = outside.get(name, 0.0) if name in compared else 0.0
        if beyond > limits.max_out_of_range_share:
            allowed = share(limits.max_out_of_range_share)
            sentence = f"of rows outside {_range(feature)} or infinite (at most {allowed} allowed)"
            add(name, "out of range", beyond, sentence)
    return tuple(broken)


def counted(breaches: Iterable[Breach], before: Iterable[Breach], accepted: Iterable[Breach]) -> tuple[Breach, ...]:
    """The breaches that nobody accepted, each with how many checks in a row saw it at its level.

    Args:
        before: Those of the check before.
        accepted: What a person said changed for good.
    """
    minded = [breach for breach in breaches if not any(known.covers(breach) for known in accepted)]
    earlier = {(breach.column, breach.cause): breach for breach in before}

    def checks(breach: Breach) -> int:
        last = earlier.get((breach.column, breach.cause))
        return 1 + (last.checks if last is not None and breach.lasts(last) else 0)

    return tuple(replace(breach, checks=checks(breach)) for breach in minded)


def question(policy: Policy, breaches: Iterable[Breach]) -> tuple[str, ...]:
    """Whether the feed changed for good, where it has looked the same for long; with the command that says so."""
    lasting = [breach for breach in breaches if breach.checks >= policy.monitor.quarantine.ask_after_checks]
    if not lasting:
        return ()
    columns = ", ".join(dict.fromkeys(breach.column for breach in lasting))
    return (
        f"{columns}: the same in {min(breach.checks for breach in lasting)} checks in a row; did the feed change for "
        f'good? Then `kedge accept {policy.name} --reason "..."` accepts the rows',
    )


def out_of_range(column: pa.ChunkedArray, feature: policies.Feature) -> int:
    """Rows outside the policy's limits, or infinite; missing values are inside.

    >>> out_of_range(pa.chunked_array([[1.0, -1.0, None, float("inf")]]), policies.Feature(type="number", min=0))
    2
    """
    if feature.type == "category" or not len(column):
        return 0
    outside = pc.is_inf(column)
    if feature.min is not None:
        outside = pc.or_(outside, pc.less(column, feature.min))
    if feature.max is not None:
        outside = pc.or_(outside, pc.greater(column, feature.max))
    return int(pc.sum(pc.fill_null(outside, False)).as_py() or 0)


def share(value: float) -> str:
    """A share in words: ``31 %``."""
    return f"{100 * value:.2g} %" if value < 0.995 else "100 %"


def _range(feature: policies.Feature) -> str:
    low = "-inf" if feature.min is None else f"{feature.min:g}"
    high = "inf" if feature.max is None else f"{feature.max:g}"
    return f"{low} to {high}"
