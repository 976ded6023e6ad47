"""kubectl and helm as a person types them, against whatever $KUBECONFIG points to."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.render import CHART, Object, tool
from tests.chart.test_values import FRAUD

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
IMAGES = {"step": "kedge/step", "serve": "kedge/serve", "collect": "kedge/collect"}
IDLE: Object = {  # slots and a route, and nothing that runs
    "serving": {"enabled": True},
    "route": {"enabled": True},
    "collector": {"enabled": False},
    "tools": {"enabled": False},
    "policyCheck": {"enabled": False},
    "store": {"url": "s3://kedge/test"},
}
SLOT = [{"policy": FRAUD, "bundle": "a" * 40}]
TAG = os.environ.get("KEDGE_TEST_TAG", "0.1.0")


@dataclass(frozen=True)
class Namespace:
    """One namespace, and what is done in it."""

    name: str

    def kubectl(self, *words: str, given: Any = None, check: bool = True, seconds: float = 180) -> str:
        """Standard output of kubectl; with ``check`` a failure is an AssertionError that says why."""
        text = (
            yaml.safe_dump_all(given) if isinstance(given, list) else None if given is None else yaml.safe_dump(given)
        )
        done = subprocess.run(
            [tool("kubectl"), "--namespace", self.name, *words],
            input=text, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}{self.state()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, kind: str, *words: str) -> Any:
        """Objects as JSON; one by name, or the items of all."""
        found = json.loads(self.kubectl("get", kind, *words, "--output", "json"))
        return found["items"] if found["kind"] == "List" else found

    def helm(self, *words: str, values: Object | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """helm in this namespace."""
        command = [tool("helm"), "--namespace", self.name, *words]
        if values is not None:
            command += ["--values", "-"]
        given = yaml.safe_dump(values)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(words)}: {done.stdout}{done.stderr}{self.state()}")
        return done

    def install(self, values: Object, release: str = "kedge", chart: Path = CHART) -> str:
        """Install or upgrade the chart and wait; what helm said."""
        words = ["upgrade", "--install", release, str(chart), "--wait", "--timeout", "240s"]
        return self.helm(*words, values=values).stdout

    def python(self, pod: str, program: str) -> str:
        """Run a Python program in a pod; its standard output."""
        return self.kubectl("exec", pod, "--", "python", "-c", program)

    def reaches(self, pod: str, address: str) -> bool:
        """Whether a pod gets any HTTP answer from an address within two seconds."""
        program = (
            "import urllib.request as r, urllib.error as e\n"
            f"try: r.urlopen('{address}', timeout=2)\n"
            "except e.HTTPError: pass\n"
            "except OSError as x: print(x); raise SystemExit(7)"
        )
        return "exit code 7" not in self.kubectl("exec", pod, "--", "python", "-c", program, check=False)

    def state(self) -> str:
        """Pods, the latest events and the last words of what crashed, for messages."""
        ours = ["--selector", "app.kubernetes.io/name=kedge", "--all-containers", "--prefix", "--tail", "15"]
        asked = [
            ["get", "pods", "--output", "wide"],
            ["get", "events", "--sort-by", ".lastTimestamp"],
            ["logs", *ours],
            ["logs", "--previous", *ours],
        ]
        said = [
            subprocess.run([tool("kubectl"), "--namespace", self.name, *words], capture_output=True, text=True).stdout
            for words in asked
        ]
        return "\n".join(each[-3000:] for each in ("", *said))


def until(what: str, true: Callable[[], Any], seconds: float = 120) -> Any:
    """Poll for a condition; its value, or a failure that names it."""
    end = time.monotonic() + seconds
    while True:
        if value := true():
            return value
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


def small(**values: Any) -> Object:
    """Values of an installation that fits a test: images of this node, little disk."""
    return {
        "images": {name: {"repository": repository, "tag": TAG} for name, repository in IMAGES.items()},
        "store": {"volume": {"size": "100Mi"}},
        "collector": {
            "spool": {"size": "100Mi"}, "args": ["--reserve-mb=1", "--interval-seconds=1"],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        },
        "release": {  # no namespace of Kubeflow in the tests
            "steps": {"enabled": False},
            "subjects": [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}],
        },
        "monitor": {"resources": {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}},
        **values,
    }  # fmt: skip


def sleeper(name: str, labels: dict[str, str] | None = None, account: str = "default") -> Object:
    """A pod that waits to be told what to do."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "sleeper",
                    "image": f"{IMAGES['collect']}:{TAG}",
                    "command": ["python", "-c", "import time; time.sleep(3600)"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


def definitions() -> Path | None:
    """The folder with the resource definitions of KServe, the Gateway API and Kubeflow Pipelines."""
    folder = Path(os.environ.get("KEDGE_TEST_CRDS") or CHART.parents[2] / "shared" / "crds")
    return folder if folder.is_dir() else None
