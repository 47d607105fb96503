"""A local HTTP server that receives alerts as Apprise's `json://` sends them."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class AlertReceiver:
    """The messages that arrived, by path; `refuse_with` is the HTTP status of all answers if set."""

    port: int = 0
    refuse_with: int | None = None
    received: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def url(self, path: str) -> str:
        """Apprise's URL of a path."""
        return f"json://127.0.0.1:{self.port}/{path}"

    def titles(self, path: str) -> list[str]:
        """Titles that arrived at a path, in order."""
        return [message["title"] for message in self.received[path]]


@contextmanager
def alert_receiver() -> Iterator[AlertReceiver]:
    """A receiver on a free port."""
    receiver = AlertReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.refuse_with is None:
                receiver.received[self.path.strip("/")].append(body)
            self.send_response(receiver.refuse_with or 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield receiver
        server.shutdown()
