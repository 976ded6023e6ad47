"""Code that a policy names: whether this installation runs it, and a package of it that travels by its digest."""

from __future__ import annotations

import atexit
import builtins
import hashlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path, PurePosixPath
from threading import Lock
from types import ModuleType
from typing import Any

from kedge.errors import CodeNotAllowed, UsageError

VARIABLE = "KEDGE_ALLOW_CODE"
KEPT = "sha256:"
"""Begins ``code`` in a policy that names a package in the store, by its digest."""
MAX_BYTES, MAX_FILES = 20_000_000, 1000
LEFT_OUT = re.compile(r"(^|/)(\.|__pycache__(/|$)|[^/]*\.dist-info/)|\.py[co]$")
COMPILED = (".so", ".pyd", ".dll", ".dylib")
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
ROOT, FOLDER = "_kedge_code_", "kedge-code-"
"""Begin the private name of a package's root, where the digest's first digits follow, and that of its folder."""
FAULTS = (Exception, SystemExit)
"""How a team's code may end a call; ``sys.exit`` in it ends no step and no server."""
LIBRARY = re.compile(r"([^\s:]+): cannot open shared object file")
"""How the system's loader says that one is missing, to ctypes and to compiled packages alike."""
PRIVATE = re.compile(rf"{ROOT}[0-9a-f]+\.")


def allowed() -> bool:
    """Whether ``$KEDGE_ALLOW_CODE`` is 1."""
    return os.environ.get(VARIABLE) == "1"


def require_allowed(what: str) -> None:
    """Refuse to run code where the installation does not say that it may.

    Raises:
        CodeNotAllowed: ``$KEDGE_ALLOW_CODE`` is not 1.
    """
    if not allowed():
        raise CodeNotAllowed(
            f"{what}: is code that this installation does not run; who trusts the authors of policies sets "
            f"{VARIABLE}=1 for the steps and for the model servers (the chart's value allowCode)"
        )


@dataclass(frozen=True)
class Package:
    """A team's package: its files by path, such as ``churn/features.py``.

    Its modules are loaded under a private name that holds the digest, so that the packages of two bundles, or one that
    is installed, never meet in one process. Absolute imports of its own modules lead to the package itself.
    """

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not any(path.endswith(".py") for path in self.files):
            raise UsageError("code: holds no Python file; name the folder of a package, or a wheel")
        for path in self.files:
            if not PLAIN.fullmatch(path):
                raise UsageError(f"code: {path[:100]!r}: must be plain: letters, digits, '_', '-' and '.'")
            if path.endswith(COMPILED):
                raise UsageError(f"code: {path} is compiled; install its package in the images of steps and slots")
        if len(self.files) > MAX_FILES or sum(map(len, self.files.values())) > MAX_BYTES:
            raise UsageError(
                f"code: more than {MAX_FILES:,} files or {MAX_BYTES // 10**6} MB; a bundle carries code, not data: "
                "name a smaller folder"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the paths and the SHA-256 of each file, 64 hex digits."""
        lines = (f"{path}\0{hashlib.sha256(self.files[path]).hexdigest()}\n" for path in sorted(self.files))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @cached_property
    def names(self) -> frozenset[str]:
        """The packages and modules at its top."""
        return frozenset(PurePosixPath(path).parts[0].removesuffix(".py") for path in self.files)

    @property
    def modules(self) -> list[str]:
        """Its modules and packages, as one imports them."""
        paths = (path.removesuffix(".py").removesuffix("/__init__") for path in self.files if path.endswith(".py"))
        return sorted(path.replace("/", ".") for path in paths)

    def attribute(self, path: str, what: str) -> Any:
        """What an import path names in it; ``what`` begins messages.

        Raises:
            CodeNotAllowed: the installation runs no code of policies.
            UsageError: the path leads to nothing, or a module cannot be imported.
        """
        require_allowed(f"{what}: {path}")
        module, _, name = path.partition(":")
        top = module.partition(".")[0]
        if top not in self.names:
            raise UsageError(
                f"{what}: {path}: code holds {', '.join(sorted(self.names))} and no {top!r}; name the folder {top}"
            )
        return attribute(f"{self.load()}.{module}", name, f"{what}: {path}")

    def load(self) -> str:
        """Make its modules importable, and return the private name that goes before theirs."""
        root = f"{ROOT}{self.digest[:24]}"
        with _LOADING:
            if root not in sys.modules:
                folder = Path(tempfile.mkdtemp(prefix=FOLDER))
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                for path, data in self.files.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(data)
                module = ModuleType(root)
                module.__path__ = [str(folder)]
                _FINDER.names[root] = self.names
                sys.modules[root] = module
        return root

    def to_zip(self) -> bytes:
        """The same package always as the same bytes."""
        into = io.BytesIO()
        with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(self.files):
                archive.writestr(zipfile.ZipInfo(path), self.files[path])
        return into.getvalue()

    @classmethod
    def from_zip(cls, data: bytes) -> Package:
        """What :meth:`to_zip` wrote, or a wheel's files without its metadata.

        Raises:
            UsageError: it is no archive, or holds what no package may.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                infos = [
                    info for info in archive.infolist() if not info.is_dir() and not LEFT_OUT.search(info.filename)
                ]
                if sum(info.file_size for info in infos) > MAX_BYTES:
                    raise UsageError(f"code: unpacks to more than {MAX_BYTES // 10**6} MB")
                return cls({info.filename: archive.read(info) for info in infos})
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as exc:
            raise UsageError(f"code: is no wheel that can be read: {exc}") from exc


def read(location: str) -> Package:
    """The package of a folder, which is called as one imports it, or of a wheel.

    Raises:
        UsageError: there is none, it is called otherwise than a package can be, or holds what none may.
    """
    place = Path(location)
    if place.suffix == ".whl" and place.is_file():
        return Package.from_zip(place.read_bytes())
    if not place.is_dir():
        raise UsageError(
            f"code: {location}: no such folder or wheel here; `kedge submit` on the machine that has it puts it into "
            f"the store and says its digest, which `code: {KEPT}...` names elsewhere"
        )
    if not place.name.isidentifier():
        raise UsageError(f"code: {location}: a package is called with letters, digits and '_'; rename the folder")
    return Package(_files(place))


def _files(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.rglob("*")):
        name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        if LEFT_OUT.search(name) or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            raise UsageError(f"code: {name} is a link; put the file itself there")
        files[name] = path.read_bytes()
    return files


def attribute(module: str, name: str, what: str) -> Any:
    """An attribute of a module; ``what`` begins messages.

    Raises:
        UsageError: the module is not there or fails, or has none of that name; a package it needs is named.
    """
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        missing = re.sub(PRIVATE, "", str(exc.name or ""))
        raise UsageError(
            f"{what} needs {missing!r}, which is not there; build it into the images of steps and slots, or put it "
            "into the folder that `code` names"
        ) from exc
    except (ImportError, SyntaxError) as exc:
        raise UsageError(f"{what} cannot be imported: {re.sub(PRIVATE, '', str(exc))}") from exc
    except FAULTS as exc:
        library = LIBRARY.match(str(exc)) if isinstance(exc, OSError) else None
        if library:
            raise UsageError(
                f"{what} needs the library {library[1]}, which is not there; build it into the images of steps and "
                "slots"
            ) from exc
        raise UsageError(f"{what} cannot be imported: {fault(exc)}") from exc
    if not hasattr(imported, name):
        raise UsageError(f"{what} cannot be imported: module {re.sub(PRIVATE, '', module)!r} has no {name!r}")
    return getattr(imported, name)


def fault(exc: BaseException) -> str:
    """An exception of a team's code without its text, which may hold values of rows: its type and the line it is of.

    >>> fault(ValueError("secret"))
    'ValueError'
    """
    place, trace = "", exc.__traceback__
    while trace is not None:
        _, own, rest = trace.tb_frame.f_code.co_filename.partition(f"/{FOLDER}")
        if own:
            place = f" ({rest.partition('/')[2]}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(exc).__name__}{place}"


class _Finder(MetaPathFinder):
    """Finds the modules of packages below their roots."""

    def __init__(self) -> None:
        self.names: dict[str, frozenset[str]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root = fullname.partition(".")[0]
        if root not in self.names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, root, self.names[root])
        return spec


class _Loader(SourceFileLoader):
    """Runs a module so that its absolute imports of the package's own names stay within the package."""

    def __init__(self, fullname: str, path: str, root: str, names: frozenset[str]) -> None:
        super().__init__(fullname, path)
        self._root, self._names = root, names

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if level or name.partition(".")[0] not in self._names:
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = builtins.__import__(f"{self._root}.{name}", globals, locals, fromlist, 0)
        return module if fromlist else sys.modules[f"{self._root}.{name.partition('.')[0]}"]


_LOADING = Lock()
_FINDER = _Finder()
sys.meta_path.insert(0, _FINDER)
