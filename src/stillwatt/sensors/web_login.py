"""Who asks an instrument on the network: nobody, the holder of a token, or a user with a password.

A password is sent as it is (Basic), or, to an instrument that asks for it, as an answer to its challenge (Digest, RFC
7616), which is all that some plugs take.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence

from stillwatt.errors import UsageError

_HASHES: Mapping[str, Callable[[bytes], hashlib._Hash]] = {
    # some systems forbid MD5 but where it is said to protect nothing
    "MD5": functools.partial(hashlib.md5, usedforsecurity=False),
    "SHA-256": hashlib.sha256,
}
_SESSION = "-SESS"


class Login:
    """Credentials from environment variables.

    Args:
        driver: Whose they are, for errors.
        user_env: Variables that hold user name and password; empty for an instrument that asks for none.
        password_env: See `user_env`.
        token_env: Instead: a variable that holds a token.

    Raises:
        UsageError: a variable that is not set, or a token beside a user.
    """

    def __init__(self, driver: str, *, user_env: str = "", password_env: str = "", token_env: str = "") -> None:
        if user_env and token_env:
            raise UsageError(f"sensor {driver!r}: give token_env, or user_env and password_env, not both")
        names = [name for name in (user_env, password_env if user_env else "", token_env) if name]
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise UsageError(f"sensor {driver!r}: environment variable {missing[0]} is not set")
        self._user = os.environ[user_env] if user_env else None
        self._password = os.environ.get(password_env, "") if user_env else ""
        self._token = os.environ[token_env] if token_env else ""
        self._challenge: Mapping[str, str] = {}
        self._num_answers = 0

    def header(self, uri: str) -> str:
        """What to send as `Authorization` for a path with its query; empty for nothing."""
        if self._token:
            return f"Bearer {self._token}"
        if self._user is None:
            return ""
        if self._challenge:
            return self._answer(uri, self._user)
        return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()

    def take_up(self, challenges: Sequence[str]) -> bool:
        """Take up what an instrument wants that refused; whether that is another thing than it got."""
        from urllib.request import parse_http_list, parse_keqv_list

        for text in challenges:
            scheme, _, rest = text.strip().partition(" ")
            told = parse_keqv_list([pair for pair in parse_http_list(rest) if "=" in pair])
            if self._user is None or scheme.lower() != "digest" or _algorithm(told) not in _HASHES:
                continue
            if "nonce" in told and ("qop" not in told or "auth" in _words(told["qop"])):
                self._challenge, self._num_answers = told, 0
                return True
        return False

    def _answer(self, uri: str, user: str) -> str:
        told = self._challenge
        realm, nonce, is_counted = told.get("realm", ""), told["nonce"], "qop" in told
        self._num_answers += 1
        number, own = f"{self._num_answers:08x}", secrets.token_hex(8)
        hashed = _HASHES[_algorithm(told)]

        def digest(*parts: str) -> str:
            return hashed(":".join(parts).encode()).hexdigest()

        secret = digest(user, realm, self._password)
        if told.get("algorithm", "").upper().endswith(_SESSION):
            secret = digest(secret, nonce, own)
        asked = digest("GET", uri)
        answer = digest(secret, nonce, number, own, "auth", asked) if is_counted else digest(secret, nonce, asked)
        fields = {"username": user, "realm": realm, "nonce": nonce, "uri": uri, "response": answer}
        fields |= {name: told[name] for name in ("opaque",) if name in told} | ({"cnonce": own} if is_counted else {})
        bare = [f"algorithm={told['algorithm']}"] if "algorithm" in told else []
        bare += ["qop=auth", f"nc={number}"] if is_counted else []
        return "Digest " + ", ".join([*(f'{name}="{_quoted(text)}"' for name, text in fields.items()), *bare])


def _algorithm(told: Mapping[str, str]) -> str:
    return told.get("algorithm", "MD5").upper().removesuffix(_SESSION)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
