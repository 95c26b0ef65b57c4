"""JSON documents of instruments on the network: limits of time and size, and no secret in any error."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from stillwatt.errors import UsageError
from stillwatt.sensors.slow import FetchError
from stillwatt.sensors.web_login import Login

if TYPE_CHECKING:
    from http.client import HTTPResponse

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
_MOST_DIGITS = 30
_WANTS_LOGIN = 401


class JsonSource:
    """One address that answers with JSON.

    Args:
        driver: Whose address it is, for errors.
        url: `http://` or `https://`; no user name or password in it.
        user_env: Environment variables that hold user name and password, where the instrument wants them.
        password_env: See `user_env`.
        token_env: Instead: an environment variable that holds a token.
        verify: Whether an https certificate is checked; False only for a device with a certificate of its own making.
        ca_file: A certificate authority to trust beside the system's.

    Raises:
        UsageError: an address that cannot be meant, or an environment variable that is not set.
    """

    def __init__(
        self,
        driver: str,
        url: str,
        *,
        user_env: str = "",
        password_env: str = "",
        token_env: str = "",
        verify: bool = True,
        ca_file: str | None = None,
    ) -> None:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"sensor {driver!r}: {url!r} is not an http address")
        if parts.username or parts.password:
            raise UsageError(f"sensor {driver!r}: give user and password as environment variables, not in the address")
        self.url = url
        self._login = Login(driver, user_env=user_env, password_env=password_env, token_env=token_env)
        self._context = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=ca_file)
            except OSError as err:
                raise UsageError(f"sensor {driver!r}: the certificates of {ca_file!r} cannot be used ({err})") from err
            if not verify:
                self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def get(self, path: str = "") -> Any:
        """The document at the address, or at a path below it; its fractions are decimals, with the digits as written.

        Raises:
            FetchError: no answer in time, an error status, no JSON, or another place to ask.
        """
        url = self.url.rstrip("/") + path
        data = self._ask(url)
        if data is None:
            data = self._ask(url, is_last=True)
        try:
            return json.loads(data or b"", parse_float=Decimal)
        except (ValueError, InvalidOperation, RecursionError) as err:
            raise FetchError(f"{url}: not JSON ({err})") from None

    def _ask(self, url: str, *, is_last: bool = False) -> bytes | None:
        """What is answered; None where the instrument wants its challenge answered, and is to be asked again."""
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.parse import urlsplit
        from urllib.request import Request

        parts = urlsplit(url)
        login = self._login.header((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        headers = {"Accept": "application/json", **({"Authorization": login} if login else {})}
        try:
            with _opener(self._context).open(Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
                return _all_of(answer, url)
        except HTTPError as err:
            challenges = err.headers.get_all("WWW-Authenticate") or [] if err.code == _WANTS_LOGIN else []
            err.close()
            if not is_last and self._login.take_up(challenges):
                return None
            raise FetchError(f"{url}: {err.code} {err.reason}") from None
        except (OSError, HTTPException, ValueError) as err:
            raise FetchError(f"{url}: {getattr(err, 'reason', None) or err}") from None


def _opener(context: ssl.SSLContext | None) -> Any:
    """Opens addresses without a proxy, and follows no server to another one: it would get the password too."""
    from http.client import HTTPMessage
    from typing import IO
    from urllib.parse import urlsplit
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

    class StaysHere(HTTPRedirectHandler):
        def redirect_request(
            self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
        ) -> Request | None:
            there, here = urlsplit(newurl), urlsplit(req.full_url)
            if (there.scheme, there.netloc) != (here.scheme, here.netloc):
                fp.close()
                place = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
                raise FetchError(f"{req.full_url}: it sends on to {place}; give that as `url` if it is meant")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    # instruments stand in the same house; a proxy for the internet knows nothing of them
    return build_opener(ProxyHandler({}), StaysHere, *([HTTPSHandler(context=context)] if context else []))


def _all_of(answer: HTTPResponse, url: str) -> bytes:
    """What was answered, if that is neither endless in bytes nor in time."""
    data, until_s = b"", time.monotonic() + _TIMEOUT_S
    while part := answer.read1(_MOST_BYTES):
        data += part
        if len(data) > _MOST_BYTES:
            raise FetchError(f"{url}: more than {_MOST_BYTES} bytes")
        if time.monotonic() > until_s:
            raise FetchError(f"{url}: no end of the answer in {_TIMEOUT_S:.0f} s")
    return data


def number_at(document: Any, path: str) -> float:
    """The number at a dotted path into a JSON document; whole numbers index lists.

    Raises:
        FetchError: nothing there, or no finite number.

    >>> number_at({"meters": [{"power": "12.5"}]}, "meters.0.power")
    12.5
    """
    found = value_at(document, path)
    try:
        number = float(found)
    except (TypeError, ValueError, OverflowError):
        raise FetchError(f"the answer has no number at {path!r}, but {str(found)[:40]!r}") from None
    if not math.isfinite(number) or isinstance(found, bool):
        raise FetchError(f"the answer has no number at {path!r}, but {str(found)[:40]}")
    return number


def step_at(document: Any, path: str) -> float:
    """By how much that number changes at least, as far as its writing tells: one in its last digit.

    Raises:
        FetchError: nothing there, or no number.

    >>> step_at({"Total": "12.300"}, "Total"), step_at({"Total": 12}, "Total")
    (0.001, 1.0)
    """
    found = value_at(document, path)
    try:
        exponent = Decimal(str(found)).as_tuple().exponent
    except InvalidOperation:
        exponent = "n"
    if isinstance(exponent, str):
        raise FetchError(f"the answer has no number at {path!r}, but {str(found)[:40]!r}")
    return float(f"1e{min(max(exponent, -_MOST_DIGITS), _MOST_DIGITS)}")


def value_at(document: Any, path: str) -> Any:
    """What is at a dotted path into a JSON document.

    Raises:
        FetchError: nothing is.
    """
    found = document
    for key in path.split("."):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise FetchError(f"the answer has nothing at {path!r} (from {key!r} on)")
    return found
