"""A comparison in lines, as a terminal shows it."""

from __future__ import annotations

from kedge.drift.compare import Comparison, Feature
from kedge.drift.profile import Profile


def told(comparison: Comparison, current: Profile, min_rows: int) -> str:
    """What drifted, in lines.

    Args:
        current: Profile of the table that was compared.
        min_rows: Rows needed on either side for a verdict.
    """
    rows = f"{comparison.rows:,} rows against {comparison.reference_rows:,}"
    if comparison.verdict == "too few rows":
        return f"too few rows: {rows}, of {min_rows:,} needed; no verdict, which is not the same as no drift"
    lines = [f"{len(comparison.drifted)} of {len(comparison.features)} columns drifted ({rows})"]
    lines += [f"  {name}: {_drifted(comparison.features[name])}" for name in comparison.drifted]
    lines += [
        f"  {pair.first} and {pair.second}: rank correlation {pair.reference_correlation:.2f} to "
        f"{pair.current_correlation:.2f}  q {pair.q_value:.2g}"
        for pair in comparison.pairs
    ]
    skipped = [f"{name} ({f.note})" for name, f in comparison.features.items() if f.verdict == "not comparable"]
    if skipped:
        lines.append(f"  not compared: {', '.join(skipped)}")
    lines += [f"  {line}" for line in unreadable(current)]
    if comparison.extra:
        lines.append(f"  not in the reference: {', '.join(name or repr(name) for name in comparison.extra)}")
    return "\n".join(lines)


def unreadable(profile: Profile) -> list[str]:
    """Lines about the columns of which some values could not be read."""
    return [
        f"{name}: {count:,} values cannot be read as its type and count as missing"
        for name, count in profile.unreadable.items()
    ]


def _drifted(feature: Feature) -> str:
    sure = "" if feature.q_value is None or feature.verdict == "missing" else f"  q {feature.q_value:.2g}"
    note = f"  ({feature.note})" if feature.note else ""
    return f"{', '.join(_measured(reason, feature) for reason in feature.reasons)}{sure}{note}"


def _measured(reason: str, feature: Feature) -> str:
    """A reason, with the figure it rests on."""
    figures = {
        "missing values": (feature.reference_null_rate, feature.null_rate),
        "new categories": (feature.new_category_share,),
        "range": (feature.out_of_range_share,),
        "infinities": (feature.infinite_share,),
    }
    if reason == "distribution" and feature.psi_debiased is not None:
        return f"distribution (PSI {feature.psi_debiased:.4f})"
    shares = [f"{share:.1%}" for share in figures.get(reason, ()) if share is not None]
    return f"{reason} ({' to '.join(shares)})" if shares else reason
