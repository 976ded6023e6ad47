"""So many broken policies and tables: ``python -m tests.fuzz 5000``; ends with code 1 at a traceback.

A second number is the first seed: ``python -m tests.fuzz 1000 4000`` tries the last of five slices.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from tests.fuzz import tried


def main(count: int, first: int = 0) -> int:
    """Try them; print how each ended, and each traceback with the seed that gives it again."""
    warnings.simplefilter("ignore")
    policies, tables, failed = [], [], 0
    for seed in range(first, first + count):
        try:
            policies.append(tried.policy(seed))
            with tempfile.TemporaryDirectory() as folder:
                tables += tried.table(seed, Path(folder)) or [""]
        except Exception:
            failed += 1
            print(f"seed {seed}:", traceback.format_exc(), sep="\n")
    for name, ends in (("policies", policies), ("tables", tables)):
        print(f"{name}:", tried.summary(ends), sep="\n")
    print(f"{failed} of {count:,} seeds ended in a traceback or an error without a place")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
