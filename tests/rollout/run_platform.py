"""Runs the supervisor with stand-ins for the servers: run_platform.py FOLDER [PORT]. Ends like `kedge up`."""

import signal
import sys
import threading
from pathlib import Path

from kedge.rollout.local.supervisor import Settings, Supervisor

HERE = Path(__file__).parent
folder = Path(sys.argv[1])
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
Supervisor(
    Settings(
        folder=folder,
        store=str(folder / "store"),
        policies=[],
        models=["fraud"],
        port=int(sys.argv[2]) if len(sys.argv) > 2 else 0,
        server=(sys.executable, str(HERE / "fake_server.py")),
        collector=(sys.executable, str(HERE / "fake_collector.py")),
    )
).run(stop, lambda text: print(text, flush=True))
