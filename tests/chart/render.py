"""What helm makes of the chart, and the tools that look at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kedge"
SCENARIOS = sorted(CHART.glob("ci/*-values.yaml"))
TOOLS = Path(os.environ.get("KEDGE_TOOLS") or Path.home() / ".cache" / "kedge" / "tools")
KUBERNETES = "1.36.3"
TOOLS_COME_FROM = "the tests of chart and manifests need programs: make tools (needs Go)"

Object = dict[str, Any]


def tool(name: str) -> str:
    """Path of a program from ``make tools``, or of one on the PATH; skips the test by name where there is none."""
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        absent(f"{name} is not there; {TOOLS_COME_FROM}")
    return found


def absent(what: str) -> None:
    """Skip, except in CI, where everything must be there."""
    if os.environ.get("KEDGE_CI"):
        pytest.fail(f"{what} (nothing may be skipped in CI)")
    pytest.skip(what)


def helm(*words: str | Path, values: Object | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm; ``values`` go in as a last file."""
    command = [tool("helm"), *map(str, words), *(["--values", "-"] if values is not None else [])]
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, timeout=120)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done


def template(values: Object | Path, *, release: str = "kedge", namespace: str = "ml", check: bool = True) -> Any:
    """``helm template`` as it ran, with values or a file of them."""
    words: list[str | Path] = ["template", release, CHART, "--namespace", namespace, "--kube-version", KUBERNETES]
    if isinstance(values, Path):
        return helm(*words, "--values", values, check=check)
    return helm(*words, values=values, check=check)


@cache
def _text(values: str, release: str, namespace: str) -> str:
    done = template(yaml.safe_load(values), release=release, namespace=namespace)
    return str(done.stdout)


def render(values: Object | Path, *, release: str = "kedge", namespace: str = "ml") -> list[Object]:
    """The objects the chart makes of some values; the text is rendered once a session."""
    given = values.read_text() if isinstance(values, Path) else yaml.safe_dump(values)
    return [each for each in yaml.load_all(_text(given, release, namespace), Loader=yaml.CSafeLoader) if each]


def refusal(values: Object) -> str:
    """What helm says to values that the chart refuses."""
    done = template(values, check=False)
    assert done.returncode, "the chart took these values"
    return str(done.stderr)


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and a name."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind}/{name} in {[key(o) for o in objects]}"
    return found[0]


def key(found: Object) -> str:
    """Kind and name, for messages."""
    return f"{found['kind']}/{found['metadata']['name']}"


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod specification, with the object it stands in."""
    for found in objects:
        spec = found.get("spec", {})
        match found["kind"]:
            case "Pod":
                yield key(found), spec
            case "Deployment" | "StatefulSet" | "Job":
                yield key(found), spec["template"]["spec"]
            case "CronJob":
                yield key(found), spec["jobTemplate"]["spec"]["template"]["spec"]
            case "ServingRuntime":
                yield key(found), {**spec, "securityContext": spec["containers"][0]["securityContext"]}


def containers(pod: Object) -> list[Object]:
    """All containers of a pod specification."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def validate(text: str) -> int:
    """Objects that kubeconform finds valid, strict, with the schemas of ``make tools``; fails over one that is not."""
    schemas = TOOLS / "schemas"
    if not (schemas / "inferenceservice-serving-v1beta1.json").exists():
        absent(f"no schemas of KServe (KEDGE_TEST_CRDS=FOLDER); {TOOLS_COME_FROM}")
    place = str(schemas / "{{.ResourceKind}}{{.KindSuffix}}.json")
    told = ["-strict", "-summary", "-output", "json", "-kubernetes-version", KUBERNETES]
    command = [tool("kubeconform"), *told, "-schema-location", place, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(json.loads(done.stdout)["summary"]["valid"])
