"""What ``benchmarks/drift.py`` measures, one function a contestant; each runs in its own environment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BINS = 20


def decode(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Bare Arrow decoding into record batches, text dictionary-encoded as the file has it."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    texts = [field.name for field in ParquetFile(current).schema_arrow if field.type == pa.string()]

    def work() -> int:
        batches = ParquetFile(current, read_dictionary=texts).iter_batches(65_536, use_threads=threads > 1)
        return sum(batch.num_rows for batch in batches)

    return work


def decode_plain(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Bare Arrow decoding as it comes."""
    from pyarrow.parquet import ParquetFile

    return lambda: sum(b.num_rows for b in ParquetFile(current).iter_batches(65_536, use_threads=threads > 1))


def kedge(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Count on a stored profile and compare."""
    from kedge import drift
    from kedge.tables.scan import Scan
    from kedge.tables.sources import open_table

    known = drift.Profile.from_json(Path(reference).read_bytes())
    Scan(open_table(current)).schema()

    def work() -> Any:
        batches = Scan(open_table(current)).batches(list(known.columns), threads=threads > 1)
        return drift.compare(known, drift.count(known, batches, threads=threads))

    return work


def kedge_build(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Profile a reference, edges unknown."""
    from kedge import drift
    from kedge.tables.scan import Scan
    from kedge.tables.sources import open_table

    names = Scan(open_table(reference)).schema().names
    return lambda: drift.build(Scan(open_table(reference)).batches(names, spread=True, threads=threads > 1))


def evidently(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Its drift preset, as it comes."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    return lambda: Report([DataDriftPreset()]).run(after, before).dict()


def nannyml(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Kolmogorov-Smirnov and chi-square on one chunk."""
    import nannyml as nml
    import pandas as pd

    before, after = pd.read_parquet(reference), pd.read_parquet(current)

    def work() -> Any:
        calculator = nml.UnivariateDriftCalculator(
            column_names=list(before.columns),
            continuous_methods=["kolmogorov_smirnov"],
            categorical_methods=["chi2"],
            chunk_number=1,
        )
        return calculator.fit(before).calculate(after)

    return work


def frouros(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """PSI of numbers, chi-square of texts."""
    import pandas as pd
    from frouros.detectors.data_drift import PSI, ChiSquareTest

    before, after = pd.read_parquet(reference), pd.read_parquet(current)

    def work() -> None:
        for name in before.columns:
            detector = PSI() if before[name].dtype.kind == "f" else ChiSquareTest()
            detector.fit(X=before[name].to_numpy())
            detector.compare(X=after[name].to_numpy())

    return work


def polars(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Counts in 20 bins on known edges and of texts, the least a drift check needs."""
    import polars as pl

    numbers, texts, edges = _edges(pl.read_parquet(reference))

    def work() -> Any:
        rows = pl.scan_parquet(current)
        plans = [rows.select(pl.col(name).hist(bins=edges[name])) for name in numbers]
        return pl.collect_all(plans + [rows.group_by(name).len() for name in texts], engine="streaming")

    return work


def duckdb(reference: str, current: str, threads: int) -> Callable[[], Any]:
    """Counts in 20 bins on known edges and of texts, the least a drift check needs."""
    import duckdb as db

    connection = db.connect(config={"threads": threads})
    names = connection.sql(f"select * from '{reference}' limit 0")
    numbers = [n for n, kind in zip(names.columns, names.types, strict=True) if str(kind) == "DOUBLE"]
    texts = [name for name in names.columns if name not in numbers]
    shares = [k / BINS for k in range(1, BINS)]
    asked = ", ".join(f"quantile_cont({name}, {shares})" for name in numbers)
    edges = connection.sql(f"select {asked} from '{reference}'").fetchall()[0]
    parts = [f"histogram({name}, {list(at)})" for name, at in zip(numbers, edges, strict=True)]
    query = f"select {', '.join(parts + [f'histogram({name})' for name in texts])} from '{current}'"
    return lambda: connection.sql(query).fetchall()


def _edges(table: Any) -> tuple[list[str], list[str], dict[str, list[float]]]:
    numbers = [name for name in table.columns if table[name].dtype.is_float()]
    texts = [name for name in table.columns if name not in numbers]
    edges = {name: [table[name].quantile(k / BINS) for k in range(BINS + 1)] for name in numbers}
    return numbers, texts, edges


def main() -> None:
    name, reference, current, threads = sys.argv[1:5]
    work = globals()[name](reference, current, int(threads))
    started = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
