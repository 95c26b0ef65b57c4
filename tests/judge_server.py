"""A judge on loopback, by the servers' ways of telling probabilities: what it prefers hangs on its prompt alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from endpoint_server import Asked, Behaviour


def top_of(asked: Asked) -> int:
    """How many tokens' probabilities a request asks for; 0 where none."""
    body = asked.body
    return int(body["top_logprobs"] if "top_logprobs" in body else body.get("logprobs", 0))


def logprobs_of(form: str, probabilities: dict[str, float]) -> dict[str, Any]:
    """As a server tells the first token's probabilities.

    Args:
        form: `content`, a list of entries, or `table`.
        probabilities: Of each token.
    """
    logs = {token: math.log(p) if p > 0.0 else -math.inf for token, p in probabilities.items()}
    logs = {token: log for token, log in logs.items() if math.isfinite(log)}
    drawn = max(logs, key=lambda token: logs[token])
    if form == "table":
        return {"tokens": [drawn], "token_logprobs": [logs[drawn]], "top_logprobs": [logs], "text_offset": [0]}
    entries = [{"token": token, "logprob": log, "bytes": [*token.encode()]} for token, log in logs.items()]
    return {"content": [{**entries[[*logs].index(drawn)], "top_logprobs": entries}]}


def answer(
    asked: Asked,
    text: str,
    *,
    logprobs: dict[str, Any] | None = None,
    finish: str = "length",
    refusal: str | None = None,
    usage: bool = True,
) -> Behaviour:
    """An answer of the judge's, with 11 tokens read and one written."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": logprobs}
    if asked.path.endswith("/chat/completions"):
        choice["message"] = {"role": "assistant", "content": text, "refusal": refusal}
    else:
        choice["text"] = text
    body: dict[str, Any] = {"id": "x", "model": "judge-0001", "choices": [choice]}
    if usage:
        body["usage"] = {"prompt_tokens": 11, "completion_tokens": 1}
    return Behaviour(body=json.dumps(body))


def judging(
    prefers: Callable[[str], float] = lambda _prompt: 0.5, *, form: str = "content"
) -> Callable[[int, Asked], Behaviour]:
    """A server that gives A, as a token with a space, the probability that `prefers` says, of 0.9 for both."""

    def behave(_number: int, asked: Asked) -> Behaviour:
        share = prefers(asked.prompt)
        told = {" A": 0.6 * share, "A": 0.3 * share, "B": 0.9 * (1.0 - share), "The": 0.1}
        return answer(asked, "A" if share > 0.5 else "B", logprobs=logprobs_of(form, told) if top_of(asked) else None)

    return behave
