"""A server on loopback that speaks as much of the OpenAI protocol as the tests need; standard library only.

What it answers follows from the `model` that is asked for: a number is the status of an error, and a name with `-dies`
in it breaks the connection in the middle of a stream.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT, GENERATED, CACHED, REASONING = 7, 4, 2, 1

_CHAT_USAGE = {
    "prompt_tokens": PROMPT,
    "completion_tokens": GENERATED,
    "total_tokens": PROMPT + GENERATED,
    "prompt_tokens_details": {"cached_tokens": CACHED},
    "completion_tokens_details": {"reasoning_tokens": REASONING},
}
_RESPONSE_USAGE = {
    "input_tokens": PROMPT,
    "output_tokens": GENERATED,
    "total_tokens": PROMPT + GENERATED,
    "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": REASONING},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = str(asked["model"])
        if model.isdigit():
            self._send(int(model), {"error": {"message": "made up", "type": "test", "code": None}})
        elif asked.get("stream"):
            self._stream(asked, model)
        else:
            self._send(200, _answer(self.path, with_usage="silent" not in model))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, asked: dict[str, Any], model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(_events(self.path, asked, model)):
            if number == 2 and "-dies" in model:
                self.close_connection = True
                self.connection.close()
                return
            self._chunk(event)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        body = text.encode()
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()


def _answer(path: str, *, with_usage: bool) -> dict[str, Any]:
    if path.endswith("/embeddings"):
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        told = {"prompt_tokens": PROMPT, "total_tokens": PROMPT}
        return {"object": "list", "data": vectors, "model": "tiny", "usage": told}
    if path.endswith("/responses"):
        message = {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "four words of answer", "annotations": []}],
        }
        usage = {"usage": _RESPONSE_USAGE} if with_usage else {}
        base = {"id": "r1", "object": "response", "created_at": 1, "model": "tiny", "status": "completed"}
        return {**base, "output": [message], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], **usage}
    is_chat = path.endswith("/chat/completions")
    message_of_chat = {"role": "assistant", "content": "four words of answer"}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    choice |= {"message": message_of_chat} if is_chat else {"text": "four words of answer"}
    kind = "chat.completion" if is_chat else "text_completion"
    usage = {"usage": _CHAT_USAGE} if with_usage else {}
    return {"id": "c1", "object": kind, "created": 1, "model": "tiny", "choices": [choice], **usage}


def _events(path: str, asked: dict[str, Any], model: str) -> Iterator[str]:
    if path.endswith("/responses"):
        delta = {"type": "response.output_text.delta", "delta": "word ", "item_id": "m1", "output_index": 0}
        for number in range(3):
            yield _event({**delta, "content_index": 0, "sequence_number": number, "logprobs": []})
        response = _answer(path, with_usage="silent" not in model)
        yield _event({"type": "response.completed", "sequence_number": 3, "response": response})
        return
    kind = "chat.completion.chunk" if path.endswith("/chat/completions") else "text_completion"
    base = {"id": "c1", "object": kind, "created": 1, "model": "tiny"}
    for number in range(3):
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if number == 2 else None, "logprobs": None}
        choice |= {"delta": {"role": "assistant", "content": "word "}} if "chat" in kind else {"text": "word "}
        yield _event({**base, "choices": [choice]})
    if asked.get("stream_options", {}).get("include_usage"):
        yield _event({**base, "choices": [], "usage": _CHAT_USAGE})
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" if "type" in body else f"data: {json.dumps(body)}\n\n"


@contextmanager
def chat_server() -> Iterator[str]:
    """The server while the block runs; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
