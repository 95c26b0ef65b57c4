"""JSON documents of instruments on the network: limits of time and size, and no secret in any error."""

from __future__ import annotations

import base64
import json
import math
import os
import ssl
from collections.abc import Mapping
from typing import Any

from stillwatt.errors import UsageError
from stillwatt.sensors.slow import FetchError

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20


class JsonSource:
    """One address that answers with JSON.

    Args:
        driver: Whose address it is, for errors.
        url: `http://` or `https://`; no user name or password in it.
        user_env: Environment variables that hold user name and password, where the instrument wants them.
        password_env: See `user_env`.
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
        self._headers = {"Accept": "application/json"}
        if user_env:
            missing = [name for name in (user_env, password_env) if name and name not in os.environ]
            if missing:
                raise UsageError(f"sensor {driver!r}: environment variable {missing[0]} is not set")
            secret = f"{os.environ[user_env]}:{os.environ.get(password_env, '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
        self._context = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca_file)
            if not verify:
                self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def get(self, path: str = "") -> Any:
        """The document at the address, or at a path below it.

        Raises:
            FetchError: no answer in time, an error status, or no JSON.
        """
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

        url = self.url.rstrip("/") + path
        # instruments stand in the same house; a proxy for the internet knows nothing of them. No redirects are needed
        opener = build_opener(ProxyHandler({}), *([HTTPSHandler(context=self._context)] if self._context else []))
        try:
            with opener.open(Request(url, headers=self._headers), timeout=_TIMEOUT_S) as answer:
                data = answer.read(_MOST_BYTES + 1)
        except HTTPError as err:
            err.close()
            raise FetchError(f"{url}: {err.code} {err.reason}") from None
        except (OSError, HTTPException, ValueError) as err:
            raise FetchError(f"{url}: {getattr(err, 'reason', None) or err}") from None
        if len(data) > _MOST_BYTES:
            raise FetchError(f"{url}: more than {_MOST_BYTES} bytes")
        try:
            return json.loads(data)
        except ValueError as err:
            raise FetchError(f"{url}: not JSON ({err})") from None


def number_at(document: Any, path: str) -> float:
    """The number at a dotted path into a JSON document; whole numbers index lists.

    Raises:
        FetchError: nothing there, or no finite number.

    >>> number_at({"meters": [{"power": "12.5"}]}, "meters.0.power")
    12.5
    """
    found = document
    for key in path.split("."):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise FetchError(f"the answer has nothing at {path!r} (from {key!r} on)")
    try:
        number = float(found)
    except (TypeError, ValueError):
        raise FetchError(f"the answer has no number at {path!r}, but {str(found)[:40]!r}") from None
    if not math.isfinite(number) or isinstance(found, bool):
        raise FetchError(f"the answer has no number at {path!r}, but {found!r}")
    return number
