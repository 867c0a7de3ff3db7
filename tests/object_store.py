"""A real S3 server (moto's), and a proxy before it that injects faults into answers."""

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

BUCKET = "data"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
CODES = {500: "InternalError", 503: "SlowDown", 403: "SignatureDoesNotMatch"}


@dataclass
class Fault:
    """What happens to the next `times` requests whose line contains all of `words`."""

    kind: int | str  # a status, "cut" (half of the body), "slow" (no answer for `seconds`)
    words: tuple[str, ...] = ()
    times: int = 1
    seconds: float = 0.0


@dataclass
class ObjectStore:
    """The server behind the proxy. `requests` are (method, path, bytes sent) of all requests so far."""

    host: str
    port: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""  # of the proxy
    slow: int = 0  # requests that wait for the seconds of a fault
    together: int = 0  # the most that waited at the same time

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[http.client.HTTPResponse, bytes]:
        """A request to the server itself."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        connection.request(method, path, body, {"Authorization": SIGNED})
        answer = connection.getresponse()
        return answer, answer.read()

    def put(self, key: str, content: bytes) -> None:
        assert self.ask("PUT", f"/{BUCKET}/{quote(key)}", content)[0].status == 200

    def upload(self, folder: Path, prefix: str) -> str:
        """Put the files of a folder into the bucket; returns their URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def reads(self, word: str = "") -> list[tuple[str, str, int]]:
        """The requests for content of objects."""
        return [one for one in self.requests if one[0] == "GET" and "?" not in one[1] and word in one[1]]

    def due(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and all(word in line for word in fault.words):
                    fault.times -= 1
                    return fault
        return None

    def wait(self, seconds: float) -> None:
        with self.lock:
            self.slow += 1
            self.together = max(self.together, self.slow)
        time.sleep(seconds)
        with self.lock:
            self.slow -= 1


@contextmanager
def running() -> Iterator[ObjectStore]:
    """A store with an empty bucket."""
    os.environ.setdefault("MOTO_S3_CUSTOM_ENDPOINTS", "")
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    store = ObjectStore(*server.get_host_and_port())
    store.ask("PUT", f"/{BUCKET}")
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store))
    proxy.daemon_threads = True
    store.url = f"http://127.0.0.1:{proxy.server_address[1]}"
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fault = store.due(f"{self.command} {self.path}")
            kind = fault.kind if fault else ""
            if kind == "slow":
                store.wait(fault.seconds)
            if isinstance(kind, int):
                return self.refuse(kind)
            connection = http.client.HTTPConnection(store.host, store.port, timeout=20)
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in answer.getheaders()}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)
            store.requests.append((self.command, self.path, len(body)))
            if kind == "cut":
                self.wfile.flush()
                self.close_connection = True

        do_HEAD = do_GET

        def refuse(self, status: int) -> None:
            body = b"" if self.command == "HEAD" else f"<Error><Code>{CODES[status]}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/xml")
            self.end_headers()
            self.wfile.write(body)
            store.requests.append((self.command, self.path, 0))

        def log_message(self, *_: object) -> None:
            pass

    return Handler
