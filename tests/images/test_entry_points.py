"""Each image's entry point runs from its own lock alone, as a numeric user on a read-only root."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.bundle.models import written
from tests.images import sandbox

POLICY = """\
model: {name: fraud, target: is_fraud, features: {amount: {type: number}}}
data: {source: {format: log}}
"""
direct = build_opener(ProxyHandler({}))


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(sandbox.command(place, *words), capture_output=True, text=True, timeout=120)


def kedge(*words: str) -> tuple[str, ...]:
    """What images/kedge runs; its first line names the image's interpreter."""
    return ("python", "-m", "kedge.cli", *words)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(place: Path, *words: str):
    process = subprocess.Popen(
        sandbox.command(place, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def answer(process: subprocess.Popen[str], address: str) -> bytes:
    end = time.monotonic() + 60
    while True:
        try:
            return direct.open(address, timeout=5).read()
        except (URLError, ConnectionError) as problem:
            if process.poll() is not None:
                pytest.fail(f"ended with {process.returncode}: {process.stdout.read()}")
            if time.monotonic() > end:
                pytest.fail(f"{address} does not answer: {problem}")
            time.sleep(0.1)


@pytest.mark.parametrize("image", ["step", "serve", "collect"])
def test_the_user_is_a_number_and_the_root_is_read_only(file_set, image):
    place = file_set(image)
    assert run(place, "python", "-c", "import os; print(os.getuid())").stdout.strip() == "65532"
    for path in ("/etc/kedge", "/mnt/app/written", "/mnt/venv/kedge"):
        assert "Read-only file system" in run(place, "python", "-c", f"open({path!r}, 'w')").stderr


@pytest.mark.parametrize("image", ["step", "collect"])
def test_the_command_checks_a_policy(file_set, image):
    place = file_set(image)
    good = run(place, "sh", "-c", f"echo '{POLICY}' > f.yaml && python -m kedge.cli policy check f.yaml")
    assert "good (fraud: 1 features, binary)" in good.stdout, good.stderr
    bad = run(place, "sh", "-c", "echo 'model: {}' > f.yaml && python -m kedge.cli policy check f.yaml")
    assert bad.returncode == 2
    assert "f.yaml:1: data: missing" in bad.stderr


def test_the_step_image_compiles_the_pipelines_it_runs_in(file_set):
    command = "python -m kedge.cli compile --output out && grep -h kedge/step out/*.yaml"
    done = run(file_set("step"), "sh", "-c", command)
    assert done.stdout.count("kedge/step:0.1.0") == 11, done.stderr  # one a step, two for how each run ended


def test_the_step_image_holds_what_every_step_imports(file_set):
    rooms = ("data", "training", "evaluation", "registry", "rollout", "notify")
    modules = [
        "kfp.dsl.executor_main",
        "kedge.submission.submit",
        "kedge.monitoring.run",
        *(f"kedge.{room}.step" for room in rooms),
    ]
    done = run(file_set("step"), "python", "-c", f"import {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_the_collector_comes_up_ready(file_set):
    port = free_port()
    start = f"echo '{POLICY}' > p.yaml && exec python -m kedge.collector --store s --policy p.yaml --spool w"
    with serving(file_set("collect"), "sh", "-c", f"{start} --port {port}") as process:
        answer(process, f"http://127.0.0.1:{port}/readyz")
        assert b"kedge_" in answer(process, f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize(("image", "megabytes"), [("serve", 450), ("collect", 180)])
def test_the_packages_of_an_image_stay_small(file_set, image, megabytes):
    (packages,) = (file_set(image) / "venv" / "lib").glob("python3.*/site-packages")
    files = [file for file in packages.rglob("*") if file.suffix != ".pyc" and file.is_file()]
    assert sum(file.stat().st_size for file in files) < megabytes * 1e6


def test_the_model_server_refuses_a_folder_that_is_no_bundle(file_set):
    done = run(file_set("serve"), "python", "-m", "kedge.serving", "--bundle", "/mnt/app")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_the_model_server_comes_up_ready(file_set):
    place, port = file_set("serve"), free_port()
    bundle = written(place / "bundle")
    words = ("python", "-m", "kedge.serving", "--bundle", f"{sandbox.PLACE}/bundle", "--port", str(port))
    with serving(place, *words) as process:
        assert answer(process, f"http://127.0.0.1:{port}/v2/health/ready")
        known = json.loads(answer(process, f"http://127.0.0.1:{port}/v1/models/{bundle.manifest.name}"))
        assert known["ready"] is True
