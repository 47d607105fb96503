"""The real service opens no URL that a request names, however the request is formed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.serving import Service

pytestmark = pytest.mark.integration

PATH = "/score_batch"
ROUNDS = 2
FORM = "multipart/form-data; boundary=b"
CSV = b"user_id,event_time,event_type\r\nu,2025-01-01T00:00:00Z,search"


class Listener:
    """A loopback port that counts connections and responses each with one line."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if connection.recv(1024) == b"stop":
                    return
                self.connections += 1
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def form_part(disposition: str, content: bytes) -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def variants(url: str) -> list[tuple[list[tuple[str, str]], bytes]]:
    """Headers and bodies that name the URL where a file is expected."""
    text, file = form_part('name="file"', url.encode()), form_part('name="file"; filename="a.csv"', CSV)
    end = b"--b--\r\n"
    mapping = f"extends: rees46\njoin: {{file: '{url}', on: {{product_id: id}}, columns: [name]}}\n"
    forms = [
        text + end,
        form_part("name=file", url.encode()) + end,
        form_part('name="file"', json.dumps(url).encode()) + end,
        form_part('name="file"', f"'{url}'".encode()) + end,
        form_part('name="file"; filename=""', url.encode()) + end,
        form_part("name=\"file\"; filename*=utf-8''a.csv", url.encode()) + end,
        text + text + end,
        text + file + end,
        file + text + end,
        file + form_part('name="source"', b"canonical") + text + end,
        file + form_part('name="file"; filename="b.csv"', CSV) + end,
        form_part('name="url"', url.encode()) + end,
        form_part('name="source"; filename="s"', url.encode()) + file + end,
        file + form_part('name="mapping"', url.encode()) + end,
        file + form_part('name="mapping"; filename="m.yaml"', url.encode()) + end,
        file + form_part('name="mapping"', mapping.encode()) + end,
        text + form_part('name="mapping"', b"extends: rees46") + end,
        file + text[:40],
        url.encode(),
    ]
    encoded = f"file={quote(url, safe='')}".encode()
    urlencoded, as_json = "application/x-www-form-urlencoded", "application/json"
    return [
        *(([("content-type", FORM)], form) for form in forms),
        ([("content-type", f"{FORM}; charset=utf-7")], form_part('name="+AGYAaQBsAGU-"', url.encode()) + end),
        ([("content-type", FORM), ("content-type", urlencoded)], encoded),
        ([("content-type", urlencoded), ("content-type", FORM)], encoded),
        ([("content-type", urlencoded), ("content-type", FORM)], text + end),
        ([("content-type", urlencoded)], encoded),
        ([("content-type", as_json)], json.dumps({"file": url}).encode()),
        ([("content-type", as_json)], json.dumps(url).encode()),
        ([("content-type", "application/vnd.bentoml+pickle")], url.encode()),
        ([("content-type", "text/plain")], url.encode()),
        ([], url.encode()),
    ]


async def send_all(base_url: str, port: int) -> list[httpx.Response]:
    urls = [f"http://127.0.0.1:{port}/", f"http://localhost:{port}/a.csv", f"http://2130706433:{port}/"]
    limits = httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60, trust_env=False) as client:
        requests = [
            client.build_request("POST", PATH, headers=headers, content=body)
            for _ in range(ROUNDS)
            for url in urls
            for headers, body in variants(url)
        ]
        return list(await asyncio.gather(*(client.send(request) for request in requests)))


def test_no_url_of_a_request_is_opened(registered_service: Service, listener: Listener) -> None:
    responses = asyncio.run(send_all(registered_service.url, listener.port))
    accepted = registered_service.client.post(PATH, files={"file": ("a.csv", CSV)})
    time.sleep(1.0)
    assert len(responses) >= 60
    assert {response.status_code for response in responses} == {422}
    assert {response.headers["content-type"] for response in responses} == {"application/problem+json"}
    assert all(response.json()["remedy"] for response in responses)
    assert not any("secret" in response.text for response in responses)
    assert listener.connections == 0
    assert (accepted.status_code, accepted.json()["state"]) == (202, "queued")
