"""``slim.py SITE_PACKAGES``: take away what no process of the images loads, and print what is left.

Packages bring their own tests, C headers and sources, libraries with the symbols of their debuggers, pygments hundreds
of languages, and pyarrow the client and server of Flight and three copies of one library: about a fifth of the serve
image's packages. Needs Python alone: it runs while an image is built.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

TESTED = ("fsspec", "joblib", "kubernetes", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "skops", "uvloop")
NEEDED = ("numpy/_core/tests",)  # numpy.testing, which scikit-learn imports, takes a type from there
FOLDERS = ("pyarrow/include", "pyarrow/src", "numpy/_core/include", "numpy/f2py/src")
SOURCES = frozenset({".c", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx", ".a"})
FLIGHT = re.compile(r"(lib)?(arrow_)?(python_)?_?flight")
LIBRARY = re.compile(r"(lib\w+\.so)")
LANGUAGES = frozenset({"__init__.py", "_mapping.py", "python.py"})  # rich shows tracebacks of Python
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
    for path in list(root.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            strip(path)


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
    yield from (path for path in (root / "pygments/lexers").glob("*.py") if path.name not in LANGUAGES)
    for package in TESTED:
        yield from (path for path in (root / package).rglob("*") if path.suffix in SOURCES and path.is_file())


def strip(path: Path) -> None:
    """Cut a library off behind what is loaded of it: symbol tables and section headers, which only debuggers read.

    A new file takes the old one's place: installers link files to their cache.
    """
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little end first
        return
    (segments,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    starts = range(segments, segments + size * count, size)
    ends = [offset + length for offset, length in (struct.unpack_from("<Q16xQ", data, start + 8) for start in starts)]
    kept = bytearray(data[: max(ends, default=len(data))])
    struct.pack_into("<Q", kept, 40, 0)  # no section headers,
    struct.pack_into("<HH", kept, 60, 0, 0)  # none of them, and no names
    whole = path.with_name(f"{path.name}.stripped")
    whole.write_bytes(kept)
    whole.chmod(path.stat().st_mode)
    os.replace(whole, path)


def megabytes(root: Path) -> float:
    """Bytes of all files, in millions."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
