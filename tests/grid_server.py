"""A grid service on loopback: answers as the public documentation of each API shows them, and those of busy servers.

    with GridServer() as server:
        server.answers["/carbon-intensity/past-range"] = [json_answer({...})]

Each path answers with its list in order, the last one again and again; every request is kept with its headers.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    stall_s: float = 0.0
    """Between headers and body."""


@dataclass(frozen=True)
class Asked:
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]


Answerer = Callable[[Asked], Reply]


def json_reply(data: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status=status, body=json.dumps(data).encode(), headers=headers)


class GridServer:
    def __init__(self) -> None:
        self.answers: dict[str, Sequence[Reply] | Answerer] = {}
        self.asked: list[Asked] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = Asked(parts.path, parse_qs(parts.query), {k.lower(): v for k, v in self.headers.items()})
                owner.asked.append(asked)
                reply = owner.reply(asked)
                if reply.delay_s:
                    time.sleep(reply.delay_s)
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    if reply.stall_s:
                        time.sleep(reply.stall_s)
                    self.wfile.write(reply.body)
                except OSError:
                    pass  # whoever asked did not wait

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def reply(self, asked: Asked) -> Reply:
        found = self.answers.get(asked.path)
        if found is None:
            return Reply(status=404, body=b"no such path")
        if callable(found):
            return found(asked)
        number = sum(one.path == asked.path for one in self.asked) - 1
        return found[min(number, len(found) - 1)]

    def __enter__(self) -> GridServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


def generation(
    series: Mapping[str, Sequence[float]],
    start: str,
    end: str,
    *,
    resolution: str = "PT60M",
    curve: str = "A01",
    consumed: Mapping[str, Sequence[float]] | None = None,
) -> Reply:
    """A document A75: power by type of plant, in MW."""
    blocks = [_series(kind, values, start, end, resolution, curve, "in") for kind, values in series.items()]
    blocks += [_series(kind, values, start, end, resolution, curve, "out") for kind, values in (consumed or {}).items()]
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<GL_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0">'
        "<mRID>1</mRID><type>A75</type><process.processType>A16</process.processType>"
        f"{''.join(blocks)}</GL_MarketDocument>"
    )
    return Reply(body=text.encode())


def acknowledgement(code: str, text: str) -> Reply:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0">'
        f"<Reason><code>{code}</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>"
    )
    return Reply(body=body.encode())


def _series(kind: str, values: Sequence[float], start: str, end: str, resolution: str, curve: str, way: str) -> str:
    points = "".join(
        f"<Point><position>{number}</position><quantity>{value}</quantity></Point>"
        for number, value in enumerate(values, start=1)
        if value == value
    )
    return (
        f"<TimeSeries><mRID>1</mRID><{way}BiddingZone_Domain.mRID codingScheme='A01'>10YFR-RTE------C"
        f"</{way}BiddingZone_Domain.mRID><quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name>"
        f"<curveType>{curve}</curveType><MktPSRType><psrType>{kind}</psrType></MktPSRType>"
        f"<Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{points}</Period></TimeSeries>"
    )
