"""The places kedge keeps and finds things: store, registry, Prometheus."""

from __future__ import annotations

import uuid

import httpx

from kedge import clock
from kedge.clouds import cloud_of
from kedge.doctor.finding import Finding, bad, good, skipped, warning
from kedge.errors import KedgeError, StoreError
from kedge.records import Checked, Data, Record, dated_ahead, newest, place_of, read_events
from kedge.store import Store, open_store
from kedge.store.identity import require

SECONDS = 10.0


def store(url: str) -> list[Finding]:
    """Write, read, write once only, remove: what the store must do, done to it."""
    cloud = cloud_of(url)
    rights = f"check that {url} exists and that user may write there"
    if cloud is not None:
        rights = f"check the address, {' and '.join(cloud.endpoint)}, and {cloud.credentials}"
    try:
        opened = open_store(url)
        read, once = _round_trip(opened)
    except (KedgeError, OSError) as exc:
        return [bad("store", str(exc), rights)]
    except KeyError as exc:
        return [bad("store", f"{url}: {exc.args[0]} was written and is not there", "use another store")]
    if read != b"kedge":
        return [bad("store", f"{url}: gives back other bytes than were written", "use another store")]
    if once != (True, False, b"1"):
        return [
            bad(
                "store: write once",
                f"{url}: a second conditional write was taken; two checks could start one run twice",
                "use object storage that refuses to replace, as S3, Google Cloud Storage and Azure do, or a volume",
            )
        ]
    return [good("store", f"{url}: reads, writes, writes once"), _identity(opened)]


def _round_trip(opened: Store) -> tuple[bytes, tuple[bool, bool, bytes]]:
    """What was read back; whether the first and the second conditional write were taken, and what they left."""
    key = f"doctor/{uuid.uuid4().hex}"
    opened.put(key, b"kedge")
    read = opened.get(key)
    first, second = (opened.put_if_absent(f"{key}-once", each) for each in (b"1", b"2"))
    kept = opened.get(f"{key}-once")
    opened.delete(key)
    opened.delete(f"{key}-once")
    return read, (first, second, kept)


def _identity(opened: Store) -> Finding:
    """Whether the store is one, or an empty place."""
    try:
        return good("store: identity", f"{opened.url} is store {require(opened)}")
    except StoreError as exc:
        return warning("store: identity", str(exc), "look whether this is the store that was used before")


def records(url: str) -> list[Finding]:
    """Whether each record of each model happened before now: later ones stay the newest of their kind for long."""
    opened, found = open_store(url), list[Finding]()
    for model in opened.folders("records"):
        try:
            events = [*read_events(opened, model), *newest(opened, model, Checked, 1)]
        except StoreError as exc:
            found.append(bad("records", str(exc), "restore that file or move it away; the other models are looked at"))
            continue
        found += (_ahead(opened, item) for item in dated_ahead(events, clock.now()))
    return found


def _ahead(opened: Store, item: Record[Data]) -> Finding:
    return warning(
        "records",
        f"{opened.url}/{place_of(item)}: happened at {item.time:%Y-%m-%d %H:%M} UTC by the clock of who wrote it; it "
        f"is {clock.now():%Y-%m-%d %H:%M} now",
        "set that clock; then correct `time` in the file to when it happened, or move a check's file away",
    )


def registry(uri: str) -> list[Finding]:
    """MLflow answers, or is a file on this machine."""
    if not uri.startswith(("http://", "https://")):
        what = f"{uri.split('://')[0]} on this machine"
        return [skipped("registry", what, "on a cluster: MLFLOW_TRACKING_URI=http://...")]
    try:
        answer = httpx.get(f"{uri.rstrip('/')}/version", timeout=SECONDS)
    except httpx.HTTPError as exc:
        fix = "is MLflow up, is the address in registry.uri right, may pods reach it?"
        return [bad("registry", f"{uri}: {exc}", fix)]
    if answer.status_code != 200:
        return [_refused(uri, answer.status_code)]
    version = answer.text.strip()
    if not version.startswith("3."):
        return [warning("registry", f"MLflow {version}; kedge is tested with 3.17", "pip install 'mlflow>=3.17,<3.18'")]
    return [good("registry", f"MLflow {version} at {uri}")]


def _refused(uri: str, status: int) -> Finding:
    match status:
        case 401:
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (registry.secret)"
            return bad("registry", f"{uri}: 401", fix)
        case 403:
            fix = f"mlflow server --allowed-hosts {httpx.URL(uri).netloc.decode()}"
            return bad("registry", f"{uri}: 403; MLflow does not know this name", fix)
        case _:
            return bad("registry", f"{uri}: {status} for /version", "is this MLflow's address?")


def prometheus(uri: str | None) -> list[Finding]:
    """Prometheus answers and knows the collector; it is optional."""
    if not uri:
        return [
            skipped("prometheus", "no address given", "kedge doctor --prometheus http://prometheus.monitoring:9090")
        ]
    try:
        answer = httpx.get(
            f"{uri.rstrip('/')}/api/v1/query", params={"query": "count(up{job=~'.*collector.*'} == 1)"}, timeout=SECONDS
        )
        found = answer.json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        return [bad("prometheus", f"{uri}: {exc}", "is this Prometheus' address, and may you reach it?")]
    if not found:
        fix = "helm upgrade ... --set serviceMonitor.enabled=true, with the labels your Prometheus selects by"
        return [warning("prometheus", f"{uri} scrapes no collector", fix)]
    return [good("prometheus", f"{uri} scrapes {found[0]['value'][1]} collectors")]
