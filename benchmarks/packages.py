"""Unpacked size of the packages of the serve and the collect image, beside those of KServe's own servers.

    python benchmarks/packages.py

Installs each set into a folder of its own with uv, wheels only, and adds up the files' sizes; ours from their locks and
without what the image's build takes away (images/slim.py), KServe's as its servers declare them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "images"))
import slim  # noqa: E402

KSERVE = ["kserve==0.21.0", "kserve-storage==0.21.0"]
PEERS = {
    "KServe's scikit-learn server": [*KSERVE, "scikit-learn~=1.5.1", "joblib<2.0.0,>=1.4.0", "pandas<3.0.0,>=2.2.0"],
    "KServe's XGBoost server": [*KSERVE, "xgboost~=2.1.1"],
}


def install(folder: Path, *words: str) -> None:
    """Install for the images' Python, whatever runs this."""
    uv = Path(sys.executable).with_name("uv")
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python-version",
        "3.11",
        "--only-binary",
        ":all:",
        "--target",
        folder,
    ]
    subprocess.run([*command, *words], check=True)


def main() -> None:
    """Install and print the table."""
    with tempfile.TemporaryDirectory() as made:
        print("| packages of | as installed, MB | in the image, MB |\n|---|---|---|")
        for image in ("serve", "collect"):
            folder = Path(made) / image
            install(folder, "--no-deps", "--require-hashes", "-r", str(ROOT / "images" / image / "requirements.txt"))
            before = slim.megabytes(folder)
            slim.take_away(folder)
            print(f"| kedge/{image} | {before:.0f} | {slim.megabytes(folder):.0f} |")
        for name, words in PEERS.items():
            folder = Path(made) / name
            install(folder, *words)
            print(f"| {name} | {slim.megabytes(folder):.0f} | |")


if __name__ == "__main__":
    main()
