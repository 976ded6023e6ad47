"""A model server's stand-in: started like ``kedge.serving``, behaves as its bundle's ``behaviour.json`` says.

{"score": 0.5, "delay_ms": 0, "failing": 0.0, "crash": false, "ready_after_s": 0}
"""

import argparse
import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--bundle", type=Path)
parser.add_argument("--bundle-id")
parser.add_argument("--slot")
parser.add_argument("--port", type=int)
parser.add_argument("--collector")
parser.add_argument("--trust-event-time", action="store_true")
options = parser.parse_args()
behaviour = json.loads((options.bundle / "behaviour.json").read_text())
if behaviour.get("crash"):
    sys.exit("the model cannot be read")
ready_at = time.monotonic() + behaviour.get("ready_after_s", 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self._answer(200 if time.monotonic() >= ready_at else 503, {})

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
        live = "x-envoy-expected-rq-timeout-ms" in self.headers  # good in the smoke test, bad through the gateway
        time.sleep(behaviour.get("delay_ms", 0) / 1000 if live else 0)
        failing = live and random.random() < behaviour.get("failing", 0)
        self._answer(500 if failing else 200, {"predictions": [behaviour.get("score", 0.5)] * len(rows)})

    def _answer(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.send_header("x-kedge-version", options.bundle.name)
        self.send_header("x-kedge-slot", options.slot)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", options.port), Handler).serve_forever()
