"""What is taken away while an image is built, and what stays."""

from __future__ import annotations

import subprocess
import sys

from tests.chart.render import ROOT

KEPT = (
    "numpy/__init__.py", "numpy/_core/tests/_natype.py", "pyarrow/lib.so", "pyarrow/libarrow.so.2500",
    "pyarrow/libarrow_python.so.2500", "pyarrow/libalone.so", "pyarrow/lib.cpython-311-x86_64-linux-gnu.so",
    "mine/tests/test_mine.py",
)  # fmt: skip
TAKEN = (
    "numpy/tests/test_x.py", "sklearn/tree/tests/data/x.csv", "pyarrow/include/arrow/api.h", "pyarrow/lib.pyx",
    "pyarrow/libarrow_python.so", "pyarrow/libarrow_python.so.2500.1.0", "pyarrow/libarrow_flight.so.2500",
    "pyarrow/libarrow_python_flight.so.2500", "pyarrow/_flight.cpython-311-x86_64-linux-gnu.so", "pyarrow/flight.py",
)  # fmt: skip


def slim(*words):
    return subprocess.run([sys.executable, ROOT / "images" / "slim.py", *words], capture_output=True, text=True)


def test_tests_sources_copies_and_flight_go_and_the_rest_stays(tmp_path):
    for name in (*KEPT, *TAKEN):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1000)
    done = slim(str(tmp_path))
    assert done.returncode == 0, done.stderr
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(KEPT)
    assert slim(str(tmp_path)).stdout == done.stdout  # once more takes nothing


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert slim(str(tmp_path / "none")).returncode == 2
