"""How a grid service is asked: https, limits of time and size, patience with busy servers, and no key in any text."""

from __future__ import annotations

import base64
import ipaddress
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from stillwatt.clock import Clock, SystemClock, iso_utc
from stillwatt.errors import GridError, UsageError
from stillwatt.grids.answers import AnswerStore, describe
from stillwatt.records.grid import Answer

if TYPE_CHECKING:
    from http.client import HTTPMessage
    from urllib.error import HTTPError

_MOST_BYTES = 16 << 20
_TRIES = 4
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
"""A service that wants a longer pause is asked another time, by somebody who knows."""
_LEAST_KEY = 8
"""A shorter text may stand in an answer by chance."""
_BUSY = frozenset({429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403})

Pairs = Sequence[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class Access:
    """What opens a service. Its repr says nothing, so that no traceback or log can."""

    cure: str = ""
    """Which environment variables hold the key; said where the service refuses it."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that are cut out of whatever a service says."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to wherever it points."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


class GridWeb:
    """One service's address.

    Args:
        source: its name, for errors.
        url: `https://`; `http://` only on this machine.
        access: keys.
        store: where answers are kept; None keeps none.
        is_offline: whether only kept answers may be used.
        clock: gives the time of each answer.
        sleep: waits between tries.
        timeout_s: of each try.
    """

    def __init__(
        self,
        source: str,
        url: str,
        *,
        access: Access | None = None,
        store: AnswerStore | None = None,
        is_offline: bool = False,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        timeout_s: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        is_here = _is_loopback(parts.hostname or "")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
            raise UsageError(f"grid source {source!r}: {url!r} is no https address (http only on this machine)")
        if parts.username or parts.password:
            raise UsageError(f"grid source {source!r}: give keys as environment variables, not in the address")
        self.source, self.url = source, url.rstrip("/")
        self.access = access or Access()
        self._store, self._is_offline, self._timeout_s = store, is_offline, timeout_s
        self._clock: Clock = clock or SystemClock()
        self._sleep = sleep
        self._opener = _opener(is_here)

    def get(
        self, path: str, query: Pairs = (), *, end_utc_ns: int, before: Callable[[], None] | None = None
    ) -> tuple[bytes, Answer]:
        """The answer to a question about a period, kept or fresh.

        Args:
            path: below the address.
            query: what is asked, without keys.
            end_utc_ns: end of the period: an answer given soon after it is asked for again.
            before: run before the network is asked, e.g. to log in.

        Raises:
            GridError: no answer, or a refusal.
        """
        request = f"{self.url}{path}" + (f"?{urlencode(list(query))}" if query else "")
        kept = self._store.find(request) if self._store else None
        if kept is not None and (self._is_offline or kept.is_settled(end_utc_ns)):
            return kept.body, kept.answer
        if self._is_offline:
            raise GridError(self.source, f"no kept answer to {request}", "ask once without --offline")
        if before is not None:
            before()
        return self._fresh(request)

    def ask(self, path: str, *, user: str = "", password: str = "") -> bytes:
        """An answer that is not kept, e.g. a token.

        Raises:
            GridError: no answer, or a refusal.
        """
        headers = dict(self.access.headers)
        if user:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return self._patient(f"{self.url}{path}", headers)

    def json(self, body: bytes) -> Any:
        """A body as JSON values.

        Raises:
            GridError: it is none.
        """
        try:
            return json.loads(body)
        except ValueError:
            raise GridError(self.source, "its answer is not JSON", "ask again later") from None

    def clean(self, text: str) -> str:
        """A text of the service's without any key, on one line."""
        for secret in self.access.secrets:
            text = text.replace(secret, "***") if secret else text
        return " ".join(text.split())[:200]

    def _fresh(self, request: str) -> tuple[bytes, Answer]:
        body = self._patient(request, self.access.headers)
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise GridError(self.source, "its answer is not UTF-8 text") from None
        if any(secret.encode() in body for secret in self.access.secrets if len(secret) >= _LEAST_KEY):
            raise GridError(self.source, "its answer repeats the key, so it is neither kept nor used")
        fetched_utc = iso_utc(self._clock.utc_ns())
        if self._store is not None:
            return body, self._store.keep(request, body, fetched_utc)
        return body, describe(request, body, fetched_utc)

    def _patient(self, request: str, headers: Mapping[str, str]) -> bytes:
        """Ask, and ask again where the service is busy, each time after a longer pause."""
        wait_s, number = _FIRST_WAIT_S, 0
        while True:
            number += 1
            found = self._once(request, headers)
            if isinstance(found, bytes):
                return found
            asked_s = found.wait_s if found.wait_s is not None else wait_s
            if number == _TRIES or asked_s > _LONGEST_WAIT_S:
                more = f"; it asks for a pause of {asked_s:.0f} s" if asked_s > _LONGEST_WAIT_S else ""
                tries = "once" if number == 1 else f"{number} times"
                raise GridError(self.source, f"{found.detail}, asked {tries}{more}", "ask again later")
            self._sleep(asked_s)
            wait_s *= 2.0

    def _once(self, request: str, headers: Mapping[str, str]) -> bytes | _Busy:
        from http.client import HTTPException
        from urllib.error import HTTPError

        url = request
        if self.access.query:
            url += ("&" if "?" in request else "?") + urlencode(self.access.query)
        try:
            with self._opener.open(Request(url, headers=dict(headers)), timeout=self._timeout_s) as answer:
                data: bytes = answer.read(_MOST_BYTES + 1)
        except HTTPError as err:
            with err:
                return self._status(err, request)
        except TimeoutError:
            return _Busy(detail=f"no answer within {self._timeout_s:g} s from {request}")
        except (OSError, HTTPException) as err:
            reason = getattr(err, "reason", None) or err
            if isinstance(reason, TimeoutError):
                return _Busy(detail=f"no answer within {self._timeout_s:g} s from {request}")
            return _Busy(detail=self.clean(f"cannot be reached ({reason}) at {request}"))
        if len(data) > _MOST_BYTES:
            raise GridError(self.source, f"its answer is longer than {_MOST_BYTES} bytes", "ask for fewer days")
        return data

    def _status(self, err: HTTPError, request: str) -> _Busy:
        """A busy server, to be asked again; or the error that says what was refused."""
        if err.code in _BUSY:
            return _Busy(detail=f"status {err.code} for {request}", wait_s=_pause_s(err.headers.get("Retry-After")))
        if err.code in _REFUSED:
            raise GridError(self.source, f"refuses the key (status {err.code}) for {request}", self.access.cure)
        said = self._said(err)
        if 300 <= err.code < 400:
            said = "it points to another address, which is not followed, since the key would go along"
        raise GridError(self.source, f"status {err.code} for {request}" + (f": {said}" if said else ""))

    def _said(self, err: HTTPError) -> str:
        """What a refusal says of itself; nothing where it breaks off."""
        from http.client import HTTPException

        try:
            return self.clean(err.read(2_000).decode("utf-8", "replace"))
        except (OSError, HTTPException):
            return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Busy:
    """No answer yet."""

    detail: str
    wait_s: float | None = None


def _pause_s(said: str | None) -> float | None:
    """Seconds of a `Retry-After`; None where it gives none."""
    return float(said) if said and said.strip().isdecimal() else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _opener(is_here: bool) -> OpenerDirector:
    """Proxies of the environment for the internet, none for this machine."""
    return build_opener(_NoRedirect, *([ProxyHandler({})] if is_here else []))
