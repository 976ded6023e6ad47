"""Google Cloud Storage (its XML interface) and Azure Blob Storage on loopback: the requests that their clients make.

Identities, conditions, pages, ranges and parts are theirs; S3 is moto's.

``python -m tests.clouds`` serves them until it is ended.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

BUCKET, ACCOUNT, TOKEN, PAGE = "depot", "bank", "good-token", 3


class Clouds(ThreadingHTTPServer):
    """What is stored: one bucket of each, as key -> bytes, the number of its last change and its time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, dict[str, tuple[bytes, int, datetime]]] = {"google": {}, "azure": {}}
        self.parts: dict[tuple[str, str], bytes] = {}
        self.changes, self.lock = 0, threading.Lock()
        self.issues, self.refuses = TOKEN, False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def google(self) -> dict[str, str]:
        """Variables of a pod with workload identity."""
        return {"GOOGLE_BASE_URL": self.address, "GCE_METADATA_HOST": f"127.0.0.1:{self.server_port}"}

    def azure(self, folder: Path) -> dict[str, str]:
        """Variables that the webhook of Azure's workload identity gives a pod, and the account."""
        (folder / "token").write_text("of the pod")
        return {
            "AZURE_STORAGE_ENDPOINT": f"{self.address}/{ACCOUNT}",
            "AZURE_AUTHORITY_HOST": self.address,
            "AZURE_TENANT_ID": "tenant",
            "AZURE_CLIENT_ID": "client",
            "AZURE_FEDERATED_TOKEN_FILE": str(folder / "token"),
        }


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of an empty bucket of ``s3``, ``gs`` or ``abfss``, and the variables that lead to it."""
    if kind == "s3":
        with _s3() as variables:
            yield f"s3://{BUCKET}", variables
        return
    with serving() as server:
        if kind == "gs":
            yield f"gs://{BUCKET}", server.google()
        else:
            yield f"abfss://{BUCKET}@{ACCOUNT}.dfs.core.windows.net", server.azure(folder)


@contextmanager
def _s3() -> Iterator[dict[str, str]]:
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: Any, start: Any) -> Any:
        with lock:  # of moto's own conditions two at once may hold
            return list(app(environ, start))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    where = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    session = boto3.Session("test", "test", region_name="us-east-1")
    session.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    try:
        yield {**credentials, **where}
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving() -> Iterator[Clouds]:
    server = Clouds()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Clouds

    def log_message(self, *_: object) -> None:
        pass

    def _request(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.body = self._read_body()
        if "oauth2" in parts.path or parts.path.startswith("/computeMetadata"):
            self._answer(
                200,
                json.dumps({"access_token": self.server.issues, "expires_in": 3600, "token_type": "Bearer"}).encode(),
            )
            return
        names = unquote(parts.path).lstrip("/").split("/", 2 if parts.path.startswith(f"/{ACCOUNT}/") else 1)
        self.cloud = "azure" if names[0] == ACCOUNT else "google"
        bucket, key = [*names[1 if self.cloud == "azure" else 0 :], ""][:2]
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            given = "Authorization" in self.headers
            self._fault(403 if self.cloud == "azure" else 401, "AuthenticationFailed" if given else "NoCredentials")
        elif self.server.refuses:
            self._fault(403, "AccessDenied")
        elif bucket != BUCKET:
            self._fault(404, "ContainerNotFound" if self.cloud == "azure" else "NoSuchBucket")
        else:
            with self.server.lock:
                self.held = self.server.objects[self.cloud]
                self._act(key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._request
        raise AttributeError(name)

    def _act(self, key: str) -> None:
        if not key:
            self._batch() if self.command == "POST" else self._list()
        elif self.command in ("GET", "HEAD"):
            self._read(key)
        elif self.command == "DELETE":
            self._answer(202 if self.cloud == "azure" else 204) if self.held.pop(key, None) else self._absent()
        elif "uploads" in self.query:
            self._answer(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        elif "partNumber" in self.query or self.query.get("comp") == "block":
            number = self.query.get("partNumber") or self.query["blockid"]
            self.server.parts[key, number] = self.body
            self._answer(201 if self.cloud == "azure" else 200, ETag=f'"{number}"')
        else:
            self._write(key)

    def _write(self, key: str) -> None:
        there = self.held.get(key)
        if self.cloud == "azure" and self.headers.get("If-None-Match") == "*" and there:
            self._fault(409, "BlobAlreadyExists")
            return
        expected = self.headers.get("If-Match") or self.headers.get("x-goog-if-generation-match")
        if expected is not None and expected.strip('"') != str(there[1] if there else 0):
            self._fault(412, "ConditionNotMet" if self.cloud == "azure" else "PreconditionFailed")
            return
        copied = self.headers.get("x-goog-copy-source")
        data = self.held[unquote(copied).split("/", 1)[1]][0] if copied else self.body
        if "uploadId" in self.query or self.query.get("comp") == "blocklist":
            tags = ("PartNumber", "Latest", "Uncommitted", "BlockList")
            names = [item.text for item in ElementTree.fromstring(self.body).iter() if item.tag.split("}")[-1] in tags]
            data = b"".join(self.server.parts.pop((key, str(name))) for name in names if name and name.strip())
        self.server.changes += 1
        self.held[key] = (data, self.server.changes, datetime.now(UTC))
        tag = f'"{self.server.changes}"'
        body = f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>".encode()
        extra = {
            "ETag": tag,
            "Last-Modified": _written(self.held[key][2]),
            "x-goog-generation": str(self.server.changes),
        }
        self._answer(201 if self.cloud == "azure" else 200, body if "uploadId" in self.query else b"", **extra)

    def _read(self, key: str) -> None:
        if key not in self.held:
            self._absent()
            return
        data, change, at = self.held[key]
        extra = {"ETag": f'"{change}"', "Last-Modified": _written(at), "x-goog-generation": str(change)}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or self.headers.get("x-ms-range") or "")
        if asked is None:
            self._answer(200, data, **extra)
            return
        first = int(asked[1]) if asked[1] else max(len(data) - int(asked[2]), 0)
        last = min(int(asked[2]), len(data) - 1) if asked[1] and asked[2] else len(data) - 1
        if first >= len(data):
            self._fault(416, "InvalidRange")
            return
        self._answer(206, data[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(data)}", **extra})

    def _list(self) -> None:
        """A page of at most PAGE names."""
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        after = self.query.get("marker") or self.query.get("continuation-token") or ""
        entries: dict[str, str | None] = {}
        for key in sorted(key for key in self.held if key.startswith(prefix)):
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            entries[f"{prefix}{head}/" if cut else key] = None if cut else key
        first = self.query.get("startFrom", "")  # Azure's is part of the answer, Google's is not
        after = after or self.query.get("start-after", "")
        names = [name for name in entries if name > after and name >= first]
        page, more = names[:PAGE], names[PAGE - 1] if len(names) > PAGE else ""
        make = self._azure_page if self.cloud == "azure" else self._google_page
        self._answer(200, make([(name, entries[name]) for name in page], more).encode())

    def _google_page(self, page: list[tuple[str, str | None]], more: str) -> str:
        items = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            if key is None
            else f"<Contents><Key>{escape(name)}</Key><Size>{len(self.held[key][0])}</Size>"
            f'<LastModified>{self.held[key][2].isoformat()}</LastModified><ETag>"{self.held[key][1]}"</ETag></Contents>'
            for name, key in page
        )
        token = f"<NextContinuationToken>{escape(more)}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult><Name>{BUCKET}</Name>{items}{token}</ListBucketResult>"

    def _azure_page(self, page: list[tuple[str, str | None]], more: str) -> str:
        items = "".join(
            f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
            if key is None
            else f"<Blob><Name>{escape(name)}</Name><Properties>"
            f"<Last-Modified>{_written(self.held[key][2])}</Last-Modified><Etag>{self.held[key][1]}</Etag><Content-Length>{len(self.held[key][0])}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
            for name, key in page
        )
        return f"<EnumerationResults><Blobs>{items}</Blobs><NextMarker>{escape(more)}</NextMarker></EnumerationResults>"

    def _batch(self) -> None:
        """Azure's deletion of several blobs by one request of parts, which are requests themselves."""
        answers = []
        for number, path in re.findall(rb"Content-ID: (\d+)\r\n.*?DELETE (\S+) HTTP/1.1", self.body, re.DOTALL):
            key = unquote(urlsplit(path.decode()).path).split(f"/{BUCKET}/", 1)[1]
            status = "202 Accepted" if self.held.pop(key, None) else "404 The specified blob does not exist."
            code = "" if status[0] == "2" else "x-ms-error-code: BlobNotFound\r\n"
            head = f"--b\r\nContent-Type: application/http\r\nContent-ID: {number.decode()}\r\n\r\n"
            answers.append(f"{head}HTTP/1.1 {status}\r\n{code}x-ms-request-id: 1\r\nServer: here\r\n\r\n")
        body = ("".join(answers) + "--b--\r\n").encode()
        self._answer(202, body, **{"Content-Type": "multipart/mixed; boundary=b"})

    def _absent(self) -> None:
        self._fault(404, "BlobNotFound" if self.cloud == "azure" else "NoSuchKey")

    def _fault(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{code}.\nRequestId:1</Message></Error>"
        self._answer(status, body.encode(), **{"x-ms-error-code": code})

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def _written(at: datetime) -> str:
    return format_datetime(at, usegmt=True)


if __name__ == "__main__":
    with serving() as served:
        print(served.address)
        threading.Event().wait()
