"""One request to a server that speaks the OpenAI protocol: patient with a busy one, plain about a refusal.

The key is read once from the environment, travels in a header, and is cut out of every text that is said or kept.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from stillwatt.clock import Clock, SystemClock
from stillwatt.errors import EndpointError, RequestRefusedError, UsageError
from stillwatt.pipelines.endpoint_logprobs import first_probabilities, logprob_fields
from stillwatt.pipelines.prompts import Said
from stillwatt.pipelines.spec_endpoint import LEAVABLE, EndpointSpec
from stillwatt.units import NS_PER_S

if TYPE_CHECKING:
    from http.client import HTTPMessage
    from urllib.error import HTTPError

__all__ = ["LONGEST_PAUSE_S", "NO_PROBABILITIES", "Answer", "EndpointClient", "check_answer", "read_key"]

NO_PROBABILITIES = (
    "lower {table}.top_logprobs (many servers tell 5 or 20 at most), or, where it tells no probabilities at all, set "
    'verdicts_by = "text"'
)

_AGAIN = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses of a busy or broken server, those that proxies made up included; any other that is no answer is final."""
_REFUSED = frozenset({400, 413, 422, 451})
"""Statuses of a server that works, and will not do this: what is wrong may be the one prompt."""
_NO_WORK = frozenset({408, 429})
"""Of them, those that say that nothing was generated."""
_FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Of our own; a server may ask for more, up to `_MOST_PATIENT_S`."""
_MOST_PATIENT_S = 600.0
_MOST_BYTES = 16 << 20
_MOST_SAID_BYTES = 1 << 14
_PATHS = {"completions": "/completions", "chat": "/chat/completions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server wrote, and what it says of it; None where it does not say."""

    text: str
    finish: str
    """Why it ended: `stop`, `length`, or the server's own word; empty where it gives none."""
    prompt_tokens: int | None
    generated_tokens: int | None
    model: str
    """Who wrote it, as the server calls it."""
    first: Mapping[str, float] | None = None
    """Probability of each text that the first token might have been, where that was asked for and told."""
    is_refused: bool = False
    """Whether a filter, or the model by the protocol's own field, kept it from answering."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry key and prompts to wherever it points."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


@dataclass(slots=True, eq=False)
class _AskAgain(Exception):
    """No answer from this try."""

    detail: str
    pause_s: float | None = None
    """What the server asks for."""
    may_have_worked: bool = True
    """Whether tokens may have been generated that nobody will tell of."""


class EndpointClient:
    """Asks one server for text; may be used by several threads at once.

    Args:
        spec: The server.
        key: Sent as a bearer token; empty sends none.
        count: Told what happens, by name, as it happens: `requests`, `retries`, `failed_requests`,
            `refused_requests`, and `unanswered_tries`, after which the server may have worked for nothing.
        sleep: Waits so many seconds; `stop` cuts it short where it is ours.
        clock: Tells the time of day for pauses that end at one.
        chance: Numbers between 0 and 1 that spread the pauses of several askers.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        *,
        key: str,
        count: Callable[..., None],
        sleep: Callable[[float], object] | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self.spec, self.url = spec, spec.url + _PATHS[spec.api]
        self._key, self._count = key, count
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._clock: Clock = clock or SystemClock()
        self._chance = chance or random.Random().random
        self._opener = _opener(urlsplit(spec.url).hostname or "")

    def stop(self) -> None:
        """Ask for nothing again: another request has failed for good."""
        self._stopped.set()

    def ask(self, prompt: Said, *, max_tokens: int, temperature: float, top_p: float, seed: int) -> Answer:
        """The text that the server puts behind a prompt, or answers a conversation with.

        Args:
            prompt: A text, which is a user's message where the server chats; or the messages of a conversation.
            max_tokens: Longest answer, in the server's tokens.
            temperature: As the server means it, like `top_p` and `seed`; none is sent that the spec leaves out.
            top_p: See there.
            seed: See there.

        Raises:
            RequestRefusedError: It will not do what this request asks.
            EndpointError: It fails for good, or it gave no usable answer in any of the tries.
        """
        told = {"temperature": temperature, "top_p": top_p, "seed": seed, "n": 1, "stream": False}
        asked = dict(self.spec.extra_body)
        asked |= {name: value for name, value in told.items() if name not in self.spec.leave_out}
        asked |= {"model": self.spec.model, self.spec.length_field: max_tokens, **self._put(prompt)}
        asked |= logprob_fields(self.spec.api, self.spec.top_logprobs)
        self._count(requests=1)
        try:
            return self._patient(json.dumps(asked).encode())
        except RequestRefusedError:
            self._count(refused_requests=1)
            raise
        except EndpointError:
            self._count(failed_requests=1)
            raise

    def _put(self, prompt: Said) -> dict[str, Any]:
        """The prompt as the server's way of asking has it."""
        if isinstance(prompt, str):
            is_chat = self.spec.api == "chat"
            return {"messages": [{"role": "user", "content": prompt}]} if is_chat else {"prompt": prompt}
        if self.spec.api != "chat":
            raise ValueError("a conversation cannot be put to a server that goes on from text")
        return {"messages": [dict(message) for message in prompt]}

    def _patient(self, body: bytes) -> Answer:
        """Ask, and ask again after a pause that grows, and differs from asker to asker (full jitter)."""
        for number in itertools.count():
            try:
                return self._once(body)
            except _AskAgain as err:
                if err.may_have_worked:
                    self._count(unanswered_tries=1)
                own_s = self._chance() * min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**number)
                pause_s = max(own_s, err.pause_s or 0.0)
                if number == self.spec.max_retries or pause_s > _MOST_PATIENT_S or self._stopped.is_set():
                    self._give_up(err, number + 1, pause_s)
            self._sleep(pause_s)
            self._count(retries=1)
        raise AssertionError("unreachable")

    def _give_up(self, err: _AskAgain, tries: int, pause_s: float) -> NoReturn:
        often = "once" if tries == 1 else f"{tries} times"
        if pause_s > _MOST_PATIENT_S:
            cure = f"it asks for a pause of {pause_s:.0f} s; run the recipe again then, it goes on where it stopped"
        else:
            cure = (
                "run the recipe again when the server is well, finished batches are kept; or raise "
                f"{self.spec.table}.max_retries or timeout_s, or lower concurrency"
            )
        raise EndpointError(self.url, f"{err.detail} (asked {often})", cure) from None

    def _once(self, body: bytes) -> Answer:
        from http.client import HTTPException
        from urllib.error import HTTPError

        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "stillwatt"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            request = Request(self.url, data=body, headers=headers, method="POST")
            with self._opener.open(request, timeout=self.spec.timeout_s) as answer:
                data: bytes = answer.read(_MOST_BYTES + 1)
                unread: int = answer.length or 0
        except HTTPError as err:
            with err:
                self._refusal(err)
        except (OSError, HTTPException) as err:
            self._no_answer(err)
        if len(data) > _MOST_BYTES:
            raise EndpointError(
                self.url,
                f"its answer is longer than {_MOST_BYTES} bytes",
                f"let answers be shorter in [{self.spec.asked_in}]",
            )
        if unread:
            raise _AskAgain(f"its answer broke off after {len(data)} bytes")
        return self._read(data)

    def _no_answer(self, err: Exception) -> NoReturn:
        """Nothing came back, or not all of it."""
        reason = getattr(err, "reason", None) or err
        if isinstance(reason, TimeoutError):
            raise _AskAgain(f"no answer within {self.spec.timeout_s:g} s") from None
        if isinstance(reason, ssl.SSLCertVerificationError):
            cure = f"give the certificate's host name in {self.spec.table}.url, or trust its issuer on this machine"
            raise EndpointError(self.url, self._clean(f"its certificate is not trusted ({reason})"), cure) from None
        words = self._clean(f"{type(reason).__name__}: {reason}")
        is_there = not isinstance(reason, ConnectionRefusedError)
        raise _AskAgain(f"the connection failed ({words})", may_have_worked=is_there) from None

    def _refusal(self, err: HTTPError) -> NoReturn:
        """A status that is no answer: to be asked again, or final, with what the server says of it."""
        from http.client import HTTPException

        try:
            whole = _said(err.read(_MOST_SAID_BYTES))
        except (OSError, HTTPException):
            whole = ""
        said = self._clean(whole)
        detail = f"status {err.code}" + (f": {said}" if said else "")
        if err.code in _AGAIN:
            pause_s = _pause_s(err.headers.get("Retry-After"), self._clock)
            raise _AskAgain(detail, pause_s=pause_s, may_have_worked=err.code not in _NO_WORK) from None
        kind = RequestRefusedError if err.code in _REFUSED else EndpointError
        raise kind(self.url, detail, self._cure(err.code, whole)) from None

    def _cure(self, status: int, said: str) -> str:
        table = self.spec.table
        if status in (401, 403):
            name = self.spec.api_key_env
            if name is None:
                return f"it asks for a key: name its environment variable in {table}.api_key_env"
            return f"check the key in the environment variable {name}"
        if status == 404:
            return f"check {table}.url (as a rule it ends in /v1), api and model ({self.spec.model!r})"
        if 300 <= status < 400:
            return "it points to another address, which is not followed, since key and prompts would go along"
        return self._cure_of_request(status, said)

    def _cure_of_request(self, status: int, said: str) -> str:
        """What to change in what is asked, as far as the server says what it does not take."""
        table = self.spec.table
        other = next(name for name in ("max_completion_tokens", "max_tokens") if name != self.spec.length_field)
        if other in said:
            return f"write length_field = {other!r} in [{table}]"
        if self.spec.top_logprobs and "logprobs" in said:
            return NO_PROBABILITIES.format(table=table)
        if status in _REFUSED and (extra := _named(self.spec.extra_body, said)):
            return f"remove {' and '.join(extra)} from {table}.extra_body, or change it"
        if status in _REFUSED and (fields := _named(LEAVABLE, said)):
            names = json.dumps(sorted({*self.spec.leave_out, *fields}))
            return f"write leave_out = {names} in [{table}], which leaves what it names out of the requests"
        return f"it does not take the request: check {table}.model and api, and [{self.spec.asked_in}]"

    def _read(self, data: bytes) -> Answer:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            start = self._clean(data[:200].decode("utf-8", "replace"))
            raise _AskAgain(f"its answer is not JSON: {start!r}") from None
        problem = check_answer(found, self.spec.api)
        if problem:
            raise _AskAgain(f"its answer {problem}: {self._clean(_said(data))}")  # some say there what is wrong
        choice = found["choices"][0]
        text = choice["text"] if self.spec.api == "completions" else (choice["message"].get("content") or "")
        if self._key and self._key in text:
            raise EndpointError(self.url, "its text repeats the key, so it is neither kept nor used")
        usage = found.get("usage")
        return Answer(
            text=text,
            finish=str(choice.get("finish_reason") or ""),
            prompt_tokens=_count(usage, "prompt_tokens"),
            generated_tokens=_count(usage, "completion_tokens"),
            model=self._clean(str(found.get("model") or "")),
            first=first_probabilities(choice),
            is_refused=choice.get("finish_reason") == "content_filter" or bool(_message(choice).get("refusal")),
        )

    def _clean(self, text: str) -> str:
        """A text of the server's without the key, short and on one line."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(text.split())[:200]


def check_answer(found: Any, api: str) -> str:
    """What an answer lacks; empty where text can be taken from it.

    >>> check_answer({"choices": []}, "chat")
    'holds no choices'
    """
    if not isinstance(found, Mapping):
        return "is no JSON object"
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices:
        return "holds no choices"
    choice = choices[0] if isinstance(choices[0], Mapping) else {}
    if api == "completions":
        return "" if isinstance(choice.get("text"), str) else "holds no choices[0].text"
    message = choice.get("message")
    is_text = isinstance(message, Mapping) and isinstance(message.get("content"), str | None)
    return "" if is_text else "holds no choices[0].message.content"


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, Mapping) else {}


def read_key(spec: EndpointSpec) -> str:
    """The key of a server, from the environment; empty where the recipe names no variable.

    Raises:
        UsageError: The variable is not set, or its text cannot be a key; the text is not repeated.
    """
    if spec.api_key_env is None:
        return ""
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"the environment variable {spec.api_key_env}, which {spec.table}.api_key_env names, is not set; set it "
            f"to the key for {spec.url}"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        # http.client would repeat it in its own refusal
        raise UsageError(f"the environment variable {spec.api_key_env} holds what cannot be a key (one line of ASCII)")
    return key


def _said(body: bytes) -> str:
    """What a refusal says of itself: the message of the protocol's error, else all of it."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = found.get("error", found) if isinstance(found, Mapping) else found
    message = error.get("message") if isinstance(error, Mapping) else error
    return message if isinstance(message, str) else text


def _named(fields: Iterable[str], said: str) -> list[str]:
    """Which fields of a request a refusal names, in quotes, or as words that are nothing else.

    >>> _named(LEAVABLE, "'n' and top_p are not supported: n can be 1"), _named(LEAVABLE, "no seeds in n rows")
    (['top_p', 'n'], [])
    """
    return [
        name
        for name in fields
        if re.search(rf"""["'`]{re.escape(name)}["'`]""" + (rf"|\b{re.escape(name)}\b" if len(name) > 1 else ""), said)
    ]


def _count(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _pause_s(said: str | None, clock: Clock) -> float | None:
    """Seconds of a `Retry-After`, a number or a date; None where it gives neither."""
    if not said:
        return None
    if said.strip().isdecimal():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - clock.utc_ns() / NS_PER_S)


def _opener(host: str) -> OpenerDirector:
    """Proxies of the environment for other machines, none for this one."""
    is_here = host == "localhost" or host.startswith("127.") or host == "::1"
    return build_opener(_NoRedirect, *([ProxyHandler({})] if is_here else []))
