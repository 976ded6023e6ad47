"""``kedge drift``: what changed between a profile and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kedge.drift import Comparison, Feature, Profile
    from kedge.policy import Policy


def register(app: typer.Typer) -> None:
    """Add ``kedge drift``."""
    app.command("drift")(drift)


def drift(
    reference: Annotated[Path, typer.Option(help="Profile written by `kedge profile`.")],
    current: Annotated[str, typer.Option(help="Parquet or CSV file, folder or pattern of them, or Delta table.")],
    policy: Annotated[Path | None, typer.Option(help="Compare its features by its thresholds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with every column to this file.")] = None,
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="False discovery rate over the columns; 0.05.")
    ] = None,
    min_psi: Annotated[float | None, typer.Option(min=0, help="Effect floor: debiased PSI in nats; 0.005.")] = None,
    min_rows: Annotated[int | None, typer.Option(min=1, help="Fewer rows give no verdict; 200.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="More are faster and need up to 50 MB more memory.")] = 1,
) -> None:
    """Compare a table with a reference profile. Exit code 0: compared, drifted or not; 2: a mistake in what was given.

    Example: kedge drift --reference reference.json --current today.parquet --html drift.html
    """
    from dataclasses import replace

    import pyarrow as pa

    from kedge import drift as profiles
    from kedge.drift.compare import MIN_ROWS
    from kedge.progress import watched
    from kedge.tables.columns import named
    from kedge.tables.scan import open_table

    if "jemalloc" in pa.supported_memory_backends():  # with this decay it keeps 15 MB less than Arrow's own choice
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(100)
    known = _read(reference)
    thresholds: dict[str, Any] = {}
    asked, profiled = None, set(known.columns)  # a policy compares its features, and not the target that is there too
    if policy is not None:
        asked, known, thresholds = _by_policy(known, policy, reference)
    given = {"alpha": alpha, "min_psi": min_psi, "min_rows": min_rows}
    thresholds |= {name: value for name, value in given.items() if value is not None}
    table = open_table(current)
    schema = table.schema()
    names = {each: each for each in schema.names} if asked is None else named(asked.model, schema.names)
    columns = [column for column, name in names.items() if name in known.columns]
    rows = watched(table.batches(columns, threads=threads > 1), current)
    batches = (batch.rename_columns([names[each] for each in batch.schema.names]) for batch in rows)
    counted = profiles.count(known, batches, threads=threads)
    new = [each for each in schema if not {each.name, names.get(each.name)} & profiled]
    extra = {column.name: str(column.type) for column in new}
    counted = replace(counted, extra=extra)
    comparison = profiles.compare(known, counted, **thresholds)
    if html is not None:
        from kedge.drift.html_view import drift_page
        from kedge.store.files import write_file

        write_file(html, drift_page(comparison, known, counted, title=f"Drift of {current}").encode())
    typer.echo(_json(comparison) if as_json else _text(comparison, thresholds.get("min_rows", MIN_ROWS)))


def _read(path: Path) -> Profile:
    from kedge.drift import Profile
    from kedge.errors import DataError

    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror}; `kedge profile DATA -o {path}` writes it") from exc
    try:
        return Profile.from_json(raw)
    except DataError as exc:
        raise DataError(f"{path}: {exc}") from exc


def _by_policy(known: Profile, path: Path, reference: Path) -> tuple[Policy, Profile, dict[str, Any]]:
    """The policy, its features of the profile, and its thresholds."""
    from kedge import policy
    from kedge.errors import DataError

    asked = policy.load(path)
    monitor = asked.monitor
    try:
        selected = known.select(list(asked.model.features))
    except DataError as exc:
        raise DataError(f"{reference}: {exc}; profile the table again with --policy {path}") from exc
    drift, least = monitor.drift, monitor.min_rows
    return asked, selected, {"alpha": drift.alpha, "min_psi": drift.min_psi, "min_rows": least}


def _json(comparison: Comparison) -> str:
    import orjson

    return orjson.dumps(comparison.to_dict(), option=orjson.OPT_INDENT_2).decode()


def _text(comparison: Comparison, min_rows: int) -> str:
    rows = f"{comparison.rows:,} rows against {comparison.reference_rows:,}"
    if comparison.verdict == "too few rows":
        return f"too few rows: {rows}, of {min_rows:,} needed; no verdict, which is not the same as no drift"
    lines = [f"{len(comparison.drifted)} of {len(comparison.features)} columns drifted ({rows})"]
    for name in comparison.drifted:
        feature = comparison.features[name]
        sure = "" if feature.q_value is None or feature.verdict == "missing" else f"  q {feature.q_value:.2g}"
        note = f"  ({feature.note})" if feature.note else ""
        lines.append(f"  {name}: {', '.join(_measured(reason, feature) for reason in feature.reasons)}{sure}{note}")
    lines += [
        f"  {pair.first} and {pair.second}: rank correlation {pair.reference_correlation:.2f} to "
        f"{pair.current_correlation:.2f}  q {pair.q_value:.2g}"
        for pair in comparison.pairs
    ]
    skipped = [f"{name} ({f.note})" for name, f in comparison.features.items() if f.verdict == "not comparable"]
    if skipped:
        lines.append(f"  not compared: {', '.join(skipped)}")
    if comparison.extra:
        lines.append(f"  not in the reference: {', '.join(comparison.extra)}")
    return "\n".join(lines)


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
