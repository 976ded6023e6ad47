"""Requests to one gateway for a bounded time, run as ``python -c`` in a pod of the cluster.

Arguments: address, host, seconds, clients. Prints one line a request: when it began and ended, status, and
the slot or, of a failure, what was said.
"""

import http.client
import json
import sys
import threading
import time

ADDRESS, HOST, SECONDS, CLIENTS = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
PAUSE = 0.02
BODY = json.dumps({"instances": [{"x": 1.0}]})
ENDS = time.time() + SECONDS


def client():
    connection = None
    while (began := time.time()) < ENDS:
        try:
            connection = connection or http.client.HTTPConnection(ADDRESS, timeout=20)
            headers = {"host": HOST, "content-type": "application/json"}
            connection.request("POST", "/v1/models/fraud:predict", BODY, headers)
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
            status, slot = answer.status, answer.headers.get("x-kedge-slot") or said.strip().replace("\n", " ")
        except OSError as exc:
            connection, status, slot = None, 0, type(exc).__name__
        lines.append(f"{began:.4f} {time.time():.4f} {status} {slot}")
        time.sleep(PAUSE)


lines = []
threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\n".join(lines))
