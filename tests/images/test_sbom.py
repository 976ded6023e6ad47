"""The bill of materials: what the locks install, no more and no less."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tests.chart.render import ROOT

IMAGES = sorted(path.parent.name for path in ROOT.glob("images/*/requirements.txt"))
LINUX = {
    "sys_platform": "linux",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_full_version": "3.11.15",
    "python_version": "3.11",
}


def bill(image, *words):
    command = [sys.executable, ROOT / "images/sbom.py", image, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done, json.loads(done.stdout or "null")


def installed(lock):
    """Name and version of each requirement of a lock that holds in the images, by the packaging library."""
    lines = [line.rstrip(" \\") for line in lock.read_text().splitlines() if re.match(r"[a-zA-Z0-9]", line)]
    wanted = [Requirement(line) for line in lines]
    return {
        (each.name.lower(), str(each.specifier).removeprefix("=="))
        for each in wanted
        if each.marker is None or each.marker.evaluate(LINUX)
    }


@pytest.mark.parametrize("image", IMAGES)
def test_the_bill_names_what_the_lock_installs_and_the_base(image):
    done, made = bill(image, "--version", "0.1.0", "--revision", "abc")
    assert done.returncode == 0, done.stderr
    base, *packages = made["components"]
    assert {(each["name"], each["version"]) for each in packages} == installed(
        ROOT / f"images/{image}/requirements.txt"
    )
    assert all(each["hashes"] and each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in packages)
    assert f"{base['name']}@sha256:{base['hashes'][0]['content']}" in (ROOT / "images/Containerfile").read_text()
    refs = [each["bom-ref"] for each in made["components"]]
    assert len(set(refs)) == len(refs)
    assert made["dependencies"] == [{"ref": f"kedge/{image}", "dependsOn": refs}]
    assert made["metadata"]["component"]["version"] == "0.1.0"


def test_the_bill_is_the_same_wherever_it_is_made_and_another_for_other_code():
    first, again, other = (bill("collect", "--revision", each)[1] for each in ("abc", "abc", "def"))
    assert first == again
    assert first["serialNumber"] != other["serialNumber"]


def test_a_further_lock_and_another_base_are_in_it():
    lock = ROOT / "requirements/catboost.txt"
    _, made = bill("serve", "--lock", lock, "--base", "registry.example/python:3.11")
    assert "catboost" in {each["name"] for each in made["components"]}
    assert made["components"][0]["name"] == "registry.example/python:3.11"


def test_an_image_that_is_none_is_refused_by_name():
    done, _ = bill("nothing")
    assert done.returncode == 2
    assert "collect" in done.stderr
