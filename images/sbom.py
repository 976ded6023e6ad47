"""``sbom.py IMAGE``: an image's bill of materials as CycloneDX 1.6, on standard output.

Made from the locks that the image is installed from, so it is the same wherever it is made: every package with version
and the digests of the files that the lock lets in, the image's code by commit, and the base image by digest, whose own
packages its maker lists. Needs Python alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+))?")
DIGEST = re.compile(r"--hash=sha256:([0-9a-f]{64})")
NAMESPACE = uuid.UUID("5d0f3f5e-6c5e-5b0e-9a5c-0e4d7a1f2b3c")
Json = dict[str, Any]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", choices=sorted(each.parent.name for each in IMAGES.glob("*/requirements.txt")))
    parser.add_argument("--version", default="unknown", help="the image's tag")
    parser.add_argument("--revision", default="unknown", help="commit of the code in it")
    parser.add_argument("--base", default="", help="the base image; default: the Containerfile's")
    parser.add_argument("--lock", type=Path, action="append", default=[], help="a further lock that it is made from")
    given = parser.parse_args(words)
    lock = "".join(each.read_text() for each in (IMAGES / given.image / "requirements.txt", *given.lock))
    print(json.dumps(bill(given.image, given.version, given.revision, given.base or default_base(), lock), indent=2))


def bill(image: str, version: str, revision: str, base: str, lock: str) -> Json:
    """The bill of an image as a JSON object."""
    components = [_base(base), *(_package(*each) for each in packages(lock))]
    main_component = {
        "type": "container",
        "bom-ref": f"kedge/{image}",
        "name": f"kedge/{image}",
        "version": version,
        "properties": [{"name": "kedge:revision", "value": revision}],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    content: Json = {
        "metadata": {"component": main_component},
        "components": components,
        "dependencies": [{"ref": f"kedge/{image}", "dependsOn": [each["bom-ref"] for each in components]}],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(content, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    } | content


def packages(lock: str) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and digests of what a lock installs on Linux with CPython 3.11, the images' Python."""
    for entry in re.split(r"\n(?=\S)", lock):
        if (match := REQUIREMENT.match(entry)) and applies(match[3] or ""):
            yield match[1].lower(), match[2], DIGEST.findall(entry)


def applies(marker: str) -> bool:
    """Whether a marker of the locks holds in the images.

    Raises:
        ValueError: it is of another form than the locks have.
    """
    return all(_holds(each.strip()) for each in marker.split(" and ")) if marker.strip() else True


def _holds(clause: str) -> bool:
    match = re.fullmatch(r"(\w+) (==|!=|<|>=) '([^']+)'", clause)
    own = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_full_version": "3.11",
    }
    if match is None or match[1] not in own:
        raise ValueError(f"marker {clause!r} is of another form than sbom.py reads")
    name, operator, value = match.groups()
    if operator in ("==", "!="):
        return (own[name] == value) == (operator == "==")
    mine, theirs = ([int(part) for part in each.split(".")] for each in (own[name], value))
    return mine < theirs if operator == "<" else mine >= theirs


def _package(name: str, version: str, digests: list[str]) -> Json:
    url = f"pkg:pypi/{name}@{version}"
    hashes = [{"alg": "SHA-256", "content": digest} for digest in digests]
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url, "hashes": hashes}


def _base(base: str) -> Json:
    name, _, digest = base.partition("@")
    described: Json = {"type": "container", "bom-ref": "base", "name": name, "description": "Debian and Python"}
    if digest:
        described["hashes"] = [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
    return described


def default_base() -> str:
    """The base that the Containerfile names."""
    found = re.search(r"^ARG BASE=(\S+)$", (IMAGES / "Containerfile").read_text(), re.M)
    assert found is not None
    return found[1]


if __name__ == "__main__":
    main(sys.argv[1:])
