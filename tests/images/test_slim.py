"""What is taken away while an image is built, and what stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.chart.render import ROOT

KEPT = (
    "numpy/__init__.py", "numpy/_core/tests/_natype.py", "pyarrow/lib.so", "pyarrow/libarrow.so.2500",
    "pyarrow/libarrow_python.so.2500", "pyarrow/libalone.so", "pyarrow/lib.cpython-311-x86_64-linux-gnu.so",
    "mine/tests/test_mine.py", "pygments/lexers/_mapping.py", "pygments/lexers/python.py",
)  # fmt: skip
TAKEN = (
    "numpy/tests/test_x.py", "sklearn/tree/tests/data/x.csv", "pyarrow/include/arrow/api.h", "pyarrow/lib.pyx",
    "pyarrow/libarrow_python.so", "pyarrow/libarrow_python.so.2500.1.0", "pyarrow/libarrow_flight.so.2500",
    "pyarrow/libarrow_python_flight.so.2500", "pyarrow/_flight.cpython-311-x86_64-linux-gnu.so", "pyarrow/flight.py",
    "pygments/lexers/ada.py",
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


def test_a_library_loses_its_symbols_works_as_before_and_the_file_it_is_linked_to_is_left_alone(tmp_path):
    import httptools

    package = tmp_path / "httptools"
    shutil.copytree(Path(httptools.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    library = next(package.glob("parser/parser.*.so"))
    cached = tmp_path / "cached"
    os.link(library, cached)
    size = cached.stat().st_size
    assert slim(str(package)).returncode == 0
    assert library.stat().st_size < cached.stat().st_size == size
    load = "import sys; sys.path.insert(0, sys.argv[1]); from httptools.parser import parser; print(parser.__file__)"
    done = subprocess.run([sys.executable, "-c", load, tmp_path], capture_output=True, text=True)
    assert done.stdout.strip() == str(library), done.stderr
    assert not list(package.rglob("*.stripped"))


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert slim(str(tmp_path / "none")).returncode == 2
