"""``slim.py SITE_PACKAGES``: take away what no process of the images loads, and print what is left.

Packages bring their own tests, C headers and sources, and pyarrow the client and server of Flight and three copies of
one library: about a fifth of the serve image's packages. Needs Python alone: it runs while an image is built.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

TESTED = ("fsspec", "joblib", "kubernetes", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "skops", "uvloop")
NEEDED = ("numpy/_core/tests",)  # numpy.testing, which scikit-learn imports, takes a type from there
FOLDERS = ("pyarrow/include", "pyarrow/src", "numpy/_core/include", "numpy/f2py/src")
SOURCES = frozenset({".c", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx", ".a"})
FLIGHT = re.compile(r"(lib)?(arrow_)?(python_)?_?flight")
LIBRARY = re.compile(r"(lib\w+\.so)")
LOADED = re.compile(r"lib\w+\.so\.\d+$")  # the name the linker looks for; wheels hold no links, but copies


def main(words: list[str]) -> int:
    if len(words) != 1 or not Path(words[0]).is_dir():
        sys.stderr.write(f"{__doc__}\n")
        return 2
    root = Path(words[0])
    take_away(root)
    print(f"{root}: {megabytes(root):.0f} MB")
    return 0


def take_away(root: Path) -> None:
    """Delete the surplus below a folder of packages."""
    for path in list(surplus(root)):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def surplus(root: Path) -> Iterator[Path]:
    """Folders and files to take away."""
    for package in TESTED:
        for folder in (root / package).rglob("tests"):
            if folder.is_dir() and str(folder.relative_to(root)) not in NEEDED:
                yield folder
    yield from (root / name for name in FOLDERS if (root / name).is_dir())
    loaded = {path.name.rpartition(".")[0] for path in (root / "pyarrow").glob("lib*.so.*") if LOADED.match(path.name)}
    for path in (root / "pyarrow").glob("*"):
        library = LIBRARY.match(path.name)
        copied = library is not None and library[1] in loaded and not LOADED.match(path.name)
        if copied or FLIGHT.match(path.name):
            yield path
    for package in TESTED:
        yield from (path for path in (root / package).rglob("*") if path.suffix in SOURCES and path.is_file())


def megabytes(root: Path) -> float:
    """Bytes of all files, in millions."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
