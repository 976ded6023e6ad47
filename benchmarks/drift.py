"""The drift check beside its peers: one generated file, one run, ratios. Prints a table in Markdown.

    python benchmarks/drift.py --peers /tmp/peers --install     peers each in an environment of their own, made with uv
    python benchmarks/drift.py --rows 10000000                   kedge and bare decoding only

Every measurement is a process of its own, best of several, in turns. "compute" begins when the libraries are imported
and the reference is ready, and ends with the verdict; "process" is the whole command from a cold start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
NUMBERS, TEXTS, GROUP = 15, 5, 131_072
PEERS = {
    "evidently": "evidently==0.7.23",
    "nannyml": "nannyml==0.13.1",
    "frouros": "frouros==0.9.0",
    "polars": "polars",
    "duckdb": "duckdb",
}
EXTRAS = {"evidently": ["pandas<3"], "nannyml": ["statsmodels"], "frouros": ["pandas<3", "pyarrow"]}


@dataclass(frozen=True)
class Measured:
    """Seconds and megabytes of one process."""

    compute: float
    process: float
    cpu: float
    peak: float


def write(path: Path, rows: int, columns: int, seed: int) -> None:
    """Three numbers to a text; a normal third each, log-normal and gamma; texts of 3 to 200 values."""
    rng = np.random.default_rng(seed)
    schema = None
    writer = None
    for start in range(0, rows, GROUP):
        count = min(GROUP, rows - start)
        table = pa.table(dict(_columns(rng, count, columns)), schema=schema)
        if writer is None:
            schema = table.schema
            writer = pq.ParquetWriter(path, schema, compression="snappy")
        writer.write_table(table, row_group_size=GROUP)
    if writer is not None:
        writer.close()


def _columns(rng: np.random.Generator, rows: int, columns: int) -> Iterator[tuple[str, pa.Array]]:
    draws = (rng.standard_normal, rng.standard_normal, rng.standard_exponential)
    texts = columns * TEXTS // (NUMBERS + TEXTS)
    for k in range(columns - texts):
        values = draws[k % 3](rows)
        yield f"f{k}", pa.array(np.exp(values) if k % 3 == 1 else values)
    for k in range(texts):
        count = (3, 8, 20, 50, 200)[k % 5]
        shares = 1 / np.arange(1, count + 1)
        codes = np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(rows)).clip(0, count - 1)
        names = pa.array([f"value-{i:04d}" for i in range(count)])
        yield f"s{k}", pa.DictionaryArray.from_arrays(codes.astype(np.int32), names).cast(pa.string())


def run(words: list[str]) -> Measured:
    """One process; a script says its compute time on its last line as JSON."""
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment())
    out = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{words}: ended with status {status}")
    last = out.decode().strip().splitlines()[-1] if out.strip() else ""
    compute = json.loads(last)["seconds"] if last.startswith('{"seconds"') else float("nan")
    return Measured(compute, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "PYTHONWARNINGS": "ignore",
        "DO_NOT_TRACK": "1",
        "NML_DISABLE_USAGE_LOGGING": "1",
    }


def best(found: list[Measured]) -> Measured:
    """The best of each."""
    return Measured(*(min(getattr(m, name) for m in found) for name in ("compute", "process", "cpu", "peak")))


def install(folder: Path) -> None:
    """Each peer in its own environment."""
    for name, package in PEERS.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run(["uv", "venv", "--quiet", folder / name], check=True)
            subprocess.run(
                ["uv", "pip", "install", "--quiet", "--python", python, package, *EXTRAS.get(name, [])], check=True
            )


def contestants(files: Path, peers: Path | None, threads: int) -> dict[str, list[str]]:
    """Name to the command that is measured."""
    own, script = sys.executable, str(HERE / "drift_contestants.py")
    reference, current, profile = (
        str(files / "reference.parquet"),
        str(files / "current.parquet"),
        str(files / "ref.json"),
    )
    drift = ["drift", "--reference", profile, "--current", current, "--threads", str(threads)]
    found = {
        "bare decode, texts as codes": [own, script, "decode", reference, current, str(threads)],
        "bare decode, plain": [own, script, "decode_plain", reference, current, str(threads)],
        "kedge, stored profile": [own, script, "kedge", profile, current, str(threads)],
        "kedge drift (command)": [own, "-m", "kedge.cli", *drift],
        "kedge, profile of the reference": [own, script, "kedge_build", reference, current, str(threads)],
    }
    for name in PEERS if peers else ():
        python = peers / name / "bin" / "python" if peers else Path()
        if python.exists():
            found[name] = [str(python), "-P", script, name, reference, current, str(threads)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=NUMBERS + TEXTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peers", type=Path, help="Folder of the peers' environments.")
    parser.add_argument("--install", action="store_true", help="Make them first, with uv.")
    parser.add_argument("--folder", type=Path, help="Where the files are kept; a temporary folder otherwise.")
    asked = parser.parse_args()
    if asked.peers and asked.install:
        install(asked.peers)
    with tempfile.TemporaryDirectory() as temporary:
        files = asked.folder or Path(temporary)
        for name, seed in (("reference", 1), ("current", 2)):
            if not (files / f"{name}.parquet").exists():
                write(files / f"{name}.parquet", asked.rows, asked.columns, seed)
        profiled = ["-m", "kedge.cli", "profile", str(files / "reference.parquet"), "-o", str(files / "ref.json")]
        subprocess.run([sys.executable, *profiled], check=True, stdout=subprocess.DEVNULL, env=_environment())
        report(contestants(files, asked.peers, asked.threads), asked)


def report(commands: dict[str, list[str]], asked: argparse.Namespace) -> None:
    """Measure in turns and print."""
    found: dict[str, list[Measured]] = {name: [] for name in commands}
    for turn in range(asked.repeat):
        for name, words in commands.items():
            if turn == 0 or found[name][0].process < 20:
                found[name].append(run(words))
    decode = best([measured for name, several in found.items() if name.startswith("bare") for measured in several])
    print(f"\n{asked.rows:,} rows x {asked.columns} columns, threads: {asked.threads}, best of {asked.repeat}\n")
    print("| | compute s | x decode | process s | x decode | CPU s | peak MB |\n|---|---|---|---|---|---|---|")
    for name, measured in found.items():
        m = best(measured)
        compute = f"{m.compute:.3f} | {m.compute / decode.compute:.2f}" if m.compute == m.compute else "– | –"
        print(
            f"| {name} | {compute} | {m.process:.2f} | {m.process / decode.process:.2f} | {m.cpu:.2f} | {m.peak:.0f} |"
        )


if __name__ == "__main__":
    main()
