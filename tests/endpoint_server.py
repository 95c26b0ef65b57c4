"""A server on loopback that speaks the OpenAI protocol's two ways of asking for text, and misbehaves as it is told.

Its text is a function of prompt and seed, so that who resumes gets what who did not would have got.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ("the", "river", "holds", "a", "stone", "and", "nobody", "asks", "why", "it", "sleeps", "there")


@dataclass(frozen=True)
class Behaviour:
    """What becomes of a request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    """In the place of an answer."""
    breaks: str = ""
    """`hang` says nothing, `reset` breaks the connection off, `torn` sends half of an answer."""
    usage: bool = True
    finish: str = "stop"
    text: str | None = None


OK = Behaviour()


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What is to be continued or answered."""
        found = self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"]
        return str(found)


@dataclass
class EndpointServer:
    """What a test sees of the server."""

    url: str = ""
    behave: Callable[[int, Asked], Behaviour] = lambda _number, _asked: OK
    """Called with the request's number, from 0, and the request."""
    asked: list[Asked] = field(default_factory=list)
    generated: int = 0
    """Tokens of all answers that were sent."""
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    """Ends what hangs."""


def written(prompt: str, seed: int, max_tokens: int) -> str:
    """The text behind a prompt."""
    digest = hashlib.sha256(f"{seed}/{prompt}".encode()).digest()
    return "".join(f" {WORDS[byte % len(WORDS)]}" for byte in digest[: max(1, min(max_tokens, 8))])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    state: EndpointServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def state(self) -> EndpointServer:
        return self.server.state

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(path=self.path, headers=dict(self.headers), body=body)
        with self.state.lock:
            number = len(self.state.asked)
            self.state.asked.append(asked)
            self.state.at_once += 1
            self.state.most_at_once = max(self.state.most_at_once, self.state.at_once)
        try:
            how = self.state.behave(number, asked)
        finally:
            with self.state.lock:
                self.state.at_once -= 1
        self._act(how, asked, number)

    def _act(self, how: Behaviour, asked: Asked, number: int) -> None:
        if how.breaks == "hang":
            self.state.released.wait()
        if how.breaks in ("hang", "reset"):
            # no FIN: who asked sees a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        data = (how.body if how.body is not None else self._answer(how, asked, number)).encode("utf-8", "surrogatepass")
        self.send_response(how.status)
        for name, value in how.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if how.breaks == "torn" else data)
        self.close_connection = True

    def _answer(self, how: Behaviour, asked: Asked, number: int) -> str:
        if how.status != 200:
            return json.dumps({"error": {"message": f"made up {how.status}", "type": "test"}})
        most = asked.body["max_tokens" if "max_tokens" in asked.body else "max_completion_tokens"]
        text = written(asked.prompt, asked.body.get("seed", number), most) if how.text is None else how.text
        is_chat = asked.path.endswith("/chat/completions")
        choice: dict[str, Any] = {"index": 0, "finish_reason": how.finish}
        choice |= {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        answer: dict[str, Any] = {"id": "x", "model": f"{asked.body['model']}-0001", "choices": [choice]}
        generated = len(text.split()) + 1
        if how.usage:
            answer["usage"] = {"prompt_tokens": len(asked.prompt.split()) + 1, "completion_tokens": generated}
            with self.state.lock:
                self.state.generated += generated
        return json.dumps(answer)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the connection was broken off on purpose
            self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()


@contextmanager
def endpoint_server(behave: Callable[[int, Asked], Behaviour] | None = None) -> Iterator[EndpointServer]:
    """The server, until the block ends."""
    state = EndpointServer()
    if behave is not None:
        state.behave = behave

    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
