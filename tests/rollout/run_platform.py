"""Runs the supervisor with stand-ins for the servers: run_platform.py FOLDER [PORT]. Ends like `kedge up`."""

import signal
import sys
from pathlib import Path

from kedge.rollout.local.supervisor import Settings, Supervisor

HERE = Path(__file__).parent
folder = Path(sys.argv[1])
signals = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: signals.append(number))
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
).run(lambda: bool(signals), lambda text: print(text, flush=True))
