"""``client.py TABLE``: be the payments' clients, and the bank that says later what came true.

Each row of the table becomes a request to the model and, under the same id, a label. Needs Python alone.
"""

import argparse
import csv
import json
import sys
import time
import urllib.error
import urllib.request

NO_FEATURE = ("payment_id", "requested_at", "returned")


def value(text):
    """A cell as JSON: nothing, true or false, a number, a text."""
    if text in ("", "true", "false"):
        return {"": None, "true": True, "false": False}[text]
    try:
        return float(text)
    except ValueError:
        return text


def post(address, body, tries=10, **headers):
    """The answer to a POST of a JSON body; sent again where the other side asks for that."""
    text = json.dumps(body).encode()
    request = urllib.request.Request(address, text, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        if refused.code != 503 or tries == 1:
            sys.exit(f"{address}: {refused.code} {refused.read().decode()}")
        time.sleep(float(refused.headers.get("Retry-After", 1)))
    return post(address, body, tries - 1, **headers)


def main():
    """Ask for every row, then tell every outcome."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("table")
    words.add_argument("--gateway", default="http://127.0.0.1:8080")
    words.add_argument("--collector", default="http://127.0.0.1:8081")
    words.add_argument("--per-second", type=float, default=200)
    words.add_argument("--rows", type=int, help="only so many of the table's first rows")
    words.add_argument("--times", type=int, default=1, help="how often the table is sent")
    asked = words.parse_args()
    with open(asked.table, newline="") as file:
        rows = list(csv.DictReader(file))[: asked.rows]
    wrong = 0
    for turn in range(asked.times):
        begin = f"{time.time():.0f}-{turn}"
        labels = []
        for row in rows:
            features = {name: value(text) for name, text in row.items() if name not in NO_FEATURE}
            identity = f"{row['payment_id']}-{begin}"
            answer = post(
                f"{asked.gateway}/v1/models/payments:predict", {"instances": [features]}, **{"ce-id": identity}
            )
            wrong += (answer["predictions"][0] >= 0.5) != (row["returned"] == "1")
            labels.append({"id": identity, "label": int(row["returned"])})
            time.sleep(1 / asked.per_second)
        post(f"{asked.collector}/v1/labels", {"model": "payments", "labels": labels})
    sent = len(rows) * asked.times
    print(f"{sent} requests, {sent - wrong} decided rightly ({100 * (1 - wrong / sent):.0f} %)")


main()
