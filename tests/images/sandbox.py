"""An image's file set without an engine: its lock beside our code, run by a numeric user on a read-only root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.chart.render import ROOT, absent

USER = 65532
PLACE = Path("/mnt")  # exists everywhere; the file set is bound there, as it lies at /opt/kedge in the image


def install(image: str, folder: Path) -> Path:
    """Install an image's lock from uv's cache, and our code beside it."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        absent("uv is not there: make install")
    place = folder / image
    lock = ROOT / "images" / image / "requirements.txt"
    made = subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, place / "venv"], capture_output=True
    )
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--require-hashes", "--requirements", lock,
         "--python", place / "venv/bin/python"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        absent(f"uv's cache does not hold the lock of {image}: {done.stderr.strip()[-200:]}")
    (packages,) = (place / "venv" / "lib").glob("python3.*/site-packages")
    slim = subprocess.run([sys.executable, ROOT / "images/slim.py", packages], capture_output=True, text=True)
    assert slim.returncode == 0, slim.stderr
    shutil.copytree(ROOT / "kedge", place / "app" / "kedge", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def command(place: Path, *words: str, environment: dict[str, str] | None = None) -> list[str]:
    """The command that runs ``words`` as the image would: numeric user, nothing writable but /tmp, no capability."""
    settings = {"PATH": f"{PLACE}/venv/bin:/usr/bin:/bin", "PYTHONPATH": f"{PLACE}/app", "HOME": "/tmp"}
    settings |= {"PYTHONDONTWRITEBYTECODE": "1", "KEDGE_COMMIT": "unknown", **(environment or {})}
    inside = (
        f"mount --bind {place} {PLACE} && mount -o remount,bind,ro {PLACE} && mount -t tmpfs none /tmp"
        " && mount -o remount,bind,ro / && cd /tmp"
        f" && exec unshare --user --map-user={USER} --map-group={USER} --"
        ' env -i "$@"'
    )
    named = [f"{name}={value}" for name, value in settings.items()]
    return ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-ec", inside, "sh", *named, *words]


def possible() -> bool:
    """Whether this machine lets a process make namespaces."""
    probe = command(Path("/usr"), "true")
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0
