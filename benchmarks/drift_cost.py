"""What the drift check costs by the number of columns and of distinct texts. Prints two tables in Markdown.

    python benchmarks/drift_cost.py

CPU milliseconds of one process with one thread, best of several: reading the file included where rows are read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from drift import write

from kedge import drift
from kedge.drift.html_view import drift_page
from kedge.tables.scan import Scan
from kedge.tables.sources import open_table

COLUMNS = (20, 50, 100, 200)
DISTINCT = (100, 1000, 10_000, 100_000, 400_000)


def write_texts(path: Path, rows: int, distinct: int) -> None:
    """One column of texts, all equally frequent."""
    codes = np.random.default_rng(distinct).integers(0, distinct, rows).astype(np.int32)
    names = pa.array([f"value-{k:08d}" for k in range(distinct)])
    pq.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())}), path)


def cpu(action: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """CPU milliseconds, the least of several times, and what came of it."""
    spent = []
    for _ in range(repeat):
        started = time.process_time()
        result = action()
        spent.append(time.process_time() - started)
    return 1000 * min(spent), result


def costs(path: Path, repeat: int) -> list[float]:
    """Profiling, counting on the profile, comparing, and drawing the page."""
    table = Scan(open_table(path))
    names = table.schema().names
    build, known = cpu(lambda: drift.build(table.batches(names, spread=True)), repeat)
    count, counted = cpu(lambda: drift.count(known, table.batches(list(known.columns))), repeat)
    compare, comparison = cpu(lambda: drift.compare(known, counted), repeat)
    page, _ = cpu(lambda: drift_page(comparison, known, counted), repeat)
    return [build, count, compare, page]


def show(head: str, path: Path, sizes: tuple[int, ...], make: Callable[[int], None], repeat: int) -> None:
    """One table: a line a size."""
    print(f"\n| {head} | profile | count on it | compare | page |\n|---|---|---|---|---|")
    make(sizes[0])
    costs(path, 1)  # imports
    for size in sizes:
        make(size)
        print(f"| {size:,} | {' | '.join(f'{spent:,.0f}' for spent in costs(path, repeat))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        print(f"{asked.rows:,} rows, CPU milliseconds, best of {asked.repeat}")
        show("columns", path, COLUMNS, lambda n: write(path, asked.rows, n, 1), asked.repeat)
        rows = 5 * asked.rows
        print(f"\nOne text column, {rows:,} rows")
        show("distinct values", path, DISTINCT, lambda n: write_texts(path, rows, n), asked.repeat)


if __name__ == "__main__":
    main()
